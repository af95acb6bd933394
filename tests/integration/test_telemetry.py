"""What workers tell of themselves: metrics, health, and a log of one line a problem; on real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client.parser import text_string_to_metric_families

from streams.adapters.telemetry import GAUGES, REGISTRY, OneLine, metrics_address
from streams.domain.policy import SECOND, Policy
from streams.embedded.process import free_port
from streams.settings import ROLES, Settings, SettingsError
from streams.workers import Workers
from tests.builders import body, order, visit
from tests.integration.pipelines import deployed, send, wait_until


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as exc:
        return 0, str(exc)


def samples(port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, values of labels in the order of the labels' names) -> value."""
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_role_has_a_port_of_its_own() -> None:
    settings = Settings(metrics="0.0.0.0:9464")
    assert [metrics_address(settings, role) for role in ROLES] == [("0.0.0.0", 9464 + n) for n in range(4)]
    assert metrics_address(Settings(metrics="[::1]:9464"), "sink") == ("::1", 9465)
    assert metrics_address(Settings(metrics="127.0.0.1:0"), "sink") == ("127.0.0.1", 0)
    assert metrics_address(Settings(), "sink") is None
    for wrong in ("9464", ":9464", "host:", "host:x", "host:65001"):
        with pytest.raises(SettingsError, match="HOST:PORT"):
            metrics_address(Settings(metrics=wrong), "sink")


@pytest.fixture(scope="module")
def told(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """By role, the port of a worker that has worked: two visits, one of them twice, one refused, an order."""
    folder = tmp_path_factory.mktemp("logs")
    base = free_port()
    with deployed(
        kafka,
        clickhouse,
        partitions=2,
        policy=Policy(gap=2 * SECOND),
        tick_interval_s=0.1,
        metrics=f"127.0.0.1:{base}",
        log_format="json",
    ) as (settings, client):
        ports = {role: base + number for number, role in enumerate(ROLES)}
        with Workers(settings, ROLES, folder):
            wait_until("all are ready", lambda: _ready(ports.values()))
            _work(settings)
            wait_until("sessions are stored", lambda: _sessions(client) == 2)
            yield ports


def _ready(ports: Iterable[int]) -> bool:
    return all(get(port, "/readyz")[0] == 200 for port in ports)


def _work(settings: Settings) -> None:
    now = int(time.time() * 1000)
    one, two = visit(now, customer_id="one"), visit(now, customer_id="two")
    bought = order(now + 1, customer_id="two", event_id="bought")
    asyncio.run(
        send(
            settings,
            [
                ("visits", b"one", body(one), 0),
                ("visits", b"one", body(one), 0),
                ("visits", b"two", body(two), 1),
                ("visits", b"two", b"{", 1),
                ("orders", b"two", body(bought), 1),
            ],
        )
    )


def _sessions(client: Client) -> int:
    return int(client.query("SELECT count() FROM sessions FINAL").result_rows[0][0])


def test_records_are_counted_by_topic_and_fate(told: dict[str, int]) -> None:
    found = samples(told["customers"])
    counts = {labels: value for (name, labels), value in found.items() if name == "ebbtide_records"}
    assert counts["applied", "visits"] == 2
    assert counts["duplicate", "visits"] == 1
    assert counts["rejected", "visits"] == 1
    assert counts["applied", "orders"] == 1
    assert found["ebbtide_dead_letters_total", ("malformed_json", "visits")] == 1


def test_a_watermark_that_keeps_up_has_no_delay_to_speak_of(told: dict[str, int]) -> None:
    found = samples(told["customers"])
    for partition in ("0", "1"):
        assert abs(found["ebbtide_watermark_delay_seconds", (partition,)]) < 10
        assert abs(found["ebbtide_watermark_seconds", (partition,)] - time.time()) < 10


def test_what_is_worked_off_is_no_lag_and_is_committed(told: dict[str, int]) -> None:
    def settled() -> bool:
        found = samples(told["customers"])
        lag = [value for (name, _), value in found.items() if name == "ebbtide_lag_records"]
        return bool(lag) and max(lag) <= 5 and found["ebbtide_commit_age_seconds", ()] < 5

    wait_until("the lag is gone", settled)


def test_batches_facts_and_states_are_told(told: dict[str, int]) -> None:
    found = samples(told["customers"])
    assert found["ebbtide_batch_seconds_count", ()] > 0
    assert found["ebbtide_facts_total", ("sessions",)] >= 2
    assert found["ebbtide_state_rows", ()] >= 2
    assert found["ebbtide_state_bytes", ()] > 100
    assert found["ebbtide_partitions", ()] == 2
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_the_sink_tells_rows_inserts_and_that_clickhouse_is_there(told: dict[str, int]) -> None:
    found = samples(told["sink"])
    assert found["ebbtide_sink_rows_total", ("sessions",)] >= 2
    assert found["ebbtide_sink_insert_seconds_count", ("sessions",)] >= 1
    assert found["ebbtide_sink_delay_seconds", ()] < 10
    assert found["ebbtide_clickhouse_away_seconds", ()] == 0
    assert found["ebbtide_sink_retries_total", ()] == 0


def test_minutes_and_deliveries_are_told_by_their_roles(told: dict[str, int]) -> None:
    assert ("ebbtide_minutes_behind", ()) in samples(told["shops"])
    assert ("ebbtide_loss_windows_total", ()) in samples(told["shops"])
    assert samples(told["hooks"])["ebbtide_ready", ()] == 1


def test_no_metric_has_a_name_that_is_not_in_the_list(told: dict[str, int]) -> None:
    known = GAUGES.keys() | {name for name in REGISTRY._names_to_collectors if name.startswith("ebbtide_")}
    for port in told.values():
        assert {name for name, _ in samples(port) if name.startswith("ebbtide_")} <= known


LINE: Final = {"time", "level", "role", "logger", "message"}


def test_a_failure_is_one_json_object_with_its_cause() -> None:
    formatter = OneLine("sink", as_json=True)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 0, "it\nfailed %s", ("so",), sys.exc_info())
    line = formatter.format(record)
    said = json.loads(line)
    assert "\n" not in line
    assert said.keys() == LINE | {"error", "why"}
    assert (said["level"], said["role"], said["message"]) == ("error", "sink", "it failed so")
    assert (said["error"], said["why"]) == ("ValueError", "first second")
    plain = OneLine("sink", as_json=False).format(record)
    assert plain.endswith("ERROR sink a.b: it failed so (ValueError: first second)")

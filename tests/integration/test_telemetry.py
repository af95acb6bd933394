"""What workers tell of themselves: metrics, health, and a log of one line a problem; on real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client.parser import text_string_to_metric_families

from streams.adapters.telemetry import (
    GAUGES,
    REGISTRY,
    MetricsServer,
    OneLine,
    TelemetryError,
    log_as,
    metrics_address,
)
from streams.domain.policy import SECOND, Policy
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


#: (name, values of labels in the order of the labels' names) -> value
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(port: int) -> Samples:
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


class Told(NamedTuple):
    """Four workers that have worked: the port of each by role, and where their logs are."""

    ports: dict[str, int]
    logs: Path
    workers: Workers
    client: Client

    def samples(self, role: str) -> Samples:
        return samples(self.ports[role])

    def log(self, role: str) -> list[dict[str, str]]:
        """Its lines; ValueError if one is no JSON object."""
        return [json.loads(line) for line in (self.logs / f"{role}.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def told(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """What they worked on: two visits, one of them twice, one refused, an order."""
    folder = tmp_path_factory.mktemp("logs")
    with (
        deployed(
            kafka,
            clickhouse,
            partitions=2,
            policy=Policy(gap=2 * SECOND),
            tick_interval_s=0.1,
            metrics="127.0.0.1:0",
            log_format="json",
        ) as (settings, client),
        Workers(settings, ROLES, folder) as workers,
    ):
        ports = {role: port_in(folder / f"{role}.log", workers) for role in ROLES}
        wait_until("all are ready", lambda: _ready(ports.values()))
        _work(settings)
        wait_until("sessions are stored", lambda: _sessions(client) == 2)
        yield Told(ports, folder, workers, client)


def port_in(log: Path, workers: Workers) -> int:
    """The port that a worker has found free, by its log."""

    def found() -> list[str]:
        workers.check()
        return re.findall(r"metrics on http://127\.0\.0\.1:(\d+)", log.read_text())

    wait_until(f"{log.stem} says where its metrics are", lambda: bool(found()))
    return int(found()[0])


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


def test_records_are_counted_by_topic_and_fate(told: Told) -> None:
    found = told.samples("customers")
    counts = {labels: value for (name, labels), value in found.items() if name == "ebbtide_records_total"}
    assert counts["applied", "visits"] == 2
    assert counts["duplicate", "visits"] == 1
    assert counts["rejected", "visits"] == 1
    assert counts["applied", "orders"] == 1
    assert found["ebbtide_dead_letters_total", ("malformed_json", "visits")] == 1


def test_a_watermark_that_keeps_up_has_no_delay_to_speak_of(told: Told) -> None:
    found = told.samples("customers")
    for partition in ("0", "1"):
        assert abs(found["ebbtide_watermark_delay_seconds", (partition,)]) < 10
        assert abs(found["ebbtide_watermark_seconds", (partition,)] - time.time()) < 10


def test_what_is_worked_off_is_no_lag_and_is_committed(told: Told) -> None:
    def settled() -> bool:
        found = told.samples("customers")
        lag = [value for (name, _), value in found.items() if name == "ebbtide_lag_records"]
        return bool(lag) and max(lag) <= 5 and found["ebbtide_commit_age_seconds", ()] < 5

    wait_until("the lag is gone", settled)


def test_batches_facts_and_states_are_told(told: Told) -> None:
    found = told.samples("customers")
    assert found["ebbtide_batch_seconds_count", ()] > 0
    assert found["ebbtide_facts_total", ("sessions",)] >= 2
    assert found["ebbtide_state_rows", ()] >= 2
    assert found["ebbtide_state_bytes", ()] > 100
    assert found["ebbtide_partitions", ()] == 2
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_the_sink_tells_rows_inserts_and_that_clickhouse_is_there(told: Told) -> None:
    found = told.samples("sink")
    assert found["ebbtide_sink_rows_total", ("sessions",)] >= 2
    assert found["ebbtide_sink_insert_seconds_count", ("sessions",)] >= 1
    assert found["ebbtide_sink_delay_seconds", ()] < 10
    assert found["ebbtide_clickhouse_away_seconds", ()] == 0
    assert found["ebbtide_sink_retries_total", ()] == 0


def test_minutes_and_deliveries_are_told_by_their_roles(told: Told) -> None:
    assert ("ebbtide_minutes_behind", ()) in told.samples("shops")
    assert ("ebbtide_loss_windows_total", ()) in told.samples("shops")
    assert told.samples("shops")["ebbtide_alerts_open", ("loss", "firing")] == 0
    assert told.samples("hooks")["ebbtide_ready", ()] == 1


def test_no_metric_has_a_name_that_is_not_in_the_list(told: Told) -> None:
    known = GAUGES.keys() | {name for name in REGISTRY._names_to_collectors if name.startswith("ebbtide_")}
    for port in told.ports.values():
        assert {name for name, _ in samples(port) if name.startswith("ebbtide_")} <= known


def test_who_is_well_says_so_until_it_has_failed() -> None:
    async def story() -> list[tuple[int, str]]:
        why = {"/healthz": "", "/readyz": "partitions are being assigned"}
        server = MetricsServer(("127.0.0.1", 0), lambda: why["/healthz"], lambda: why["/readyz"])
        await server.start()
        [(_, port)] = [address[:2] for address in server.addresses]
        found = [await asyncio.to_thread(get, port, path) for path in why]
        why["/healthz"] = "the worker has failed"
        found.append(await asyncio.to_thread(get, port, "/healthz"))
        await server.stop()
        return found

    assert asyncio.run(story()) == [
        (200, "ok\n"),
        (503, "partitions are being assigned\n"),
        (503, "the worker has failed\n"),
    ]


def test_an_address_that_is_taken_is_said_in_a_sentence() -> None:
    async def story() -> None:
        first = MetricsServer(("127.0.0.1", 0), str, str)
        await first.start()
        second = MetricsServer(first.addresses[0][:2], str, str)
        with pytest.raises(TelemetryError, match=r"EBBTIDE_METRICS cannot be used: .*address already in use"):
            await second.start()
        await second.stop()
        await first.stop()

    asyncio.run(story())


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


def test_a_thread_that_fails_is_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.excepthook, logging.root.handlers[:], logging.root.level, warnings.showwarning
    try:
        log_as(Settings(log_format="json"), "hooks")
        thread = threading.Thread(target=lambda: 1 // 0, name="counting")
        thread.start()
        thread.join()
        lines = capsys.readouterr().err.splitlines()
    finally:
        threading.excepthook, logging.root.handlers, logging.root.level, warnings.showwarning = before
        logging.captureWarnings(False)
    [said] = [json.loads(line) for line in lines]
    assert (said["message"], said["error"]) == ("thread counting failed", "ZeroDivisionError")


# Last of those with workers: one of them ends.
def test_a_worker_that_fails_says_why_in_one_line_and_its_log_is_json_throughout(told: Told) -> None:
    told.client.command("DROP TABLE ingest")
    wait_until("the sink has ended", lambda: told.workers.ended() == {"sink": 1})
    for role in ROLES:
        assert all(line.keys() >= LINE and line["role"] == role for line in told.log(role))
    problems = [line for line in told.log("sink") if "ingest" in json.dumps(line)]
    assert len(problems) == 1
    assert (problems[0]["level"], problems[0]["logger"]) == ("critical", "ebbtide")
    assert "run `ebbtide migrate`" in problems[0]["message"]

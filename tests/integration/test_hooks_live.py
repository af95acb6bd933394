"""The hooks worker and its commands on real servers: what people see of deliveries, and do about them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from schemas.facts import ErasedFact
from streams.adapters.kafka.producing import partition_of
from streams.adapters.kafka.scanning import scan
from streams.adapters.remains import remains
from streams.cli import main
from streams.domain.erasure import digest
from streams.embedded.process import free_port
from streams.settings import Settings
from streams.workers import Workers
from tests.agents.hooks_play import alert, segment
from tests.integration.pipelines import Raw, deployed, send, wait_until
from tests.integration.receiver import SECRET, HttpReceiver, answers, served

pytestmark = pytest.mark.replay

TOKEN: Final = "xoxb-t0ken-of-a-header"


def rules(folder: Path, **urls: str) -> Path:
    """All alerts to every endpoint, and segments to the one named ``open``."""
    (folder / "secret").write_text(SECRET)
    (folder / "token").write_text(TOKEN)
    endpoints = {
        name: {
            "url": url,
            "secret_file": "secret",
            "headers": {"X-Token": {"file": "token"}},
            "timeout": "5s",
        }
        for name, url in urls.items()
    }
    routes: list[dict[str, Any]] = [{"topic": "alerts", "to": list(endpoints)}]
    if "open" in urls:
        routes.append({"topic": "segments", "to": ["open"], "only": ["lapsing"]})
    path = folder / "alerts.yaml"
    path.write_text(json.dumps({"endpoints": endpoints, "routes": routes}))  # JSON is YAML
    return path


def local(settings: Settings, file: Path) -> Settings:
    return replace(settings, alerts_file=str(file), hooks_allow="127.0.0.0/8", hooks_insecure=True)


def run(settings: Settings, *args: str) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(
        main, ["hooks", *args], env={**clean, **settings.to_env()}, catch_exceptions=False
    )


def told(settings: Settings, facts: list[dict[str, Any]], topic: str = "alerts") -> list[Raw]:
    keys = [str(fact.get("customer_id", fact.get("shop_id"))).encode() for fact in facts]
    return [
        (topic, key, json.dumps(fact).encode(), partition_of(key, settings.partitions))
        for key, fact in zip(keys, facts, strict=True)
    ]


def listed(settings: Settings, *args: str) -> list[dict[str, Any]]:
    result = run(settings, "list", "--format", "json", "--limit", "100", *args)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_deliveries_are_seen_given_up_and_had_again_over_a_restart(
    kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    well, gone = HttpReceiver(), HttpReceiver(answer=answers(then=410))
    with served(well, gone), deployed(kafka, clickhouse, partitions=2, session_timeout_s=6.0) as (given, _):
        settings = local(given, rules(tmp_path, open=well.url, gone=gone.url))
        logs = tmp_path / "logs"
        logs.mkdir()
        keys = {f"{n:032x}-1" for n in range(6)}
        with Workers(settings, ["hooks", "sink"], logs):
            facts = told(settings, [alert(n, shop_id=f"s{n}") for n in range(6)])
            facts += told(settings, [segment("erika"), segment("erika", segment="big-spenders")], "segments")
            asyncio.run(send(settings, facts))
            wait_until("all to arrive", lambda: len(well.counts()) == 7)
            wait_until("all to be told", lambda: len(listed(settings, "--status", "delivered")) == 7)
            wait_until("the dead to be told", lambda: len(listed(settings, "--status", "dead")) == 6)
            assert all(arrival.headers["x-token"] == TOKEN for arrival in well.arrivals)
            before = len(gone.arrivals)
        rows = listed(settings, "--endpoint", "gone")
        assert {row["webhook_id"] for row in rows} == keys
        assert {row["status"] for row in rows} == {"dead"}
        assert all("410" in row["error"] for row in rows)
        table = run(settings, "list", "--endpoint", "gone")
        assert "gone answered 410 and is disabled since" in table.stderr
        assert "open" not in table.stdout
        lines = list(csv.DictReader(io.StringIO(run(settings, "list", "--format", "csv").stdout)))
        assert len(lines) == 13
        assert {line["endpoint"] for line in lines} == {"open", "gone"}

        gone.answer = None
        one = next(row["delivery_id"] for row in rows)
        assert run(settings, "retry", "f" * 32).exit_code == 1
        delivered = listed(settings, "--endpoint", "open")[0]["delivery_id"]
        refused = run(settings, "retry", delivered)
        assert (refused.exit_code, refused.stderr) == (1, f"delivery {delivered} is delivered\n")
        assert run(settings, "retry", one).exit_code == 0, "asked, but the endpoint is still disabled"
        with Workers(settings, ["hooks", "sink"], logs):
            more = told(settings, [alert(7, shop_id="s7")])
            asyncio.run(send(settings, more))
            wait_until("the lively one to be told", lambda: f"{7:032x}-1" in well.counts())
            assert len(gone.arrivals) == before, "disabled before the restart is disabled after it"
            assert run(settings, "retry", "--endpoint", "gone", "--enable").exit_code == 0
            wait_until("all to arrive at last", lambda: gone.counts().keys() == {*keys, f"{7:032x}-1"})
            wait_until("that to be told", lambda: not listed(settings, "--status", "dead"))
        assert run(settings, "list", "--endpoint", "gone").stderr == ""
        assert well.forged == gone.forged == []
        text = "".join(path.read_text() for path in logs.iterdir())
        for secret in (SECRET, SECRET.removeprefix("whsec_"), TOKEN, "s3cr3t-in-the-path"):
            assert secret not in text
            assert secret not in json.dumps(listed(settings))


def test_an_erased_customer_is_told_of_no_more_and_leaves_no_payload_in_the_changelog(
    kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    with deployed(kafka, clickhouse, partitions=2, session_timeout_s=6.0) as (given, _):
        # Nobody listens there: what is told waits.
        settings = local(given, rules(tmp_path, open=f"http://127.0.0.1:{free_port()}/hook"))
        with Workers(settings, ["hooks", "sink"], tmp_path):
            asyncio.run(send(settings, told(settings, [segment("erika"), segment("max")], "segments")))
            wait_until("both to wait", lambda: len(listed(settings, "--status", "waiting")) == 2)
            now = time.time_ns() // 1_000_000
            fact = ErasedFact(customer_digest=digest(b"erika").hex(), erased_at=now, at=now)
            partition = partition_of(b"erika", settings.partitions)
            assert remains(settings, settings.clickhouse, ["erika"], partition).state == 1
            record = ("erased", b"x", fact.model_dump_json().encode(), partition)
            asyncio.run(send(settings, [record]))
            wait_until("hers to be cancelled", lambda: len(listed(settings, "--status", "cancelled")) == 1)
        assert remains(settings, settings.clickhouse, ["erika"], partition).state == 0
        state: dict[bytes, bytes | None] = {}
        scan(
            settings, [settings.topic("hooks-state")], lambda record: state.update({record.key: record.value})
        )
        kept = b"".join(value for value in state.values() if value is not None)
        assert b"erika" not in kept
        assert b"max" in kept
        (waiting,) = listed(settings, "--status", "waiting")
        assert "erika" not in json.dumps(listed(settings))
        assert waiting["error"] == "it cannot be connected to: Connection refused"


@pytest.mark.parametrize("kind", ["webhook", "alertmanager", "alertmanager-webhook", "slack"])
def test_a_test_says_what_the_endpoint_answered_and_what_the_guard_made_of_it(
    tmp_path: Path, kind: str
) -> None:
    receiver = HttpReceiver(secret=SECRET if kind == "webhook" else None)
    with served(receiver):
        path = rules(tmp_path, open=receiver.url)
        found = json.loads(path.read_text())
        found["endpoints"]["open"]["kind"] = kind
        path.write_text(json.dumps({**found, "routes": []}))
        settings = local(Settings(), path)
        result = run(settings, "test", "open", "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (said["delivered"], said["http_status"], said["guard"]) == (True, 204, "passed 127.0.0.1")
        assert "taken" in run(settings, "test", "open").stdout
        refused = run(replace(settings, hooks_allow=""), "test", "open", "--json")
        assert refused.exit_code == 1
        said = json.loads(refused.stdout)
        assert said["guard"].startswith("refused: 127.0.0.1 is loopback")
        assert "s3cr3t-in-the-path" not in refused.output
    assert len(receiver.accepted) == 2
    away = run(settings, "test", "open")
    assert away.exit_code == 1
    assert "not taken: it cannot be connected to" in away.stdout
    unknown = run(settings, "test", "nobody")
    assert (unknown.exit_code, "there are: open" in unknown.output) == (1, True)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["a", "--all-dead"],
        ["--endpoint", "a", "--all-dead"],
        ["--all-dead", "--enable"],
        ["a", "--enable"],
    ],
)
def test_what_is_to_be_sent_again_is_said_in_one_way(args: list[str]) -> None:
    assert run(Settings(), "retry", *args).exit_code == 2


def test_a_receivers_words_are_no_formula_in_csv(kafka: str, clickhouse: str) -> None:
    with deployed(kafka, clickhouse, partitions=1) as (settings, client):
        client.command(
            "INSERT INTO deliveries (delivery_id, endpoint, topic, subject_id, revision, webhook_id, status,"
            " attempts, created_at, error, version, is_deleted, partition)"
            " VALUES (repeat('a', 32), 'e', 'alerts', repeat('b', 32), 1, 'b-1', 'dead', 1, now64(3),"
            " '=cmd()', 1, 0, 0)"
        )
        with closing(client):
            (line,) = csv.DictReader(io.StringIO(run(settings, "list", "--format", "csv").stdout))
            assert line["error"] == "'=cmd()"
            assert listed(settings)[0]["error"] == "=cmd()"
            assert "=cmd()" in run(settings, "list").stdout

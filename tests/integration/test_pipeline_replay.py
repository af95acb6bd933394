"""The whole pipeline on the servers in use: a simulated marketplace through workers, then hostile input."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from clickhouse_connect.driver.client import Client

from schemas.events import MAX_BODY_BYTES, MAX_DEPTH
from schemas.facts import RejectReason
from streams.adapters.codec import encode_tick
from streams.adapters.kafka.models import publish, published
from streams.adapters.verify import verify
from streams.cli import main
from streams.commands.demo import Drain, Outcome
from streams.commands.report import read_report
from streams.domain.lapse import PersonalRhythm
from streams.domain.outlook import ShopModel
from streams.domain.policy import DAY, HOUR, Policy
from streams.settings import Settings
from streams.sources.replayer import ReplayReport, TickPlan, replay
from streams.sources.simulation import Simulation, Truth
from streams.workers import Workers
from tests.builders import Event, body, cart, order, visit
from tests.integration.pipelines import Place, Raw, deployed, send, wait_until

PARTITIONS = 2
MOST_EVENTS = 2_000
POLICY = Policy(max_events=MOST_EVENTS)


class Played:
    """A deployment with a drained simulation in it, its workers still running."""

    def __init__(self, settings: Settings, client: Client, sent: ReplayReport, truth: Truth) -> None:
        self.settings = settings
        self.client = client
        self.sent = sent
        self.truth = truth
        assert sent.max_event_time is not None
        self.at = sent.max_event_time

    def cli(self, *args: str) -> Result:
        """The command with this deployment's settings as its environment."""
        clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
        return CliRunner().invoke(
            main, list(args), env={**clean, **self.settings.to_env()}, catch_exceptions=False
        )

    def send(self, *records: Raw) -> list[Place]:
        return asyncio.run(send(self.settings, list(records)))

    def rows(self, table: str, places: list[Place]) -> dict[Place, dict[str, object]]:
        """Rows of a table of records, by their place, once all are stored."""
        found: dict[Place, dict[str, object]] = {}

        def stored() -> bool:
            query = f"SELECT *, hex(key) AS key_hex, hex(value) AS value_hex FROM {table} FINAL"
            if table != "dead_letters":
                query = f"SELECT * FROM {table} FINAL"
            for row in self.client.query(query).named_results():
                found[row["topic"], row["partition"], row["offset"]] = row
            return found.keys() >= set(places)

        wait_until(f"{len(places)} rows in {table}", stored)
        return {place: found[place] for place in places}

    def count(self, column: str) -> int:
        return int(self.client.query(f"SELECT sum({column}) FROM ingest FINAL").result_rows[0][0])


@pytest.fixture(scope="module")
def played(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    logs = tmp_path_factory.mktemp("workers")
    with (
        deployed(kafka, clickhouse, partitions=PARTITIONS, ticks="off", policy=POLICY) as (settings, client),
        Workers(settings, ("customers", "sink"), logs) as workers,
    ):
        simulation = Simulation(seed=7, customers=250, policy=POLICY)
        plan = TickPlan(every=3_000, drained=Drain(settings, client, workers), deadline_s=180)
        sent = asyncio.run(replay(simulation, settings, ticks=plan))
        assert sent.drained, "\n".join(log.read_text()[-2_000:] for log in logs.glob("*.log"))
        yield Played(settings, client, sent, simulation.truth())


def test_the_planted_truth_is_found(played: Played) -> None:
    outcome = Outcome(read_report(played.client), verify(played.client, POLICY, tables=()), 1.0)
    assert outcome.against(played.truth) == []
    assert played.sent.total == played.truth.events["in"]


def test_batch_sql_over_the_raw_events_gives_the_same_rows(played: Played) -> None:
    found = verify(played.client, POLICY)
    assert found.exact, (found.samples, found.leaks)
    assert found.tables["sessions"].rows == played.truth.sessions["total"]
    assert found.tables["sessions"].open == 0
    assert found.tables["customers"].rows > 0
    assert found.tables["transitions"].rows > 0


def _letters(at: int) -> dict[RejectReason, list[Raw]]:
    """What must be refused, by the reason it must be refused for."""
    event = visit(at, customer_id="hostile")
    good = body(event)
    deep = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)

    def as_visit(value: bytes | None, key: bytes | None = b"hostile") -> Raw:
        return "visits", key, value, 1

    def said(fields: Event, topic: str = "visits") -> Raw:
        return topic, b"hostile", body({**fields, "customer_id": "hostile"}), 0

    return {
        RejectReason.MALFORMED_JSON: [as_visit(good[:-9]), as_visit(b""), as_visit(good + b"{}")],
        RejectReason.BAD_ENCODING: [
            as_visit(good.replace(b"s1", b"s\xff")),
            as_visit(b"\xef\xbb\xbf" + good),
        ],
        RejectReason.NOT_AN_OBJECT: [as_visit(b"[1]"), as_visit(b"null")],
        RejectReason.MISSING_FIELD: [
            said({k: v for k, v in event.items() if k != "shop_id"}),
            said({k: v for k, v in cart(at).items() if k != "item_id"}, "carts"),
        ],
        RejectReason.INVALID_FIELD: [
            said(event | {"shop_id": 7}),
            said(cart(at, quantity=-1), "carts"),
            said(order(at, total="a lot"), "orders"),
        ],
        RejectReason.UNKNOWN_KIND: [said(cart(at, "juggle"), "carts")],
        RejectReason.NON_FINITE_NUMBER: [
            ("orders", b"hostile", body(order(at, customer_id="hostile")).replace(b'"10.00"', b"NaN"), 0)
        ],
        RejectReason.TOO_LARGE: [
            as_visit(b'"' + b"x" * 1_000_000 + b'"'),
            as_visit(b" " * (MAX_BODY_BYTES + 1)),
        ],
        RejectReason.TOO_DEEP: [as_visit(good[:-1] + b',"url":' + deep + b"}")],
        RejectReason.NULL_KEY: [as_visit(good, None)],
        RejectReason.NULL_VALUE: [as_visit(None)],
        RejectReason.KEY_MISMATCH: [as_visit(good, b"someone-else"), as_visit(good, b"\x00\xff")],
        RejectReason.TIMESTAMP_OUT_OF_RANGE: [
            said(event | {"occurred_at": "1902-05-05T00:00:00Z"}),
            said(event | {"occurred_at": "2106-02-07T06:28:16Z"}),
        ],
        RejectReason.TIMESTAMP_AHEAD: [said(event | {"occurred_at": int(time.time() * 1000) + HOUR})],
    }


def test_every_kind_of_bad_input_is_kept_as_it_came_with_its_reason_and_place(played: Played) -> None:
    by_reason = _letters(played.at)
    wanted = [(reason, raw) for reason, raws in by_reason.items() for raw in raws]
    before = played.count("applied")
    places = played.send(*(raw for _, raw in wanted))
    rows = played.rows("dead_letters", places)
    for (reason, (_, key, value, _)), place in zip(wanted, places, strict=True):
        row = rows[place]
        assert (place, row["reason"]) == (place, reason.value)
        assert row["key_hex"] == (None if key is None else key.hex().upper())
        assert row["value_hex"] == (None if value is None else value.hex().upper())
        assert row["detail"]
    decided_later = {RejectReason.TOO_MANY_EVENTS, RejectReason.ERASED, RejectReason.NOT_A_GUEST}
    assert by_reason.keys() == set(RejectReason) - decided_later
    assert played.count("applied") == before


def test_a_customer_beyond_the_bound_is_refused_and_nobody_else(played: Played) -> None:
    events = [
        visit(played.at, customer_id="crawler", event_id=f"crawl-{number}")
        for number in range(MOST_EVENTS + 1)
    ]
    places = played.send(*(("visits", b"crawler", body(event), 1) for event in events))
    row = played.rows("dead_letters", places[-1:])[places[-1]]
    assert row["reason"] == RejectReason.TOO_MANY_EVENTS.value
    assert row["value_hex"] == body(events[-1]).hex().upper()


def test_an_event_behind_the_horizon_is_kept_as_late_and_in_no_verdict(played: Played) -> None:
    event = visit(played.at - POLICY.horizon - HOUR, customer_id="straggler")
    (place,) = played.send(("visits", b"straggler", body(event), 1))
    row = played.rows("late_events", [place])[place]
    assert row["body"] == body(event).decode()
    assert (row["customer_id"], row["event_id"]) == ("straggler", event["event_id"])
    wait_until("the count of late events", lambda: played.count("late") == 1)


def test_a_mended_letter_is_taken_in_when_it_is_sent_again_and_stays_on_record(played: Played) -> None:
    event = visit(played.at, customer_id="mended", event_id="mended-1")
    (place,) = played.send(("visits", None, body(event), 1))
    played.rows("dead_letters", [place])
    name = ":".join(map(str, place))

    shown = played.cli("dead-letters", "show", name, "--json")
    letter = json.loads(shown.output)
    assert (letter["reason"], letter["key_base64"]) == ("null_key", None)
    assert base64.b64decode(letter["value_base64"]) == body(event)

    refused = played.cli("dead-letters", "retry", name)
    assert refused.exit_code == 1
    assert "--key" in refused.stderr

    taken = played.cli("dead-letters", "retry", name, "--key", "mended")
    assert taken.exit_code == 0
    assert f"sent {name} again" in taken.output

    def stored() -> bool:
        query = "SELECT count() FROM events FINAL WHERE customer_id = 'mended'"
        return bool(played.client.query(query).result_rows[0][0])

    wait_until("the mended event", stored)
    assert played.cli("dead-letters", "show", name).exit_code == 0


def test_letters_of_a_reason_are_listed_and_sent_again_together(played: Played) -> None:
    (early,) = _letters(played.at)[RejectReason.TIMESTAMP_AHEAD]
    (unknown,) = _letters(played.at)[RejectReason.UNKNOWN_KIND]
    played.rows("dead_letters", played.send(early, unknown))
    listed = played.cli("dead-letters", "list", "--reason", "timestamp_ahead", "--json", "--limit", "1000")
    letters = [json.loads(line) for line in listed.output.splitlines()]
    assert letters
    assert {letter["reason"] for letter in letters} == {"timestamp_ahead"}
    again = played.cli("dead-letters", "retry", "--reason", "timestamp_ahead", "--all")
    assert again.exit_code == 0
    assert f"{len(letters)} sent" in again.output
    table = played.cli("dead-letters", "list", "--topic", "carts")
    assert "unknown_kind" in table.output
    assert "visits:" not in table.output


def test_a_letter_that_is_not_there_is_said_to_be_not_there(played: Played) -> None:
    result = played.cli("dead-letters", "show", "visits:0:999999999")
    assert result.exit_code == 1
    assert result.stderr == "Error: there is no dead letter visits:0:999999999\n"


def test_the_doctor_finds_a_working_deployment_sound(played: Played) -> None:
    result = played.cli("doctor", "--json")
    report = json.loads(result.output)
    found = {(check["name"], check["level"]) for check in report["checks"]}
    assert result.exit_code == 0
    assert {(name, "ok") for name in ("kafka", "topics", "clickhouse", "migrations", "clock")} <= found
    assert {("customers lag", "ok"), ("sink lag", "ok")} <= found, report


def test_the_doctor_finds_missing_topics_and_tables(played: Played, tmp_path: Path) -> None:
    url = played.settings.clickhouse.rsplit("/", 1)[0] + "/nowhere"
    result = played.cli("doctor", "--json", "--topic-prefix", "absent-", "--clickhouse", url)
    broken = [check for check in json.loads(result.output)["checks"] if check["level"] == "broken"]
    assert result.exit_code == 1
    assert {"ebbtide topics create", "ebbtide migrate"} == {check["fix"] for check in broken}


def test_a_published_model_is_what_the_stream_goes_by_and_silence_is_enough(played: Played) -> None:
    """A quick shop's model: a buyer is new when they order, and lapsing when nothing but time has come."""
    model = ShopModel("quick", 7, PersonalRhythm(3.0, 1.0, 0.3), None, 0.5)
    assert publish(played.settings, [model]) == PARTITIONS
    refused = msgspec.json.encode(model).replace(b'"quick"', b'"other"')
    [place] = played.send(("models", b"quick", refused, 0))
    bought = order(played.at + HOUR, event_id="quick-1", customer_id="quick-buyer", shop_id="quick")
    played.send(("orders", b"quick-buyer", body(bought), 0))

    def told(table: str, columns: str) -> list[tuple[object, ...]]:
        where = "customer_id = 'quick-buyer' ORDER BY 1"
        return [*played.client.query(f"SELECT {columns} FROM {table} FINAL WHERE {where}").result_rows]

    def is_at(moment: int, stage: str) -> bool:
        # A tick holds once all that came before it has been read, so the latest is said again and again.
        played.send(*(("ticks", None, encode_tick(moment), partition) for partition in range(PARTITIONS)))
        return told("customers", "stage, model_version") == [(stage, 7)]

    wait_until("the buyer is new", lambda: is_at(played.at + 2 * HOUR, "new"), 30)
    wait_until("the buyer lapses", lambda: is_at(played.at + 30 * DAY, "lapsing"), 60)
    # Transitions come by a topic of their own, so a profile may be stored before what led to it.
    both = [("stage", "new", "order", 7), ("stage", "lapsing", "overdue", 7)]
    columns = "at, kind, to_state, cause, model_version"
    wait_until("both transitions", lambda: [row[1:] for row in told("transitions", columns)] == both)
    assert played.rows("dead_letters", [place])[place]["reason"] == "invalid_field"


def test_after_all_of_it_every_record_is_accounted_for(played: Played) -> None:
    def settled() -> bool:
        return not verify(played.client, POLICY, tables=()).leaks

    wait_until("counts that agree with what is stored", settled, 30)
    found = verify(played.client, POLICY, models=published(played.settings).in_force)
    assert found.exact, (found.samples, found.leaks)

"""A customer is erased: out of the states and of every table, and a replay of everything changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner, Result
from clickhouse_connect.driver.client import Client

from schemas.topics import ALL, CUSTOMERS_CHANGELOG
from streams.adapters.clickhouse import connect, migrate
from streams.adapters.codec import encode_tick
from streams.adapters.door import known_as
from streams.adapters.erasing import NAMES
from streams.adapters.kafka.scanning import scan
from streams.cli import main
from streams.commands.erase import partition_of
from streams.domain.erasure import names
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.settings import Settings
from streams.workers import Workers
from tests.builders import Event, body, cart, favorite, feedback, line, order, visit
from tests.integration.pipelines import Raw, deployed, send, wait_until

pytestmark = pytest.mark.replay

ROLES: Final = ("customers", "sink")
#: An id that is found nowhere by chance.
ERIKA: Final = "erika.mustermann-4711"
OTHERS: Final = [f"other-{number}" for number in range(12)]
#: Everything is over for days when it is sent.
START: Final = int(time.time() * 1000) // DAY * DAY - 5 * DAY


def life(customer: str, alias: str | None = None) -> Iterator[tuple[str, Event]]:
    """What someone does in two shops: looks, likes, fills a cart, buys elsewhere, complains, comes back.

    ``alias``: what other fields than customer_id call them; the id itself if not given.
    """
    called = alias or customer
    who = {"customer_id": customer}
    item = {"item_id": "coat", "category": "coats"}
    priced = {**item, "price": "20.00", "currency": "EUR"}
    there = {"shop_id": "s2", **who}
    yield "visits", visit(START, **priced, **who)
    yield "visits", visit(START + MINUTE, **item, user_agent=f"a browser of {called}", **who)
    yield "favorites", favorite(START + 2 * MINUTE, **priced, **who)
    yield "carts", cart(START + 3 * MINUTE, **item, **who)
    yield "visits", visit(START + HOUR, **item, **there)
    bought = {"lines": [line("coat", category="coats", price="15.00")], "total": "15.00", "currency": "EUR"}
    yield "orders", order(START + HOUR + MINUTE, order_id=f"o-{called}", **bought, **there)
    yield "feedback", feedback(START + 2 * HOUR, order_id=f"o-{called}", **there)
    yield "visits", visit(START + DAY, **who)


class Deployment:
    """Topics, tables and what was sent, by a run of workers or several."""

    def __init__(self, settings: Settings, client: Client, logs: Path) -> None:
        self.settings, self.client, self.logs = settings, client, logs
        self.sent: list[Raw] = []

    def workers(self) -> Workers:
        return Workers(self.settings, ROLES, self.logs)

    def cli(self, *args: str) -> Result:
        clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
        return CliRunner().invoke(
            main, list(args), env={**clean, **self.settings.to_env()}, catch_exceptions=False
        )

    def send(self, *records: Raw) -> None:
        self.sent += records
        asyncio.run(send(self.settings, list(records)))

    def raw(self, topic: str, event: Event) -> Raw:
        customer = event["customer_id"]
        return topic, customer.encode(), body(event), partition_of(self.settings, customer)

    def wait_at(self, at: int, what: str, true: Callable[[], bool]) -> None:
        """Let time pass to ``at``, and wait until that has made ``true`` come true."""
        partitions = range(self.settings.partitions)

        def said() -> bool:
            # A tick holds once all that came before it has been read, so it is said again and again.
            ticks: list[Raw] = [("ticks", None, encode_tick(at), number) for number in partitions]
            asyncio.run(send(self.settings, ticks))
            return true()

        wait_until(what, said)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.client.query(text).result_rows]

    def settled(self) -> bool:
        """All that was sent has been counted, and every count is what is stored."""
        columns = (
            "received, unaccounted, applied, stored_applied, late, stored_late, rejected, stored_rejected"
        )
        rows = self.query(
            f"SELECT {', '.join(f'sum({one})' for one in columns.split(', '))} FROM conservation"
        )
        received, unaccounted, *pairs = rows[0]
        return (received, unaccounted, pairs[::2]) == (len(self.sent), 0, pairs[1::2])

    def tables(self) -> list[str]:
        return [
            name
            for (name,) in self.query(
                "SELECT name FROM system.tables WHERE database = currentDatabase()"
                " AND engine LIKE '%MergeTree'"
            )
        ]

    def tables_naming(self, text: str) -> set[str]:
        """Tables in which any row has ``text`` anywhere, the rows that FINAL hides among them."""
        return {
            name
            for name in self.tables()
            if self.query(f"SELECT 1 FROM {name} WHERE position(toString(tuple(*)), '{text}') > 0 LIMIT 1")
        }

    def states_naming(self, text: bytes) -> int:
        """Newest rows of the changelog with ``text`` anywhere in key or value."""
        newest: dict[tuple[int, bytes], bytes | None] = {}

        def take(record: Any) -> None:
            newest[record.partition, record.key] = record.value

        scan(self.settings, [self.settings.topic(CUSTOMERS_CHANGELOG.name)], take)
        return sum(value is not None and text in key + value for (_, key), value in newest.items())

    def facts_of(self, customers: Iterable[str]) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of some customers in the tables of facts."""
        of = ", ".join(f"'{one}'" for one in customers)
        names = ("sessions", "customers", "purchases", "item_days", "leaks", "events")
        return {
            name: self.query(
                f"SELECT * EXCEPT (partition) FROM {name} FINAL WHERE customer_id IN ({of}) ORDER BY ALL"
            )
            for name in names
        }

    def begin_again(self) -> None:
        """Have both groups read all their topics from the beginning; no worker may run."""
        asyncio.run(self._rewind())

    async def _rewind(self) -> None:
        for role in ROLES:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.settings.kafka,
                group_id=self.settings.group(role),
                enable_auto_commit=False,
            )
            await consumer.start()
            try:
                places = [
                    TopicPartition(self.settings.topic(topic.name), number)
                    for topic in ALL
                    for number in range(self.settings.partitions)
                ]
                consumer.assign(places)
                await consumer.commit(dict.fromkeys(places, 0))
            finally:
                await consumer.stop()


@pytest.fixture(scope="module")
def erased(
    kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, dict[str, Any]]]:
    """A deployment in which Erika has lived among others, and was erased; and what was seen on the way."""
    logs = tmp_path_factory.mktemp("workers")
    policy = Policy(horizon=2 * DAY)
    with deployed(kafka, clickhouse, partitions=2, ticks="off", policy=policy) as (settings, client):
        place = Deployment(settings, client, logs)
        seen: dict[str, Any] = {}
        with place.workers():
            for customer in (ERIKA, *OTHERS):
                place.send(*(place.raw(topic, event) for topic, event in life(customer)))
            place.send(place.raw("visits", visit(START, customer_id=ERIKA)))  # a duplicate
            # Refused: under another's key, cut off, and no event at all.
            stray = visit(START, event_id="stray", customer_id=ERIKA)
            place.send(("visits", b"other-1", body(stray), 0), ("visits", b"other-1", body(stray)[:-1], 1))
            hers = partition_of(settings, ERIKA)
            place.send(("orders", ERIKA.encode(), b"[]", hers), ("visits", None, f"x;{ERIKA};y".encode(), 1))
            wait_until("all of it is counted", place.settled)
            everything = {"sessions", "leaks", "item_days", "reasons"}
            place.wait_at(
                START + 4 * DAY, "her visits are over", lambda: everything <= place.tables_naming(ERIKA)
            )
            late = place.raw("visits", visit(START - DAY, event_id="late", customer_id=ERIKA))
            place.send(late)
            wait_until("what was late is counted", place.settled)
            assert place.query("SELECT sum(late) FROM conservation") == [(1,)]
            seen["tables"] = place.tables_naming(ERIKA)
            seen["states"] = place.states_naming(ERIKA.encode())
            seen["others"] = place.facts_of(OTHERS)
            seen["refused"] = place.cli("erase", "--verify", ERIKA, "--json")
            seen["counts"] = place.query("SELECT * FROM conservation ORDER BY ALL")
            seen["told"] = place.cli("erase", ERIKA)
        yield place, seen


def test_before_she_was_everywhere_and_verify_says_so(erased: tuple[Deployment, dict[str, Any]]) -> None:
    _, seen = erased
    assert {"sessions", "customers", "purchases", "item_days", "leaks", "transitions"} <= seen["tables"]
    assert {"events", "late_events", "dead_letters"} <= seen["tables"]
    assert seen["states"] >= 1
    assert seen["refused"].exit_code == 1
    told = json.loads(seen["refused"].output)
    assert not told["gone"]
    assert told["state"] == 1
    assert told["rows"].keys() == seen["tables"]


def test_erased_she_is_nowhere_and_nobody_else_has_changed(erased: tuple[Deployment, dict[str, Any]]) -> None:
    place, seen = erased
    assert seen["told"].exit_code == 0, seen["told"].output
    nowhere(place)
    assert place.facts_of(OTHERS) == seen["others"]
    assert place.query("SELECT * FROM conservation ORDER BY ALL") == seen["counts"]
    assert place.settled()


def test_verify_says_what_kafka_holds_and_that_nothing_else_is_left(
    erased: tuple[Deployment, dict[str, Any]],
) -> None:
    place, _ = erased
    found = place.cli("erase", "--verify", ERIKA, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.output)
    assert (told["gone"], told["state"], told["rows"]) == (True, 0, {})
    prefix = place.settings.topic_prefix
    held = {each["topic"].removeprefix(prefix): each["records"] for each in told["log"]}
    assert {"visits": 6, "orders": 2, "feedback": 1}.items() <= held.items()
    assert held["sessions"] >= 3
    spoken = place.cli("erase", "--verify", ERIKA).output
    assert "nothing is left in the states and in ClickHouse" in spoken
    assert f"record(s) of {prefix}visits, until 20" in spoken


def test_a_restart_and_a_replay_of_everything_do_not_bring_her_back(
    erased: tuple[Deployment, dict[str, Any]],
) -> None:
    """From the changelog; then all records sent a second time; then all topics read from the beginning."""
    place, seen = erased
    with place.workers():
        place.send(*[raw for raw in place.sent if raw[0] != "ticks"])
        wait_until("what was sent again is counted", place.settled)
        nowhere(place)
    rejected = place.query(
        "SELECT reason, isNull(key), isNull(value) FROM dead_letters FINAL WHERE reason = 'erased'"
    )
    # Her eight events, their duplicate, and what was late.
    assert rejected == [("erased", 1, 1)] * 10
    place.begin_again()
    with place.workers():
        fresh = visit(START + 4 * DAY + HOUR, customer_id="fresh")
        place.send(place.raw("visits", fresh))
        wait_until("the end is read", lambda: place.settled() and "events" in place.tables_naming("fresh"))
        place.wait_at(START + 5 * DAY, "time passes", lambda: "sessions" in place.tables_naming("fresh"))
        nowhere(place)
    assert place.facts_of(OTHERS)["sessions"] == seen["others"]["sessions"]


def test_tables_made_anew_from_kafka_lack_her_too(erased: tuple[Deployment, dict[str, Any]]) -> None:
    place, seen = erased
    for name in place.tables():
        if name != "schema_versions":
            place.client.command(f"TRUNCATE TABLE {name}")
    migrate(place.settings.clickhouse)
    place.begin_again()
    with place.workers():
        wait_until(
            "all is stored again", lambda: place.facts_of(OTHERS)["events"] == seen["others"]["events"]
        )
        wait_until("all counts are", place.settled)
    nowhere(place)


def test_whoever_has_the_id_afterwards_is_somebody_new(erased: tuple[Deployment, dict[str, Any]]) -> None:
    place, _ = erased
    now = int(time.time() * 1000)
    with place.workers():
        place.send(place.raw("visits", visit(now, event_id="again", customer_id=ERIKA)))
        wait_until("she is there again", lambda: "events" in place.tables_naming(ERIKA))
        wait_until("it is counted", place.settled)
    assert place.query(f"SELECT event_id FROM events FINAL WHERE customer_id = '{ERIKA}'") == [("again",)]


def nowhere(place: Deployment) -> None:
    assert place.tables_naming(ERIKA) == set()
    assert place.states_naming(ERIKA.encode()) == 0


def test_an_order_that_nobody_carries_out_says_so(kafka: str, clickhouse: str, tmp_path: Path) -> None:
    with deployed(kafka, clickhouse, partitions=1) as (settings, client):
        place = Deployment(settings, client, tmp_path)
        waited = place.cli("erase", ERIKA, "--wait", "0.5")
        assert waited.exit_code == 1
        assert "as soon as the workers customers and sink run" in waited.output
        assert place.cli("erase", ERIKA, "--wait", "0").exit_code == 0


def test_with_a_key_no_id_is_kept_anywhere_and_erasing_works_by_the_id(
    kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    """What is late or refused is kept without it too; the same customers' figures come out."""
    policy = Policy(horizon=2 * DAY)
    key = "a key of at least sixteen characters"
    with deployed(kafka, clickhouse, partitions=2, ticks="off", policy=policy, customer_key=key) as (
        settings,
        client,
    ):
        place = Deployment(settings, client, tmp_path)
        hidden = known_as(settings, ERIKA)
        with place.workers():
            for number, customer in enumerate((ERIKA, *OTHERS[:3])):
                # Only customer_id is replaced: what else an event says may name anybody.
                events = life(customer, f"number {number}")
                place.send(*(place.raw(topic, event) for topic, event in events))
            stray = visit(START, event_id="stray", customer_id=ERIKA)
            place.send(
                ("visits", b"other-1", body(stray), 0), ("visits", ERIKA.encode(), body(stray)[:-1], 1)
            )
            wait_until("all of it is counted", place.settled)
            place.wait_at(START + 4 * DAY, "time passes", lambda: "sessions" in place.tables_naming(hidden))
            place.send(place.raw("visits", visit(START - DAY, event_id="late", customer_id=ERIKA)))
            wait_until("what was late is counted", place.settled)
            nowhere(place)
            assert {"events", "late_events", "sessions", "dead_letters"} <= place.tables_naming(hidden)
            assert place.states_naming(hidden.encode()) >= 1
            found = json.loads(place.cli("erase", "--verify", ERIKA, "--json").output)
            assert (found["gone"], found["state"]) == (False, 1)
            told = place.cli("erase", ERIKA)
            assert told.exit_code == 0, told.output
            assert place.tables_naming(hidden) == set()
            assert place.states_naming(hidden.encode()) == 0
            assert place.cli("erase", "--verify", ERIKA).exit_code == 0
            assert "sessions" in place.tables_naming(known_as(settings, OTHERS[0]))
            assert place.settled()
        place.begin_again()
        with place.workers():
            place.send(place.raw("visits", visit(START + 4 * DAY, customer_id="fresh")))
            wait_until(
                "the end is read", lambda: "events" in place.tables_naming(known_as(settings, "fresh"))
            )
            wait_until("all is counted", place.settled)
        assert place.tables_naming(hidden) == set()
        nowhere(place)


REFUSED: Final[list[tuple[bytes | None, bytes | None]]] = [
    (None, None),
    (b"c1", None),
    (b"\xff", b"\xff\xfe"),
    (None, b'{"customer_id" : "a\\"b","userId":"x y"}'),
    (b"k", b"1,er ika;[z]\n{x:'y'}"),
    (None, json.dumps({"customer_id": "客户"}).encode()),
    (None, '{"user_id":"客户"'.encode()),
    (None, b'{"user_id":"\\q","x":{"userId":"\\ud800"}}'),
    (None, b"a" * 8_185 + b" late too late"),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_sql_finds_the_names_in_a_refused_record_that_the_rules_find(
    clickhouse: str, key: bytes | None, value: bytes | None
) -> None:
    def text(raw: bytes | None) -> str:
        return "NULL" if raw is None else f"unhex('{raw.hex()}')"

    record = f"CAST({text(key)} AS Nullable(String)) AS key, CAST({text(value)} AS Nullable(String)) AS value"
    with closing(connect(clickhouse, database="default")) as client:
        rows = client.query(f"SELECT arrayMap(x -> hex(x), {NAMES}) FROM (SELECT {record})").result_rows
    found = {bytes.fromhex(name) for name in rows[0][0]} - {b""}
    assert found == set(names(key, value)) - {b""}

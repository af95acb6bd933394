"""The tables: made by migrations, filled as Arrow, replaced by identity, read through views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from schemas.facts import MODELS, RejectReason
from streams.adapters.alert_rows import ALERTS_SCHEMA, DELIVERIES_SCHEMA, LOSS_WINDOWS_SCHEMA
from streams.adapters.buyer_rows import (
    ACTIONS_SCHEMA,
    CUSTOMERS_SCHEMA,
    TRANSITIONS_SCHEMA,
    customer_rows,
)
from streams.adapters.clickhouse import (
    Endpoint,
    Store,
    StoreError,
    StoreUnavailable,
    connect,
    migrate,
    sql_dir,
)
from streams.adapters.codec import Rejected, dead_letter_headers
from streams.adapters.erasing import ERASED_SCHEMA, RECORDS_SCHEMA
from streams.adapters.loss_rows import (
    ITEM_DAYS_SCHEMA,
    LEAKS_SCHEMA,
    PURCHASES_SCHEMA,
    REASONS_SCHEMA,
    SEGMENT_RUNS_SCHEMA,
    SEGMENTS_SCHEMA,
    SHOPS_SCHEMA,
)
from streams.adapters.rows import (
    DEAD_LETTERS_SCHEMA,
    EVENTS_SCHEMA,
    INGEST_SCHEMA,
    LATE_EVENTS_SCHEMA,
    SESSIONS_SCHEMA,
    TABLES,
    dead_letter_rows,
    event_rows,
    session_rows,
)
from streams.domain.facts import SessionFact, tombstone
from streams.domain.policy import DAY, MINUTE
from streams.settings import Settings
from tests.builders import NOON, cart, favorite, feedback, line, order, record, visit

SETTINGS = Settings()
EXAMPLES: Final = Path(__file__).parents[2] / "schemas" / "examples"
#: Tables whose rows are a fact and its partition, by topic, with the columns that rows bring.
OF_FACTS: Final = {
    "sessions": SESSIONS_SCHEMA,
    "customers": CUSTOMERS_SCHEMA,
    "transitions": TRANSITIONS_SCHEMA,
    "actions": ACTIONS_SCHEMA,
    "purchases": PURCHASES_SCHEMA,
    "leaks": LEAKS_SCHEMA,
    "reasons": REASONS_SCHEMA,
    "segments": SEGMENTS_SCHEMA,
    "erased": ERASED_SCHEMA,
    "loss-windows": LOSS_WINDOWS_SCHEMA,
    "alerts": ALERTS_SCHEMA,
    "deliveries": DELIVERIES_SCHEMA,
}
#: All of them, and those that are of no one partition, or say it themselves.
TOLD: Final = {**OF_FACTS, "segment-runs": SEGMENT_RUNS_SCHEMA, "shops": SHOPS_SCHEMA}


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def store(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as store:
        yield store


def lost(customer: str, **changes: Any) -> SessionFact:
    fact = tombstone(customer, "s1", NOON, 1)
    return msgspec.structs.replace(fact, lost_stage="bounced", events=1, is_deleted=False, **changes)


def publish(store: Store, *facts: SessionFact) -> None:
    records = [record("sessions", msgspec.json.encode(fact), partition=3, key=b"c") for fact in facts]
    store.insert("sessions", session_rows(records, SETTINGS))


def rows(client: Client, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query).result_rows]


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        *((topic.replace("-", "_"), schema) for topic, schema in TOLD.items()),
        ("item_days", ITEM_DAYS_SCHEMA),
        ("late_events", LATE_EVENTS_SCHEMA),
        ("dead_letters", DEAD_LETTERS_SCHEMA),
        ("ingest", INGEST_SCHEMA),
        ("erased_records", RECORDS_SCHEMA),
        ("events", EVENTS_SCHEMA),
    ],
)
def test_rows_and_tables_have_the_same_columns(client: Client, table: str, schema: Any) -> None:
    columns = [row[0] for row in rows(client, f"DESCRIBE TABLE {table}") if row[2] != "MATERIALIZED"]
    assert columns == schema.names


@pytest.mark.parametrize("topic", OF_FACTS)
def test_a_row_of_a_fact_is_the_fact_and_its_partition(topic: str) -> None:
    assert [*MODELS[topic].model_fields, "partition"] == OF_FACTS[topic].names


def test_every_topic_of_facts_is_stored() -> None:
    assert TABLES.keys() >= MODELS.keys()


def test_a_day_that_no_column_holds_becomes_the_last_one(client: Client, store: Store) -> None:
    told = json.loads((EXAMPLES / "customers" / "lapsing.json").read_text())
    body = json.dumps({**told, "next_order_on": "9999-12-31", "as_of": "0001-01-01"}).encode()
    store.insert("customers", customer_rows([record("customers", body)], SETTINGS))
    assert rows(client, "SELECT toString(next_order_on), toString(as_of) FROM customers FINAL") == [
        ("2299-12-31", "1900-01-01")
    ]


def test_lifecycle_by_shop_is_who_stands_where_now(client: Client, store: Store) -> None:
    told = json.loads((EXAMPLES / "customers" / "lapsing.json").read_text())
    facts = [
        told,
        {**told, "customer_id": "second", "currency": "CNY", "monetary": "1.0000"},
        {**told, "customer_id": "gone", "version": 1},
        {**told, "customer_id": "gone", "version": 2, "is_deleted": True},
        {**told, "customer_id": "moved", "version": 1},
        {**told, "customer_id": "moved", "version": 2, "stage": "lapsed"},
    ]
    records = [record("customers", fact) for fact in facts]
    store.insert("customers", customer_rows(records, SETTINGS))
    assert rows(client, "SELECT * EXCEPT last_order_at FROM lifecycle_by_shop ORDER BY stage") == [
        ("shop-42", "lapsed", 1, 4, {"EUR": Decimal("318.4")}),
        ("shop-42", "lapsing", 2, 8, {"EUR": Decimal("318.4"), "CNY": Decimal(1)}),
    ]


def test_of_a_session_the_newest_version_counts_and_a_tombstone_hides_it(
    client: Client, store: Store
) -> None:
    publish(store, lost("a", version=2, channel="new"), lost("b"))
    publish(store, lost("a", channel="old"), tombstone("b", "s1", NOON, 2))
    assert rows(client, "SELECT customer_id, channel, partition FROM sessions FINAL") == [("a", "new", 3)]


def test_every_column_of_a_session_comes_through(client: Client, store: Store) -> None:
    fact = lost(
        "客 户",
        ended_at=NOON + MINUTE,
        cart_value="999999999999999900.0001",
        currency="CNY",
        mixed_currency=True,
        recovered=True,
        recovered_at=NOON + DAY,
        recovered_by="o1",
        landing_item="i1",
        channel="",
        campaign="双十一",
        is_bot=True,
        day=date(2026, 3, 3),
        bot_by="rate",
    )
    publish(store, fact)
    (found,) = client.query(
        "SELECT * REPLACE (toUnixTimestamp64Milli(started_at) AS started_at,"
        " toUnixTimestamp64Milli(ended_at) AS ended_at, toUnixTimestamp64Milli(recovered_at) AS recovered_at,"
        " toString(session_id) AS session_id) FROM sessions FINAL"
    ).named_results()
    told = msgspec.structs.asdict(fact)
    money = {name: Decimal(told[name]) for name in ("cart_value", "revenue")}
    assert found == {**told, **money, "is_deleted": 0, "partition": 3}


def test_of_one_event_id_the_first_offset_stands_whatever_is_stored_first(
    client: Client, store: Store
) -> None:
    said = [record("visits", visit(item_id=f"i{n}", event_id="same"), offset=n) for n in range(3)]
    for place in (1, 0, 2, 1):
        store.insert("events", event_rows([said[place]], SETTINGS))
    assert rows(client, "SELECT offset, item_id FROM events FINAL") == [(0, "i0")]
    client.command("OPTIMIZE TABLE events FINAL")
    assert rows(client, "SELECT offset, item_id FROM events") == [(0, "i0")]


def test_every_kind_of_event_is_stored_and_what_is_refused_is_not(client: Client, store: Store) -> None:
    lines = [line(quantity=2, discount="0.5", category="k"), line("i2", price=None)]
    said = [
        record("visits", visit(url="https://x", channel="ads", is_bot=True)),
        record("visits", b"{", offset=1),
        record("favorites", favorite(target="shop")),
        record("carts", cart(quantity=3, price="2.5", cart_id="k1")),
        record("orders", order(lines=lines, total=None)),
        record("orders", order(NOON + 1, "refunded", refund_amount="1.25"), offset=1),
        record("feedback", feedback(rating=2, item_id="i1")),
        record("feedback", feedback(NOON + 1, "reply", reply_ms=90_000_000), offset=1),
    ]
    store.insert("events", event_rows(said, SETTINGS))
    assert rows(
        client, "SELECT topic, action, target, quantity, price FROM events FINAL ORDER BY topic, offset"
    ) == [
        ("carts", "add", None, 3, Decimal("2.5")),
        ("favorites", "add", "shop", None, None),
        ("feedback", "review", None, None, None),
        ("feedback", "reply", None, None, None),
        ("orders", "placed", None, None, None),
        ("orders", "refunded", None, None, None),
        ("visits", "visit", None, None, None),
    ]
    assert rows(
        client, "SELECT rating, reply_ms, item_id FROM events WHERE topic = 'feedback' ORDER BY offset"
    ) == [
        (2, None, "i1"),
        (None, 90_000_000, None),
    ]
    assert rows(client, "SELECT url, channel, is_bot FROM events WHERE topic = 'visits'") == [
        ("https://x", "ads", True)
    ]
    ((first, second),) = rows(client, "SELECT lines[1], lines[2] FROM events WHERE action = 'placed'")
    assert tuple(first.values()) == ("i1", "k", 2, Decimal(10), Decimal("0.5"))
    assert tuple(second.values()) == ("i2", None, 1, None, None)
    assert rows(client, "SELECT refund_amount FROM events WHERE action = 'refunded'") == [(Decimal("1.25"),)]


def test_the_stored_digest_is_what_clickhouse_computes(client: Client, store: Store) -> None:
    said = [
        record("visits", visit(event_id="ë")),
        record("orders", order(event_id="ë")),
        record("feedback", feedback(action="complaint", event_id="ë")),
    ]
    store.insert("events", event_rows(said, SETTINGS))
    index = "indexOf(['visits', 'favorites', 'carts', 'orders', 'feedback'], topic) - 1"
    own = f"xxh3(concat(char({index}), event_id))"
    assert rows(client, f"SELECT count() FROM events WHERE id = {own}") == [(3,)]


def test_a_topic_prefix_is_not_stored(client: Client, store: Store) -> None:
    store.insert("events", event_rows([record("eu-visits", visit())], Settings(topic_prefix="eu-")))
    assert rows(client, "SELECT topic FROM events") == [("visits",)]


@pytest.mark.parametrize(("key", "value"), [(None, b""), (b"\xff\x00", None), (b"", b"\x80" * 1_000_000)])
def test_a_dead_letter_keeps_the_refused_bytes(
    client: Client, store: Store, key: bytes | None, value: bytes | None
) -> None:
    refused = Rejected(7, -1, RejectReason.BAD_ENCODING, "half a\npair", key, value)
    headers = tuple(dead_letter_headers(refused, "carts", 2))
    letter = record("dead-letters", value, key=key, headers=headers, arrived=NOON)
    store.insert("dead_letters", dead_letter_rows([letter], SETTINGS))
    found = client.query(
        "SELECT topic, partition, offset, reason, detail, key, value FROM dead_letters FINAL",
        column_formats={"key": "bytes", "value": "bytes"},
    ).result_rows
    assert found == [("carts", 2, 7, "bad_encoding", "half a\npair", key, value)]


def test_a_batch_may_span_more_months_than_a_server_takes_by_default(client: Client, store: Store) -> None:
    publish(store, *(lost("a", started_at=NOON - n * 31 * DAY) for n in range(200)))
    assert rows(client, "SELECT count(), uniqExact(toYYYYMM(started_at)) FROM sessions FINAL") == [(200, 200)]


def test_what_was_stored_before_a_column_was_there_is_read_with_it(database: str) -> None:
    """As a release with 14 migrations left it."""
    migrations = sorted((sql_dir() / "migrations").glob("*.sql"))
    with closing(connect(database)) as client:
        for path in migrations[:14]:
            client.command(path.read_text())
        client.command(
            "INSERT INTO sessions (session_id, started_at) VALUES (repeat('0', 32), '2026-03-02 23:59:59')"
        )
        client.command("INSERT INTO events (topic, event_id) VALUES ('visits', 'e1')")
        migrate(database)
        assert rows(client, "SELECT day, bot_by FROM sessions FINAL") == [(date(2026, 3, 2), None)]
        assert rows(client, "SELECT event_id, rating, reply_ms FROM events FINAL") == [("e1", None, None)]
        assert rows(client, "SELECT day, sessions FROM loss_by_shop_day") == [(date(2026, 3, 2), 1)]


@pytest.mark.parametrize("unit", ["minute", "hour", "day"])
def test_a_rollup_leaves_bots_out_beside_having_them_in_and_adds_no_two_currencies(
    client: Client, store: Store, unit: str
) -> None:
    carted = {"lost_stage": "carted", "recovered": True}
    publish(
        store,
        lost("a", currency="CNY", cart_value="10.5000"),
        lost("b", currency="CNY", cart_value="1.0000", is_bot=True),
        lost("c", currency="EUR", cart_value="2.0000"),
        msgspec.structs.replace(lost("d"), **carted),
        msgspec.structs.replace(
            lost("e"), outcome="converted", lost_stage=None, currency="CNY", cart_value="9.0000"
        ),
    )
    (found,) = client.query(f"SELECT * EXCEPT ({unit}) FROM loss_by_shop_{unit}").named_results()
    assert found == {
        "shop_id": "s1",
        "sessions": 4,
        "converted": 1,
        "lost": 3,
        "bounced": 2,
        "browsed": 0,
        "favorited": 0,
        "carted": 1,
        "recovered": 1,
        "loss_rate": 0.75,
        "value_at_risk": {"CNY": Decimal("10.5"), "EUR": Decimal(2)},
        "sessions_with_bots": 5,
        "converted_with_bots": 1,
        "lost_with_bots": 4,
        "bounced_with_bots": 3,
        "browsed_with_bots": 0,
        "favorited_with_bots": 0,
        "carted_with_bots": 1,
        "recovered_with_bots": 1,
        "loss_rate_with_bots": 0.8,
        "value_at_risk_with_bots": {"CNY": Decimal("11.5"), "EUR": Decimal(2)},
    }
    publish(store, *(tombstone(name, "s1", NOON, 2) for name in "abcde"))
    assert rows(client, f"SELECT count() FROM loss_by_shop_{unit}") == [(0,)]


def test_a_schema_that_is_not_there_is_said_with_what_to_do(database: str) -> None:
    with closing(Store(database)) as store, pytest.raises(StoreError, match="run `ebbtide migrate`") as found:
        publish(store, lost("a"))
    assert not isinstance(found.value, StoreUnavailable)


def test_a_refused_login_is_no_outage(clickhouse: str) -> None:
    endpoint = Endpoint.parse(clickhouse)
    url = f"http://{endpoint.user}:wrong@{endpoint.host}:{endpoint.port}/{endpoint.database}"
    with closing(Store(url)) as store, pytest.raises(StoreError, match="refused user") as found:
        publish(store, lost("a"))
    assert not isinstance(found.value, StoreUnavailable)
    assert "wrong" not in str(found.value)

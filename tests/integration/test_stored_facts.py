"""What comes back of a fact: the examples of the contract, stored as the sink does and read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import pytest
from clickhouse_connect.driver.client import Client

from schemas.facts import MODELS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.loss_rows import item_day_rows
from streams.adapters.rows import TABLES
from streams.settings import Settings
from tests.builders import record

SETTINGS: Final = Settings()
EXAMPLES: Final = Path(__file__).parents[2] / "schemas" / "examples"
#: Those whose rows are a fact and the partition of its customer.
OF_CUSTOMERS: Final = ("customers", "transitions", "actions", "purchases", "leaks", "reasons", "segments")
OF_SHOPS: Final = ("loss-windows", "alerts", "deliveries")
IDS: Final = (
    *("transition_id", "action_id", "leak_id", "reason_id", "alert_id", "delivery_id"),
    "subject_id",
)
#: What tells two facts of one topic apart, beside their ids.
IDENTITY: Final = (
    *IDS[:-1],
    *("shop_id", "customer_id", "order_id", "segment", "rules_version", "partition"),
    *("scope", "scope_value", "minute"),
)
TIMES: Final = frozenset(
    {"anchor", "at", "stage_since", "first_order_at", "last_order_at", "last_seen_at", "started_at"}
    | {
        "ended_at",
        "recovered_at",
        "ordered_at",
        "seen_at",
        "first_at",
        "minute",
        "began_at",
        "resolved_at",
        "created_at",
        "next_at",
    }
)


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def store(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as store:
        yield store


@pytest.mark.parametrize("topic", [*OF_CUSTOMERS, *OF_SHOPS, "segment-runs", "shops"])
def test_every_column_of_a_fact_comes_through(client: Client, store: Store, topic: str) -> None:
    """The schema examples, told twice: what stands is what they say; tombstones hide what they name."""
    table, rows_of = TABLES[topic]
    examples = [path.read_bytes() for path in sorted((EXAMPLES / topic).glob("*.json"))]
    assert len(examples) > 2
    for _ in range(2):
        store.insert(table, rows_of([record(topic, body, partition=3) for body in examples], SETTINGS))
    told = _stand(map(_parsed(MODELS[topic]), examples))
    stored = {"is_deleted": 0, "partition": 3} if topic in (*OF_CUSTOMERS, *OF_SHOPS) else {}
    found = list(client.query(f"SELECT * FROM {table} FINAL").named_results())
    assert {_identity(row): row for row in found} == {key: {**fact, **stored} for key, fact in told.items()}
    assert len(found) == len(told) > 0


def test_each_item_of_a_day_is_a_row_and_a_tombstone_hides_them_all(client: Client, store: Store) -> None:
    examples = [path.read_bytes() for path in sorted((EXAMPLES / "item-days").glob("*.json"))]
    for _ in range(2):
        records = [record("item-days", body, partition=3) for body in examples]
        store.insert("item_days", item_day_rows(records, SETTINGS))
    days = list(map(_parsed(MODELS["item-days"]), examples))
    expected = [
        {**{name: value for name, value in day.items() if name != "items"}, **_timed(item), "partition": 3}
        for day in days
        if not day["is_deleted"]
        for item in day["items"]
    ]
    found = list(
        client.query("SELECT * FROM item_days FINAL ORDER BY shop_id, customer_id, item_id").named_results()
    )
    key = itemgetter("shop_id", "customer_id", "item_id")
    assert found == sorted(expected, key=key)
    gone = json.loads(examples[0]) | {"version": 99, "is_deleted": True}
    store.insert("item_days", item_day_rows([record("item-days", gone)], SETTINGS))
    left = list(client.query("SELECT DISTINCT shop_id, customer_id FROM item_days FINAL").named_results())
    assert {"shop_id": gone["shop_id"], "customer_id": gone["customer_id"]} not in left
    assert left


def _stand(facts: Iterable[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Of each identity the highest version, unless that is a tombstone."""
    newest = {_identity(fact): fact for fact in sorted(facts, key=lambda fact: fact.get("version", 0))}
    return {key: fact for key, fact in newest.items() if not fact.get("is_deleted")}


def _parsed(model: Any) -> Any:
    """What the table has to give back for a fact in JSON."""

    def parse(body: bytes) -> dict[str, Any]:
        fact: dict[str, Any] = model.model_validate_json(body).model_dump()
        for name, value in fact.items():
            if isinstance(value, tuple):
                fact[name] = list(value)
            elif name in IDS:
                fact[name] = value.encode()
        return _timed(fact)

    return parse


def _timed(fact: dict[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromtimestamp(value / 1000, UTC).replace(tzinfo=None)
        if name in TIMES and value is not None
        else value
        for name, value in fact.items()
    }


def _identity(fact: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fact.get(name) for name in IDENTITY if name != "partition" or "done" in fact)

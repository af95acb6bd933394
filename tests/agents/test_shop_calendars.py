"""A shop's zone, as it is published, decides its days in the customers agent, and outlives the worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from schemas import topics
from schemas.losses import ShopFact
from streams.adapters.codec import encode_tick
from streams.agents.customers import Bundle, Customers
from streams.settings import Settings
from tests.agents.test_batch_loop_laws import Log, Record, States

#: 2026-03-02 20:30 UTC: already the third in Shanghai.
EVENING = 1_772_483_400_000
SETTINGS = Settings(ticks="off")
HALF_AN_HOUR = 1_800_000


def _worker(log: Log) -> Customers:
    customers = Customers(SETTINGS, States(log), log.send, lambda *_: True)
    customers.assign(0)
    return customers


def _handle(customers: Customers, topic: topics.Topic, records: Sequence[Record]) -> None:
    asyncio.run(customers.handle(0, [Bundle(topic.name, records, time.monotonic())]))


def _shop(offset: int, shop_id: str, zone: str, version: int, key: str | None = None) -> Record:
    fact = ShopFact(shop_id=shop_id, name=shop_id, zone=zone, currency=None, version=version)
    return Record(offset, (key or shop_id).encode(), fact.model_dump_json().encode(), EVENING)


def _visit(offset: int, shop_id: str, at: int) -> Record:
    body = {
        "event_id": f"v{offset}",
        "occurred_at": at,
        "customer_id": "c",
        "shop_id": shop_id,
        "item_id": "x",
    }
    return Record(offset, b"c", json.dumps(body).encode(), at)


def _closed(customers: Customers, offset: int, at: int) -> None:
    _handle(customers, topics.TICKS, [Record(offset, None, encode_tick(at + HALF_AN_HOUR + 1_000), at)])


def _told(log: Log, topic: topics.Topic) -> list[Any]:
    return [json.loads(value or b"") for name, _, value in log.sent if name == topic.name]


def test_days_are_those_of_the_zone_that_was_published_also_after_a_restart() -> None:
    log = Log()
    customers = _worker(log)
    _handle(customers, topics.SHOPS, [_shop(0, "far", "Asia/Shanghai", 1)])
    _handle(customers, topics.VISITS, [_visit(0, "far", EVENING), _visit(1, "near", EVENING)])
    _closed(customers, 0, EVENING)
    days = {fact["shop_id"]: fact["day"] for fact in _told(log, topics.SESSIONS)}
    assert days == {"far": "2026-03-03", "near": "2026-03-02"}
    assert {fact["shop_id"]: fact["day"] for fact in _told(log, topics.ITEM_DAYS)} == days
    assert {fact["shop_id"]: fact["as_of"] for fact in _told(log, topics.CUSTOMERS)} == days
    later = EVENING + 86_400_000
    customers = _worker(log)
    _handle(customers, topics.VISITS, [_visit(2, "far", later)])
    _closed(customers, 1, later)
    # What was told last may not have been sent, and is told again.
    sessions = _told(log, topics.SESSIONS)
    assert {fact["day"] for fact in sessions if fact["started_at"] == later} == {"2026-03-04"}


def test_an_older_publication_changes_nothing_and_a_wrong_one_is_a_dead_letter() -> None:
    log = Log()
    customers = _worker(log)
    _handle(customers, topics.SHOPS, [_shop(0, "far", "Asia/Shanghai", 5), _shop(1, "far", "UTC", 4)])
    _handle(
        customers, topics.SHOPS, [_shop(2, "far", "Mars/Olympus", 6), _shop(3, "far", "UTC", 7, key="near")]
    )
    _handle(customers, topics.VISITS, [_visit(0, "far", EVENING)])
    _closed(customers, 0, EVENING)
    assert [fact["day"] for fact in _told(log, topics.SESSIONS)] == ["2026-03-03"]
    assert log.letters == {("shops", "2"): "invalid_field", ("shops", "3"): "invalid_field"}

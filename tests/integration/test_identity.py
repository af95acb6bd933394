"""Guests who turn out to be customers of another partition, through Kafka, the workers and ClickHouse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.kafka.producing import partition_of
from streams.domain.policy import SECOND, Policy
from streams.settings import Settings
from streams.workers import Workers
from tests.builders import Event, body, cart, identify, line, order, visit
from tests.integration.pipelines import Raw, deployed, send, wait_until

PARTITIONS = 2
GAP_S = 5


@pytest.fixture(scope="module")
def live(kafka: str, clickhouse: str) -> Iterator[tuple[Settings, Client]]:
    policy = Policy(gap=GAP_S * SECOND)
    with deployed(kafka, clickhouse, partitions=PARTITIONS, policy=policy, tick_interval_s=0.1) as deployment:
        yield deployment


def in_partition(number: int, name: str) -> str:
    """An id whose records are in that partition."""
    ids = (f"{name}-{n}" for n in range(100))
    return next(each for each in ids if partition_of(each.encode(), PARTITIONS) == number)


def raw(topic: str, event: Event) -> Raw:
    key = event["customer_id"].encode()
    return topic, key, body(event), partition_of(key, PARTITIONS)


def rows(client: Client, query: str) -> list[dict[str, Any]]:
    return list(client.query(query).named_results())


def test_a_guests_session_is_the_customers_before_it_closes_and_after(
    live: tuple[Settings, Client], tmp_path: Path
) -> None:
    """The cart of a guest is the customer's when they order; a verdict on a guest is taken back; the customer
    is no guest of anybody's."""
    settings, client = live
    guest, early, customer = in_partition(0, "guest"), in_partition(0, "early"), in_partition(1, "customer")
    t = int(time.time() * 1000)
    told = [
        raw("visits", visit(t, customer_id=guest, item_id="i1", event_id="look")),
        raw("carts", cart(t + 1, customer_id=guest, event_id="put")),
        raw("identities", identify(t + 2, guest, customer, event_id="is")),
        raw("orders", order(t + 3, customer_id=customer, event_id="buy", lines=[line("i1")])),
        raw("visits", visit(t, customer_id=early, shop_id="s2", event_id="glance")),
    ]
    with Workers(settings, ("customers", "sink"), tmp_path) as workers:

        def standing() -> dict[tuple[str, str], tuple[str, int]]:
            workers.check()
            found = rows(client, "SELECT * FROM sessions FINAL WHERE is_deleted = 0")
            return {(r["customer_id"], r["shop_id"]): (r["outcome"], r["events"]) for r in found}

        asyncio.run(send(settings, told))
        first = {(customer, "s1"): ("converted", 3), (early, "s2"): ("lost", 1)}
        wait_until("the guest's cart is part of the customer's order", lambda: standing() == first)
        said = identify(t + 4, early, customer, event_id="was")
        asyncio.run(send(settings, [raw("identities", said), raw("identities", said)]))
        second = {(customer, "s1"): ("converted", 3), (customer, "s2"): ("lost", 1)}
        wait_until("the verdict on the guest is the customer's", lambda: standing() == second)
        refused = identify(t + 5, customer, "somebody-else", event_id="no")
        asyncio.run(send(settings, [raw("identities", refused)]))
        letters = "SELECT topic, reason FROM dead_letters FINAL"
        wait_until("a known customer is no guest", lambda: bool(rows(client, letters)))
        wait_until("all is counted", lambda: _received(client) == len(told) + 3)
    assert rows(client, letters) == [{"topic": "identities", "reason": "not_a_guest"}]
    items = rows(client, "SELECT customer_id, item_id, disposition FROM item_days FINAL WHERE is_deleted = 0")
    assert items == [{"customer_id": customer, "item_id": "i1", "disposition": "bought_item"}]
    [profiles] = rows(
        client, "SELECT groupUniqArray(customer_id) AS ids FROM customers FINAL WHERE is_deleted = 0"
    )
    assert profiles["ids"] == [customer]
    counted = rows(
        client,
        "SELECT topic, sum(applied) AS applied, sum(duplicate) AS duplicate, sum(rejected) AS rejected,"
        " sum(unaccounted) AS unaccounted, sum(stored_applied) AS stored FROM conservation"
        " WHERE topic = 'identities' GROUP BY topic",
    )
    [one] = counted
    assert (one["applied"], one["duplicate"], one["rejected"], one["unaccounted"]) == (2, 1, 1, 0)
    assert one["stored"] == 2


def _received(client: Client) -> int:
    return int(client.query("SELECT sum(received) FROM ingest FINAL").result_rows[0][0])

"""Buyers put into ClickHouse by hand: their orders as raw events, and what `customers` says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Store
from streams.adapters.rows import event_rows, ingest_rows
from streams.domain.days import date_of
from streams.domain.policy import DAY, HOUR
from streams.settings import Settings
from tests.builders import line, order, record

SETTINGS: Final = Settings()
#: 2025-01-01.
START: Final = (date(2025, 1, 1) - date(1970, 1, 1)).days


@dataclass(frozen=True)
class Bought:
    """One buyer of one shop, and the days on which they bought, in order."""

    shop: str
    customer: str
    days: tuple[int, ...]


def store_events(store: Store, events: Iterable[Mapping[str, Any]], first_offset: int = 0) -> None:
    """Raw events of the topic `orders`, as the sink stores them."""
    records = [record("orders", event, offset=first_offset + n) for n, event in enumerate(events)]
    store.insert("events", event_rows(records, SETTINGS))


def store_orders(store: Store, bought: Iterable[Bought], price: str = "10.00") -> None:
    """An order of one piece on each day, at noon."""
    store_events(
        store,
        [
            order(
                day * DAY + 12 * HOUR,
                event_id=f"{each.customer}-{day}",
                order_id=f"{each.customer}-{day}",
                customer_id=each.customer,
                shop_id=each.shop,
                lines=[line(price=price)],
                total=price,
            )
            for each in bought
            for day in each.days
        ],
    )


def store_customers(client: Client, bought: Sequence[Bought], upto: int, monetary: int = 10) -> None:
    """What `customers` says at the end of the day ``upto``; everybody spends so much a purchase day."""
    rows = []
    for each in bought:
        days = [day for day in each.days if day <= upto]
        if days:
            rows.append(profile(each.shop, each.customer, days[0], days[-1], len(days), monetary * len(days)))
    insert_profiles(client, rows)


COLUMNS: Final = (
    "shop_id", "customer_id", "as_of", "stage", "first_order_on", "last_order_on", "purchase_days", "orders",
    "monetary", "currency", "version", "is_deleted",
)  # fmt: skip


def profile(
    shop: str,
    customer: str,
    first: int | None,
    last: int | None,
    days: int,
    monetary: float = 0,
    currency: str | None = "CNY",
    version: int = 1,
    is_deleted: int = 0,
) -> tuple[Any, ...]:
    """A row of `customers`, in ``COLUMNS``; None and 0 days make a prospect."""
    first_on = None if first is None else date_of(first)
    last_on = None if last is None else date_of(last)
    stage = "active" if days else "prospect"
    return (
        shop, customer, date_of(START), stage, first_on, last_on, days, days, monetary, currency, version,
        is_deleted,
    )  # fmt: skip


def insert_profiles(client: Client, rows: Sequence[tuple[Any, ...]]) -> None:
    client.insert("customers", rows, column_names=COLUMNS)


def store_watermark(store: Store, day: int) -> None:
    """The stream has come to noon of that day."""
    counts = dict.fromkeys(("received", "applied", "duplicate", "late", "rejected"), 0)
    told = {"topic": "orders", "partition": 0, "next_offset": 1, **counts}
    store.insert(
        "ingest", ingest_rows([record("ingest", {**told, "watermark": day * DAY + 12 * HOUR})], SETTINGS)
    )


def shop_of(name: str, buyers: int, days: int, seed: int) -> list[Bought]:
    """Buyers who come in over the first half of ``days``, each with their own pace and chance to leave."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(buyers):
        pace, leaves = rng.gamma(1.5, 25.0) + 1, rng.beta(0.8, 2.0)
        at = float(rng.uniform(0, days / 2))
        bought = {int(at)}
        while rng.random() >= leaves:
            at += float(rng.exponential(pace))
            if at >= days:
                break
            bought.add(int(at))
        found.append(Bought(name, f"{name}-{n}", tuple(START + day for day in sorted(bought))))
    return found

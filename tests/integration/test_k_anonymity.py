"""What a seller may see of where the lost went, attacked; and the same on a view that only counts to k.

The attacker knows all of their own shop, who left it and when, each exact total, and the rivals' catalogues.
They win where it follows that 1 to 4 of them went to a certain shop or item, or that all did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain, combinations
from typing import Any, Final

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.columns import table
from streams.adapters.loss_rows import LEAKS_SCHEMA
from tests.integration.stored import Fact, ms, store

K: Final = 5
#: A Monday, and the first day whose end lets its week be told: 40 days after the Sunday's end.
MONDAY: Final = date(2026, 3, 2)
TOLD: Final = MONDAY + timedelta(days=7 + 40)

#: As one would write it: all that stands, exact, where k are in it. ``{}`` is the grain or the range of days.
NAIVE: Final = """
SELECT shop_id, {} AS week, to_shop_id, to_item_id, uniqExact(customer_id) AS buyers
FROM leaks FINAL
ARRAY JOIN arrayConcat([NULL], to_item_ids) AS to_item_id
WHERE NOT is_bot AND day BETWEEN '{}' AND '{}'
GROUP BY shop_id, week, to_shop_id, to_item_id
HAVING buyers >= 5
"""

#: A destination, and the fewest and most buyers that what was read says of it.
Bucket = tuple[str, str | None]
Reading = dict[Bucket, tuple[int, int]]


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def into(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as into:
        yield into


def reach(into: Store, day: date, partition: int = 0) -> None:
    """The partition's watermark is the start (UTC) of ``day``."""
    at = {"topic": "visits", "partition": partition, "watermark": f"{day} 00:00"}
    store(into, {"ingest": [{**at, "next_offset": day.toordinal()}]})


def leak(customer: str, day: date = MONDAY, **more: Any) -> Fact:
    order = {"order_id": f"o-{customer}", "ordered_at": f"{day} 15:00"}
    return {"customer_id": customer, **order, **more}


def crowd(count: int, prefix: str, **more: Any) -> list[Fact]:
    return [leak(f"{prefix}{n}", **more) for n in range(count)]


def naive(client: Client, since: date = MONDAY, until: date = MONDAY + timedelta(days=6)) -> Reading:
    rows = client.query(
        NAIVE.format("toMonday(min(day))", since, until).replace(", week,", ",")
    ).named_results()
    return {(row["to_shop_id"], row["to_item_id"]): (row["buyers"], row["buyers"]) for row in rows}


def ours(client: Client) -> Reading:
    rows = client.query("SELECT * FROM leak_destinations").named_results()
    return {
        (row["to_shop_id"], row["to_item_id"]): (row["buyers_at_least"], row["buyers_at_least"] + K - 1)
        for row in rows
    }


def is_found(low: int, high: int) -> bool:
    return low >= 1 and high < K


# Every world of a small size: what follows from a reading is what all worlds that read so have in common.


Cell = tuple[tuple[str, str], ...]
Worlds = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Universe:
    """Where people who left can go: to all (shop, item) of a cell, each of ``leavers`` of one cell."""

    cells: tuple[Cell, ...]
    leavers: int

    def worlds(self) -> Worlds:
        """All ways to spread them, one a row, how many to each cell."""
        bars = combinations(range(self.leavers + len(self.cells) - 1), len(self.cells) - 1)
        edges = np.array([(-1, *cut, self.leavers + len(self.cells) - 1) for cut in bars])
        return np.diff(edges) - 1


def apart(*places: str) -> tuple[Cell, ...]:
    """Each went to one of these, a letter for the shop and one for the item."""
    return tuple(((place[0], place[1]),) for place in places)


UNIVERSES: Final = {
    "two shops of two items": Universe(apart("Ba", "Bb", "Cc", "Cd"), 20),
    "a fifth place": Universe(apart("Ba", "Bb", "Cc", "Cd", "De"), 16),
    "three items and one": Universe(apart("Ba", "Bb", "Bc", "Cd"), 21),
    "three shops": Universe(apart("Ba", "Cb", "Dc"), 25),
    "some to both shops": Universe((*apart("Ba", "Cb", "Dc"), (("B", "a"), ("C", "b"))), 20),
    "some to both items": Universe((*apart("Ba", "Bb", "Dc"), (("B", "a"), ("B", "b"))), 20),
}


@pytest.mark.parametrize("universe", UNIVERSES.values(), ids=UNIVERSES)
def test_in_no_world_does_the_view_tell_of_fewer_than_k_or_of_all(
    client: Client, into: Store, universe: Universe
) -> None:
    worlds = universe.worlds()
    settle(into, universe, worlds)
    said_by_naive = NAIVE.format("toMonday(day)", MONDAY, MONDAY + timedelta(days=6))
    assert found(client, said_by_naive, "buyers", universe, worlds), "the attack finds nothing anywhere"
    assert found(client, "SELECT * FROM leak_destinations", "buyers_at_least", universe, worlds) == []
    ((rows, shops),) = client.query("SELECT count(), uniqExact(shop_id) FROM leak_destinations").result_rows
    assert rows > shops > len(worlds) / 10, "a view that tells nothing would be safe too"


def settle(into: Store, universe: Universe, worlds: Worlds) -> None:
    """Store each world as what was lost by a shop of its number; its week can change no more."""
    at = ms(f"{MONDAY} 15:00")
    places = [
        (world, number, *place)
        for world, spread in enumerate(worlds.tolist())
        for number, cell in enumerate(
            chain(*([cell] * n for cell, n in zip(universe.cells, spread, strict=True)))
        )
        for place in cell
    ]
    n = len(places)
    told: Mapping[str, Iterable[Any]] = {
        "leak_id": [f"{number:032x}" for number in range(n)],
        "shop_id": [str(world) for world, *_ in places],
        "customer_id": [f"c{number}" for _, number, *_ in places],
        "day": [MONDAY] * n,
        "seen_at": [at] * n,
        "item_ids": [["i1"]] * n,
        "categories": [["k"]] * n,
        "to_shop_id": [shop for *_, shop, _ in places],
        "order_id": [f"o{number}" for number in range(n)],
        "ordered_at": [at] * n,
        "to_item_ids": [[item] for *_, item in places],
        "pieces": [1] * n,
        "amount": ["10.0000"] * n,
        "is_bot": [False] * n,
        "version": [1] * n,
        "is_deleted": [False] * n,
        "partition": [0] * n,
    }
    nothing: list[None] = [None] * n
    into.insert("leaks", table(LEAKS_SCHEMA, [list(told.get(name, nothing)) for name in LEAKS_SCHEMA.names]))
    reach(into, TOLD)


def found(
    client: Client, said: str, column: str, universe: Universe, worlds: Worlds
) -> list[tuple[Any, ...]]:
    """What a reader of ``said`` should not know: the reading, the cells, their fewest and most buyers."""
    read: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    for row in client.query(said).named_results():
        read[int(row["shop_id"])].add((row["to_shop_id"], row["to_item_id"] or "", row[column]))
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for world in range(len(worlds)):
        alike[tuple(sorted(read[world]))].append(world)
    places = range(len(universe.cells))
    some = [list(cells) for cells in chain(*(combinations(places, size) for size in range(1, len(places))))]
    shops = [{shop for shop, _ in cell} for cell in universe.cells]
    in_one_shop = [bool(set.intersection(*(shops[cell] for cell in cells))) for cells in some]
    known = []
    for reading, those in alike.items():
        for cells, one_shop in zip(some, in_one_shop, strict=True):
            counts = worlds[those][:, cells].sum(axis=1)
            low, high = int(counts.min()), int(counts.max())
            if is_found(low, high) or (one_shop and low == universe.leavers):
                known.append((reading, cells, low, high))
    return known


# Readings that are compared: by time, by range, by level.


def test_one_more_buyer_or_refund_between_two_readings_is_not_seen(client: Client, into: Store) -> None:
    """The attacker sees one more visitor leave, or knows of one refund, and reads before and after it."""
    steps: list[tuple[date, list[Fact]]] = [
        (MONDAY, [*crowd(14, "b"), *crowd(9, "other", to_shop_id="s3")]),
        (MONDAY, [leak("victim")]),
        (MONDAY + timedelta(days=20), [leak("victim", version=2, is_deleted=True)]),
        (TOLD - timedelta(days=1), [leak("sooner", TOLD - timedelta(days=1))]),
        (TOLD, [leak("at last", TOLD)]),
        (TOLD + timedelta(days=1), [leak("later", TOLD)]),
        (TOLD + timedelta(days=30), crowd(12, "late", day=TOLD)),
    ]
    readings: dict[str, list[Reading]] = {"naive": [], "ours": []}
    for day, leaks in steps:
        reach(into, day)
        store(into, {"leaks": leaks})
        readings["naive"].append(naive(client))
        readings["ours"].append(ours(client))
    shop: Bucket = ("s2", None)
    assert [reading[shop][0] for reading in readings["naive"][:3]] == [14, 15, 14], "the victim is found"
    assert readings["ours"][:4] == [{}] * 4
    assert readings["ours"][4] == {shop: (10, 14), ("s2", "z1"): (10, 14)}
    assert readings["ours"][5:] == [readings["ours"][4]] * 2


def test_what_is_left_between_two_ranges_is_not_under_k(client: Client, into: Store) -> None:
    """All that a reader can subtract: one readable span of days from another that contains it."""
    tuesday = MONDAY + timedelta(days=1)
    leaks = [*crowd(14, "mon"), leak("victim", tuesday), *crowd(20, "other", to_shop_id="s3")]
    next_week = [
        *crowd(11, "next", day=MONDAY + timedelta(days=7)),
        *crowd(9, "more", day=MONDAY + timedelta(days=8)),
    ]
    store(
        into,
        {"leaks": [*leaks, *next_week, *crowd(20, "out", day=MONDAY + timedelta(days=7), to_shop_id="s3")]},
    )
    reach(into, TOLD + timedelta(days=7))
    days = [MONDAY + timedelta(days=n) for n in range(9)]
    ranges = {(a, b): naive(client, a, b) for a in days for b in days if a <= b}
    assert ("s2", None) in {bucket for bucket, *_ in differences(ranges)}
    weeks: dict[tuple[date, date], Reading] = defaultdict(dict)
    for row in client.query("SELECT * FROM leak_destinations").named_results():
        span = (row["week"], row["week"] + timedelta(days=6))
        counted = row["buyers_at_least"]
        weeks[span][row["to_shop_id"], row["to_item_id"]] = (counted, counted + K - 1)
    assert sorted(weeks) == [(day, day + timedelta(days=6)) for day in (MONDAY, MONDAY + timedelta(days=7))]
    assert all(("s2", None) in reading for reading in weeks.values())
    assert differences(weeks) == []


def differences(readings: Mapping[tuple[date, date], Reading]) -> list[tuple[Any, ...]]:
    """Buckets of 1 to 4 that follow from a span and one inside of it."""
    known = []
    for (since, until), whole in readings.items():
        for (first, last), part in readings.items():
            if since <= first and last <= until and (since, until) != (first, last):
                for bucket in whole.keys() & part.keys():
                    low = whole[bucket][0] - part[bucket][1]
                    high = whole[bucket][1] - part[bucket][0]
                    if is_found(low, high):
                        known.append((bucket, (since, until), (first, last)))
    return known


def test_the_exact_totals_of_days_do_not_name_who_went_where(client: Client, into: Store) -> None:
    """One who left on a day alone shows in that day's exact total; the view tells no more of them."""
    leaks = [
        *crowd(10, "b"),
        *crowd(10, "c", to_shop_id="s3"),
        leak("victim", MONDAY + timedelta(days=1), to_shop_id="s4"),
    ]
    store(into, {"leaks": leaks})
    reach(into, TOLD)
    ((total,),) = client.query("SELECT toInt64(sum(leaked_buyers)) FROM leaked_amount").result_rows

    def rest(reading: Reading) -> tuple[int, int]:
        shops = [bounds for (_, item), bounds in reading.items() if item is None]
        return total - sum(high for _, high in shops), total - sum(low for low, _ in shops)

    assert is_found(*rest(naive(client)))
    assert rest(ours(client)) == (-7, 1)


# What is listed, and what is not.


@pytest.mark.parametrize(("buyers", "listed"), [(9, []), (10, [10]), (14, [10]), (15, [15])])
def test_a_destination_is_listed_from_twice_k_on_and_rounded_down(
    client: Client, into: Store, buyers: int, listed: list[int]
) -> None:
    store(
        into, {"leaks": [*crowd(buyers, "b"), *crowd(5, "c", to_shop_id="s3"), *crowd(9, "bot", is_bot=True)]}
    )
    reach(into, TOLD)
    assert [low for low, _ in ours(client).values()] == listed * 2


@pytest.mark.parametrize(("others", "listed"), [(4, 0), (5, 2)])
def test_k_who_left_must_have_gone_elsewhere(client: Client, into: Store, others: int, listed: int) -> None:
    store(into, {"leaks": [*crowd(12, "b"), *crowd(others, "c", to_shop_id="s3")]})
    reach(into, TOLD)
    assert len(ours(client)) == listed


def test_who_left_for_another_category_hides_nobody(client: Client, into: Store) -> None:
    """All who left for tea bought the one tea of s2: its catalogue would tell who. So with tea and cups."""
    tea, cups = {"categories": ["tea"], "to_item_ids": ["t"]}, {"categories": ["cups"], "to_item_ids": ["c"]}
    both = {"categories": ["cups", "tea"], "to_item_ids": ["c", "t"]}
    leaks = [
        *crowd(12, "t", **tea),
        *crowd(12, "tc", **both),
        *crowd(12, "c", **cups),
        *crowd(40, "x", categories=["cups"], to_shop_id="s3", to_item_ids=["y"]),
    ]
    store(into, {"leaks": leaks})
    reach(into, TOLD)
    found = client.query(
        "SELECT categories, to_shop_id, to_item_id FROM leak_destinations ORDER BY ALL"
    ).result_rows
    assert found == [
        (["cups"], shop, item) for shop, item in (("s2", "c"), ("s2", None), ("s3", "y"), ("s3", None))
    ]


def test_a_week_is_told_when_the_last_partition_has_come_to_where_it_cannot_change(
    client: Client, into: Store
) -> None:
    sunday = MONDAY + timedelta(days=6)
    store(into, {"leaks": [*crowd(12, "b", day=sunday), *crowd(5, "c", day=sunday, to_shop_id="s3")]})
    assert ours(client) == {}
    reach(into, TOLD)
    assert len(ours(client)) == 2
    reach(into, TOLD - timedelta(days=1), partition=1)
    assert ours(client) == {}
    reach(into, TOLD, partition=1)
    assert len(ours(client)) == 2


def test_a_buyer_of_many_orders_is_one(client: Client, into: Store) -> None:
    often: Sequence[Fact] = [leak("often", order_id=f"o{n}") for n in range(4)]
    store(into, {"leaks": [*often, *crowd(8, "b"), *crowd(20, "c", to_shop_id="s3")]})
    reach(into, TOLD)
    assert ("s2", None) not in ours(client)

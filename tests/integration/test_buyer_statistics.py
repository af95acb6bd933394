"""The SQL that groups buyers, against the rules' own code and numpy."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.buyer_statistics import MIN_CUT, BuyerStatistics
from streams.adapters.clickhouse import Store, StoreError, connect, migrate, sql_dir
from streams.domain.days import day_of
from streams.domain.order import OrderRecord
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.shop_fit import Watched
from tests.builders import Event, inputs, line, order
from tests.integration.buyers import (
    START,
    Bought,
    insert_profiles,
    profile,
    shop_of,
    store_customers,
    store_events,
    store_orders,
    store_watermark,
)

ZONE: Final = "Asia/Tokyo"
POLICY: Final = replace(Policy(), zone=ZONE)


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def store(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as store:
        yield store


def rows_of(buyers: Any) -> set[tuple[float, float, float, float]]:
    return set(zip(buyers.x, buyers.t_x, buyers.T, buyers.count, strict=True))


@pytest.mark.parametrize("path", sorted((sql_dir() / "model").glob("*.sql")), ids=lambda path: path.name)
def test_a_query_says_its_grain_and_its_parameters(path: Any) -> None:
    head = [said for said in path.read_text().splitlines() if said.startswith("--")]
    assert any(said.startswith("-- Grain: ") for said in head)
    for given in ("as_of", "cut", "watched", "day"):
        if f"{{{given}:" in path.read_text():
            assert any(f"{{{given}}}" in said for said in head), f"{{{given}}} is not explained"


def test_equal_histories_are_one_row_of_their_shop(client: Client) -> None:
    insert_profiles(
        client,
        [
            profile("s1", "a", START, START, 1),
            profile("s1", "b", START, START, 1),
            profile("s1", "c", START, START + 9, 3),
            profile("s1", "told again", START, START, 1, version=1),
            profile("s1", "told again", START, START + 20, 2, version=2),
            profile("s1", "forgotten", START, START, 1, version=1),
            profile("s1", "forgotten", None, None, 0, version=2, is_deleted=1),
            profile("s1", "prospect", None, None, 0),
            profile("s2", "a", START + 5, START + 5, 1),
        ],
    )
    found = BuyerStatistics(client, POLICY).buyers(START + 30)
    assert {shop: rows_of(buyers) for shop, buyers in found.items()} == {
        "s1": {(0, 0, 30, 2), (2, 9, 30, 1), (1, 20, 30, 1)},
        "s2": {(0, 0, 25, 1)},
    }


def test_a_day_before_somebodys_last_order_is_refused(client: Client) -> None:
    insert_profiles(client, [profile("s1", "a", START, START + 9, 2), profile("s1", "b", START, START, 1)])
    with pytest.raises(StoreError, match="1 buyers have ordered after 2025-01-09"):
        BuyerStatistics(client, POLICY).buyers(START + 8)
    assert BuyerStatistics(client, POLICY).buyers(START + 9)["s1"].total == 2


def test_nothing_to_judge_is_one_sentence(client: Client, store: Store) -> None:
    statistics = BuyerStatistics(client, POLICY)
    with pytest.raises(StoreError, match="nothing has been ingested"):
        statistics.today()
    with pytest.raises(StoreError, match="nobody has a standing order"):
        statistics.buyers(START)
    assert statistics.order_days() is None
    store_watermark(store, START + 3)
    # 12:00 UTC is 21:00 of the same day in Tokyo.
    assert statistics.today() == START + 3


def test_cut_points_are_numpys(client: Client) -> None:
    """The smallest value that a fifth, two fifths, … do not exceed, by shop and currency, and overall."""
    rng = random.Random(4)
    rows, by_shop = [], {"s1": 203, "s2": MIN_CUT, "few": MIN_CUT - 1}
    values: dict[tuple[str, str, str], list[int]] = {}
    for shop, buyers in by_shop.items():
        for n in range(buyers):
            last, days = START + rng.randrange(90), rng.randrange(1, 9)
            cents, currency = rng.randrange(-500, 99_999), rng.choice(["CNY", "CNY", "EUR", None])
            rows.append(profile(shop, f"c{n}", START - 9, last, days, cents / 100, currency))
            for name in (shop, ""):
                for measure, of, value in (
                    ("recency", "", START + 99 - last),
                    ("frequency", "", days),
                    ("monetary", currency or "", cents * 100),
                ):
                    values.setdefault((name, measure, of), []).append(value)
    insert_profiles(client, rows)
    found = BuyerStatistics(client, POLICY).cuts(START + 99)

    def points(shop: str, measure: str, currency: str = "") -> tuple[int, ...]:
        of = values[shop, measure, currency]
        # Below the bound a shop's are those of all shops.
        of = of if len(of) >= MIN_CUT else values["", measure, currency]
        return tuple(np.quantile(of, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf").tolist())

    assert set(found) == {"", "s1", "s2", "few"}
    for shop, cuts in found.items():
        assert cuts.recency == points(shop, "recency")
        assert cuts.frequency == points(shop, "frequency")
        assert cuts.monetary == {c: points(shop, "monetary", c) for c in ("", "CNY", "EUR")}
        assert not cuts.unit_price


def test_too_few_buyers_give_no_cut_points(client: Client) -> None:
    insert_profiles(client, [profile("s1", f"c{n}", START, START, 1) for n in range(MIN_CUT - 1)])
    assert BuyerStatistics(client, POLICY).cuts(START) == {}


def test_prices_of_pieces_are_cut_by_the_currency_of_most_orders(client: Client, store: Store) -> None:
    """A buyer of two orders in CNY, one in EUR and one that names none counts in CNY, without the EUR."""
    events, prices = [], []
    for n in range(MIN_CUT):
        price = 10 + n
        prices.append((3 * price + 8) * 10_000 // 4)
        for at, (currency, each, pieces) in enumerate(
            [("CNY", price, 1), ("CNY", price, 2), ("EUR", 500, 1), (None, 8, 1)]
        ):
            lines = [line(price=str(each), quantity=pieces), line("i2", price=None)]
            events.append(buy(f"c{n}", at, lines, total=None, currency=currency))
    store_events(store, events)
    insert_profiles(client, [profile("s1", f"c{n}", START, START, 1) for n in range(MIN_CUT)])
    (found,) = {cuts.unit_price["CNY"] for cuts in BuyerStatistics(client, POLICY).cuts(START + 9).values()}
    assert found == tuple(np.quantile(prices, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf").tolist())


def buy(customer: str, day: int, lines: list[Event], **more: Any) -> Event:
    name = f"{customer}-{day}"
    event = order(
        (START + day) * DAY, event_id=name, order_id=name, customer_id=customer, lines=lines, **more
    )
    return {key: value for key, value in event.items() if value is not None}


def random_events(seed: int) -> list[Event]:
    """Orders of two shops: placed, paid or both, repeated, cancelled, refunded in parts, about midnight."""
    rng = random.Random(seed)
    found = []
    for n in range(300):
        customer, shop = f"c{rng.randrange(60)}", rng.choice(["s1", "s2"])
        at = (START + rng.randrange(100)) * DAY + rng.choice([0, 14 * HOUR, 15 * HOUR - 1, 15 * HOUR])
        said = [(at, rng.choice(["placed", "paid"]), {})]
        if rng.random() < 0.3:
            said.append((at + rng.randrange(3) * DAY, rng.choice(["placed", "paid"]), {}))
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
            later = at + rng.randrange(-2, 40) * DAY
            said.append(
                (
                    later,
                    *rng.choice([("cancelled", {}), ("refunded", {}), ("refunded", {"refund_amount": "5"})]),
                )
            )
        for m, (when, action, more) in enumerate(said):
            priced = {"total": rng.choice(["10", "5", "0", None])} if action in {"placed", "paid"} else {}
            event = order(
                when,
                action,
                f"o{n}",
                event_id=f"e{n}-{m}",
                customer_id=customer,
                shop_id=shop,
                **priced,
                **more,
            )
            found.append({key: value for key, value in event.items() if value is not None})
    rng.shuffle(found)
    return found


def known_of(events: list[Event], cut: int, watched: int) -> dict[str, Counter[tuple[Any, ...]]]:
    """(x, t_x, T, came back) of each shop's buyers, by the rules' own records of orders."""
    records: dict[tuple[str, str, str], list[Any]] = {}
    for event in inputs("orders", *events):
        body: Any = event.body
        records.setdefault((body.shop_id, body.customer_id, body.order_id), []).append((event, body))

    def standing(until: int) -> dict[tuple[str, str], set[int]]:
        """Days with an order that stood when the day ``until`` was over."""
        days: dict[tuple[str, str], set[int]] = {}
        for (shop, customer, _), told in records.items():
            kept = OrderRecord()
            for event, body in told:
                if body.action in {"placed", "paid"}:
                    kept.mention(event, body)
                elif day_of(event.t, ZONE) <= until:
                    kept.amend(event, body)
            if (moment := kept.moment()) and kept.refunded(POLICY.amendment_window) is not None:
                days.setdefault((shop, customer), set()).add(day_of(moment[1], ZONE))
        return days

    found: dict[str, Counter[tuple[Any, ...]]] = {}
    after = standing(cut + watched)
    for (shop, customer), days in standing(cut).items():
        if known := sorted(day for day in days if day <= cut):
            came = any(cut < day <= cut + watched for day in after.get((shop, customer), ()))
            history = (len(known) - 1, known[-1] - known[0], cut - known[0], came)
            found.setdefault(shop, Counter())[history] += 1
    return found


def told(watched: Watched) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    b = watched.buyers
    for x, t_x, T, count, came in zip(b.x, b.t_x, b.T, b.count, watched.returned, strict=True):
        found[x, t_x, T, True] += int(came)
        found[x, t_x, T, False] += int(count - came)
    return +found


@pytest.mark.parametrize("seed", range(3))
def test_histories_are_those_of_the_rules(client: Client, store: Store, seed: int) -> None:
    """What was known at a cut, and who came back, whatever was cancelled when; days are the shop's."""
    events = random_events(seed)
    store_events(store, events)
    statistics = BuyerStatistics(client, POLICY)
    for cut, watched in ((START + 30, 30), (START + 60, 20), (START + 90, 90)):
        found = statistics.watched(cut, watched)
        assert {shop: told(seen) for shop, seen in found.items()} == known_of(events, cut, watched)


def test_late_and_refused_events_are_in_no_history(client: Client, store: Store) -> None:
    store_orders(store, [Bought("s1", "a", (START, START + 5, START + 9))])
    client.command(
        "INSERT INTO late_events (topic, partition, offset, customer_id) VALUES ('orders', 0, 1, 'a')"
    )
    client.command("INSERT INTO dead_letters (topic, partition, offset) VALUES ('orders', 0, 2)")
    statistics = BuyerStatistics(client, POLICY)
    assert told(statistics.watched(START + 20, 30)["s1"]) == {(0, 0, 20, False): 1}
    assert statistics.order_days() == (START, START)


def test_events_that_began_to_be_stored_later_cover_no_lesson(client: Client, store: Store) -> None:
    bought = shop_of("s1", 40, 200, seed=1)
    store_customers(client, bought, START + 200)
    statistics = BuyerStatistics(client, POLICY)
    store_orders(store, bought[:30])
    assert not statistics.covers(statistics.watched(START + 100, 90), START + 100)
    assert not statistics.covers({}, START + 100)
    store_orders(store, bought)
    assert statistics.covers(statistics.watched(START + 100, 90), START + 100)
    assert statistics.known(START + 300).buyers == 40

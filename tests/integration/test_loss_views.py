"""The views of losses: what they count, what they leave out, and what must add up to what."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any, Final

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.queries import question
from tests.integration.stored import Fact, store

DAY: Final = "2026-03-02"
BUCKETS: Final = ("bought_item", "bought_similar", "bought_other", "bought_elsewhere", "nothing")


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def into(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as into:
        yield into


def one(client: Client, query: str) -> dict[str, Any]:
    (row,) = client.query(query).named_results()
    return dict(row)


def looked(customer: str, disposition: str, *, is_bot: bool = False, **item: Any) -> Fact:
    items = [{"item_id": "i1", "disposition": disposition, **item}]
    return {"customer_id": customer, "day": DAY, "is_bot": is_bot, "items": items}


def test_a_day_of_sessions_is_the_shops_own(client: Client, into: Store) -> None:
    """Half past eleven at night in London's winter is the next day in Shanghai."""
    store(into, {"sessions": [{"started_at": "2026-03-02 23:30", "day": "2026-03-03"}]})
    assert one(client, "SELECT day, sessions, lost FROM loss_by_shop_day") == {
        "day": date(2026, 3, 3),
        "sessions": 1,
        "lost": 1,
    }


def test_an_item_s_visitors_are_in_one_bucket_each_and_bots_stand_beside(client: Client, into: Store) -> None:
    told = [
        looked("a", "bought_item", carted=True, visits=4),
        looked("b", "bought_similar", favorited=True),
        looked("c", "bought_other", carted=True),
        looked("d", "bought_elsewhere", favorited=True, carted=True),
        looked("e", "nothing", favorited=True),
        looked("f", "nothing", category=None),
        looked("g", "nothing", is_bot=True, carted=True, visits=900),
    ]
    store(into, {"item-days": told})
    found = one(client, "SELECT * FROM item_loss")
    assert {name: value for name, value in found.items() if not name.endswith("_with_bots")} == {
        "shop_id": "s1",
        "item_id": "i1",
        "day": date(2026, 3, 2),
        "category": "k",
        "visitors": 6,
        **dict(zip(BUCKETS, (1, 1, 1, 1, 2), strict=True)),
        "lost": 3,
        "looks": 9,
        "favorited": 3,
        "carted": 3,
        "lost_after_favorite": 2,
        "lost_after_cart": 1,
        "conversion": 1 / 6,
        "loss_rate": 0.5,
    }
    more = {"visitors": 1, "nothing": 1, "lost": 1, "looks": 900, "carted": 1, "lost_after_cart": 1}
    for name in (
        *BUCKETS,
        "visitors",
        "lost",
        "looks",
        "favorited",
        "carted",
        "lost_after_favorite",
        "lost_after_cart",
    ):
        assert found[f"{name}_with_bots"] == found[name] + more.get(name, 0), name
    assert (found["conversion_with_bots"], found["loss_rate_with_bots"]) == (1 / 7, 4 / 7)


def test_an_item_that_only_bots_saw_has_no_rate(client: Client, into: Store) -> None:
    store(into, {"item-days": [looked("g", "nothing", is_bot=True)]})
    assert one(client, "SELECT visitors, conversion, loss_rate, visitors_with_bots FROM item_loss") == {
        "visitors": 0,
        "conversion": None,
        "loss_rate": None,
        "visitors_with_bots": 1,
    }


def test_buckets_sum_to_visitors_whatever_is_told_upgraded_or_taken_back(client: Client, into: Store) -> None:
    chance = random.Random(7)
    for version in range(1, 4):
        store(
            into,
            {
                "item-days": [
                    {
                        "customer_id": f"c{n}",
                        "shop_id": chance.choice(["s1", "s2"]),
                        "day": f"2026-03-0{chance.randint(1, 3)}",
                        "is_bot": chance.random() < 0.2,
                        "version": version,
                        "is_deleted": chance.random() < 0.1,
                        "items": [
                            {
                                "item_id": f"i{chance.randrange(5)}",
                                "disposition": chance.choice(BUCKETS),
                                "carted": chance.random() < 0.5,
                            }
                        ],
                    }
                    for n in range(200)
                ]
            },
        )
    for bots in ("", "_with_bots"):
        total = " + ".join(f"{bucket}{bots}" for bucket in BUCKETS)
        wrong = f"{total} != visitors{bots} OR lost_after_cart{bots} > least(lost{bots}, carted{bots})"
        assert one(client, f"SELECT countIf({wrong}) AS wrong, count() > 20 AS many FROM item_loss") == {
            "wrong": 0,
            "many": True,
        }


def test_the_lost_of_a_day_are_counted_once_in_their_deepest_stage(client: Client, into: Store) -> None:
    def session(customer: str, hour: int, stage: str | None, **more: Any) -> Fact:
        bought = {"orders": 1} if stage is None else {"lost_stage": stage}
        return {"customer_id": customer, "started_at": f"{DAY} {hour:02}:00", **bought, **more}

    carted = {"currency": "CNY", "cart_value": "5.0000"}
    sessions = [
        session("twice", 9, "bounced"),
        session("twice", 12, "favorited"),
        session("bounced", 9, "bounced"),
        session("bounced", 12, "bounced"),
        session("browsed", 9, "browsed"),
        session("carted", 9, "carted", **carted),
        session("carted", 12, "browsed"),
        session("buyer", 9, "carted", **carted),
        session("buyer", 12, None),
        session("bot", 9, "carted", is_bot=True, **carted),
        session("bot", 12, "bounced"),
        session("other", 9, "browsed", shop_id="s2"),
    ]
    store(into, {"sessions": sessions})
    found = one(client, "SELECT * FROM leaked_amount WHERE shop_id = 's1'")
    stages = ("bounced", "browsed", "lost_after_favorite", "lost_after_cart")
    assert [found[name] for name in ("visitors", "lost_visitors", *stages)] == [5, 4, 1, 1, 1, 1]
    assert [found[f"{name}_with_bots"] for name in ("visitors", "lost_visitors", *stages)] == [
        6,
        5,
        1,
        1,
        1,
        2,
    ]
    assert (found["loss_rate"], found["loss_rate_with_bots"]) == (0.8, 5 / 6)
    of_sessions = one(client, "SELECT * FROM loss_by_shop_day WHERE shop_id = 's1'")
    for name in ("value_at_risk", "value_at_risk_with_bots"):
        assert found[name] == of_sessions[name]
    assert found["value_at_risk"] == {"CNY": Decimal(10)}
    assert (found["leaked_amount"], found["leaked_buyers"]) == ({}, 0)


def test_every_metric_name_of_sellers_tools_is_said_by_one_column(client: Client) -> None:
    said = {
        row["comment"].split(":")[0]: row["name"]
        for row in client.query("DESCRIBE TABLE leaked_amount").named_results()
        if ":" in row["comment"]
    }
    assert said == {
        "losByrCnt": "lost_visitors",
        "losAmt": "value_at_risk",
        "losRate": "loss_rate",
        "cartLosByrCnt": "lost_after_cart",
        "cltLosByrCnt": "lost_after_favorite",
        "directLosCnt": "bounced",
        "paylosAmt": "leaked_amount",
        "paylosByrCnt": "leaked_buyers",
        "losShopCnt": "leaked_to_shops",
        "losItmCnt": "leaked_to_items",
    }


def test_what_leaked_is_counted_by_currency_and_its_days_need_no_session(client: Client, into: Store) -> None:
    at = f"{DAY} 15:00"
    leaks: list[Fact] = [
        {"order_id": "o1", "customer_id": "a", "intent": "cart", "amount": "10.5000"},
        {"order_id": "o1", "customer_id": "b", "amount": "4.0000", "to_item_ids": ["z1", "z2"]},
        {"order_id": "o2", "customer_id": "b", "intent": "favorite", "currency": "EUR", "to_shop_id": "s3"},
        {"order_id": "o3", "customer_id": "c", "currency": None, "amount": "1.0000"},
        {"order_id": "o4", "customer_id": "bot", "is_bot": True, "amount": "100.0000", "to_shop_id": "s4"},
        {"order_id": "o5", "customer_id": "a", "amount": "7.0000"},
        {"order_id": "o5", "customer_id": "a", "amount": "7.0000", "version": 2, "is_deleted": True},
        {"order_id": "o6", "customer_id": "a", "amount": "7.0000", "version": 2},
        {"order_id": "o6", "customer_id": "a", "amount": "9.0000"},
    ]
    store(into, {"leaks": [{"ordered_at": at, **leak} for leak in leaks]})
    found = one(client, "SELECT * FROM leaked_amount")
    names = (
        "leaked_amount", "leaked_orders", "leaked_buyers", "leaked_buyers_after_favorite",
        "leaked_buyers_after_cart", "leaked_to_shops", "leaked_to_items", "visitors", "loss_rate",
    )  # fmt: skip
    plain = {"CNY": Decimal("21.5"), "EUR": Decimal(10), "": Decimal(1)}
    assert [found[name] for name in names] == [plain, 5, 3, 1, 1, 2, 3, 0, None]
    whole = {**plain, "CNY": Decimal("121.5")}
    assert [found[f"{name}_with_bots"] for name in names] == [whole, 6, 4, 1, 1, 3, 4, 0, None]


def test_a_leaked_amount_is_the_sum_of_the_listed_net_orders_exactly(client: Client, into: Store) -> None:
    """And that of their lines' nets, as the purchases themselves stand; after refunds and withdrawals."""
    facts = leaked_orders(random.Random(11), 300)
    store(into, facts)
    store(into, facts)
    given = {"shop": "", "item": "", "since": "2026-03-01", "until": "2026-03-03"}
    listed = list(question("leaked_orders").ask(client, given).named_results())
    sums: dict[Any, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in listed:
        assert row["amount"] == sum((line[1] for line in map(_values, row["lines"])), Decimal())
        sums[row["shop_id"], row["day"]][row["currency"] or ""] += row["amount"]
    views = {
        (row["shop_id"], row["day"]): row["leaked_amount"]
        for row in client.query("SELECT shop_id, day, leaked_amount FROM leaked_amount").named_results()
    }
    # A sum of nothing is no entry of a map.
    assert views == {key: {c: total for c, total in by.items() if total} for key, by in sums.items()}
    assert len(listed) > 100
    assert len(views) == 6
    assert {currency for by in views.values() for currency in by} == {"CNY", "EUR", ""}


def _values(line: Any) -> tuple[Any, ...]:
    """A tuple with names comes as a mapping."""
    return tuple(line.values()) if isinstance(line, dict) else tuple(line)


def leaked_orders(chance: random.Random, count: int) -> dict[str, list[Fact]]:
    """Purchases elsewhere, some refunded in part, and what of each leaked; one in ten is withdrawn."""
    purchases: list[Fact] = []
    leaks: list[Fact] = []
    for n in range(count):
        day = f"2026-03-0{chance.randint(1, 3)}"
        nets = [f"{chance.randrange(10**7) / 10**4:.4f}" for _ in range(chance.randint(1, 4))]
        kinds = [chance.choice(["k", "k", "other", None]) for _ in nets]
        lines = [
            {"item_id": f"z{i}", "category": k, "net": net}
            for i, (k, net) in enumerate(zip(kinds, nets, strict=True))
        ]
        refunded = Decimal(chance.choice([0, 0, 3]))
        total = sum(map(Decimal, nets), refunded)
        order = {
            "customer_id": f"c{n % 40}",
            "order_id": f"o{n}",
            "ordered_at": f"{day} 15:00",
            "currency": chance.choice(["CNY", "EUR", None]),
            "version": 2,
            "is_deleted": n % 10 == 0,
        }
        to_shop = chance.choice(["s3", "s4"])
        purchases.append(
            {
                **order,
                "shop_id": to_shop,
                "lines": lines,
                "total": f"{total:.4f}",
                "refunded": f"{refunded:.4f}",
            }
        )
        of_kind = [Decimal(net) for net, kind in zip(nets, kinds, strict=True) if kind == "k"]
        if of_kind:
            leak = {
                "to_shop_id": to_shop,
                "shop_id": chance.choice(["s1", "s2"]),
                "amount": f"{sum(of_kind):.4f}",
            }
            leaks.append({**order, **leak})
            leaks.append({**leaks[-1], "version": 1, "is_deleted": False, "amount": "99999.0000"})
    return {"purchases": purchases, "leaks": leaks}


def test_leaked_orders_leave_bots_out_and_may_be_those_after_one_item(client: Client, into: Store) -> None:
    at = f"{DAY} 15:00"
    leaks: list[Fact] = [
        {"order_id": "o1", "ordered_at": at, "item_ids": ["i1", "i2"]},
        {"order_id": "o2", "ordered_at": at, "item_ids": ["i2"]},
        {"order_id": "o3", "ordered_at": at, "is_bot": True},
    ]
    store(into, {"leaks": leaks})

    def listed(item: str) -> list[str]:
        given = {"shop": "s1", "item": item, "since": DAY, "until": DAY}
        return [row["order_id"] for row in question("leaked_orders").ask(client, given).named_results()]

    assert (listed(""), listed("i1"), listed("i2"), listed("i3")) == (["o1", "o2"], ["o1"], ["o1", "o2"], [])


def test_members_of_a_segment_are_those_who_entered_and_have_not_left(client: Client, into: Store) -> None:
    at = {"segment": "vips", "at": f"{DAY} 12:00"}
    told: list[Fact] = [
        {**at, "customer_id": "in"},
        {**at, "customer_id": "left"},
        {**at, "customer_id": "left", "is_member": False, "version": 2},
        {**at, "customer_id": "back", "is_member": False},
        {**at, "customer_id": "back", "version": 2, "cause": "time"},
        {**at, "customer_id": "gone"},
        {**at, "customer_id": "gone", "version": 2, "is_deleted": True},
    ]
    store(into, {"segments": told})
    found = client.query("SELECT customer_id, cause FROM segment_members ORDER BY customer_id").result_rows
    assert [tuple(row) for row in found] == [("back", "time"), ("in", "event")]

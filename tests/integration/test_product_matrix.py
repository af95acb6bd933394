"""The product matrix beside its published formulas, computed again in Python from the same facts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import date, timedelta
from typing import Any, Final

import pytest

from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.queries import question
from tests.integration.stored import store

UNTIL: Final = date(2026, 3, 29)
DAYS: Final = 5
M: Final = 4
Facts = dict[str, list[dict[str, Any]]]


def market(seed: int) -> Facts:
    """Two shops, sixty customers and twenty items of each; some buy, some are bots, some are guests."""
    chance = random.Random(seed)
    facts: Facts = {
        "sessions": [],
        "item-days": [],
        "purchases": [],
        "shops": [{"shop_id": "named", "currency": "EUR"}],
    }
    for shop in ("named", "unnamed"):
        pull = [chance.random() ** 2 for _ in range(20)]
        for number in range(60):
            who = {"customer_id": f"{chance.choice(['', '', 'guest-'])}c{number}", "shop_id": shop}
            for before in range(14):
                if chance.random() > 0.25:
                    continue
                day = UNTIL - timedelta(before)
                is_bot = chance.random() < 0.1
                facts["sessions"].append(
                    {**who, "started_at": f"{day} 10:00", "is_bot": is_bot, "orders": 0, "day": str(day)}
                )
                seen = [n for n in range(20) if chance.random() < pull[n] / 2]
                took = [n for n in seen if chance.random() < (n % 5) / 8]
                items = [
                    {
                        "item_id": f"i{n:02}",
                        "category": None if n % 7 == 3 else f"k{n % 3}",
                        "disposition": "bought_item" if n in took else "nothing",
                    }
                    for n in seen
                ]
                facts["item-days"].append({**who, "day": str(day), "is_bot": is_bot, "items": items})
                if took:
                    facts["purchases"].append(order(who, day, took, chance))
            if chance.random() < 0.3:
                day = UNTIL - timedelta(chance.randrange(360, 372))
                facts["purchases"].append(order(who, day, [chance.randrange(20)], chance))
    return facts


def order(who: dict[str, str], day: date, took: list[int], chance: random.Random) -> dict[str, Any]:
    """An order of these items; now and then a third is taken back."""
    lines = []
    for n in took:
        gross, discount = 10 + 5 * n, chance.choice([0, 0, n])
        net = (gross - discount) * chance.choice([1, 1, 1, 2 / 3])
        lines.append(
            {
                "item_id": f"i{n:02}",
                "category": f"k{n % 3}",
                "gross": f"{gross}.0000",
                "discount": f"{discount}.0000",
                "net": f"{net:.4f}",
            }
        )
    currency = chance.choice(["CNY", "CNY", "EUR", None])
    at = f"{day} 10:05"
    return {
        **who,
        "order_id": f"o{day}",
        "ordered_at": at,
        "day": str(day),
        "currency": currency,
        "lines": lines,
    }


def ranks(values: dict[str, float]) -> dict[str, float]:
    """Mid-ranks from 0 to 1."""
    others = max(len(values) - 1, 1)
    return {
        item: (sum(x < mine for x in values.values()) + sum(x <= mine for x in values.values()) - 1)
        / (2 * others)
        for item, mine in values.items()
    }


def matrix(facts: Facts, shop: str, guests: str) -> dict[str, dict[str, Any]]:
    """What the head of product_matrix.sql says, for the cycle that ends on UNTIL; by item."""
    since = UNTIL - timedelta(DAYS - 1)

    def mine(topic: str) -> Iterable[dict[str, Any]]:
        for fact in facts[topic]:
            left_out = bool(guests) and fact["customer_id"].startswith(guests)
            if fact["shop_id"] == shop and not fact.get("is_bot") and not left_out:
                yield {**fact, "day": date.fromisoformat(fact["day"])}

    def is_known(days: set[date], span: int) -> bool:
        first = min(day for day in days if since <= day <= UNTIL)
        return any(first - timedelta(span) <= day < first for day in days)

    been: dict[str, set[date]] = {}
    for fact in mine("sessions"):
        been.setdefault(fact["customer_id"], set()).add(fact["day"])
    bought: dict[str, set[date]] = {}
    for fact in mine("purchases"):
        bought.setdefault(fact["customer_id"], set()).add(fact["day"])

    now: dict[str, set[str]] = {}
    then: dict[str, set[str]] = {}
    took: dict[str, set[str]] = {}
    for fact in mine("item-days"):
        for item in fact["items"]:
            name, who = item["item_id"], fact["customer_id"]
            if since <= fact["day"] <= UNTIL:
                now.setdefault(name, set()).add(who)
                if item["disposition"] == "bought_item":
                    took.setdefault(name, set()).add(who)
            elif since - timedelta(DAYS) <= fact["day"] < since:
                then.setdefault(name, set()).add(who)

    in_cycle = [fact for fact in mine("purchases") if since <= fact["day"] <= UNTIL]
    weights = Counter(fact["currency"] for fact in in_cycle if fact["currency"])
    told = {fact["shop_id"]: fact["currency"] for fact in facts["shops"]}.get(shop)
    currency = told or max(weights, key=lambda code: (weights[code], code))
    buyers: dict[str, set[str]] = {}
    sums: dict[str, Counter[str]] = {}
    for fact in in_cycle:
        for line in fact["lines"]:
            buyers.setdefault(line["item_id"], set()).add(fact["customer_id"])
            if fact["currency"] == currency:
                of = sums.setdefault(line["item_id"], Counter())
                for part in ("gross", "discount", "net"):
                    of[part] += float(line[part])  # type: ignore[assignment]

    found: dict[str, dict[str, Any]] = {}
    for name in sorted({*now, *buyers}):
        here, paying, of = now.get(name, set()), buyers.get(name, set()), sums.get(name, Counter())
        found[name] = {
            "visitors": len(here),
            "visitors_before": len(then.get(name, ())),
            "bought": len(took.get(name, ())),
            "buyers": len(paying),
            "new": sum(not is_known(been[who], 6) for who in here),
            "old": sum(is_known(bought[who], 365) for who in paying),
            "currency": currency,
            **{part: of[part] for part in ("gross", "discount", "net")},
        }

    def whole(part: str) -> float:
        return sum(row[part] for row in found.values())

    rated = [name for name, row in found.items() if row["visitors"] >= M]
    rated = rated if len(rated) >= 4 else []

    def drawn(part: str, over: str, more: int) -> dict[str, float]:
        mean = whole(part) / max(whole(over), 1)
        rows = {name: found[name] for name in rated}
        return {name: round((row[part] + more * mean) / (row[over] + more), 9) for name, row in rows.items()}

    mean_discount = whole("discount") / whole("gross") if whole("gross") else 0.0
    traffic = ranks({name: found[name]["visitors"] for name in rated})
    fresh = ranks(drawn("new", "visitors", M))
    worth = ranks(drawn("net", "visitors", M))
    loyal = ranks(drawn("old", "buyers", 5))
    turning = ranks(drawn("bought", "visitors", M))
    cheap = ranks(
        {
            name: round(found[name]["discount"] / found[name]["gross"], 9)
            if found[name]["gross"]
            else round(mean_discount, 9)
            for name in rated
        }
    )
    growing = ranks(
        {
            name: round((found[name]["visitors"] + M) / (found[name]["visitors_before"] + M), 9)
            for name in rated
        }
    )
    for name, row in found.items():
        if name not in rated:
            row |= {"role": "unrated", "traffic_score": None, "profit_score": None, "potential_score": None}
            continue
        scores = {
            "profit": round((2 * worth[name] + 1 - cheap[name] + loyal[name]) / 4, 4),
            "traffic": round((2 * traffic[name] + fresh[name] + cheap[name]) / 4, 4),
            "potential": round((turning[name] + growing[name]) / 2, 4),
        }
        fits = {
            "profit": worth[name] >= 0.5 and row["net"] > 0,
            "traffic": traffic[name] >= 0.5,
            "potential": traffic[name] < 0.5,
        }
        able = {role: score for role, score in scores.items() if fits[role] and score >= 0.6}
        row |= {"role": max(able, key=lambda role: able[role]) if able else "edge"}
        row |= {f"{role}_score": score for role, score in scores.items()}
    return found


@pytest.mark.parametrize("guests", ["", "guest-"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_matrix_is_what_its_published_formulas_say(database: str, seed: int, guests: str) -> None:
    facts = market(seed)
    migrate(database)
    with closing(Store(database)) as into:
        store(into, facts)
    given = {"shop": "", "until": UNTIL.isoformat(), "days": str(DAYS), "guests": guests}
    with closing(connect(database)) as client:
        result = question("product_matrix").ask(client, {**given, "min_visitors": str(M), "limit": "100"})
    rows = list(result.named_results())
    roles: Counter[str] = Counter()
    for shop in ("named", "unnamed"):
        of_shop = {row["item_id"]: row for row in rows if row["shop_id"] == shop}
        must = matrix(facts, shop, guests)
        assert of_shop.keys() == must.keys()
        for name, row in of_shop.items():
            expected = must[name]
            for column in ("visitors", "visitors_before", "bought", "buyers", "currency", "role"):
                assert row[column] == expected[column], (shop, name, column)
            assert float(row["revenue"]) == pytest.approx(expected["net"], abs=1e-4)
            for column in ("traffic_score", "profit_score", "potential_score"):
                assert row[column] == pytest.approx(expected[column], abs=1.01e-4), (shop, name, column)
            for column, part, of in (
                ("conversion", "bought", "visitors"),
                ("new_visitor_share", "new", "visitors"),
                ("repeat_affinity", "old", "buyers"),
                ("discount_share", "discount", "gross"),
            ):
                share = expected[part] / expected[of] if expected[of] else None
                assert row[column] == pytest.approx(share, abs=1e-4), (shop, name, column)
            roles[row["role"]] += 1
    # What never comes up is not tested.
    assert {"traffic", "profit", "potential", "edge"} <= roles.keys()

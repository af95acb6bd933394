"""A shop's report: its figures, the cycle that it is of, and what it looks like in every format."""

from __future__ import annotations

import json
import random
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest

from streams.adapters.clickhouse import connect
from streams.adapters.shop_report import Cycle, complete_until, read_shop_report, shop_card
from streams.domain.policy import MINUTE
from tests.integration import report_reference
from tests.integration.reports import SOME, Facts, filled, run

UNTIL: Final = date(2026, 3, 29)


def market(seed: int) -> Facts:
    """Two shops and a month of fifty customers, in two currencies and none, with bots, guests and refunds."""
    chance = random.Random(seed)
    facts: Facts = {"sessions": [], "purchases": [], "leaks": []}
    for number in range(100):
        name = f"{chance.choice(['', '', 'guest-'])}c{number // 2}"
        who = {"customer_id": name, "shop_id": f"s{number % 2}"}
        for back in range(30):
            if chance.random() > 0.2:
                continue
            day = str(UNTIL - timedelta(back))
            currency = chance.choice(["CNY", "CNY", "EUR", None])
            at = f"{day} {chance.randrange(24):02}:00"
            said: dict[str, Any] = {
                **who,
                "day": day,
                "started_at": at,
                "currency": currency,
                "is_bot": chance.random() < 0.1,
                "favorites": chance.choice([0, 0, 1, 3]),
                "carts": chance.choice([0, 0, 2]),
                "orders": int(chance.random() < 0.2),
            }
            if said["orders"]:
                total = Decimal(chance.randrange(1, 10**6)).scaleb(-4)
                refunded = total * chance.choice([0, 0, 1])
                facts["purchases"].append(
                    {
                        **who,
                        "order_id": f"o{number}-{back}",
                        "ordered_at": at,
                        "day": day,
                        "currency": currency,
                        "total": f"{total:.4f}",
                        "refunded": f"{refunded:.4f}",
                        "is_reversed": refunded > 0,
                    }
                )
            else:
                said["lost_stage"] = chance.choice(["bounced", "browsed", "favorited", "carted"])
                said["recovered"] = chance.random() < 0.2
                if said["lost_stage"] == "carted":
                    said["cart_value"] = f"{chance.randrange(1, 10**5) / 100:.4f}"
                if chance.random() < 0.3:
                    facts["leaks"].append(
                        {
                            **who,
                            "day": day,
                            "ordered_at": at,
                            "order_id": f"x{number}-{back}",
                            "to_shop_id": "s9",
                            "amount": f"{chance.randrange(1, 10**5) / 100:.4f}",
                            "currency": currency,
                            "is_bot": said["is_bot"],
                        }
                    )
            facts["sessions"].append(said)
        if chance.random() < 0.5:
            day = str(UNTIL - timedelta(chance.randrange(355, 380)))
            facts["purchases"].append(
                {**who, "order_id": "old", "ordered_at": f"{day} 10:00", "day": day, "total": "1.0000"}
                | {"currency": None}
            )
    return facts


@pytest.mark.parametrize("guests", ["", "guest-"])
def test_every_figure_is_what_its_definition_says_of_the_facts(database: str, guests: str) -> None:
    facts = market(seed=7)
    filled(database, facts)
    seen: set[str] = set()
    with closing(connect(database)) as client:
        for shop, until, days in [("s0", UNTIL, 7), ("s1", UNTIL - timedelta(3), 5), ("s1", UNTIL, 1)]:
            cycle = Cycle.ending(until, days)
            report = read_shop_report(client, shop_card(client, shop, "UTC"), cycle, UNTIL, guests)
            spans = [cycle, report.before, *(Cycle(day, day) for day in (*report.before.days, *cycle.days))]
            must, must_with_bots = (
                [
                    report_reference.figures(
                        facts, shop, span.since, span.until, with_bots=with_bots, guests=guests
                    )
                    for span in spans
                ]
                for with_bots in (False, True)
            )
            for figure in report.figures:
                key = (figure.name, figure.currency)
                nothing = None if figure.unit == "share" or figure.name == "amount_per_buyer" else 0
                expected = [figures.get(key, nothing) for figures in must]
                # Orders without an amount have a mean of zero, which the reference leaves out.
                assert [v or nothing for v in (figure.value, figure.before, *figure.daily)] == [
                    v or nothing for v in expected
                ], (shop, key)
                if figure.with_bots is not None:
                    bots = [figures.get(key, nothing) for figures in must_with_bots[:2]]
                    assert [v or nothing for v in figure.with_bots] == [v or nothing for v in bots], key
                    seen |= {"bots matter"} if figure.with_bots[0] != figure.value else set()
                seen |= {figure.name} if figure.value and figure.before else set()
            told = {(f.name, f.currency) for f in report.figures}
            assert {key for figures in must for key in figures} <= told
    assert seen == {figure.name for figure in report.figures} | {"bots matter"}, (
        "what is never there is not tested"
    )


@pytest.mark.parametrize(
    ("zone", "watermark", "day"),
    [
        # Half past midnight, when the last sessions of the day before have closed, and the moment before.
        ("UTC", "2026-03-30 00:30", "2026-03-29"),
        ("UTC", "2026-03-30 00:29", "2026-03-28"),
        # In London a day of 23 hours ends at 23:00 UTC, and one of 25 hours, which began then, at midnight.
        ("Europe/London", "2026-03-29 23:30", "2026-03-29"),
        ("Europe/London", "2026-03-29 23:29", "2026-03-28"),
        ("Europe/London", "2026-10-26 00:30", "2026-10-25"),
        ("Europe/London", "2026-10-26 00:29", "2026-10-24"),
        ("America/New_York", "2026-03-09 04:30", "2026-03-08"),
        ("America/New_York", "2026-03-09 04:29", "2026-03-07"),
        ("America/New_York", "2026-11-02 05:30", "2026-11-01"),
        ("America/New_York", "2026-11-02 05:29", "2026-10-31"),
        ("Asia/Shanghai", "2026-03-29 16:30", "2026-03-29"),
    ],
)
def test_the_last_day_that_is_over_is_one_of_the_shops_calendar(
    database: str, zone: str, watermark: str, day: str
) -> None:
    counts = [
        {"topic": "orders", "partition": 0, "watermark": "2026-12-01 00:00"},
        {"topic": "visits", "partition": 1, "watermark": watermark},
    ]
    filled(database, {"ingest": counts})
    with closing(connect(database)) as client:
        assert str(complete_until(client, zone, 30 * MINUTE)) == day


def test_without_a_last_day_the_cycle_ends_with_the_last_that_is_over(database: str) -> None:
    filled(database, SOME)
    asked = ("--shop", "s1", "--clickhouse", database, "--format", "json")
    told = json.loads(run(*asked).output)
    assert told["cycle"] == {"since": "2026-03-22", "until": "2026-03-28", "days": 7, "is_complete": True}
    assert told["before"] == {"since": "2026-03-15", "until": "2026-03-21", "days": 7}
    assert told["shop"] == {"shop_id": "s1", "name": "Tide & Co", "zone": "Europe/London"}
    today = json.loads(run(*asked, "--until", "2026-03-29", "--days", "1").stdout)
    assert (today["cycle"]["is_complete"], today["complete_until"]) == (False, "2026-03-28")


def test_a_cycle_that_is_not_over_and_one_before_the_shop_was_there_are_said(database: str) -> None:
    filled(database, SOME)
    asked = ("--shop", "s1", "--clickhouse", database)
    assert (
        "not over: the pipeline has all until March 28, 2026" in run(*asked, "--until", "2026-03-29").output
    )
    assert "The shop's first day is 2026-03-28" in run(*asked, "--until", "2026-01-31").output
    assert "数据完整至 2026年3月28日" in run(*asked, "--until", "2026-03-29", "--lang", "zh").output


def test_a_shop_nobody_has_told_of_is_in_the_zone_of_the_settings_and_the_currency_it_sells_in(
    database: str,
) -> None:
    orders = [("CNY", "o1"), ("EUR", "o2"), ("EUR", "o3")]
    sold = [
        {"order_id": name, "ordered_at": "2026-03-28 10:00", "currency": currency, "total": "100.0000"}
        for currency, name in orders
    ]
    filled(database, {**SOME, "shops": [], "purchases": sold})
    asked = ("--shop", "s1", "--clickhouse", database, "--format", "json")
    told = json.loads(run(*asked, EBBTIDE_ZONE="Asia/Tokyo").output)
    assert (told["shop"]["zone"], told["shop"]["name"], told["currency"]) == ("Asia/Tokyo", "s1", "EUR")
    paid = [(f["currency"], f["value"]) for f in told["figures"] if f["figure"] == "paid_amount"]
    assert paid == [("EUR", "200.0000"), ("CNY", "100.0000")]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--shop", "s7"], "nothing is known of a shop 's7'; there are s1"),
        (["--shop", "s1", "--days", "0"], "0 is not in the range"),
        (["--shop", "s1", "--until", "May"], "May"),
        ([], "--shop"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_sentence(database: str, args: list[str], said: str) -> None:
    filled(database, {**SOME, "shops": []})
    result = run(*args, "--clickhouse", database)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output

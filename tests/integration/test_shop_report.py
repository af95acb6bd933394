"""A shop's report: its figures, the cycle that it is of, and what it looks like in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from rich.console import Console

from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.shop_report import Cycle, complete_until, read_shop_report, shop_card
from streams.cli import main
from streams.commands.shop_report_text import show
from streams.commands.shop_report_words import Words
from streams.domain.policy import MINUTE
from tests.integration import report_reference
from tests.integration.stored import store

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "report"
UNTIL: Final = date(2026, 3, 29)
Facts = dict[str, list[dict[str, Any]]]


def filled(url: str, facts: Facts) -> None:
    migrate(url)
    with closing(Store(url)) as into:
        store(into, {topic: told for topic, told in facts.items() if told})


def run(*args: str, **env: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, ["report", *args], env={**clean, **env}, catch_exceptions=False)


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


SOME: Final[Facts] = {
    "shops": [{"shop_id": "s1", "name": "Tide & Co", "zone": "Europe/London", "currency": "GBP"}],
    "sessions": [{"started_at": "2026-03-28 10:00", "orders": 0}],
    "ingest": [{"topic": "orders", "partition": 0, "watermark": "2026-03-29 12:00"}],
}


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


@pytest.fixture(scope="module")
def story(clickhouse: str) -> Iterator[str]:
    """A database with the golden story in it."""
    name = f"t{uuid.uuid4().hex[:10]}"
    url = urlunsplit(urlsplit(clickhouse)._replace(path=f"/{name}"))
    filled(url, json.loads((GOLDEN / "facts.json").read_text()))
    yield url
    with closing(connect(clickhouse)) as client:
        client.command(f"DROP DATABASE {name}")


#: The golden files, and the words that give each.
ASKED: Final = {
    "report.en.txt": (),
    "report.zh.txt": ("--lang", "zh", "--with-bots"),
    "report.csv": ("--format", "csv", "--with-bots"),
    "report.json": ("--format", "json", "--with-bots"),
    "report.en.html": ("--format", "html"),
    "report.zh.html": ("--format", "html", "--lang", "zh", "--with-bots"),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_golden_story_reads_as_it_must_in_every_format(story: str, name: str) -> None:
    """tests/golden/report has what `ebbtide report --shop harbour` prints of the story."""
    assert run("--shop", "harbour", "--clickhouse", story, *ASKED[name]).output == (GOLDEN / name).read_text()


def test_the_golden_story_counts_as_one_counts_by_hand(story: str) -> None:
    told = json.loads((GOLDEN / "report.json").read_text())
    found = {
        (f["figure"], f["currency"]): (f["value"], f["before"])
        for f in told["figures"]
        if f["value"] != "0.0000" or f["before"] != "0.0000"
    }
    assert (told["cycle"]["since"], told["cycle"]["until"]) == ("2026-03-23", "2026-03-29")
    assert found == {
        ("visitors", None): (4, 3),  # ann, bob, cat, eve; bob, cat, gil
        ("new_visitors", None): (3, 3),
        ("returning_visitor_share", None): (0.25, 0.0),
        ("favorites", None): (2, 0),
        ("conversion_to_favorite", None): (0.25, 0.0),
        ("conversion_to_cart", None): (0.25, 0.3333),
        ("conversion_to_order", None): (0.75, 0.0),
        ("paying_buyers", None): (3, 1),  # ann, bob, eve; hal
        ("new_buyers", None): (2, 1),
        ("old_buyers", None): (1, 0),
        ("old_buyer_share", None): (0.3333, 0.0),
        ("paid_amount", "GBP"): ("80.0000", "50.0000"),
        ("paid_amount", "EUR"): ("30.0000", "0.0000"),
        ("amount_per_buyer", "GBP"): ("40.0000", "50.0000"),
        ("amount_per_buyer", "EUR"): ("30.0000", None),
        ("refunded_amount", "EUR"): ("15.0000", "0.0000"),
        ("sessions", None): (7, 3),
        ("loss_rate", None): (0.5714, 1.0),
        ("bounced_rate", None): (0.1429, 0.0),
        ("browsed_rate", None): (0.1429, 0.6667),
        ("favorited_rate", None): (0.1429, 0.0),
        ("carted_rate", None): (0.1429, 0.3333),
        ("recovered", None): (1, 0),
        ("value_at_risk", "GBP"): ("25.5000", "10.0000"),
        ("leaked_amount", "GBP"): ("33.3300", "0.0000"),
    }
    bots = {
        f["figure"]: f["with_bots"]
        for f in told["figures"]
        if f["currency"] in (None, "GBP")
        if "with_bots" in f
    }
    assert bots["visitors"] == {"value": 5, "before": 3}
    assert bots["sessions"] == {"value": 9, "before": 3}
    assert bots["value_at_risk"] == {"value": "124.5000", "before": "10.0000"}
    assert bots["leaked_amount"] == {"value": "40.3300", "before": "0.0000"}
    assert "paid_amount" not in bots


def test_csv_is_tidy_and_its_changes_are_those_of_its_values(story: str) -> None:
    rows = list(
        csv.DictReader(io.StringIO(run("--shop", "harbour", "--clickhouse", story, "--format", "csv").output))
    )
    assert len({(row["figure"], row["currency"]) for row in rows}) == len(rows)
    for row in rows:
        if not row["value"] or not row["before"] or (row["unit"] != "share" and Decimal(row["before"]) == 0):
            assert row["change"] == "", row
            continue
        value, before = Decimal(row["value"]), Decimal(row["before"])
        change = value - before if row["unit"] == "share" else (value - before) / before
        assert Decimal(row["change"]) == round(change, 4), row


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_table_fits_a_terminal_of_eighty_columns(story: str, lang: str) -> None:
    with closing(connect(story)) as client:
        card, ended = shop_card(client, "harbour", "UTC"), date(2026, 3, 29)
        reports = [
            read_shop_report(client, card, Cycle.ending(ended, days), ended, min_visitors=10)
            for days in (7, 60)
        ]
    paid = reports[0].figure("paid_amount")
    assert paid is not None
    dear = replace(paid, value=Decimal("123456789012.3456"), before=Decimal("123456789012.3456"))
    rich = replace(reports[0], figures=(*reports[0].figures, dear))
    plots = []
    for report in (*reports, rich):
        screen = io.StringIO()
        show(Console(file=screen, width=80), report, Words(lang), with_bots=True, items=10)  # type: ignore[arg-type]
        lines = screen.getvalue().splitlines()
        assert max(cell_len(line.rstrip()) for line in lines) <= 80
        assert not any("…" in line for line in lines)
        plots.append("█" in screen.getvalue())
    assert plots == [True, True, False], "figures go before plots"


class Page(HTMLParser):
    """What a page is made of: its tags, their attributes, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(("lang", "tag"), [("en", "en"), ("zh", "zh-Hans")])
def test_the_page_needs_nothing_else_and_runs_nothing(story: str, lang: str, tag: str) -> None:
    text = run("--shop", "harbour", "--clickhouse", story, "--format", "html", "--lang", lang).output
    page = Page(text)
    names = [name for name, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(names)
    for name, attributes in page.tags:
        assert not any(key.startswith("on") or key in ("src", "href", "xlink:href") for key in attributes), (
            name
        )
    assert not re.search(r"url\(|@import|javascript:", text)
    assert dict(page.tags)["html"]["lang"] == tag
    assert names.count("figure") == 4
    assert {attributes.get("scope") for name, attributes in page.tags if name == "th"} == {
        "col",
        "row",
        "rowgroup",
    }
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden")
        for n, attributes in page.tags
        if n == "svg"
    )
    # The shop's name is text, not markup.
    assert "Harbour & Sons <b>海港</b>" in page.text
    assert "b" not in names


def test_a_hostile_name_is_only_a_name_in_every_format(database: str) -> None:
    hostile = "[red]<script>alert(1)</script>\x1b[2J"
    item = {"item_id": "<img src=x>[bold]", "category": "k"}
    looks = [
        {
            "customer_id": f"c{n}",
            "day": "2026-03-28",
            "items": [{**item, "item_id": f"<i>{m}"} for m in range(4)],
        }
        for n in range(12)
    ]
    facts = {**SOME, "shops": [{**SOME["shops"][0], "name": hostile}], "item-days": looks}
    filled(database, facts)
    asked = ("--shop", "s1", "--clickhouse", database, "--format")
    page = Page(run(*asked, "html").output)
    assert not {"script", "i"} & {name for name, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    table = run(*asked, "table").output
    assert "[red]<script>" in table
    assert "\x1b" not in table
    assert json.loads(run(*asked, "json").output)["shop"]["name"] == hostile

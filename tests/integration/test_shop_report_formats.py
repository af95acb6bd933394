"""The shop report in every format: a golden story, and what each format promises."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest
from rich.cells import cell_len
from rich.console import Console

from streams.adapters.clickhouse import connect
from streams.adapters.shop_report import Cycle, read_shop_report, shop_card
from streams.commands.shop_report_text import show
from streams.commands.shop_report_words import Words
from tests.integration.reports import SOME, filled, run
from tests.integration.stored import database_of

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "report"


@pytest.fixture(scope="module")
def story(clickhouse: str) -> Iterator[str]:
    """A database with the golden story in it."""
    with database_of(clickhouse, json.loads((GOLDEN / "facts.json").read_text())) as url:
        yield url


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

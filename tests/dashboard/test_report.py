"""The report on the page: each of its numbers leads to SQL that gives that number."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pytest

from streams.adapters.clickhouse import connect
from streams.adapters.shop_report import FIGURES, Cycle, Figure, read_shop_report, shop_card, told_by
from streams.dashboard.asking import Asker
from streams.dashboard.selection import Selection, View
from streams.dashboard.sql_text import sql_page
from streams.domain.policy import Policy
from tests.integration.stored import database_of

FACTS: Final = Path(__file__).parents[1] / "golden" / "report" / "facts.json"
SHOP: Final = "harbour"
#: 2026-03-30 12:00 UTC: the story's last day is over.
REACHED: Final = 1_774_872_000_000
VIEW: Final = View(Selection("en", "report", shop=SHOP, days=7), REACHED, "UTC")


@pytest.fixture(scope="module")
def url(clickhouse: str) -> Iterator[str]:
    """The golden story of a report in a database of its own."""
    with database_of(clickhouse, json.loads(FACTS.read_text())) as url:
        yield url


@pytest.fixture(scope="module")
def html(url: str) -> str:
    # Not above: its drawings bring a finder of modules that what is collected later would meet.
    from streams.dashboard.report import report_html

    return report_html(url, Policy(), VIEW)


@pytest.fixture(scope="module")
def cycle(url: str, html: str) -> Cycle:
    """What the report says that it is of."""
    told = re.search(r"since=(\d{4}-\d\d-\d\d)&until=(\d{4}-\d\d-\d\d)", unescape(html))
    assert told is not None
    return Cycle(date.fromisoformat(told[1]), date.fromisoformat(told[2]))


@pytest.fixture(scope="module")
def figures(url: str, cycle: Cycle) -> list[Figure]:
    with closing(connect(url)) as client:
        report = read_shop_report(client, shop_card(client, SHOP, "UTC"), cycle, cycle.until)
    return [figure for figure in report.figures if figure.currency in (None, report.currency)]


def sql_behind(url: str, href: str) -> str:
    """The SQL that the page shows at ``href``."""
    parts = urlsplit(href)
    lang, _, name = parts.path.strip("/").split("/")
    assert lang == "en"
    shown = asyncio.run(sql_page(Asker(url), Policy(), "en", name, dict(parse_qsl(parts.query))))
    found = re.search(r"<pre[^>]*><code>(.*?)</code></pre>", shown, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def links(html: str, text: str = ".*?") -> list[tuple[str, str]]:
    found = re.findall(rf'<a href="([^"]*)" target="_top">({text})</a>', html, re.DOTALL)
    return [(unescape(href), unescape(said)) for href, said in found]


def test_no_number_of_a_figure_is_without_its_sql(html: str) -> None:
    tables = re.findall(r"<tbody>.*?</tbody>", html, re.DOTALL)
    cells = [cell for table in tables for cell in re.findall(r"<td[^>]*>(.*?)</td>", table, re.DOTALL)]
    bare = [
        cell
        for cell in cells
        if re.search(r"\d", re.sub(r"<svg.*?</svg>|<a .*?</a>", "", cell, flags=re.DOTALL))
    ]
    assert len(links(html)) > 3 * len(FIGURES)
    assert bare == []


@pytest.mark.parametrize("name", FIGURES)
def test_the_sql_behind_a_figure_gives_it(
    url: str, html: str, cycle: Cycle, figures: list[Figure], name: str
) -> None:
    from streams.dashboard.report import sql_of

    href = sql_of(VIEW, cycle, name)
    assert href in [there for there, _ in links(html)]
    asked, formula = told_by(name)
    counted = re.sub(r"(\w+)\.(\w+)", r"sumIf(\2, figure = '\1')", formula)
    figure = next(figure for figure in figures if figure.name == name)
    bots = "" if asked == "buyers" else " AND NOT with_bots"
    for kind, value in (("cycle", figure.value), ("before", figure.before)):
        of = f"kind = '{kind}'{bots}" + (f" AND in_currency = '{figure.currency}'" if figure.currency else "")
        with closing(connect(url)) as client:
            rows = client.query(f"SELECT {counted} FROM ({sql_behind(url, href)}\n) WHERE {of}").result_rows
        told: Any = rows[0][0] if rows else 0
        assert value == pytest.approx(Decimal(str(told)), abs=Decimal("0.00005")), kind


def test_the_sql_behind_items_and_days_gives_them(url: str, html: str, cycle: Cycle) -> None:
    from streams.commands.shop_report_page import ITEMS, SESSIONS
    from streams.dashboard.report import sql_of

    with closing(connect(url)) as client:
        report = read_shop_report(client, shop_card(client, SHOP, "UTC"), cycle, cycle.until)
        told = {}
        for name in (ITEMS, SESSIONS):
            href = sql_of(VIEW, cycle, name)
            assert href in [there for there, _ in links(html)]
            told[name] = list(client.query(sql_behind(url, href)).named_results())
    assert report.items
    assert sorted(report.items, key=lambda row: row["item_id"]) == sorted(
        (row for row in told[ITEMS] if row["role"] != "unrated"), key=lambda row: row["item_id"]
    )
    days = {row["first_day"]: row for row in told[SESSIONS] if row["kind"] == "day" and not row["with_bots"]}
    for ending, counts in report.endings.items():
        assert tuple(days[day][ending] if day in days else 0 for day in cycle.days) == counts

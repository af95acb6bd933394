"""The shop report as a page of its own inside of the page: each number leads to the SQL that gives it."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from html import escape
from typing import Final
from urllib.parse import urlencode

from nicegui import ui

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.shop_report import Cycle, told_by
from streams.commands.shop_report import read_report
from streams.commands.shop_report_page import ITEMS, SESSIONS, page
from streams.commands.shop_report_words import Words as ReportWords
from streams.dashboard.selection import View
from streams.dashboard.words import Words
from streams.domain.policy import Policy

#: All of a shop's items, as the report judges them.
_EVERY: Final = str((1 << 32) - 1)


def framed(view: View, words: Words) -> None:
    """The report, in a frame: it has its own style, which is also that of the file it can be saved as."""
    address = view.selection.address().replace("/report", "/report.html", 1)
    ui.html(
        f'<iframe title="{escape(words["page report"])}" src="{escape(address)}"></iframe>', sanitize=False
    )


def report_html(url: str, policy: Policy, view: View) -> str:
    """The report's text; blocks. StoreError if ClickHouse at ``url`` does not tell it."""
    chosen = view.selection
    with closing(connect(url)) as client, explained(Endpoint.parse(url), "reading the report"):
        found = read_report(client, policy, chosen.shop, chosen.days, None)
    return page(found, ReportWords(chosen.lang), False, 10, partial(sql_of, view, found.cycle))


def sql_of(view: View, cycle: Cycle, name: str) -> str:
    """The address of the SQL behind the figure ``name`` of the cycle, or behind its items or sessions."""
    if name == ITEMS:
        asked, column = "product_matrix", ""
    elif name == SESSIONS:
        asked, column = "visits", ""
    else:
        asked, column = told_by(name)
    given = {
        "of": view.selection.address(),
        "reached": str(view.reached),
        "column": column,
        "since": cycle.since.isoformat(),
        "until": cycle.until.isoformat(),
        "days": str(len(cycle.days)),
        "limit": _EVERY,
    }
    return f"/{view.selection.lang}/sql/{asked}?{urlencode(given)}"

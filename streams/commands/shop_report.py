"""``ebbtide report``: what a shop manager reads every week, one cycle of days beside the one before it.

What writes and draws is imported by this command alone: no other, and no worker, waits for it.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import click
from clickhouse_connect.driver.client import Client
from rich.console import Console

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.shop_report import (
    MOST_ITEMS,
    Cycle,
    ShopReport,
    complete_until,
    first_day,
    read_shop_report,
    shop_card,
)
from streams.commands import options
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.domain.policy import Policy
from streams.settings import Settings

#: Beside a cycle of more than a year there is hardly one before.
_MOST_DAYS: Final = 366
#: Into a pipe nothing is cut to the width of a screen that is not there.
_PIPE_WIDTH: Final = 120


@click.command(
    "report",
    epilog=options.epilog(
        "ebbtide report --shop shop-42",
        "ebbtide report --shop shop-42 --lang zh --format html > report.html",
        "ebbtide report --shop shop-42 --days 30 --until 2026-03-31 --with-bots --format csv",
    ),
)
@click.option("--shop", required=True, metavar="ID", help="Whose report.")
@click.option(
    "--days", type=click.IntRange(1, _MOST_DAYS), default=7, show_default=True, help="Days of a cycle."
)
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="The cycle's last day, in the shop's calendar; the last that has ended if not given.",
)
@click.option(
    "--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="For tables and pages."
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "csv", "json", "html"]),
    default="table",
    show_default=True,
    help="html is one page that needs nothing else.",
)
@click.option("--with-bots", is_flag=True, help="Say what visits and losses are with bots, too.")
@click.option("--guests", default="", metavar="PREFIX", help="Leave out customers whose ids begin so.")
@click.option(
    "--items",
    default=10,
    show_default=True,
    type=click.IntRange(0, MOST_ITEMS),
    help="How many to show, of those with a role.",
)
@options.clickhouse
@options.data_dir
@told
def shop_report(
    shop: str,
    days: int,
    until: datetime | None,
    lang: Literal["en", "zh"],
    output: str,
    with_bots: bool,
    guests: str,
    items: int,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """A shop's figures of some days beside those of as many days before, with what has changed.

    Days are the shop's own, and without --until the cycle ends with the last that is over. Bots are left out
    of visits and losses; orders count whoever placed them. Amounts of two currencies are never added.
    """
    from streams.commands.shop_report_text import as_csv, as_json, show
    from streams.commands.shop_report_words import Words

    settings = Settings.from_env(**given)
    words = Words(lang)
    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url)) as client,
        explained(Endpoint.parse(url), "reading the report"),
    ):
        day = None if until is None else until.date()
        report = read_report(client, settings.policy, shop, days, day, guests)
        start = None if any(figure.value for figure in report.figures) else first_day(client, shop)
    if start is not None and not report.cycle.since <= start <= report.cycle.until:
        click.echo(words["nothing here"].format(day=start.isoformat()), err=True)
    if output == "csv":
        click.echo(as_csv(report, with_bots), nl=False)
    elif output == "json":
        click.echo(json.dumps(as_json(report, with_bots, items), ensure_ascii=False))
    elif output == "html":
        from streams.commands.shop_report_page import page

        click.echo(page(report, words, with_bots, items), nl=False)
    else:
        show(Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH), report, words, with_bots, items)


def read_report(
    client: Client, policy: Policy, shop: str, days: int, until: date | None, guests: str = ""
) -> ShopReport:
    """The report of ``days`` days, of which the last is ``until``: if None, the last that is over.

    guests: how ids begin that are left out, or empty.
    """
    card = shop_card(client, shop, policy.zone)
    ended = complete_until(client, card.zone, policy.gap)
    last = until or ended or datetime.now(ZoneInfo(card.zone)).date()
    return read_shop_report(client, card, Cycle.ending(last, days), ended, guests)

"""``ebbtide query``: the questions of ``sql/queries``, their parameters filled in where they can be."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import click
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Endpoint, StoreError, connect, explained
from streams.adapters.queries import plain, question, questions, reached_day
from streams.commands import options, show
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.settings import Settings

#: What a parameter is where it is not given. A name means the same in every question.
_DEFAULTS: Final[dict[str, str]] = {
    "shop": "",
    "guests": "",
    "category": "",
    "item": "",
    "by_cohort": "false",
    "by_day": "false",
    "by_minute": "false",
    "kind": "",
    "by_item": "true",
    "limit": "100",
    "days": "7",
    "min_visitors": "10",
    "within_s": str(30 * 24 * 60 * 60),
    "asked_since": "1970-01-01",
}
#: Days of the shops' calendar, from the one that the pipeline has come to.
_DAYS: Final[dict[str, Callable[[date], date]]] = {
    "as_of": lambda reached: reached,
    "until": lambda reached: reached,
    "since": lambda reached: reached - timedelta(days=29),
    "weeks_since": lambda reached: reached - timedelta(days=140),
    "cohorts_since": lambda reached: reached - timedelta(days=365),
}


def filled(
    client: Client, parameters: Mapping[str, str], given: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """``given``, and of the other ``parameters`` those that are known without being given.

    Raises StoreError if a day is to be known and nothing has been read yet.
    """
    values = {name: text for name, text in _DEFAULTS.items() if name in parameters}
    if "zone" in parameters:
        values["zone"] = settings.policy.zone
    values.update(given)
    open_days = [name for name in parameters if name in _DAYS and name not in given]
    if open_days:
        reached = reached_day(client, values.get("zone", settings.policy.zone))
        if reached is None:
            raise StoreError(
                f"the pipeline has read nothing yet; say --param {open_days[0]}=YYYY-MM-DD to ask anyway"
            )
        if "until" in given:
            reached = min(reached, _day(given["until"]))
        values.update({name: _DAYS[name](reached).isoformat() for name in open_days})
    return values


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise StoreError(f"{text!r} is not a day; write it like 2026-03-02") from None


def _pairs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not of the form name=value")
        pairs[name] = value
    return pairs


@click.command(
    epilog=options.epilog(
        "ebbtide query --list",
        "ebbtide query churn_daily --param since=2026-01-01 --param by_cohort=true",
        "ebbtide query lapsing_buyers --param shop=shop-42 --param limit=20 --format csv",
        "ebbtide query repurchase_rate --format json --data-dir ./demo-data",
    )
)
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="Say which there are, and their parameters.")
@click.option("--param", "given", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="Any number.")
@options.clickhouse
@options.data_dir
@click.option("--format", "output", default="table", type=click.Choice(["table", "csv", "json"]))
@told
def query(
    name: str | None,
    listing: bool,
    given: dict[str, str],
    data_dir: Path | None,
    output: str,
    **settings_given: Any,
) -> None:
    """Ask one of the questions that come with Ebbtide; their SQL is in sql/queries.

    Where not given, shops are all, the zone is EBBTIDE_ZONE, and days end with the one that the
    pipeline has come to.
    """
    if listing or name is None:
        if not listing:
            raise click.UsageError("say which, or --list")
        for one in questions():
            takes = ", ".join(f"{parameter} ({kind})" for parameter, kind in one.parameters.items())
            click.echo(f"{one.name}\n    {one.asks}\n    {takes}")
        return
    asked = question(name)
    settings = Settings.from_env(**settings_given)
    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url)) as client,
        explained(Endpoint.parse(url), f"asking {name}"),
    ):
        result = asked.ask(client, filled(client, asked.parameters, given, settings))
    _print(list(result.column_names), [[plain(cell) for cell in row] for row in result.result_rows], output)


def _print(names: list[str], rows: list[list[Any]], output: str) -> None:
    if output == "json":
        for row in rows:
            click.echo(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
        return
    cells = [[_cell(cell) for cell in row] for row in rows]
    if output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *cells])
        return
    show.table(names, cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)

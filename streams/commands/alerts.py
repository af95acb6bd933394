"""``ebbtide alerts``: what alerts.yaml comes to, and which alerts there were."""

from __future__ import annotations

import csv
import json
import os
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from streams.adapters.alert_rules import AlertRulesError, read_file
from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.queries import plain
from streams.commands import options, show
from streams.commands.alerts_backtest import alerts_backtest
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.domain.alert_rules import DAYS, AlertRules, Quiet
from streams.settings import Settings

_COLUMNS: Final = (
    *("began_at", "shop_id", "signal", "scope", "scope_value", "status", "severity"),
    *("observed", "expected", "lost", "sessions", "resolved_at", "summary", "alert_id"),
)
_SHOWN: Final = ("began_at", "shop_id", "signal", "status", "severity", "summary")


@click.group(epilog=options.epilog("ebbtide alerts check alerts.yaml", "ebbtide alerts list --status firing"))
def alerts() -> None:
    """Spikes in loss: the rules they are found by, and what was found."""


@alerts.command(
    epilog=options.epilog(
        "ebbtide alerts check alerts.yaml",
        "ebbtide alerts check alerts.yaml --shop flagship-paris --secrets",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--shop", metavar="ID", multiple=True, help="Say what holds for this shop; any number.")
@click.option("--secrets", is_flag=True, help="Fetch the secrets and URLs it names, too.")
@told
def check(file: Path, shop: tuple[str, ...], secrets: bool) -> None:
    """Read FILE as the workers would, and say what it comes to, or each thing that is wrong with it."""
    try:
        rules = read_file(file, os.environ if secrets else None)
    except AlertRulesError as exc:
        raise click.ClickException(str(exc)) from exc
    watches, routes = len(rules.watches), len(rules.routes)
    click.echo(f"{file}: {watches} watch(es), {len(rules.endpoints)} endpoint(s), {routes} route(s)")
    for endpoint in rules.endpoints.values():
        signed = f"signed with {len(endpoint.secrets)} secret(s)" if endpoint.secrets else "not signed"
        click.echo(f"  {endpoint.name}: {endpoint.kind}, {signed}, {endpoint.timeout_s:g} s")
    for route in rules.routes:
        only = f" ({', '.join(sorted(route.only))})" if route.only else ""
        click.echo(f"  {route.topic}{only} of {', '.join(route.shops)} to {', '.join(route.endpoints)}")
    for name in shop:
        click.echo("\n".join(_said_of(rules, name)))


def _said_of(rules: AlertRules, shop_id: str) -> list[str]:
    watch = rules.watch_of(shop_id)
    if watch is None:
        return [f"{shop_id}: no watch covers it; it is counted, and not judged"]
    said = asdict(watch.rule)
    name = said.pop("name")
    lines = [f"{shop_id}: by {name}"]
    for key, value in said.items():
        shown = ", ".join(sorted(value)) if isinstance(value, frozenset) else f"{value:g}"
        lines.append(f"  {key}: {shown}")
    lines += [f"  quiet: {_hours(quiet)}" for quiet in watch.quiet]
    return lines


def _hours(quiet: Quiet) -> str:
    days = ",".join(DAYS[day] for day in sorted(quiet.days))
    times = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (quiet.begins, quiet.ends)]
    return f"{days} {'-'.join(times)}"


@alerts.command(
    "list",
    epilog=options.epilog(
        "ebbtide alerts list", "ebbtide alerts list --shop shop-42 --days 30 --status resolved --format json"
    ),
)
@click.option("--shop", metavar="ID", help="Of one shop.")
@click.option("--status", type=click.Choice(["firing", "held", "resolved"]), help="That stand so.")
@click.option("--kind", type=click.Choice(["loss", "pipeline"]), help="Of losses, or of the pipeline.")
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="Begun in the last days.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@click.option("--format", "output", default="table", type=click.Choice(["table", "csv", "json"]))
@options.clickhouse
@options.data_dir
@told
def list_alerts(
    shop: str | None,
    status: str | None,
    kind: str | None,
    days: int,
    limit: int,
    output: str,
    data_dir: Path | None,
    **settings_given: Any,
) -> None:
    """List alerts, the newest first. Days are counted back from the newest alert that is stored."""
    settings = Settings.from_env(**settings_given)
    query = (
        f"SELECT {', '.join(_COLUMNS)} FROM alerts FINAL"
        " WHERE began_at > (SELECT max(began_at) FROM alerts) - toIntervalDay({days:UInt32})"
        " AND ({shop:String} = '' OR shop_id = {shop:String})"
        " AND ({status:String} = '' OR status = {status:String})"
        " AND ({kind:String} = '' OR kind = {kind:String})"
        " ORDER BY began_at DESC, shop_id, signal, scope, scope_value LIMIT {limit:UInt32}"
    )
    asked = {"days": days, "shop": shop or "", "status": status or "", "kind": kind or "", "limit": limit}
    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url)) as client,
        explained(Endpoint.parse(url), "listing alerts"),
    ):
        rows = list(client.query(query, parameters=asked).named_results())
    _print([{name: _plain(cell) for name, cell in row.items()} for row in rows], output)


def _print(rows: list[dict[str, Any]], output: str) -> None:
    if output == "json":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([["" if row[name] is None else row[name] for name in _COLUMNS] for row in rows])
    elif rows:
        show.table(list(_SHOWN), [[str(row[name] or "") for name in _SHOWN] for row in rows])
    else:
        click.echo("There are none.")


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.replace(tzinfo=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return cell.decode() if isinstance(cell, bytes) else plain(cell)


alerts.add_command(alerts_backtest, "backtest")

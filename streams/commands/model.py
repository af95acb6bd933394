"""``ebbtide model``: fit the shops' lapse models and publish them, see what is in force, test it on history.

What imports scipy is imported by the command that needs it: no other command, and no worker, waits for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.kafka.models import Published, publish, published
from streams.commands import options
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.domain.days import date_of
from streams.domain.facts import MONEY_SCALE
from streams.domain.outlook import ShopModel
from streams.domain.policy import DAY
from streams.domain.rfm import Cuts
from streams.settings import Settings, SettingsError, duration_ms

if TYPE_CHECKING:
    from streams.adapters.buyer_statistics import BuyerStatistics

_EPOCH: Final = date(1970, 1, 1)
_OTHERS: Final = "(all others)"


class _Day(click.ParamType):
    """A date, as the number of days since 1970-01-01."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return (date.fromisoformat(value) - _EPOCH).days
        except ValueError:
            self.fail(f"{value!r} is no day like 2026-03-31", param, ctx)


class _Span(click.ParamType):
    """A duration in whole days."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            days, rest = divmod(duration_ms(value), DAY)
        except SettingsError as exc:
            self.fail(str(exc), param, ctx)
        if rest or not days:
            self.fail(f"{value!r} is not a number of whole days like 90d", param, ctx)
        return days


_shop = click.option("--shop", metavar="ID", help="Only this shop.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(epilog=options.epilog("ebbtide model fit", "ebbtide model show", "ebbtide model backtest"))
def model() -> None:
    """The models that say which buyers are lapsing."""


@model.command(
    epilog=options.epilog(
        "ebbtide model fit",
        "ebbtide model fit --shop shop-7 --model mbg_nbd --as-of 2026-03-31 --dry-run",
    )
)
@_shop
@click.option(
    "--model",
    "choice",
    type=click.Choice(["bg_nbd", "mbg_nbd", "auto"]),
    default="auto",
    show_default=True,
    help="What to fit; auto takes the likelier one, shop by shop.",
)
@click.option("--as-of", type=_Day(), metavar="DAY", help="The day to fit at; the last one ingested.")
@click.option("--dry-run", is_flag=True, help="Fit and print, publish nothing.")
@_json
@options.kafka
@options.clickhouse
@options.prefix
@options.data_dir
@told
def fit(
    shop: str | None,
    choice: str,
    as_of: int | None,
    dry_run: bool,
    as_json: bool,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Fit every shop's model to its buyers and publish it to all workers.

    A shop with too few buyers gets the model of all shops together. The same data and --as-of give the same
    models; their version is the time of the fit, so a later fit always replaces an earlier one.
    """
    if data_dir is not None and not dry_run:
        raise click.UsageError("a demo's broker is gone: --data-dir needs --dry-run")
    settings = Settings.from_env(**given)
    version = time.time_ns() // 1_000_000
    if not dry_run:
        # Before the fit, which takes longer. Nobody takes a model that a clock put back makes older.
        version = max(version, published(settings).newest + 1)
    from streams.commands.model_fit import fit_models

    with _statistics(settings, data_dir) as statistics:
        fits = fit_models(statistics, version, choice, shop, as_of)
    partitions = None if dry_run else publish(settings, (found.model for found in fits.shops))
    if as_json:
        found = {
            "as_of": date_of(fits.as_of).isoformat(),
            "version": version,
            "partitions": partitions,
            "notes": fits.notes,
            "models": [found.as_json() for found in fits.shops],
        }
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    table = _table(
        "shop", "buyers", "basis", "model", "parameters", "LL", "converged", "return", "cut points"
    )
    for each in fits.shops:
        ran = each.learnt.fit
        table.add_row(
            each.model.shop_id or _OTHERS,
            f"{each.buyers:,}",
            each.learnt.basis,
            *_parameters(each.model),
            "" if ran is None else f"{ran.log_likelihood:,.2f}",
            "" if ran is None else ("yes" if ran.converged else "no"),
            _calibration(each.model),
            _points(each.model.cuts),
        )
    _print(table)
    for note in fits.notes:
        click.echo(f"note: {note}", err=True)
    what = f"{len(fits.shops):,} model(s) as of {date_of(fits.as_of)}, version {version}"
    click.echo(f"{what}: " + ("not published" if dry_run else f"published to all {partitions} partitions"))


@model.command(epilog=options.epilog("ebbtide model show", "ebbtide model show --shop shop-7 --json"))
@_shop
@_json
@options.kafka
@options.prefix
@told
def show(shop: str | None, as_json: bool, **given: Any) -> None:
    """Print the models in force; exit 1 if partitions disagree about them."""
    found = published(Settings.from_env(**given))
    named = [shop if shop in found.in_force else ""] if shop is not None else list(found.in_force)
    models = [found.in_force[name] for name in named if name in found.in_force]
    problems = list(_problems(found, [m.shop_id for m in models]))
    now = time.time_ns() // 1_000_000
    if as_json:
        listed = [{**msgspec.to_builtins(m), "age_s": _age_s(m, now)} for m in models]
        click.echo(json.dumps({"models": listed, "problems": problems}, ensure_ascii=False))
    elif not models:
        click.echo("no model is published, so workers use the built-in one; ebbtide model fit makes them")
    else:
        if shop is not None and shop not in found.in_force:
            click.echo(f"shop {shop!r} has no model of its own; that of all other shops is in force for it")
        table = _table("shop", "version", "fitted", "age", "model", "parameters", "return", "cut points")
        for each in models:
            age = _age_s(each, now)
            table.add_row(
                each.shop_id or _OTHERS,
                str(each.version),
                "" if each.fitted_at is None else _moment(each.fitted_at),
                "" if age is None else _age(age),
                *_parameters(each),
                _calibration(each),
                _points(each.cuts),
            )
        _print(table)
    if not as_json:
        for problem in problems:
            click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


@model.command(
    epilog=options.epilog(
        "ebbtide model backtest",
        "ebbtide model backtest --cut 2026-01-31 --cut 2026-03-31 --within 60d --json",
    )
)
@_shop
@click.option(
    "--cut", "cuts", type=_Day(), multiple=True, metavar="DAY", help="A day to foretell from; several can be."
)
@click.option("--within", type=_Span(), default="90d", show_default=True, help="How far to foretell.")
@_json
@options.clickhouse
@options.data_dir
@told
def backtest(
    shop: str | None, cuts: tuple[int, ...], within: int, as_json: bool, data_dir: Path | None, **given: Any
) -> None:
    """Hold the model against the orders that are stored: would it have known who came back?

    At each cut it is fitted to what was known by then, and scored by what happened after, beside a rule that
    knows only the days since the last order. It needs raw events (EBBTIDE_STORE_EVENTS).
    """
    settings = Settings.from_env(**given)
    from streams.commands.model_backtest import backtest as run

    with _statistics(settings, data_dir) as statistics:
        results = run(statistics, shop, cuts, within, settings.policy.lapse_threshold)
    if as_json:
        click.echo(json.dumps({"backtests": results}))
    else:
        for result in results:
            _tell(result)


@contextmanager
def _statistics(settings: Settings, data_dir: Path | None) -> Iterator[BuyerStatistics]:
    from streams.adapters.buyer_statistics import BuyerStatistics

    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url, timeout_s=600.0)) as client,
        explained(Endpoint.parse(url), "reading the buyers"),
    ):
        yield BuyerStatistics(client, settings.policy)


def _problems(found: Published, shops: Iterable[str]) -> Iterator[str]:
    for shop in shops:
        if behind := found.behind.get(shop):
            places = ", ".join(str(partition) for partition in behind)
            yield (
                f"the model of {shop or _OTHERS} has not reached partition {places}: a publication was cut;"
                " run `ebbtide model fit` again"
            )
    if found.unreadable:
        yield f"no models, and ignored by workers: the records {', '.join(found.unreadable[:10])}"


def _tell(result: dict[str, Any]) -> None:
    """One cut, for a person."""
    at, lead = str(result["threshold"]), result["lead"]
    shops = ", ".join(f"{count} {basis}" for basis, count in result["shops"].items() if count)
    click.echo(
        f"{result['cut']}, next {result['within_days']} days: {result['buyers']:,} buyers,"
        f" {result['returned']:.1%} returned; models: {shops}"
    )
    table = _table("", "AUC", "Brier", f"P<{at}", "precision", "recall")
    for name, scored in result["predictors"].items():
        flags = scored["flags"][at]
        shares = (scored["auc"], scored["brier"], flags["precision"], flags["recall"])
        auc, brier, precision, recall = ("-" if share is None else f"{share:.4f}" for share in shares)
        table.add_row(name, auc, brier, f"{flags['flagged']:,}", precision, recall)
    _print(table)
    bins = (f"{b['said']:.2f}→{b['returned']:.2f}" for b in result["predictors"]["ebbtide"]["reliability"])
    click.echo("  said→returned  " + "  ".join(bins))
    rule = f"  after {lead['rule_days']} days of silence"
    if "why_not" in lead:
        click.echo(f"{rule}: not compared, {lead['why_not']}\n")
        return
    click.echo(f"{rule}: {lead['rule_flags']:,} flagged, precision {lead['rule_precision']:.4f}")
    for name, which in (("equal_precision", "as precise"), ("default", "as configured")):
        told_of = lead[name]
        if told_of is None:
            click.echo(f"  {which}: no threshold is")
        elif told_of["lead"] is not None and told_of["precision"] is not None:
            click.echo(
                f"  {which}, at {told_of['threshold']}: {told_of['flags']:,} flagged, precision"
                f" {told_of['precision']:.4f}, {told_of['lead']} days earlier in the median"
            )
    click.echo()


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, padding=(0, 2), highlight=False)


def _print(table: Table) -> None:
    # Into a pipe, nothing is cut to the width of a screen that is not there.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def _parameters(found: ShopModel) -> tuple[str, str]:
    values = msgspec.to_builtins(found.lapse)
    name = str(values.pop("type"))
    return name, " ".join(f"{key} {value:.4f}" for key, value in values.items())


def _calibration(found: ShopModel) -> str:
    back = found.comeback
    if back is None:
        return "not calibrated"
    return f"{back.within:.0f}d: {back.intercept:+.3f} {back.slope:+.3f} {back.loyalty:+.3f}"


def _points(cuts: Cuts | None) -> str:
    if cuts is None:
        return "none"
    lines = [f"R {_fifths(cuts.recency, 1)}", f"F {_fifths(cuts.frequency, 1)}"]
    for letter, by_currency in (("M", cuts.monetary), ("price", cuts.unit_price)):
        lines += [f"{letter} {name} {_fifths(p, MONEY_SCALE)}" for name, p in sorted(by_currency.items())]
    return "\n".join(lines)


def _fifths(points: Iterable[int], scale: int) -> str:
    return " ".join(f"{point / scale:.{0 if scale == 1 else 2}f}" for point in points)


def _age_s(found: ShopModel, now: int) -> int | None:
    return None if found.fitted_at is None else max(0, now - found.fitted_at) // 1000


def _age(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

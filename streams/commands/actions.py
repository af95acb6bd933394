"""``ebbtide actions``: what acting on the actions topic brings, measured against the customers left alone."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import click

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.queries import question
from streams.commands import options, show
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.domain.facts import ActionKind
from streams.domain.lift import Group, Lift, lift
from streams.domain.policy import SECOND
from streams.settings import Settings, SettingsError, duration_ms

_HEAD: Final = (
    "shop",
    "kind",
    "treated",
    "bought",
    "holdout",
    "bought",
    "lift",
    "95 % interval",
    "p",
    "waiting",
)


class Measured(NamedTuple):
    """One shop and kind: both groups, what they differ by if both are there, and who is still waited for."""

    shop_id: str
    kind: str
    treated: Group
    holdout: Group
    waiting: int
    lift: Lift | None

    def as_json(self) -> dict[str, Any]:
        """One JSON object; what cannot be said yet is null."""
        found = self.lift
        return {
            "shop_id": self.shop_id,
            "kind": self.kind,
            "treated": {**self.treated._asdict(), "rate": self.treated.rate},
            "holdout": {**self.holdout._asdict(), "rate": self.holdout.rate},
            "waiting": self.waiting,
            "lift": None if found is None else found._asdict(),
        }

    def cells(self) -> tuple[str, ...]:
        """One row for a person."""
        found, wait = self.lift, f"{self.waiting:,}"
        groups = (
            f"{self.treated.customers:,}",
            _rate(self.treated),
            f"{self.holdout.customers:,}",
            _rate(self.holdout),
        )
        if found is None:
            return (self.shop_id, self.kind, *groups, "", "", "", wait)
        interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        p = "<0.0001" if found.p_value < 0.0001 else f"{found.p_value:.4f}"
        return (self.shop_id, self.kind, *groups, f"{100 * found.difference:+.1f} pp", interval, p, wait)


def _rate(group: Group) -> str:
    return "" if group.rate is None else f"{group.rate:.1%}"


def _span(_context: click.Context, _option: click.Parameter, text: str) -> int:
    try:
        seconds = duration_ms(text) // SECOND
    except SettingsError as exc:
        raise click.BadParameter(str(exc)) from exc
    if not 0 < seconds < 1 << 32:
        raise click.BadParameter(f"{text!r} must be at least a second, and less than a century")
    return seconds


@click.group(epilog=options.epilog("ebbtide actions lift"))
def actions() -> None:
    """What acting on due actions brings."""


@actions.command(
    "lift",
    epilog=options.epilog(
        "ebbtide actions lift",
        "ebbtide actions lift --shop shop-42 --kind win_back --within 60d",
        "ebbtide actions lift --since 2026-01-01 --json",
    ),
)
@click.option("--shop", default="", metavar="ID", help="One shop; all if not given.")
@click.option("--kind", type=click.Choice(get_args(ActionKind)), help="One kind; all if not given.")
@click.option(
    "--within",
    "within_s",
    default="30d",
    show_default=True,
    metavar="DURATION",
    callback=_span,
    help="How long after an action became due an order counts.",
)
@click.option(
    "--since",
    default="1970-01-01",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="Look at actions from that day (UTC) on.",
)
@options.clickhouse
@options.data_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@told
def lift_command(
    shop: str,
    kind: str | None,
    within_s: int,
    since: datetime,
    data_dir: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """How much more often customers buy who were acted on than those of the holdout, by shop and kind.

    A customer counts once per kind, with their first action, and once its time is over by the watermark;
    the others are waiting. The difference is in percentage points, with Newcombe's 95 % confidence interval.
    It says what acting brings only if everybody outside of the holdout was acted on.
    """
    values = {"shop": shop, "kind": kind or "", "within_s": str(within_s), "asked_since": f"{since:%Y-%m-%d}"}
    settings = Settings.from_env(**given)
    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url)) as client,
        explained(Endpoint.parse(url), "measuring the lift"),
    ):
        rows = list(question("action_outcomes").ask(client, values).named_results())
    found = [_measured(row) for row in rows]
    if as_json:
        for one in found:
            click.echo(json.dumps(one.as_json(), ensure_ascii=False))
    elif found:
        show.table(_HEAD, [one.cells() for one in found])
    else:
        click.echo("no action has been due")


def _measured(row: dict[str, Any]) -> Measured:
    treated = Group(row["treated"], row["treated_bought"])
    holdout = Group(row["holdout"], row["holdout_bought"])
    return Measured(row["shop_id"], row["kind"], treated, holdout, row["waiting"], lift(treated, holdout))

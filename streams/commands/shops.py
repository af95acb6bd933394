"""``ebbtide shops``: tell the pipeline of each shop's name, zone and currency, and see what it was told."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from schemas.losses import ShopFact
from streams.adapters.kafka.shops import publish_shops, published_shops
from streams.commands import options, show
from streams.commands.errors import told
from streams.settings import Settings


@click.group(epilog=options.epilog("ebbtide shops publish shops.yaml", "ebbtide shops list"))
def shops() -> None:
    """Shops' names, calendars and currencies."""


@shops.command(
    epilog=options.epilog(
        "ebbtide shops publish shops.yaml", "ebbtide shops publish shops.yaml --kafka broker:9092"
    )
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@options.kafka
@options.prefix
@told
def publish(file: Path, **given: Any) -> None:
    """Tell all workers, and ClickHouse, what FILE says of its shops.

    FILE is YAML: a list `shops` of entries with shop_id, name, zone (IANA) and, if it is to report in one,
    currency (ISO 4217). Shops that it does not name stay as they are, and so do days that were told already.
    """
    from streams.adapters.shops_file import ShopsFileError, read_shops

    try:
        entries = read_shops(file)
    except ShopsFileError as exc:
        raise click.ClickException(str(exc)) from exc
    settings = Settings.from_env(**given)
    known = published_shops(settings)
    # Nobody takes a record that a clock put back makes older.
    version = max(time.time_ns() // 1_000_000, known.newest + 1)
    changed: list[ShopFact] = []
    for entry in entries:
        shop = ShopFact(**entry.model_dump(), version=version)
        had = known.in_force.get(shop.shop_id)
        if had is not None and _said(had) == _said(shop) and shop.shop_id not in known.behind:
            continue
        if had is not None and had.zone != shop.zone:
            moved = f"{shop.shop_id} moves from {had.zone} to {shop.zone}"
            click.echo(f"note: {moved}; days that were told already stay as they are", err=True)
        changed.append(shop)
    same = len(entries) - len(changed)
    if not changed:
        click.echo(f"{same:,} shop(s): nothing has changed")
        return
    partitions = publish_shops(settings, changed)
    click.echo(
        f"{len(changed):,} shop(s) published to all {partitions} partitions, version {version}"
        + (f"; {same:,} as they were" if same else "")
    )


@shops.command("list", epilog=options.epilog("ebbtide shops list", "ebbtide shops list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.kafka
@options.prefix
@told
def list_command(as_json: bool, **given: Any) -> None:
    """Print what is in force of each shop; exit 1 if partitions disagree about one."""
    found = published_shops(Settings.from_env(**given))
    problems = [
        f"shop {name!r}: partitions {', '.join(map(str, partitions))} lack what is in force; publish it again"
        for name, partitions in found.behind.items()
    ]
    problems += [f"record {place} is no shop" for place in found.unreadable]
    if as_json:
        listed = [shop.model_dump() for shop in found.in_force.values()]
        click.echo(json.dumps({"shops": listed, "problems": problems}, ensure_ascii=False))
        sys.exit(1 if problems else 0)
    if found.in_force:
        show.table(
            ("shop", "name", "zone", "currency", "published"),
            [
                (shop.shop_id, shop.name, shop.zone, shop.currency or "", _moment(shop.version))
                for shop in found.in_force.values()
            ],
        )
    else:
        click.echo(
            "nothing is published of any shop, so all are in EBBTIDE_ZONE; ebbtide shops publish tells it"
        )
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


def _said(shop: ShopFact) -> dict[str, Any]:
    return shop.model_dump(exclude={"version"})


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"

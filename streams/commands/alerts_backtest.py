"""``ebbtide alerts backtest``: which alerts there would have been on a series from a file."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import pyarrow.parquet as pq
from rich.console import Console

from streams.commands import options, show
from streams.domain.alert_backtest import Alarm, Row, backtest, of_values, score
from streams.domain.policy import DAY, MINUTE, SECOND
from streams.domain.spike import SpikeRule

_COUNTS: Final = ("closed", "lost", "carts", "orders")
_SHOWN: Final = ("signal", "began", "fired", "over", "observed", "expected")
_TRUE: Final = frozenset({"1", "1.0", "true", "yes", "t"})
_FALSE: Final = frozenset({"", "0", "0.0", "false", "no", "f", "none", "nan"})
#: From here on a number is of milliseconds, below it of seconds.
_MILLISECONDS: Final = 100_000_000_000


@click.command(
    epilog=options.epilog(
        "ebbtide alerts backtest minutes.csv",
        "ebbtide alerts backtest cpu.csv --value value --label label --learn-days 3 --format json",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--time", "time_name", default="timestamp", show_default=True, metavar="NAME", help="Its column."
)
@click.option("--value", metavar="NAME", help="Judge this column alone; else closed, lost[, carts, orders].")
@click.option("--label", metavar="NAME", help="The column that says what is an anomaly, to score against.")
@click.option("--zone", default="UTC", show_default=True, help="Whose week it is.")
@click.option(
    "--learn-days", type=click.FloatRange(0), default=7, show_default=True, help="Judge after these."
)
@click.option(
    "--false-alarms", type=click.FloatRange(0.001), default=1, show_default=True, help="In four weeks."
)
@click.option(
    "--min-change", type=click.FloatRange(0), default=0.15, show_default=True, help="A part of the rate."
)
@click.option("--format", "output", default="table", type=click.Choice(["table", "csv", "json"]))
def alerts_backtest(
    file: Path,
    time_name: str,
    value: str | None,
    label: str | None,
    zone: str,
    learn_days: float,
    false_alarms: float,
    min_change: float,
    output: str,
) -> None:
    """Judge the series in FILE (CSV, JSON lines or Parquet) as if it had been watched.

    Times are ISO 8601, or seconds or milliseconds since 1970; without an offset they are in the zone.
    Rows may come in any order; a time may not come twice. Nothing is judged in the first --learn-days;
    --false-alarms are allowed in four weeks; --min-change is a part of what is usual.
    """
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise click.BadParameter(f"{zone!r} is no time zone", param_hint="--zone") from None
    read = sorted(_read(file, time_name, value, label, where), key=lambda each: each[0])
    if not read:
        raise click.ClickException(f"{file} has no rows")
    for (before, *_), (at, *_) in pairwise(read):
        if at // MINUTE == before // MINUTE:
            raise click.ClickException(f"{file}: {_shown(at)} is there twice; a minute has one row")
    try:
        rows = of_values([(at, counts[0]) for at, counts, _ in read]) if value else _rows(read)
    except ValueError as exc:
        raise click.ClickException(f"{file}: {exc}") from None
    rule = SpikeRule(false_alarms=false_alarms, min_change=min_change)
    with Console(stderr=True).status(f"judging {len(rows):,} rows"):
        alarms = backtest(rows, zone, rule, learn_days)
    _print(alarms, output)
    if label:
        since = rows[0].at + int(learn_days * DAY)
        found = score(alarms, [(at, flag) for at, _, flag in read], since)
        delay = None if found.delay is None else round(found.delay / MINUTE, 1)
        told = {"precision": found.precision, "recall": found.recall, "delay_min": delay}
        click.echo(json.dumps(told) if output == "json" else _line(told), err=output == "csv")


def _line(told: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {'–' if value is None else f'{value:.3g}'}" for name, value in told.items())


def _read(
    file: Path, time_name: str, value: str | None, label: str | None, zone: ZoneInfo
) -> Iterator[tuple[int, list[float], bool]]:
    """(ms, counts or the value, label) of each row; ClickException names the row that is wrong."""
    names = (value,) if value else _COUNTS
    for number, row in enumerate(_raw(file), 1):
        place = f"{file}: row {number}"
        for name in (time_name, *((value,) if value else _COUNTS[:2]), *((label,) if label else ())):
            if name not in row:
                raise click.ClickException(f"{place} has no {name!r}; it has {', '.join(map(str, row))}")
        counts = [_number(row.get(name, 0), f"{place}: {name}") for name in names]
        yield _time(row[time_name], place, zone), counts, bool(label) and _flag(row[label or ""], place)


def _raw(file: Path) -> Iterator[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            yield from pq.read_table(file).to_pylist()
        elif file.suffix in (".jsonl", ".ndjson", ".json"):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if line.strip():
                    found = json.loads(line)
                    if not isinstance(found, dict):
                        raise ValueError(f"line {number} is no object")
                    yield found
        else:
            with file.open(newline="") as lines:
                yield from csv.DictReader(lines)
    except (OSError, ValueError, csv.Error) as exc:
        raise click.ClickException(f"{file} cannot be read: {exc}") from None


def _time(value: Any, place: str, zone: ZoneInfo) -> int:
    if isinstance(value, datetime):
        found = value
    else:
        try:
            number = float(value)
        except (TypeError, ValueError):
            try:
                found = datetime.fromisoformat(str(value))
            except ValueError:
                raise click.ClickException(f"{place}: {value!r} is no time") from None
        else:
            if not math.isfinite(number):
                raise click.ClickException(f"{place}: {value!r} is no time")
            return int(number if abs(number) >= _MILLISECONDS else number * SECOND)
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone)
    return int(found.timestamp() * SECOND)


def _number(value: Any, place: str) -> float:
    try:
        number = float(value if value not in (None, "") else "nan")
    except (TypeError, ValueError):
        raise click.ClickException(f"{place} is {value!r}, no number") from None
    if not math.isfinite(number):
        raise click.ClickException(f"{place} is {value!r}; leave out rows without a number")
    return number


def _flag(value: Any, place: str) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise click.ClickException(f"{place}: the label {value!r} is neither 0 nor 1")
    return text in _TRUE


def _rows(read: list[tuple[int, list[float], bool]]) -> list[Row]:
    rows = []
    for at, counts, _ in read:
        if any(count < 0 or not count.is_integer() for count in counts):
            raise ValueError(f"{_shown(at)}: counts must be whole and not below 0")
        closed, lost, carts, orders = (int(count) for count in counts)
        if lost > closed:
            raise ValueError(f"{_shown(at)}: {lost} lost of {closed} closed")
        rows.append(Row(at, closed, lost, carts, orders))
    return rows


def _print(alarms: list[Alarm], output: str) -> None:
    rows = [
        [
            alarm.signal,
            _shown(alarm.began),
            _shown(alarm.fired),
            None if alarm.over is None else _shown(alarm.over),
            round(alarm.observed, 4),
            round(alarm.expected, 4),
        ]
        for alarm in alarms
    ]
    if output == "json":
        for row in rows:
            click.echo(json.dumps(dict(zip(_SHOWN, row, strict=True))))
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([_SHOWN, *(["" if cell is None else cell for cell in row] for row in rows)])
    elif rows:
        show.table(list(_SHOWN), [["" if cell is None else str(cell) for cell in row] for row in rows])
    else:
        click.echo("There would have been none.")


def _shown(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""How results are shown in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.verify import VerifyReport
from streams.commands.demo import Outcome
from streams.commands.report import Report
from streams.sources.replayer import Progress as Advance
from streams.sources.simulation import Truth

#: Outcomes and lost stages beside the labels of the Chinese seller tools.
LABELS = {
    "converted": "成交",
    "bounced": "跳失",
    "browsed": "浏览流失",
    "favorited": "收藏流失",
    "carted": "加购流失",
}
STAGES = {
    "prospect": "潜客",
    "new": "新客",
    "active": "活跃",
    "lapsing": "沉睡预警",
    "lapsed": "流失客户",
    "won_back": "回流",
}


@contextmanager
def progress(doing: str) -> Iterator[tuple[Advance, Any]]:
    """A progress bar on standard error: (advance(sent, share), say(next step))."""
    console = Console(stderr=True)
    sent_so_far = TextColumn("{task.fields[sent]}")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), sent_so_far)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(doing, total=1.0, sent="")

        def advance(sent: int, share: float) -> None:
            doing_now = doing if share < 1 else "working it off"
            bar.update(task, completed=share, sent=f"{sent:,} events", description=doing_now)

        def say(step: str) -> None:
            console.print(f"{step} …", style="dim")

        yield advance, say


def demo(console: Console, outcome: Outcome, truth: Truth | None, wrong: list[str]) -> None:
    """The demo's report, for a person."""
    report = outcome.report
    events = report.events
    console.print(
        f"\n[bold]{events['in']:,} events[/] in {outcome.elapsed_s:.1f} s: {events['applied']:,} applied,"
        f" {events['duplicate']:,} duplicate, {events['late']:,} late, {events['rejected']:,} rejected"
    )
    table = Table(box=None, padding=(0, 2))
    for name, justify in (("sessions 访问", "left"), ("", "left"), ("count", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    total = report.sessions["total"]
    for name, label in LABELS.items():
        count = report.sessions[name]
        kind = name if name == "converted" else f"lost, {name}"
        table.add_row(kind, label, f"{count:,}", f"{count / total:.1%}" if total else "")
    table.add_row("total", "", f"{total:,}", "")
    console.print(table)
    console.print(f"buyers {report.buyers:,}; lost, then recovered 挽回 {report.recovered:,}")
    for name, money in (("value at risk 流失风险金额", report.value_at_risk), ("revenue", report.revenue)):
        if money:
            amounts = ", ".join(f"{amount} {currency}" for currency, amount in money.items())
            console.print(f"{name}: {amounts}")
    if report.rfm["buyers"]:
        _lifecycle(console, report)
    verified(console, outcome.verified)
    if truth is not None and not wrong:
        console.print("planted truth of the simulation: [green]every figure found[/]")
    for sentence in wrong:
        console.print(f"planted truth: [red]{sentence}[/]")


def _lifecycle(console: Console, report: Report) -> None:
    """Where customers stand, and how their purchases lie."""
    table = Table(box=None, padding=(0, 2))
    for name, justify in (
        ("lifecycle 生命周期", "left"),
        ("", "left"),
        ("count", "right"),
        ("share", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    total = sum(report.lifecycle.values())
    for stage, count in report.lifecycle.items():
        table.add_row(stage, STAGES[stage], f"{count:,}", f"{count / total:.1%}" if total else "")
    console.print(table)
    rfm = report.rfm
    console.print(
        f"{rfm['buyers']:,} customers of a shop have ordered, {rfm['repeaters']:,} again,"
        f" {rfm['repeat_purchases']:,} times;"
        f" no order for over 90 days {rfm['over_90_days']:,}, for over 180 {rfm['over_180_days']:,}"
        + ("" if rfm["churn_rate"] is None else f"; churn 流失率 {rfm['churn_rate']:.1%}")
    )


def verified(console: Console, found: VerifyReport) -> None:
    """What the comparison with batch SQL gave, a line a table."""
    for name, table in found.tables.items():
        wrong = table.missing or table.extra or table.different
        colour = "red" if wrong or found.leaks else "green"
        console.print(
            f"batch SQL over the raw events: [{colour}]{table.rows:,} {name}, {table.missing} missing,"
            f" {table.extra} extra, {table.different} different[/]"
            + (f" ({table.open:,} not judged)" if table.open else "")
        )
    for leak in found.leaks:
        console.print(f"  [red]{leak}[/]")
    for sample in found.samples:
        console.print(f"  {sample}", highlight=False)


def query(url: str, text: str, output: str) -> None:
    """Ask and print: a table, JSON lines, or tab-separated values."""
    with explained(Endpoint.parse(url), "asking"):
        client = connect(url)
        try:
            result = client.query(text)
        finally:
            client.close()
    rows = result.result_rows
    if output == "json":
        for row in rows:
            named = dict(zip(result.column_names, row, strict=True))
            click.echo(json.dumps(named, default=str, ensure_ascii=False))
    elif output == "tsv":
        for row in rows:
            click.echo("\t".join(str(cell) for cell in row))
    else:
        table(result.column_names, rows)


def table(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Rows under their columns' names."""
    shown = Table(*names, box=None, padding=(0, 2))
    for row in rows:
        # Text as it is: what a user put into an id is no markup.
        shown.add_row(*(Text(str(cell)) for cell in row))
    # Into a pipe, nothing is cut to the width of a screen that is not there.
    Console(width=None if sys.stdout.isatty() else 10_000).print(shown)

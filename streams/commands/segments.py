"""``ebbtide segments``: check and publish rules, see what is in force and how far it has come."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.kafka.rules import publish_rules, published_rules
from streams.adapters.segment_runs import RunState, member_counts, run_state
from streams.adapters.segments import SegmentsError, read_file, write_text
from streams.commands import options, show
from streams.commands.errors import told
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import RuleSet, text
from streams.settings import Settings

_LOOK_S: Final = 0.25

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(
    epilog=options.epilog(
        "ebbtide segments list --yaml > segments.yaml",
        "ebbtide segments check segments.yaml",
        "ebbtide segments publish segments.yaml --wait",
        "ebbtide segments status",
    )
)
def segments() -> None:
    """Who belongs together, by rules over profiles, recent activity and silence."""


@segments.command(epilog=options.epilog("ebbtide segments check segments.yaml"))
@_file
@told
def check(file: Path) -> None:
    """Say what is wrong with FILE, all of it; exit 1 if anything is."""
    rules = _read(file, 0)
    click.echo(f"{file}: {len(rules.segments)} segment(s), nothing is wrong")


@segments.command(
    epilog=options.epilog(
        "ebbtide segments publish segments.yaml",
        "ebbtide segments publish segments.yaml --wait",
        "ebbtide segments publish --ready-made",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--ready-made", is_flag=True, help="The segments that come with Ebbtide, in place of a file.")
@click.option("--wait", is_flag=True, help="Until everyone has been looked at by the new rules.")
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds to wait, at most.")
@options.kafka
@options.clickhouse
@options.prefix
@told
def publish(file: Path | None, ready_made: bool, wait: bool, timeout: float, **given: Any) -> None:
    """Put the segments of FILE into force, in place of all others.

    Every worker then looks at everyone once, EBBTIDE_SEGMENTS_PER_BATCH customers a batch, beside its events.
    Segments that are there no more are left by tombstones.
    """
    if (file is None) is not ready_made:
        raise click.UsageError("name a FILE, or --ready-made")
    rules = READY_MADE.rule_set if file is None else _read(file, 0)
    settings = Settings.from_env(**given)
    # In seconds it stays small in every state. Nobody takes rules that a clock put back makes older.
    version = max(int(time.time()), published_rules(settings).newest + 1)
    partitions = publish_rules(settings, RuleSet(version, rules.segments))
    published = f"{len(rules.segments)} segment(s) published to all {partitions} partitions"
    click.echo(f"{published}, version {version}")
    if wait:
        with (
            closing(connect(settings.clickhouse)) as client,
            explained(_endpoint(settings), "reading the run"),
        ):
            ended = _wait(client, version, partitions, timeout)
        click.echo(_line(ended))
        if not ended.finished:
            raise click.ClickException(f"not everyone has been looked at after {timeout:.0f} s")


@segments.command(
    "list",
    epilog=options.epilog(
        "ebbtide segments list", "ebbtide segments list --ready-made --yaml > segments.yaml"
    ),
)
@click.option("--yaml", "as_yaml", is_flag=True, help="Print a file that publish takes.")
@click.option("--ready-made", is_flag=True, help="Those that come with Ebbtide, whatever is in force.")
@_json
@options.kafka
@options.prefix
@told
def list_command(as_yaml: bool, ready_made: bool, as_json: bool, **given: Any) -> None:
    """Print the segments in force; exit 1 if a publication was cut and partitions disagree."""
    rules: RuleSet = READY_MADE.rule_set
    problems: list[str] = []
    if not ready_made:
        rules, problems = _in_force(Settings.from_env(**given))
    if as_yaml:
        click.echo(write_text(rules), nl=False)
    elif as_json:
        listed = [
            {
                "name": segment.name,
                "description": segment.description,
                "shops": segment.shops,
                "rule": text(segment.rule),
            }
            for segment in rules.segments
        ]
        found = {"version": rules.version, "segments": listed, "problems": problems}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        show.table(
            ("segment", "what", "shops", "rule"),
            [
                (s.name, s.description, ", ".join(s.shops) if s.shops else "all", _shown(text(s.rule)))
                for s in rules.segments
            ],
        )
        click.echo(f"version {rules.version}" if rules.version else "ready-made; none has been published")
    for problem in problems if not as_json else ():
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


@segments.command(epilog=options.epilog("ebbtide segments status", "ebbtide segments status --json"))
@_json
@options.kafka
@options.clickhouse
@options.prefix
@told
def status(as_json: bool, **given: Any) -> None:
    """Print how far the rules in force have come, and how many members each segment has."""
    settings = Settings.from_env(**given)
    rules, problems = _in_force(settings)
    with closing(connect(settings.clickhouse)) as client, explained(_endpoint(settings), "reading the run"):
        run = run_state(client, rules.version, settings.partitions)
        members = member_counts(client)
    if as_json:
        found = {
            "version": rules.version,
            "done": run.done,
            "total": run.total,
            "rate": run.rate,
            "is_finished": run.finished,
            "partitions": {"all": run.partitions, "heard": run.heard, "ended": run.ended},
            "members": {s.name: members.get(s.name, (0, 0))[1] for s in rules.segments},
            "problems": problems,
        }
        click.echo(json.dumps(found))
        sys.exit(1 if problems else 0)
    if run.heard or rules.version:
        with _bar() as bar:
            _draw(bar, bar.add_task(f"version {rules.version}", total=1), run)
        click.echo(_line(run))
    show.table(
        ("segment", "members", "shops"),
        [
            (s.name, f"{members.get(s.name, (0, 0))[1]:,}", f"{members.get(s.name, (0, 0))[0]:,}")
            for s in rules.segments
        ],
    )
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


def _read(file: Path, version: int) -> RuleSet:
    try:
        return read_file(file, version)
    except SegmentsError as exc:
        raise click.ClickException(str(exc)) from exc


def _in_force(settings: Settings) -> tuple[RuleSet, list[str]]:
    found = published_rules(settings)
    problems = [
        f"partitions {', '.join(map(str, partitions))} lack the rules in force; publish them again"
        for partitions in found.behind.values()
    ]
    problems += [f"record {place} holds no rules" for place in found.unreadable]
    return next(iter(found.in_force.values()), READY_MADE.rule_set), problems


def _wait(client: Client, version: int, partitions: int, timeout: float) -> RunState:
    """The run when it has ended, or when the time is over."""
    deadline = time.monotonic() + timeout
    with _bar() as bar:
        task = bar.add_task(f"version {version}", total=1)
        while True:
            run = run_state(client, version, partitions)
            _draw(bar, task, run)
            if run.finished or time.monotonic() > deadline:
                return run
            time.sleep(_LOOK_S)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _draw(bar: Progress, task: Any, run: RunState) -> None:
    share = 1.0 if run.finished else run.done / run.total if run.total else 0.0
    bar.update(task, completed=share)


def _line(run: RunState) -> str:
    rate = "" if run.rate is None else f", {run.rate:,.0f} a second"
    ended = f"{run.ended} of {run.partitions} partitions have ended"
    return f"{run.done:,} of {run.total:,} customers looked at{rate}; {ended}"


def _shown(rule: Any) -> str:
    """A rule on one line."""
    if isinstance(rule, str):
        return rule
    ((key, parts),) = rule.items()
    if key == "not":
        return f"not ({_shown(parts)})"
    word = " and " if key == "all" else " or "
    return word.join(f"({_shown(part)})" if isinstance(part, dict) else part for part in parts)


def _endpoint(settings: Settings) -> Endpoint:
    return Endpoint.parse(settings.clickhouse)

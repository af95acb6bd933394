"""The ``ebbtide`` command. Thin: it reads options, calls what does the work, and prints."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from streams.adapters.clickhouse import connect, migrate
from streams.adapters.kafka.admin import check_topics, create_topics
from streams.adapters.kafka.models import published
from streams.adapters.kafka.rules import published_rules
from streams.adapters.kafka.watchdog import say
from streams.adapters.kafka.worker import WorkerApp, run_worker
from streams.adapters.telemetry import log_as
from streams.adapters.verify import are_rules_published, fitted_shops, verify
from streams.app import ROLES, create_app
from streams.commands import options as given
from streams.commands import show
from streams.commands.actions import actions
from streams.commands.alerts import alerts
from streams.commands.dead_letters import dead_letters
from streams.commands.demo import run_demo
from streams.commands.doctor import doctor
from streams.commands.erase import erase
from streams.commands.errors import TOLD, told
from streams.commands.hooks import hooks
from streams.commands.kept import clickhouse_url
from streams.commands.model import model
from streams.commands.page import page
from streams.commands.query import query
from streams.commands.segments import segments
from streams.commands.shop_report import shop_report
from streams.commands.shops import shops
from streams.commands.up import up
from streams.settings import Settings, SettingsError, duration_ms
from streams.sources.registry import FORMATS, FileSource
from streams.sources.replayer import TickPlan, replay
from streams.sources.simulation import Simulation
from streams.workers import PARENT_FLAG, Workers, end_with_parent

#: How long a worker waits for its topics before it says what is wrong with them.
_TOPICS_S = 10.0

_data = click.option(
    "--data", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The file to replay."
)
_format = click.option("--format", "format_name", type=click.Choice(list(FORMATS)), help="What the file is.")
_shop = click.option("--shop", metavar="ID", help="The shop of a file that names none.")
_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the embedded ClickHouse keeps its data; temporary if not given.",
)


def _horizon(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else duration_ms(text)
    except SettingsError as exc:
        raise click.BadParameter(str(exc)) from exc


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=given.epilog("ebbtide demo"))
@click.version_option(package_name="ebbtide")
def main() -> None:
    """Who is leaving your shop, why, and what you can still do.

    Settings come from EBBTIDE_* variables; options given here win.
    """


@main.command(
    epilog=given.epilog(
        "ebbtide demo",
        "ebbtide demo --data events.csv --format userbehavior --json",
        "ebbtide demo --data shuffled.csv --format userbehavior --horizon 12d --data-dir ./demo-data",
    )
)
@_data
@_format
@_shop
@click.option("--horizon", metavar="DURATION", callback=_horizon, help="How late an event may be, like 12d.")
@_data_dir
@click.option("--seed", default=1, show_default=True, help="Of the simulation, without --data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told
def demo(
    data: Path | None,
    format_name: str | None,
    shop: str | None,
    horizon: int | None,
    data_dir: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run the whole pipeline on this machine: a file, or a simulated marketplace, and what came out."""
    settings = Settings.from_env(partitions=4)
    if horizon is not None:
        settings = settings.with_policy(horizon=horizon)
    source: FileSource | Simulation
    if data is not None:
        if format_name is None:
            raise click.UsageError("--data needs --format: one of " + ", ".join(FORMATS))
        source = FileSource(data, format_name, shop=shop)
    else:
        source = Simulation(seed=seed, policy=settings.policy)
    with show.progress("replaying") as (advance, say):
        outcome = run_demo(source, settings, data_dir, advance, say)
    truth = source.truth() if isinstance(source, Simulation) else None
    wrong = outcome.against(truth) if truth is not None else []
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
    else:
        show.demo(Console(), outcome, truth, wrong)
    if wrong or not outcome.verified.exact:
        raise click.ClickException("the result is not what it must be" + "".join(f"; {w}" for w in wrong))


@main.command(epilog=given.epilog("ebbtide worker --agents customers,sink", "ebbtide worker --agents sink"))
@click.option("--agents", default=",".join(ROLES), show_default=True, help="Which agents, by comma.")
@given.kafka
@given.clickhouse
@given.prefix
@click.option(PARENT_FLAG, "with_parent", is_flag=True, hidden=True)
@told
def worker(agents: str, with_parent: bool, **options: Any) -> None:
    """Run agents until stopped; each in its own process and consumer group, so each scales alone."""
    settings = Settings.from_env(**options)
    roles = list(dict.fromkeys(name.strip() for name in agents.split(",") if name.strip()))
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise click.UsageError(f"--agents takes some of {', '.join(ROLES)}, not {agents!r}")
    if len(roles) == 1:
        if with_parent:
            end_with_parent()
        try:
            app = _app_with_topics(settings, roles[0])
        except (click.ClickException, *TOLD) as exc:
            if settings.log_format == "text":
                raise
            # Whoever reads the log as JSON reads this there, too.
            log_as(settings, roles[0])
            say(str(exc))
            sys.exit(1)
        sys.exit(run_worker(app))
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with Workers(settings, roles) as workers:
        workers.wait(lambda: stopped)


def _app_with_topics(settings: Settings, role: str) -> WorkerApp:
    """The app of ``role`` once its topics are there; ClickException if they do not come to be."""
    # A broker may not have heard yet of topics that another one has just made.
    deadline = time.monotonic() + _TOPICS_S
    while (problems := check_topics(settings)) and time.monotonic() < deadline:
        time.sleep(0.5)
    if problems:
        raise click.ClickException(f"{problems[0]}; `ebbtide topics create` makes what is missing")
    return create_app(settings, role)


@main.command(
    "replay", epilog=given.epilog("ebbtide replay --data log.jsonl --format jsonl --kafka broker:9092")
)
@_data
@_format
@_shop
@given.kafka
@given.prefix
@click.option("--rate", type=float, help="Records a second, at most.")
@click.option("--ticks/--no-ticks", default=False, help="Send ticks of the data's own time.")
@told
def replay_command(
    data: Path | None,
    format_name: str | None,
    shop: str | None,
    rate: float | None,
    ticks: bool,
    **options: Any,
) -> None:
    """Send a file's events to any Kafka."""
    if data is None or format_name is None:
        raise click.UsageError("replay needs --data FILE and --format " + "|".join(FORMATS))
    settings = Settings.from_env(**options)
    plan = TickPlan() if ticks else None
    with show.progress("replaying") as (advance, _):
        source = FileSource(data, format_name, shop=shop)
        sent = asyncio.run(replay(source, settings, ticks=plan, progress=advance, rate=rate))
    parts = ", ".join(f"{count:,} {topic}" for topic, count in sent.sent.items())
    click.echo(f"sent {sent.total:,} records ({parts}) in {sent.seconds:.1f} s")


@main.command(
    "migrate", epilog=given.epilog("ebbtide migrate --clickhouse http://default@127.0.0.1:8123/ebbtide")
)
@given.clickhouse
@told
def migrate_command(**options: Any) -> None:
    """Bring ClickHouse to this release's schema; safe to run again."""
    applied = migrate(Settings.from_env(**options).clickhouse)
    click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


@main.command(
    epilog=given.epilog('ebbtide sql "SELECT outcome, count() FROM sessions FINAL GROUP BY outcome"')
)
@click.argument("query")
@given.clickhouse
@given.data_dir
@click.option("--format", "output", default="table", type=click.Choice(["table", "json", "tsv"]))
@told
def sql(query: str, data_dir: Path | None, output: str, **options: Any) -> None:
    """Ask ClickHouse, or the data that a demo kept in DIR."""
    with clickhouse_url(Settings.from_env(**options), data_dir) as url:
        show.query(url, query, output)


@main.command("verify", epilog=given.epilog("ebbtide verify", "ebbtide verify --data-dir ./demo-data"))
@given.kafka
@given.clickhouse
@given.prefix
@given.data_dir
@told
def verify_command(data_dir: Path | None, **options: Any) -> None:
    """Compute again, by batch SQL over the raw events, what was told, and compare.

    Sessions, profiles, transitions and memberships of segments, purchases, item-days, leaks and reasons.
    """
    settings = Settings.from_env(**options)
    with clickhouse_url(settings, data_dir) as url, closing(connect(url)) as client:
        # Parameters and rules are on the broker only; what a demo keeps has none.
        models = published(settings).in_force if data_dir is None and fitted_shops(client) else {}
        asked = data_dir is None and are_rules_published(client)
        rules = next(iter(published_rules(settings).in_force.values()), None) if asked else None
        found = verify(client, settings.policy, models=models, segments=rules)
    show.verified(Console(), found)
    sys.exit(0 if found.exact else 1)


@main.group(epilog=given.epilog("ebbtide topics create", "ebbtide topics check"))
def topics() -> None:
    """The topics of the pipeline."""


@topics.command(epilog=given.epilog("ebbtide topics create --kafka broker:9092"))
@given.kafka
@given.prefix
@told
def create(**options: Any) -> None:
    """Create the topics that are missing."""
    made = create_topics(Settings.from_env(**options))
    click.echo("\n".join(f"created {name}" for name in made) or "every topic is there")


@topics.command(epilog=given.epilog("ebbtide topics check --kafka broker:9092"))
@given.kafka
@given.prefix
@told
def check(**options: Any) -> None:
    """Say what is wrong with the topics; exit 1 if anything is."""
    settings = Settings.from_env(**options)
    problems = check_topics(settings)
    click.echo("\n".join(problems) or "every topic is as it must be")
    sys.exit(1 if problems else 0)


main.add_command(actions)
main.add_command(alerts)
main.add_command(dead_letters)
main.add_command(doctor)
main.add_command(erase)
main.add_command(hooks)
main.add_command(query)
main.add_command(model)
main.add_command(page)
main.add_command(shop_report)
main.add_command(shops)
main.add_command(segments)
main.add_command(up)

if __name__ == "__main__":
    main()

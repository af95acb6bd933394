"""``ebbtide up``: everything on this machine, kept running: broker, ClickHouse, workers, page, and a stream.

A worker or ClickHouse that ends is started again, and what happened is said: the log holds what is to be
read, and every table replaces by identity, so nothing is lost or counted twice. The embedded broker is
memory only, so its end is the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import click

from streams.adapters.clickhouse import migrate
from streams.adapters.kafka.admin import create_topics
from streams.commands import options
from streams.commands.errors import TOLD, told
from streams.embedded.process import HOST, ServerProcess, StackError, how_ended
from streams.embedded.stack import EmbeddedStack
from streams.settings import Settings
from streams.sources.record import SourceRecord
from streams.sources.registry import FORMATS, FileSource
from streams.sources.replayer import Pace, Progress, ReplayReport, Source, TickPlan, replay
from streams.sources.simulation import Simulation
from streams.workers import Workers

_ROLES: Final = ("customers", "sink", "shops")
_DAY_MS: Final = 86_400_000
_POLL_S: Final = 0.2
#: Days that a simulation goes on after it has caught up with the clock; by its end it thins out.
_DAYS_AHEAD: Final = 2
#: Ends of one part within this time, after which it is not started again.
_MOST_ENDS: Final = 5
_ENDS_WITHIN_S: Final = 60.0
_PARTITIONS: Final = 4
_TICK_EVERY: Final = 5_000
_PAGE_DEADLINE_S: Final = 60.0
#: The embedded broker lets a worker into its group after half of this.
_SESSION_TIMEOUT_S: Final = 15.0
_STREAM_STOP_S: Final = 10.0


@dataclass
class Watch:
    """Starts again what has ended, says so, and gives up on what ends again and again."""

    say: Callable[[str], None]
    _ends: dict[str, deque[float]] = field(default_factory=dict)

    def look(self, name: str, how: str | None, start: Callable[[], None], log: Path) -> None:
        """``how`` it ended, None if it has not. StackError if it has too often."""
        if how is None:
            return
        ends = self._ends.setdefault(name, deque(maxlen=_MOST_ENDS))
        ends.append(time.monotonic())
        if len(ends) == _MOST_ENDS and ends[-1] - ends[0] < _ENDS_WITHIN_S:
            raise StackError(f"{name} ended {_MOST_ENDS} times within a minute ({how}); its log is {log}")
        self.say(f"{name} ended ({how}); starting it again")
        started = time.monotonic()
        start()
        self.say(f"{name} is started again, after {time.monotonic() - started:.1f} s")


class _Stream(threading.Thread):
    """The replay beside the watch: its end, and what was wrong with it, are to be looked at."""

    def __init__(
        self,
        source: Source | Iterable[SourceRecord],
        settings: Settings,
        pace: Pace | None,
        progress: Progress,
    ) -> None:
        super().__init__(name="stream", daemon=True)
        self._arguments = (source, settings, pace, progress)
        self._loop = asyncio.new_event_loop()
        self._replay: asyncio.Task[ReplayReport] | None = None
        self.sent = 0
        self.wrong: Exception | None = None

    def run(self) -> None:
        source, settings, pace, progress = self._arguments
        plan = TickPlan(every=_TICK_EVERY)
        with closing(self._loop) as loop:
            self._replay = loop.create_task(
                replay(source, settings, ticks=plan, progress=progress, pace=pace)
            )
            try:
                self.sent = loop.run_until_complete(self._replay).total
            except TOLD as exc:
                self.wrong = exc
            except asyncio.CancelledError:
                pass

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self.is_alive() and self._replay is not None:
            self._loop.call_soon_threadsafe(self._replay.cancel)
            self.join(_STREAM_STOP_S)


def _page(url: str, log: Path) -> ServerProcess:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "streams.cli", "page", "--port", str(port), "--clickhouse", url]

    def healthy(port: int, _pid: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ServerProcess("the page", command, healthy, log, deadline_s=_PAGE_DEADLINE_S)


@click.command(
    epilog=options.epilog(
        "ebbtide up",
        "ebbtide up --speed 600 --port 8080",
        "ebbtide up --data events.csv --format userbehavior --data-dir ./up-data",
    )
)
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file, not a simulation.",
)
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), help="What the file is.")
@click.option("--shop", metavar="ID", help="The shop of a file that names none.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Of the page.")
@click.option("--seed", default=1, show_default=True, help="Of the simulation.")
@click.option("--days", default=14, show_default=True, type=click.IntRange(1, 366), help="Of the simulation.")
@click.option(
    "--speed",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.1, 100_000),
    help="How many times as fast as ours the clock of the last day goes, until it is now.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the embedded ClickHouse keeps its data; temporary if not given.",
)
@told
def up(
    data: Path | None,
    format_name: str | None,
    shop: str | None,
    port: int,
    seed: int,
    days: int,
    speed: float,
    data_dir: Path | None,
) -> None:
    """Run everything on this machine, with the page, until Ctrl-C: a simulated marketplace, or a file.

    What ends meanwhile is started again, and said.
    """
    settings = Settings.from_env(partitions=_PARTITIONS, ticks="off")
    pace = None
    source: FileSource | Simulation
    if data is not None:
        if format_name is None:
            raise click.UsageError("--data needs --format: one of " + ", ".join(FORMATS))
        source = FileSource(data, format_name, shop=shop)
    else:
        _say("simulating a marketplace")
        now = int(time.time()) // 60 * 60_000
        ahead = _DAYS_AHEAD * _DAY_MS
        source = Simulation(seed=seed, days=days + _DAYS_AHEAD, end=now + ahead, policy=settings.policy)
        pace = Pace(now - _DAY_MS, speed)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _run(source, settings, pace, port, data_dir, stopped)


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


def _run(
    source: FileSource | Simulation,
    settings: Settings,
    pace: Pace | None,
    port: int,
    data_dir: Path | None,
    stopped: threading.Event,
) -> None:
    _say("starting the embedded broker and ClickHouse")
    with EmbeddedStack(data_dir, settings.bi_password) as stack:
        settings = Settings.from_env(
            settings.to_env(),
            kafka=stack.kafka,
            clickhouse=stack.clickhouse,
            session_timeout_s=_SESSION_TIMEOUT_S,
        )
        database, broker, logs = stack.database.process, stack.broker.process, stack.directory
        migrate(settings.clickhouse)
        create_topics(settings)
        _say(f"BI tools: ClickHouse over HTTP on {HOST}:{database.port}, database ebbtide, user bi")
        page = _page(stack.reader, logs / "page.log")
        stream = _Stream(source, settings, pace, _progress())
        with Workers(settings, _ROLES, logs) as workers:
            try:
                page.spawn(port)
                page.wait_ready(keep_port=True)
                _say(f"the page is http://{HOST}:{port}/ and reads what comes; Ctrl-C ends everything")
                stream.start()
                watch = Watch(_say)
                told_of_stream = False
                while not stopped.wait(_POLL_S):
                    if not broker.running:
                        raise StackError(
                            f"the embedded broker ended, and what it held is gone; its log is in {logs}"
                        )
                    watch.look("ClickHouse", database.end(), database.restart, logs / "clickhouse.log")
                    for role, code in workers.ended().items():
                        watch.look(
                            f"the {role} worker",
                            how_ended(code),
                            partial(workers.start_again, role),
                            logs / f"{role}.log",
                        )
                    watch.look("the page", page.end(), page.restart, logs / "page.log")
                    if not told_of_stream and not stream.is_alive():
                        told_of_stream = True
                        if stream.wrong is not None:
                            raise stream.wrong
                        _say(f"the stream has ended after {stream.sent:,} events; the page stays")
            finally:
                stream.stop()
                page.stop()
        _say("everything is stopped")


def _progress() -> Progress:
    last = 0.0

    def tell(count: int, fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= 5.0:
            last = time.monotonic()
            _say(f"sent {count:,} events, {fraction:.0%} of the stream")

    return tell

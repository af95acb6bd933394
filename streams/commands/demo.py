"""The demo: the whole pipeline on this machine, a data set through it, and what came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from schemas import topics
from streams.adapters.clickhouse import connect, migrate
from streams.adapters.kafka.admin import create_topics, lag
from streams.adapters.rows import TABLES
from streams.adapters.verify import VerifyReport, verify
from streams.commands.report import Report, read_report
from streams.embedded.stack import EmbeddedStack
from streams.settings import Settings
from streams.sources.record import SourceRecord
from streams.sources.replayer import Progress, ReplayReport, Source, TickPlan, replay
from streams.sources.simulation import Truth
from streams.workers import Workers

#: Nothing moves for this long while the demo drains: it gives up, and says where it stood.
DRAIN_DEADLINE_S = 600.0


#: The embedded broker lets a worker into its group after half of this.
SESSION_TIMEOUT_S = 12.0


class DemoError(RuntimeError):
    """The demo did not come through; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo came to."""

    report: Report
    verified: VerifyReport
    elapsed_s: float

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object, with the oracle's findings: over all tables, and of each."""
        found = self.verified
        compared: dict[str, Any] = {
            "missing": found.missing,
            "extra": found.extra,
            "different": found.different,
            **{table: each._asdict() for table, each in found.tables.items()},
        }
        return {**self.report.as_json(self.elapsed_s), "verify": compared}

    def against(self, truth: Truth) -> list[str]:
        """One sentence for each figure that is not as the simulation planned it."""
        report = self.report
        found: dict[str, object] = {
            **{f"events {k}": v for k, v in report.events.items()},
            **{f"sessions {k}": v for k, v in report.sessions.items()},
            "sessions recovered": report.recovered,
            "buyers": report.buyers,
            "value at risk": {c: Decimal(v) for c, v in report.value_at_risk.items()},
            "revenue": {c: Decimal(v) for c, v in report.revenue.items()},
        }
        planned: dict[str, object] = {
            **{f"events {k}": v for k, v in truth.events.items()},
            **{f"sessions {k}": v for k, v in truth.sessions.items()},
            "buyers": truth.buyers,
            "value at risk": truth.value_at_risk,
            "revenue": truth.revenue,
        }
        return [
            f"{name} must be {must} and is {found[name]}"
            for name, must in planned.items()
            if found[name] != must
        ]


class Drain:
    """Whether everything replayed has been worked off and stored; ``watched``: also by the shops agent."""

    def __init__(self, settings: Settings, client: Client, workers: Workers, watched: bool = False) -> None:
        self._settings = settings
        self._client = client
        self._workers = workers
        self._watched = watched

    async def __call__(self, sent: ReplayReport) -> bool:
        return await asyncio.to_thread(self._drained, sent)

    def _drained(self, sent: ReplayReport) -> bool:
        self._workers.check()
        rows = self._client.query(
            "SELECT sum(received), min(toUnixTimestamp64Milli(watermark)), count() FROM ingest FINAL"
        ).result_rows
        received, watermark, counts = rows[0]
        due = -1 if sent.max_event_time is None else sent.max_event_time + self._settings.policy.gap
        if counts < self._settings.partitions * len(topics.INPUTS):
            return False
        if received < sent.total or watermark <= due:
            return False
        if self._watched and not self._is_watched():
            return False
        names = [self._settings.topic(topic.name) for topic in topics.FACTS]
        if self._settings.store_events:
            names += [self._settings.topic(topic.name) for topic in topics.INPUTS]
        return not any(part.records for part in lag(self._settings, self._settings.group("sink"), names))

    def _is_watched(self) -> bool:
        # It goes on by records that it sends itself while there are minutes to judge.
        names = [self._settings.topic(topic.name) for topic in (topics.SHOP_MINUTES, topics.INGEST)]
        return not any(part.records for part in lag(self._settings, self._settings.group("shops"), names))


def run_demo(
    source: Source | Iterable[SourceRecord],
    settings: Settings,
    data_dir: Path | None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Start the embedded stack, replay ``source`` through it, drain, read the report, stop everything.

    What an earlier demo left in ``data_dir`` is replaced. ``say`` is told what happens next.
    Raises StackError, SourceError, ReplayError, WorkerError, StoreError or DemoError: one sentence each.
    """
    say("Starting the embedded broker and ClickHouse")
    with EmbeddedStack(data_dir, settings.bi_password) as stack:
        settings = Settings.from_env(
            settings.to_env(),
            kafka=stack.kafka,
            clickhouse=stack.clickhouse,
            ticks="off",
            session_timeout_s=SESSION_TIMEOUT_S,
        )
        say("Applying migrations, creating topics, starting the customers and sink workers")
        migrate(settings.clickhouse)
        create_topics(settings)
        client = connect(settings.clickhouse)
        try:
            for table in {name for name, _ in TABLES.values()}:
                client.command(f"TRUNCATE TABLE {table}")
            with Workers(settings, ("customers", "sink"), stack.directory) as workers:
                plan = TickPlan(drained=Drain(settings, client, workers), deadline_s=DRAIN_DEADLINE_S)
                started = time.monotonic()
                sent = asyncio.run(replay(source, settings, ticks=plan, progress=progress))
                elapsed_s = time.monotonic() - started
                if not sent.drained:
                    raise DemoError(
                        f"not everything was worked off {DRAIN_DEADLINE_S:g} s after the last of"
                        f" {sent.total} events; the workers' logs are in {stack.directory}"
                    )
                say("Computing the same by batch SQL over the raw events, and comparing")
                verified = verify(client, settings.policy)
            return Outcome(read_report(client, settings.policy.zone), verified, elapsed_s)
        finally:
            client.close()

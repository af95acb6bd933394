"""One deployment under fault: its topics and database, its workers, its feed, and the check at the end."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import clickhouse_connect
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from schemas import topics
from streams.adapters.clickhouse import StoreError, connect, migrate
from streams.adapters.codec import decode_batch, encode_tick
from streams.adapters.kafka.admin import AdminError, check_topics, create_topics, end_offsets, lag
from streams.adapters.kafka.producing import send_records
from streams.adapters.verify import verify
from streams.commands.demo import Outcome
from streams.commands.report import read_report
from streams.settings import Settings
from streams.sources.record import SourceRecord
from streams.sources.replayer import DRAIN_MARGIN_MS, TickPlan, replay
from streams.sources.simulation import Truth
from tests.chaos.autopsy import Autopsy
from tests.chaos.fleet import Fleet
from tests.chaos.nursery import Nursery
from tests.integration.kafka_server import KafkaCluster

DRAIN_S = 150.0
_CHUNK_S = 4.0

#: What the run has come to, for its summary.
REPORT: list[str] = []

#: (topic, partition, offset)
Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Servers:
    """What a deployment runs on; ``cluster`` is None unless Kafka's brokers are ours to kill."""

    kafka: str
    replication: int
    cluster: KafkaCluster | None
    clickhouse: str
    nursery: Nursery


class Feed(threading.Thread):
    """Sends records at ``rate`` a second, with ticks of their time, until told to hurry; then all at once.

    It never gets beyond the share of the records that ``allow`` has set, so that faults which take longer on
    a slower machine still strike in the midst. Every few seconds a tick runs half an hour ahead of the
    data, so sessions are closed and opened again.
    """

    def __init__(self, records: Sequence[SourceRecord], settings: Settings, rate: float) -> None:
        super().__init__(name="feed", daemon=True)
        self._records = records
        self._settings = settings
        self._rate = rate
        self._allowed = len(records)
        self._news = threading.Condition()
        self._hurry = threading.Event()
        self._stop_asked = threading.Event()
        self.sent = 0
        self.last_event = max(record.at or 0 for record in records if (record.at or 0) < 2_000_000_000_000)
        self.error: BaseException | None = None

    def run(self) -> None:
        records = iter(self._records)
        try:
            while not self._stop_asked.is_set():
                with self._news:
                    self._news.wait_for(lambda: self._hurry.is_set() or self.sent < self._allowed)
                hurry = self._hurry.is_set()
                chunk = list(islice(records, 20_000 if hurry else int(self._rate * _CHUNK_S)))
                if not chunk:
                    return
                plan = TickPlan(every=max(100, len(chunk) // 4))
                rate = None if hurry else self._rate
                asyncio.run(replay(chunk, self._settings, ticks=plan, rate=rate))
                self.sent += len(chunk)
        except BaseException as exc:
            self.error = exc

    @property
    def left(self) -> int:
        return len(self._records) - self.sent

    def allow(self, share: float) -> None:
        """Go on until about this share of the records has been sent, 0 to 1."""
        with self._news:
            self._allowed = int(len(self._records) * share)
            self._news.notify_all()

    def finish(self) -> None:
        """Send what is left at once, and return when the broker has it."""
        self._go()
        self.join()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        self._stop_asked.set()
        self._go()
        if self.is_alive():
            self.join(60)

    def _go(self) -> None:
        with self._news:
            self._hurry.set()
            self._news.notify_all()


class Deployment:
    """``settings`` are unique to it; use ``deployed``."""

    def __init__(self, settings: Settings, nursery: Nursery, folder: Path, seed: int) -> None:
        self.settings = settings
        self.folder = folder
        self.seed = seed
        self.fleet = Fleet(nursery, settings, folder, seed)
        self.feed: Feed | None = None
        self.began = time.monotonic()

    def start_feed(self, records: Sequence[SourceRecord], rate: float) -> Feed:
        self.feed = Feed(records, self.settings, rate)
        self.feed.start()
        return self.feed

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def report(self, text: str) -> None:
        """Say it, and say it again in the summary of the run."""
        self.say(text)
        REPORT.append(text)

    # -- the end

    def drain(self, deadline_s: float = DRAIN_S) -> bool:
        """Send what is left of the feed, tick, and wait until everything is worked off and stored.

        False if the deadline came first; what stands in the way has been said then.
        """
        assert self.feed is not None
        self.feed.finish()
        due = self.feed.last_event + self.settings.policy.gap
        tick = SourceRecord(topics.VISITS, None, b"", self.feed.last_event)
        ends = time.monotonic() + deadline_s
        said = ""
        while time.monotonic() < ends:
            asyncio.run(_tick(self.settings, tick))
            try:
                said = self._not_drained(due)
            except (
                AdminError,
                StoreError,
                clickhouse_connect.driver.exceptions.Error,
                KafkaError,
                OSError,
            ) as exc:
                said = str(exc)
            if not said:
                return True
            time.sleep(0.5)
        self.say(f"not drained after {deadline_s:g} s: {said}")
        self._explain(due)
        return False

    def _explain(self, due: int) -> None:
        with closing(Autopsy(self.settings)) as autopsy:
            for line in autopsy.standing():
                self.say(line)
        with closing(connect(self.settings.clickhouse)) as client:
            query = "SELECT *, toUnixTimestamp64Milli(watermark) AS ms FROM ingest FINAL"
            for row in client.query(query).named_results():
                if row["ms"] <= due:
                    self.say(f"behind: {row}")
        for name in ("customers", "sink"):
            for part in lag(self.settings, self.settings.group(name), [self.settings.topic("ticks")]):
                self.say(f"{name}: {part}")

    def lag_of(self, role: str, names: Sequence[topics.Topic]) -> int:
        """Records that the role's group has not committed."""
        on_broker = [self.settings.topic(topic.name) for topic in names]
        return sum(part.records for part in lag(self.settings, self.settings.group(role), on_broker))

    def _not_drained(self, due: int) -> str:
        if behind := self.lag_of("customers", topics.INPUTS):
            return f"the customers agent is {behind} records behind"
        with closing(connect(self.settings.clickhouse)) as client:
            query = "SELECT min(toUnixTimestamp64Milli(watermark)), count() FROM ingest FINAL"
            watermark, counts = client.query(query).result_rows[0]
        if counts < self.settings.partitions * len(topics.INPUTS):
            return f"only {counts} topic-partitions are counted in ClickHouse"
        if watermark <= due:
            return f"the watermark is {due - watermark} ms behind the end"
        if behind := self.lag_of("sink", (*topics.FACTS, *topics.INPUTS)):
            return f"the sink is {behind} records behind"
        return ""

    def problems(self, truth: Truth) -> list[str]:
        """One sentence for each thing that is not exactly as it must be."""
        names = {self.settings.topic(topic.name): topic.name for topic in topics.INPUTS}
        ends = {
            (names[topic], partition): end
            for (topic, partition), end in end_offsets(self.settings, list(names)).items()
        }
        refused = asyncio.run(self._refused(ends))
        total = sum(ends.values())
        with closing(connect(self.settings.clickhouse)) as client:
            found = verify(client, self.settings.policy, broker_counts=ends)
            outcome = Outcome(read_report(client), found, 0.0)
            query = "SELECT topic, partition, offset, reason FROM dead_letters FINAL"
            letters = {(t, p, o): reason for t, p, o, reason in client.query(query).result_rows}
        wrong = [*map(str, found.samples), *found.leaks]
        for name, table in found.tables.items():
            if table.missing or table.extra or table.different:
                wrong.append(
                    f"{name}: {table.missing} missing, {table.extra} extra, {table.different} different"
                )
        # What the plan says of sessions holds whatever is delivered again; the broker's own count says how
        # often that was.
        planned = truth.events
        events = {"in": total, "applied": planned["applied"], "late": 0, "rejected": len(refused)}
        events["duplicate"] = total - planned["applied"] - len(refused)
        wrong += outcome.against(replace(truth, events=events))
        if letters != refused:
            differing = sorted(set(letters.items()) ^ set(refused.items()))
            wrong.append(f"dead letters: {len(differing)} differ, as {differing[:5]}")
        if found.tables["sessions"].open:
            wrong.append(f"{found.tables['sessions'].open} sessions have not closed")
        counts = ", ".join(f"{name} {count:,}" for name, count in outcome.report.events.items())
        exact = "differ" if wrong else "are exact"
        rows = ", ".join(f"{table.rows:,} {name}" for name, table in found.tables.items())
        self.report(f"{rows} {exact}; events {counts}; {len(letters)} dead letters")
        return wrong

    async def _refused(self, ends: dict[tuple[str, int], int]) -> dict[Place, str]:
        """What must be in dead-letters: every input record is read again and judged by itself."""
        refused: dict[Place, str] = {}
        index = {self.settings.topic(topic.name): i for i, topic in enumerate(topics.INPUTS)}
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka, auto_offset_reset="earliest")
        await consumer.start()
        try:
            left = {
                TopicPartition(self.settings.topic(topic), partition): end
                for (topic, partition), end in ends.items()
                if end
            }
            consumer.assign(list(left))
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    topic = index[tp.topic]
                    _, rejected = decode_batch(topic, records, self.settings.policy.ahead_tolerance)
                    for each in rejected:
                        place = (topics.INPUTS[topic].name, tp.partition, each.offset)
                        refused[place] = str(each.reason)
                    if tp in left and records[-1].offset + 1 >= left[tp]:
                        del left[tp]
        finally:
            await consumer.stop()
        return refused

    def must_be_exact(self, truth: Truth) -> None:
        """Drain, then compare everything; AssertionError says what differs, the seed and where logs are."""
        drained = self.drain()
        wrong = self.problems(truth) if drained else ["not everything was worked off"]
        for failure in self.fleet.failures:
            self.say(f"by itself: {failure}")
        if wrong:
            raise AssertionError(
                "\n".join([f"seed {self.seed}, logs in {self.folder}:", *wrong, *self.fleet.failures])
            )


async def _tick(settings: Settings, record: SourceRecord) -> None:
    """Tick past the end of everything."""
    at = (record.at or 0) + settings.policy.gap + DRAIN_MARGIN_MS
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    try:
        for partition in range(settings.partitions):
            await send_records(
                producer, settings.topic(topics.TICKS.name), partition, [(None, encode_tick(at))]
            )
    finally:
        await producer.stop()


@contextmanager
def deployed(
    servers: Servers,
    folder: Path,
    seed: int,
    *,
    nursery: Nursery | None = None,
    **changes: Any,
) -> Iterator[Deployment]:
    """A deployment of its own on these servers, migrated, with topics and without workers.

    ``changes`` are settings. In the end every process is ended, and topics and database are removed.
    """
    name = f"chaos{uuid.uuid4().hex[:10]}"
    url = urlunsplit(urlsplit(servers.clickhouse)._replace(path=f"/{name}"))
    settings = Settings(
        kafka=servers.kafka,
        replication=servers.replication,
        clickhouse=url,
        topic_prefix=f"{name}-",
        ticks="off",
        **{"partitions": 8, "session_timeout_s": 8.0, "sink_max_wait_s": 0.5, **changes},
    )
    migrate(url)
    create_topics(settings)
    # Brokers learn of topics one after the other.
    wait_for(lambda: not any(check_topics(settings) for _ in range(5)), "all brokers to know the topics", 60)
    deployment = Deployment(settings, nursery or servers.nursery, folder, seed)
    try:
        yield deployment
    finally:
        deployment.fleet.stop()
        if deployment.feed is not None:
            deployment.feed.abandon()
        _remove(settings, servers.clickhouse, name)


def _remove(settings: Settings, clickhouse: str, name: str) -> None:
    """Best effort: what a scenario proved does not hang on how its servers tidy up."""
    try:
        with closing(KafkaAdminClient(bootstrap_servers=settings.kafka)) as admin:
            mine = [topic for topic in admin.list_topics() if topic.startswith(settings.topic_prefix)]
            admin.delete_topics(mine)
        with closing(clickhouse_connect.get_client(dsn=clickhouse)) as client:
            client.command(f"DROP DATABASE IF EXISTS {name}")
    except (KafkaError, clickhouse_connect.driver.exceptions.Error, OSError) as exc:
        print(f"a scenario's topics or database stay: {exc}")


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Until ``condition`` holds; AssertionError after ``deadline_s``."""
    ends = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"waited {deadline_s:g} s in vain for {what}")
        time.sleep(0.05)

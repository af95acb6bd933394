"""Replays a source into the input topics, fast, and keeps the world's clock while it does.

Records go out as whole record batches, partitioned by key like every Kafka client does it (murmur2), and
carry the time they were sent as their arrival. Old data has no clock of its own running: the replayer
sends the ticks. A tick says the highest event time sent so far, and goes out only after the broker has
acknowledged every record before it, so it never makes a record late that came in order. For a source that
is not sorted by time, the horizon must span its disorder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.events import EARLIEST_MS, LATEST_MS
from schemas.topics import INPUTS, TICKS
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.settings import Settings
from streams.sources.record import SourceRecord

#: The drain tick is this much beyond the moment at which the last session can close.
DRAIN_MARGIN_MS: Final = 1_000

#: Bytes of one record batch.
_BATCH_BYTES: Final = 256 * 1024
#: Batches the broker has not acknowledged yet, at most; bounds memory.
_MAX_IN_FLIGHT: Final = 64
#: Records between two looks at the clock.
_STRIDE: Final = 500
#: Keys whose partition is remembered, at most.
_MAX_KEYS: Final = 200_000
#: Seconds between two ticks of a pace.
_PACED_TICK_S: Final = 0.5
#: Batches that are not full yet go out after this many seconds.
_LINGER_S: Final = 0.2


class ReplayError(Exception):
    """A replay that could not be done; its text is one sentence for the person who started it."""


class Source(Protocol):
    """What can be replayed: records, once, and how far the reading has come (0 to 1)."""

    @property
    def fraction(self) -> float: ...

    def __iter__(self) -> Iterator[SourceRecord]: ...


@dataclass(slots=True)
class ReplayReport:
    """What was sent. ``sent`` counts records per topic of the contract (ticks excluded); ``last_offsets``
    holds, per (topic of the contract, partition), the offset of the last record, ticks included."""

    sent: dict[str, int] = field(default_factory=lambda: {topic.name: 0 for topic in INPUTS})
    ticks: int = 0
    bytes: int = 0
    seconds: float = 0.0
    max_event_time: int | None = None
    last_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    #: Whether the caller's condition came true before the deadline; True without a condition.
    drained: bool = True

    @property
    def total(self) -> int:
        return sum(self.sent.values())


@dataclass(frozen=True, slots=True)
class TickPlan:
    """When to tick. Durations in seconds.

    every: a running tick after this many records.
    drained: asked after the end with what was sent, until it says that everything was worked off; the
    drain tick (highest event time + gap + 1 s) is sent again every ``resend_s`` until then or the deadline.
    """

    every: int = 20_000
    drained: Callable[[ReplayReport], Awaitable[bool]] | None = None
    resend_s: float = 0.3
    deadline_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Pace:
    """From the event time ``after`` (ms since 1970 UTC) on, a record goes out when its time has come: by a
    clock that starts there, goes ``speed`` times as fast as ours until it has caught up, and with it from
    then on. It ticks twice a second."""

    after: int
    speed: float


#: Called with (records sent, share of the source read).
Progress = Callable[[int, float], None]


async def replay(
    source: Source | Iterable[SourceRecord],
    settings: Settings,
    *,
    ticks: TickPlan | None = None,
    progress: Progress | None = None,
    rate: float | None = None,
    pace: Pace | None = None,
) -> ReplayReport:
    """Send every record of the source, wait until the broker has them all, then drain.

    ticks: None sends no tick at all, for a deployment that ticks by the wall clock.
    rate: records a second, at most; None is as fast as it goes. pace: None is without a clock.
    The topics must exist. SettingsError for unusable security settings, ReplayError where the broker cannot
    be reached or refuses, SourceError where the source ends in one; the records before it are sent
    nevertheless.
    """
    producer = AIOKafkaProducer(
        **aiokafka_kwargs(settings),
        acks="all",
        max_batch_size=_BATCH_BYTES,
        linger_ms=0,
        request_timeout_ms=30_000,
    )
    try:
        await producer.start()
    except KafkaError as exc:
        await producer.stop()
        raise ReplayError(f"the Kafka broker at {settings.kafka} cannot be reached: {exc}") from None
    try:
        run = _Run(producer, settings, ticks, progress, rate, pace)
        await run.check_topics()
        try:
            await run.send_all(source)
        finally:
            await run.finish_sending()
        if ticks is not None:
            await run.drain(ticks)
        return run.finish()
    except KafkaError as exc:
        raise ReplayError(f"the Kafka broker at {settings.kafka} failed the replay: {exc}") from None
    finally:
        await producer.stop()


class _Run:
    def __init__(
        self,
        producer: AIOKafkaProducer,
        settings: Settings,
        ticks: TickPlan | None,
        progress: Progress | None,
        rate: float | None,
        pace: Pace | None,
    ) -> None:
        self.producer = producer
        self.settings = settings
        self.partitions = settings.partitions
        self.tick_every = ticks.every if ticks is not None else None
        self.progress = progress
        self.rate = rate
        self.pace = pace
        #: Of our clock, seconds: when the pace's began.
        self.paced_since: float | None = None
        self.next_paced_tick = 0.0
        self.report = ReplayReport()
        self.started = time.monotonic()
        self.open: dict[tuple[str, int], Any] = {}
        self.in_flight: set[asyncio.Task[None]] = set()

    async def check_topics(self) -> None:
        cluster = await self.producer.client.fetch_all_metadata()
        for topic in (*INPUTS, TICKS):
            name = self.settings.topic(topic.name)
            # Asking for all topics, not for this one, keeps a broker from making it up on the spot.
            found = cluster.partitions_for_topic(name)
            if not found:
                raise ReplayError(f"topic {name} is not there; create it with: ebbtide topics create")
            if len(found) != self.partitions:
                raise ReplayError(
                    f"topic {name} has {len(found)} partitions where {self.partitions} are configured;"
                    " set EBBTIDE_PARTITIONS to what the broker has, or create the topics anew"
                )

    async def send_all(self, source: Source | Iterable[SourceRecord]) -> None:
        report, open_, partitions = self.report, self.open, self.partitions
        create, sent, ahead = self.producer.create_batch, report.sent, self.settings.policy.ahead_tolerance
        partition_of: dict[bytes, int] = {}
        count = size = 0
        highest = 0
        now = int(time.time() * 1000)
        latest = min(LATEST_MS - 1, now + ahead)
        stride = _STRIDE if not self.rate else max(1, min(_STRIDE, int(self.rate * _LINGER_S)))
        next_look = stride
        next_tick = self.tick_every
        flushed_at = time.monotonic()
        paced_after = self.pace.after if self.pace is not None else LATEST_MS
        for topic, key, value, at in source:
            if at is not None and at > paced_after and highest < at <= latest and await self._waited(at):
                self._tell(count, source)
                now = int(time.time() * 1000)
                latest = min(LATEST_MS - 1, now + ahead)
            if key is None:
                partition = count % partitions
            else:
                found = partition_of.get(key)
                if found is None:
                    if len(partition_of) >= _MAX_KEYS:
                        partition_of.clear()
                    found = partition_of[key] = (murmur2(key) & 0x7FFFFFFF) % partitions
                partition = found
            name = topic.name
            lane = (name, partition)
            batch = open_.get(lane)
            if batch is None:
                batch = open_[lane] = create()
            if batch.append(timestamp=now, key=key, value=value) is None:
                await self._hand_over(lane, batch)
                batch = open_[lane] = create()
                batch.append(timestamp=now, key=key, value=value)
            sent[name] += 1
            count += 1
            size += len(value)
            if at is not None and highest < at <= latest and at >= EARLIEST_MS:
                highest = at
            if count >= next_look:
                next_look = count + stride
                report.bytes = size
                report.max_event_time = highest or None
                tick_due = next_tick is not None and count >= next_tick
                if tick_due or time.monotonic() - flushed_at > _LINGER_S:
                    await self._flush()
                    flushed_at = time.monotonic()
                if tick_due:
                    assert self.tick_every is not None
                    next_tick = count + self.tick_every
                    await self._settle()
                    await self._tick(highest)
                if self.rate:
                    await self._pace(count)
                self._tell(count, source)
                await asyncio.sleep(0)
                now = int(time.time() * 1000)
                latest = min(LATEST_MS - 1, now + ahead)
        report.bytes = size
        report.max_event_time = highest or None
        await self.finish_sending()
        if self.rate:
            await self._pace(count)
        self._tell(count, source)

    async def finish_sending(self) -> None:
        """Send what is left and wait for the broker's word on everything."""
        await self._flush()
        await self._settle()

    async def drain(self, plan: TickPlan) -> None:
        """Tick past the last session's end until the caller says that all is worked off."""
        highest = self.report.max_event_time
        end = time.monotonic() + plan.deadline_s
        while True:
            if highest is not None:
                await self._tick(highest + self.settings.policy.gap + DRAIN_MARGIN_MS)
            if plan.drained is None or await plan.drained(self.report):
                return
            if time.monotonic() >= end:
                self.report.drained = False
                return
            await asyncio.sleep(plan.resend_s)

    def finish(self) -> ReplayReport:
        self.report.seconds = time.monotonic() - self.started
        return self.report

    async def _tick(self, at: int) -> None:
        if not at:
            return
        now = int(time.time() * 1000)
        value = msgspec.json.encode({"at": at})
        for partition in range(self.partitions):
            batch = self.producer.create_batch()
            batch.append(timestamp=now, key=None, value=value)
            await self._hand_over((TICKS.name, partition), batch)
        await self._settle()
        self.report.ticks += 1

    async def _flush(self) -> None:
        while self.open:
            await self._hand_over(*self.open.popitem())

    async def _hand_over(self, lane: tuple[str, int], batch: Any) -> None:
        """Give a batch to the client, which sends those of one partition in this order."""
        while len(self.in_flight) >= _MAX_IN_FLIGHT:
            done, _ = await asyncio.wait(self.in_flight, return_when=asyncio.FIRST_COMPLETED)
            self._collect(done)
        name, partition = lane
        count = batch.record_count()
        acknowledged = await self.producer.send_batch(batch, self.settings.topic(name), partition=partition)
        self.in_flight.add(asyncio.ensure_future(self._acknowledge(lane, count, acknowledged)))

    async def _acknowledge(self, lane: tuple[str, int], count: int, acknowledged: Any) -> None:
        metadata = await acknowledged
        last = metadata.offset + count - 1
        offsets = self.report.last_offsets
        offsets[lane] = max(last, offsets.get(lane, -1))

    async def _settle(self) -> None:
        """Wait until the broker has everything handed over; KafkaError if it refused any of it."""
        while self.in_flight:
            done, _ = await asyncio.wait(self.in_flight)
            self._collect(done)

    def _collect(self, done: set[asyncio.Task[None]]) -> None:
        self.in_flight -= done
        for task in done:
            task.result()

    async def _pace(self, count: int) -> None:
        assert self.rate is not None
        due = self.started + count / self.rate
        wait = due - time.monotonic()
        if wait > 0:
            await self._flush()
            await asyncio.sleep(wait)

    async def _waited(self, at: int) -> bool:
        """Wait until ``at`` has come by the pace's clock, and tick meanwhile; whether it had not."""
        assert self.pace is not None
        if self.paced_since is None:
            self.paced_since = time.time()
        due = max(self.paced_since + (at - self.pace.after) / 1000 / self.pace.speed, at / 1000)
        waited = False
        while (wait := due - time.time()) > 0:
            waited = True
            await self._flush()
            await asyncio.sleep(min(wait, _PACED_TICK_S))
            now = time.time()
            if now >= self.next_paced_tick:
                self.next_paced_tick = now + _PACED_TICK_S
                await self._settle()
                reached = self.pace.after + int((now - self.paced_since) * 1000 * self.pace.speed)
                await self._tick(min(at, reached, int(now * 1000)))
        return waited

    def _tell(self, count: int, source: Source | Iterable[SourceRecord]) -> None:
        if self.progress is not None:
            self.progress(count, getattr(source, "fraction", 0.0))

"""The sink: fact topics, and raw events when they are kept, into ClickHouse.

A bundle of records waits in the lane of its table until enough rows or enough time have come together, is
inserted in a thread, and is acknowledged only then. While ClickHouse is away the same rows are tried again,
the lanes fill up to their bound, and Kafka keeps the rest. Every table replaces by identity, so a bundle
that is delivered or inserted twice is one set of rows.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa
from aiokafka import ConsumerRecord

from schemas.topics import ERASED, FACTS, INPUTS
from streams.adapters.clickhouse import Store, StoreUnavailable
from streams.adapters.erasing import Eraser, Erasure, decode_erased, erased_rows, erasures_in, sifted
from streams.adapters.kafka.everywhere import read_everywhere
from streams.adapters.kafka.worker import WorkerApp
from streams.adapters.rows import TABLES, RowMaker
from streams.adapters.telemetry import SINK_RETRIES, SINK_ROWS, SINK_SECONDS, timed
from streams.agents.gauges import of_sink, why_sink_is_unready
from streams.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Bytes of record values that may wait, and that one insert may carry: rows alone bound nothing when one
#: dead letter may hold a mebibyte.
BUFFER_BYTES: Final = 256 * 1024 * 1024
INSERT_BYTES: Final = 32 * 1024 * 1024

_PATIENCE_S: Final = 5.0
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0
#: With nothing to store for so long, it is asked whether ClickHouse is there: readiness is about now.
LOOK_S: Final = 10.0


class Inserts(Protocol):
    """Where rows go. Blocking; called from one thread at a time."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """All rows or a StoreError; StoreUnavailable when trying again can help."""

    def ping(self) -> None:
        """Likewise, where there is nothing to insert."""


class Erases(Protocol):
    """What deletes customers from where rows go. Blocking; called from one thread at a time."""

    def noted(self) -> dict[bytes, Erasure]:
        """Who has been erased and noted, by digest."""

    def erase(self, erasures: Mapping[bytes, Erasure]) -> None:
        """Delete them, or StoreError; StoreUnavailable when trying again can help."""


@dataclass(slots=True)
class Bundle:
    """Records of one topic-partition in offset order, and what to call once they are stored."""

    topic: str
    records: Sequence[ConsumerRecord]
    done: Callable[[], object]
    size: int = 0
    taken_at: float = 0.0

    def __post_init__(self) -> None:
        self.size = sum(len(record.value or b"") for record in self.records)


@dataclass(slots=True)
class _Lane:
    """Bundles that wait for one table, oldest first."""

    table: str
    rows_of: RowMaker
    bundles: deque[Bundle] = field(default_factory=deque)
    rows: int = 0
    size: int = 0

    def append(self, bundle: Bundle) -> None:
        self.bundles.append(bundle)
        self.rows += len(bundle.records)
        self.size += bundle.size

    def head(self, max_rows: int, max_size: int) -> list[Bundle]:
        """The oldest bundles that stay within both bounds; at least one. They stay in the lane."""
        head: list[Bundle] = []
        rows = size = 0
        for bundle in self.bundles:
            rows += len(bundle.records)
            size += bundle.size
            if head and (rows > max_rows or size > max_size):
                break
            head.append(bundle)
        return head

    def drop(self, bundle: Bundle) -> None:
        """Forget ``bundle``, the oldest."""
        assert self.bundles.popleft() is bundle
        self.rows -= len(bundle.records)
        self.size -= bundle.size


class Sink:
    """Takes bundles in, stores them, calls their ``done``; all on one event loop.

    ``inserted`` counts rows by table, ``retries`` failed attempts; ``away_since`` is the monotonic time at
    which ClickHouse was found away, None while it is there. ``waits_knowingly`` is called before each
    attempt: an outage is no reason to end the process.
    """

    def __init__(
        self,
        store: Inserts,
        settings: Settings,
        waits_knowingly: Callable[[], object] = lambda: None,
        eraser: Erases | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._store = store
        self._look_s = look_s
        self._eraser = eraser
        #: Whose rows are not taken in, by digest; and who of them has been deleted and noted.
        self._erased: dict[bytes, Erasure] = {}
        self._noted: dict[bytes, Erasure] = {}
        self._waits_knowingly = waits_knowingly
        self._settings = settings
        by_table: dict[str, _Lane] = {}
        self._lanes = {
            topic: by_table.setdefault(table, _Lane(table, rows_of))
            for topic, (table, rows_of) in TABLES.items()
        }
        self._tables = list(by_table.values())
        self._rows = 0
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.inserted: Counter[str] = Counter()
        self.retries = 0
        self.away_since: float | None = None

    @property
    def waiting(self) -> int:
        """Rows taken in and not yet stored."""
        return self._rows

    @property
    def oldest_at(self) -> float | None:
        """The monotonic time at which the oldest row that waits was taken in."""
        return min((lane.bundles[0].taken_at for lane in self._tables if lane.bundles), default=None)

    async def put(self, bundle: Bundle) -> None:
        """Take ``bundle`` in; waits while the bound on waiting rows or bytes is reached."""
        while self._full():
            self._room.clear()
            await self._room.wait()
        bundle.taken_at = time.monotonic()
        self._lanes[bundle.topic].append(bundle)
        self._rows += len(bundle.records)
        self._size += bundle.size
        self._news.set()

    async def catch_up(self, erased: Mapping[bytes, Erasure]) -> None:
        """Before anything is taken in: keep out all who were ever erased, and delete whom a crash left."""
        if self._eraser is not None:
            self._noted = await self._stubbornly(self._eraser.noted)
            self._erased = {**self._noted, **erased}
            await self._erase(erased)

    async def _erase(self, erasures: Mapping[bytes, Erasure]) -> None:
        """Delete those who are not noted yet: of whoever has been, rows may be there of somebody new."""
        new = {
            name: each
            for name, each in erasures.items()
            if name not in self._noted or self._noted[name].at < each.at
        }
        if self._eraser is not None and new:
            erasing = asyncio.create_task(self._stubbornly(partial(self._eraser.erase, new)))
            # Parts of any size are written anew: that takes its time, and is no standstill.
            while not (await asyncio.wait({erasing}, timeout=_PATIENCE_S))[0]:
                self._waits_knowingly()
            await erasing
            self._noted |= new
            log.info("erased %d customers", len(new))

    async def run(self) -> None:
        """Store what comes in, forever; raises StoreError for what trying again cannot mend."""
        while True:
            await self._store_next(await self._due())

    def _full(self) -> bool:
        return self._rows >= self._settings.sink_buffer_rows or self._size >= BUFFER_BYTES

    async def _due(self) -> _Lane:
        """The lane whose oldest bundle waited longest among those that are ripe; waits until one is."""
        while True:
            self._news.clear()
            waiting = [lane for lane in self._tables if lane.bundles]
            now = time.monotonic()
            ripe = [lane for lane in waiting if self._full() or self._ripe_at(lane) <= now]
            if ripe:
                return min(ripe, key=lambda lane: lane.bundles[0].taken_at)
            wait_s = min((self._ripe_at(lane) - now for lane in waiting), default=self._look_s)
            try:
                # Not wait_for: on Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                if not waiting:
                    await self._look()

    async def _look(self) -> None:
        """Return when ClickHouse is there."""
        try:
            # Not stubbornly at once: that tells the watchdog that we wait, and we do not.
            await asyncio.to_thread(self._store.ping)
        except StoreUnavailable:
            await self._stubbornly(self._store.ping)

    def _ripe_at(self, lane: _Lane) -> float:
        taken_at = lane.bundles[0].taken_at
        enough = lane.rows >= self._settings.sink_max_rows or lane.size >= INSERT_BYTES
        return taken_at if enough else taken_at + self._settings.sink_max_wait_s

    async def _store_next(self, lane: _Lane) -> None:
        bundles = lane.head(self._settings.sink_max_rows, INSERT_BYTES)
        if lane.rows_of is erased_rows:
            erasures = erasures_in(record for bundle in bundles for record in bundle.records)
            self._erased |= erasures
            await self._erase(erasures)
        gone, rows = await asyncio.to_thread(self._rows_of, lane, bundles)
        if gone.num_rows:
            await self._insert("erased_records", gone)
        if rows.num_rows:
            await self._insert(lane.table, rows)
            self.inserted[lane.table] += rows.num_rows
            SINK_ROWS.labels(lane.table).inc(rows.num_rows)
        for bundle in bundles:
            lane.drop(bundle)
            bundle.done()
            self._rows -= len(bundle.records)
            self._size -= bundle.size
        self._room.set()

    def _rows_of(self, lane: _Lane, bundles: Sequence[Bundle]) -> tuple[pa.Table, pa.Table]:
        """The rows of ``erased_records``, and those of the lane's table."""
        stored: list[ConsumerRecord] = []
        gone = []
        for bundle in bundles:
            kept, out = sifted(bundle.topic, bundle.records, self._erased, self._settings)
            stored += kept
            gone.append(out)
        rows = lane.rows_of(stored, self._settings) if stored else pa.table({})
        return pa.concat_tables(gone), rows

    async def _insert(self, table: str, rows: pa.Table) -> None:
        with timed(SINK_SECONDS.labels(table)):
            await self._stubbornly(partial(self._store.insert, table, rows))

    async def _stubbornly(self, do: Callable[[], T]) -> T:
        """What ``do`` gives, in a thread; tried again for as long as that can help."""
        delay = _FIRST_DELAY_S
        while True:
            self._waits_knowingly()
            try:
                done = await asyncio.to_thread(do)
            except StoreUnavailable as exc:
                self.retries += 1
                SINK_RETRIES.inc()
                if self.away_since is None:
                    self.away_since = time.monotonic()
                    log.warning("%s; the sink keeps %d rows and tries again", exc, self._rows)
                # Half of the delay is chance, so that many sinks do not come back in step.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _LONGEST_DELAY_S)
            else:
                break
        if self.away_since is not None:
            log.warning("ClickHouse is back after %.1f s", time.monotonic() - self.away_since)
            self.away_since = None
        return done


def register(app: WorkerApp, settings: Settings) -> Sink:
    """Make the agent of ``app`` that stores the fact topics, and the inputs if ``settings.store_events``.

    A failure that trying again cannot mend crashes the app. Raises StoreError if the URL is unusable.
    """
    sink = Sink(
        Store(settings.clickhouse),
        settings,
        waits_knowingly=app.watchdog.alive,
        eraser=Eraser(settings.clickhouse),
    )
    app.tells.append(lambda: of_sink(sink))
    app.unready.append(lambda: why_sink_is_unready(sink))
    topics = [*FACTS, *(INPUTS if settings.store_events else ())]
    names = {settings.topic(topic.name): topic.name for topic in topics}

    async def run() -> None:
        try:
            await sink.run()
        except Exception as exc:
            await app.crash(exc)

    @app.agent(app.bundles(*names), name="sink", concurrency=1)
    async def store(stream: Any) -> None:
        try:
            erased = await asyncio.to_thread(read_everywhere, settings, ERASED, decode_erased)
            await sink.catch_up({bytes.fromhex(name): each for name, each in erased.in_force.items()})
        except Exception as exc:
            await app.crash(exc)
            return
        running = asyncio.create_task(run())
        try:
            async for event in stream.noack().events():
                await sink.put(Bundle(names[event.message.topic], event.value, event.ack))
        finally:
            running.cancel()

    return sink

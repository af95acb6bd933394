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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa
from aiokafka import ConsumerRecord

from streams.adapters.clickhouse import StoreUnavailable
from streams.adapters.rows import TABLES, RowMaker
from streams.settings import Settings

log = logging.getLogger(__name__)

#: Bytes of record values that may wait, and that one insert may carry: rows alone bound nothing when one
#: dead letter may hold a mebibyte.
BUFFER_BYTES: Final = 256 * 1024 * 1024
INSERT_BYTES: Final = 32 * 1024 * 1024

_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0


class Inserts(Protocol):
    """Where rows go. Blocking; called from one thread at a time."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """All rows or a StoreError; StoreUnavailable when trying again can help."""


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

    def pop(self, max_rows: int, max_size: int) -> list[Bundle]:
        """At least one bundle; more as long as they stay within both bounds."""
        taken: list[Bundle] = []
        rows = size = 0
        while self.bundles:
            head = self.bundles[0]
            if taken and (rows + len(head.records) > max_rows or size + head.size > max_size):
                break
            taken.append(self.bundles.popleft())
            rows += len(head.records)
            size += head.size
        self.rows -= rows
        self.size -= size
        return taken


class Sink:
    """Takes bundles in, stores them, calls their ``done``; all on one event loop.

    ``inserted`` counts rows by table, ``retries`` failed attempts; ``away_since`` is the monotonic time at
    which ClickHouse was found away, None while it is there.
    """

    def __init__(self, store: Inserts, settings: Settings) -> None:
        self._store = store
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
            wait_s = min((self._ripe_at(lane) - now for lane in waiting), default=None)
            try:
                # Not wait_for: on Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _ripe_at(self, lane: _Lane) -> float:
        taken_at = lane.bundles[0].taken_at
        enough = lane.rows >= self._settings.sink_max_rows or lane.size >= INSERT_BYTES
        return taken_at if enough else taken_at + self._settings.sink_max_wait_s

    async def _store_next(self, lane: _Lane) -> None:
        bundles = lane.pop(self._settings.sink_max_rows, INSERT_BYTES)
        records = [record for bundle in bundles for record in bundle.records]
        rows = await asyncio.to_thread(lane.rows_of, records, self._settings)
        if rows.num_rows:
            await self._insert(lane.table, rows)
            self.inserted[lane.table] += rows.num_rows
        for bundle in bundles:
            bundle.done()
            self._rows -= len(bundle.records)
            self._size -= bundle.size
        self._room.set()

    async def _insert(self, table: str, rows: pa.Table) -> None:
        delay = _FIRST_DELAY_S
        while True:
            try:
                await asyncio.to_thread(self._store.insert, table, rows)
            except StoreUnavailable as exc:
                self.retries += 1
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

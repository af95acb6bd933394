"""State of one agent: bytes by bytes key, per partition, in memory, every change in a changelog topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, cast

import faust
from faust.types import TP

from streams.adapters.kafka.fetching import Record
from streams.adapters.kafka.producing import send_records

#: Memory per entry beside the bytes of key and value: two object headers and a slot of the dict.
ENTRY_OVERHEAD = 2 * 33 + 104

IsStale = Callable[[bytes, bytes], bool]
PartitionsHook = Callable[[frozenset[int]], None]


class TableError(RuntimeError):
    """The table cannot be trusted or written; the process has to end."""


class StateTable(faust.Table):
    """A Faust table without serializers, windows or per-key messages.

    The changelog partition of a key is the partition it is written under. What the table holds is what the
    broker has acknowledged: ``write`` changes memory only afterwards, and when it raises, the process must
    end. Partitions assigned are complete before ``on_assigned`` is called, and that is before the first
    bundle is delivered; after ``on_revoked`` nothing may be read or written until then.

    ``is_stale(old, new)`` says whether a replayed row ``new`` was overtaken by ``old`` read before it: such a
    row was written by a worker that no longer owned the partition, and is left out.
    """

    def __init__(
        self,
        app: Any,
        *,
        name: str,
        changelog: str,
        is_stale: IsStale | None = None,
        on_assigned: PartitionsHook | None = None,
        on_revoked: PartitionsHook | None = None,
    ) -> None:
        super().__init__(
            app,
            name=name,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=app.topic(changelog, key_type=bytes, value_type=bytes, acks=False),
        )
        self.changelog = changelog
        self._is_stale = is_stale
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._stores: dict[int, dict[bytes, bytes]] = {}
        self._sizes: dict[int, int] = {}
        #: Per partition the changelog offset after the last row that memory reflects; absent: rebuild.
        self._next: dict[int, int] = {}
        self._owned: frozenset[int] = frozenset()
        #: Rows that ``is_stale`` left out, since the start of the process.
        self.stale_rows = 0
        app.tables.add(self)

    # -- for the agent

    @property
    def owned(self) -> frozenset[int]:
        """The partitions that are complete and may be read and written."""
        return self._owned

    def get(self, partition: int, key: bytes) -> bytes | None:  # type: ignore[override, unused-ignore]
        """The value under ``key``, None if there is none. Raises TableError unless the partition is ours."""
        if partition not in self._owned:
            raise self._not_ours(partition)
        return self._stores[partition].get(key)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override, unused-ignore]
        """All entries of a partition; it must not be written meanwhile."""
        if partition not in self._owned:
            raise self._not_ours(partition)
        return iter(self._stores[partition].items())

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        """Put ``changes`` (None deletes) into the changelog, in their order, then into memory.

        Returns when the broker has acknowledged all of it; no row is visible without those before it.
        Raises TableError if the partition is not ours, StalledError if the process stood still so long
        that it may no longer be, KafkaError if the broker did not acknowledge. The process must end then.
        """
        if partition not in self._owned:
            raise self._not_ours(partition)
        self.app.guard.check()
        sent = await send_records(self.app.producer.raw, self.changelog, partition, changes.items())
        expected = self._next.get(partition)
        for base, count in sent:
            # A row of somebody else in between (or our own twice, after a retry): nothing is wrong with the
            # changelog, but memory is not known to be all of it. The next assignment reads it from the start.
            expected = base + count if expected == base else None
        if expected is None:
            self._next.pop(partition, None)
        else:
            self._next[partition] = expected
        if partition in self._owned:
            self._apply(partition, changes.items())

    def approx_bytes(self) -> int:
        """Bytes of memory that the entries take, about."""
        return sum(self._sizes.values())

    def __len__(self) -> int:
        return sum(map(len, self._stores.values()))

    # -- for the recovery

    def next_offset(self, partition: int) -> int | None:
        """Where replaying the changelog goes on, None to begin at its start."""
        return self._next.get(partition)

    def replay(self, partition: int, records: Sequence[Record], position: int) -> None:
        """Take over rows of the changelog; ``position`` is the offset after them."""
        expected = self._next.get(partition, 0)
        if records and records[0].offset < expected:
            raise TableError(f"the changelog {self.changelog}-{partition} went back before offset {expected}")
        store = self._stores.setdefault(partition, {})
        stale = self._is_stale
        if stale is None:
            self._apply(partition, ((record.key, record.value) for record in records))
        else:
            size = self._sizes.get(partition, 0)
            for record in records:
                key, value = cast("bytes", record.key), record.value
                old = store.get(key)
                if value is None:
                    if old is not None:
                        del store[key]
                        size -= len(key) + len(old) + ENTRY_OVERHEAD
                elif old is None:
                    store[key] = value
                    size += len(key) + len(value) + ENTRY_OVERHEAD
                elif stale(old, value):
                    self.stale_rows += 1
                else:
                    store[key] = value
                    size += len(value) - len(old)
            self._sizes[partition] = size
        self._next[partition] = position

    def suspend(self) -> None:
        """Partitions are being revoked: nothing is ours until the next assignment is complete."""
        owned, self._owned = self._owned, frozenset()
        if owned and self._on_revoked is not None:
            self._on_revoked(owned)

    def _apply(self, partition: int, changes: Any) -> None:
        store = self._stores.setdefault(partition, {})
        size = self._sizes.get(partition, 0)
        for key, value in changes:
            old = store.get(key)
            if value is not None:
                store[key] = value
                size += len(value) - len(old) if old is not None else len(key) + len(value) + ENTRY_OVERHEAD
            elif old is not None:
                del store[key]
                size -= len(key) + len(old) + ENTRY_OVERHEAD
        self._sizes[partition] = size

    def _forget(self, partitions: Set[int]) -> None:
        for partition in partitions:
            self._stores.pop(partition, None)
            self._sizes.pop(partition, None)
            self._next.pop(partition, None)

    def _not_ours(self, partition: int) -> TableError:
        return TableError(f"partition {partition} of table {self.name} is not assigned to this worker")

    # -- for Faust

    async def on_start(self) -> None:
        """No store service, and no topic to declare: topics are made by ``admin``."""

    def persisted_offset(self, _tp: TP) -> int | None:
        return None

    async def on_rebalance(
        self, assigned: Set[TP], _revoked: Set[TP], _newly_assigned: Set[TP], _generation_id: int = 0
    ) -> None:
        """Drop what went elsewhere; what stays is caught up from where its memory ends.

        Out of the group, even for one generation, others may have owned and written any of it.
        """
        kept = {tp.partition for tp in assigned if tp.topic == self.changelog} & set(self._next)
        self._forget(set(self._stores) - (set() if self.app.consumer.was_out else kept))

    async def on_recovery_completed(self, active_tps: Set[TP], _standby_tps: Set[TP]) -> None:
        self._owned = frozenset(tp.partition for tp in active_tps)
        for partition in self._owned:
            self._stores.setdefault(partition, {})
        if self._on_assigned is not None:
            self._on_assigned(self._owned)

"""Bringing tables up to their changelogs before an assignment is worked on.

Faust's own recovery sends each changelog record through the conductor, a queue and an event, ends by
comparing offsets with a high watermark asked of ListOffsets, and signals its end in a way that can be missed
("Restoring state from changelog topics..." and then nothing). Here it is a loop that reads until the broker,
in an answer younger than the seek, says there is no more.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from streams.adapters.kafka.fetching import Fetch, Interrupted
from streams.adapters.kafka.table import StateTable, TableError

if TYPE_CHECKING:
    from streams.adapters.kafka.transport import Consumer

_POLL_S = 0.05
_MAX_RECORDS = 20_000


class RecoveryTooSlow(TableError):
    """The deadline for a recovery passed."""


class Restore(Recovery):
    """One pass per assignment: replay, seek the inputs, then let the flow begin."""

    _attempt: asyncio.Task[None] | None = None

    #: Rows replayed since the start of the process, and seconds spent on it.
    rows = 0
    seconds = 0.0

    @Service.task
    async def _restart_recovery(self) -> None:
        while not await self.wait_for_stopped(self.signal_recovery_start):
            self.signal_recovery_start.clear()
            await self.abandon()
            self._attempt = asyncio.create_task(self._try(self._generation_id))

    async def _try(self, generation: int) -> None:
        try:
            await self._begin(generation)
        except Interrupted:
            self.log.info("Another rebalance began before the tables were restored")
        except Exception as exc:
            await self.app.crash(exc)

    async def abandon(self) -> None:
        """Stop restoring, and return when nothing of it runs any more.

        Before anybody decides which partitions to keep: a replay of the assignment before would put rows
        of a partition back after it was dropped.
        """
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.cancel()
            await asyncio.wait([attempt])

    async def on_stop(self) -> None:
        await self.abandon()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing goes through the changelog queue."""

    @Service.task
    async def _publish_stats(self) -> None:
        """The progress is logged where it is made."""

    def flush_buffers(self) -> None:
        """There are none."""

    async def _begin(self, generation: int) -> None:
        app, consumer = self.app, self.app.consumer
        self.in_recovery = app.in_recovery = True
        self._recovery_started_at = monotonic()
        # It waits for the flow; started once, and not to be left half started by the next rebalance.
        await asyncio.shield(app._fetcher.maybe_start())
        try:
            await asyncio.wait_for(self._replay(consumer), app.recovery_deadline_s)
        except TimeoutError:
            raise RecoveryTooSlow(
                f"the tables were not restored within {app.recovery_deadline_s:g} s"
            ) from None
        await app.on_rebalance_complete.send()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], set())
        await consumer.perform_seek()
        if generation != app.consumer_generation_id:
            raise Interrupted
        # No await until the flow has begun: whatever revokes partitions finds it begun or not begun.
        self._set_recovery_ended()
        self.completed.set()
        consumer.resume_partitions({tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)})
        app.flow_control.resume()
        consumer.resume_flow()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.log.info("Worker ready")

    async def _replay(self, consumer: Consumer) -> None:
        tables: dict[TP, StateTable] = {tp: self.tp_to_table[tp] for tp in self.active_tps}
        if not tables:
            return
        starts = {tp: table.next_offset(tp.partition) for tp, table in tables.items()}
        began = monotonic()
        thread = consumer._thread
        epoch, read = await thread.run(thread.seek_offsets(starts))
        for tp, start in starts.items():
            if start is None:
                tables[tp].replay(tp.partition, [], read[tp])
        remaining = set(tables)
        rows = 0
        ends = _Ends()
        while remaining:
            consumer.wanted, consumer.room = frozenset(remaining), len(remaining)
            poll = await thread.run(thread.poll(epoch, _POLL_S, _MAX_RECORDS))
            if poll.epoch != epoch:
                raise Interrupted
            for tp, start, records, position, _ in poll.drained:
                if start != read[tp]:
                    raise TableError(
                        f"changelog rows {read[tp]} to {start} of {tp.topic}-{tp.partition} are gone"
                    )
                tables[tp].replay(tp.partition, records, position)
                read[tp] = position
                rows += len(records)
                consumer.progress += 1
                await asyncio.sleep(0)
            done = {tp for tp in remaining if ends.reached(tp, read[tp], began, thread.fetches.get(tp))}
            if done:
                remaining -= done
                await thread.run(thread.pause(done))
        consumer.wanted, consumer.room = frozenset(), 0
        took = monotonic() - began
        self.rows += rows
        self.seconds += took
        self.log.info("Restored %d rows of %d partition(s) in %.2f s", rows, len(tables), took)


class _Ends:
    """Tells when a changelog partition has been read to its end."""

    def __init__(self) -> None:
        self._gaps: dict[TP, tuple[float, int]] = {}

    def reached(self, tp: TP, read: int, began: float, fetch: Fetch | None) -> bool:
        if fetch is None or fetch.requested_at < began:
            return False
        if read == fetch.highwater:
            return True
        if read > fetch.highwater:
            return False  # a leader just elected may not know its high watermark yet
        # Compaction may have taken the last records: then the position never gets to the high watermark.
        # Twice a whole response without a single record, from this very position, says so.
        if not fetch.empty or fetch.position != read:
            self._gaps.pop(tp, None)
            return False
        seen_at, count = self._gaps.get(tp, (0.0, 0))
        if fetch.requested_at > seen_at:
            count += 1
            self._gaps[tp] = fetch.requested_at, count
        return count >= 2


class Tables(TableManager):
    """Faust's table manager with our recovery."""

    _recovery: Restore | None

    @property
    def recovery(self) -> Restore:
        restore: Restore | None = self._recovery
        if restore is None:
            restore = self._recovery = Restore(self.app, self, beacon=self.beacon, loop=self.loop)
        return restore

    async def on_start(self) -> None:
        """As Faust's, without its second of sleep: our tables exist before the app starts."""
        await self._update_channels()
        await self.recovery.start()

    def on_partitions_revoked(self, _revoked: Any) -> None:
        """Called after the bundles in work are done."""
        for table in self.values():
            table.suspend()

"""The consumer's thread: what is read from the broker, from where, and what was committed.

Everything that changes a position happens here, on the thread's own event loop, and raises ``epoch``.
Whatever was read is stamped with the epoch it was read in, so that the other side can tell, without a
lock, records read before a seek or a rebalance from those read after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult, OffsetResetStrategy
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ConsumerRebalanceListener
from faust.types import TP

if TYPE_CHECKING:
    from streams.adapters.kafka.transport import Consumer

_T = TypeVar("_T")

#: How long the broker may hold a fetch that finds nothing; Faust hard-codes 1500 ms.
FETCH_MAX_WAIT_MS = 250


class Record(Protocol):
    """What every record has; aiokafka's ConsumerRecord is one, its bare records are."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def _bare(_tp: Any, record: Record) -> Record:
    """The record as aiokafka's parser gives it; making a ConsumerRecord of it costs as much as reading it."""
    return record


class Interrupted(Exception):
    """A rebalance began while positions were being changed; the next assignment starts over."""


class Fetch(NamedTuple):
    """What the last successful fetch response said about one partition."""

    #: Monotonic seconds at which the request was sent: its answer knows all that was acknowledged before.
    requested_at: float
    position: int
    highwater: int
    #: The response carried no record of any partition.
    empty: bool


class Drained(NamedTuple):
    """Records of one partition, in offset order, and the positions before and after them.

    Without records, the position moved over offsets that hold nothing to read.
    """

    tp: TP
    start: int
    records: list[Record]
    position: int
    #: Monotonic seconds at which the response that carried them was received.
    received_at: float


class Poll(NamedTuple):
    """One poll's outcome; ``epoch`` is of the moment the records were taken."""

    epoch: int
    drained: list[Drained]


class Listener(ConsumerRebalanceListener):
    """Freezes reading the moment a rebalance begins or ends, before Faust hears of it."""

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Awaitable[None]:
        self._thread.freeze()
        result: Awaitable[None] = super().on_partitions_revoked(revoked)
        return result

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._thread.freeze(assigned)
        self._thread.note_membership()
        await super().on_partitions_assigned(assigned)


class ConsumerThread(AIOKafkaConsumerThread):
    """Runs aiokafka's consumer; every coroutine here runs on the thread's loop unless it says otherwise."""

    consumer: Consumer

    def __post_init__(self) -> None:
        super().__post_init__()
        #: Raised by each rebalance and each seek; written on this thread only.
        self.epoch = 0
        #: The last fetch response of each partition; replaced as a whole per partition, read by anyone.
        self.fetches: dict[TP, Fetch] = {}
        #: Since the assignment before this one we were, for a time, not a member of the group.
        self.was_out = False
        self._member: tuple[str, int] | None = None
        self._reported: dict[TP, int] = {}
        self._woken = asyncio.Event()

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._proc_fetch_request = self._reporting(fetcher, fetcher._proc_fetch_request)

    def _reporting(
        self, fetcher: Fetcher, proceed: Callable[[Any, int, Any], Awaitable[bool]]
    ) -> Callable[[Any, int, Any], Awaitable[bool]]:
        # aiokafka keeps the high watermark of a partition but not when it was asked for, and an old answer
        # proves nothing about now.
        async def fetch(assignment: Any, node_id: int, request: Any) -> bool:
            asked: dict[TP, tuple[int, Any]] = {}
            for topic, partitions in request.topics:
                for partition, offset, _ in partitions:
                    tp = TP(topic, partition)
                    state = assignment.state_value(tp)
                    state.timestamp = None
                    asked[tp] = offset, state
            requested_at = monotonic()
            news = await proceed(assignment, node_id, request)
            empty = not any(tp in fetcher._records for tp in asked)
            for tp, (offset, state) in asked.items():
                if state.timestamp is not None:
                    self.fetches[tp] = Fetch(requested_at, offset, state.highwater, empty)
            return news

        return fetch

    # -- called from the main thread

    async def run(self, coro: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the thread's loop and give its result on the caller's."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coro, self.thread_loop))

    def wake(self) -> None:
        """Make a waiting poll look again at what is wanted; from any thread."""
        self.thread_loop.call_soon_threadsafe(self._woken.set)

    # -- called on the thread's loop

    def freeze(self, assigned: Iterable[Any] = ()) -> None:
        """Begin a new epoch: what was read so far is void. Newly assigned partitions wait for their seek."""
        self.epoch += 1
        self._woken.set()
        self._reported = {}
        self.fetches = {}
        for tp in assigned:
            self._ensure_consumer().pause(TopicPartition(*tp))

    def note_membership(self) -> None:
        """Compare this generation of the group with the one before; to be called once for each."""
        coordinator = self._ensure_consumer()._coordinator
        before, self._member = self._member, (coordinator.member_id, coordinator.generation)
        self.was_out = before is not None and before != (coordinator.member_id, coordinator.generation - 1)

    async def poll(self, epoch: int, wait_s: float, max_records: int) -> Poll:
        """What there is of the wanted partitions, at most ``max_records`` of each, awaited ``wait_s``.

        Nothing is taken for a reader whose ``epoch`` is over: its successor would miss it.
        """
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        deadline = monotonic() + wait_s
        with fetcher._subscriptions.fetch_context():
            while True:
                self._raise_if_dead(consumer)
                if self.epoch != epoch:
                    return Poll(self.epoch, [])
                self._woken.clear()
                drained = self._drain(fetcher, max_records)
                remaining = deadline - monotonic()
                if drained or remaining <= 0:
                    return Poll(self.epoch, drained)
                waiter = fetcher._create_fetch_waiter()
                woken = asyncio.ensure_future(self._woken.wait())
                try:
                    await asyncio.wait(
                        (waiter, woken), timeout=remaining, return_when=asyncio.FIRST_COMPLETED
                    )
                    if waiter.done():
                        waiter.result()
                finally:
                    waiter.cancel()
                    woken.cancel()

    def _raise_if_dead(self, consumer: AIOKafkaConsumer) -> None:
        # aiokafka logs and goes quiet when one of its background tasks dies; a worker must not.
        for task in (consumer._fetcher._fetch_task, consumer._coordinator._coordination_task):
            if task.done() and not consumer._closed:
                raise task.exception() or RuntimeError("the Kafka consumer stopped by itself")

    def _drain(self, fetcher: Fetcher, max_records: int) -> list[Drained]:
        subscriptions = fetcher._subscriptions
        if subscriptions.reassignment_in_progress:
            return []
        wanted = self.consumer.wanted
        room = self.consumer.room
        out: list[Drained] = []
        for tp in list(fetcher._records):
            if len(out) >= room:
                break
            if tp not in wanted:
                continue
            result = fetcher._records[tp]
            if type(result) is not FetchResult:
                if out:
                    break
                del fetcher._records[tp]
                result.check_raise()
            state = subscriptions.subscription.assignment.state_value(tp)
            if not self.consumer.places_wanted:
                result._partition_records._consumer_record = _bare
            records = result.getall(max_records)
            if not result.has_more():
                del fetcher._records[tp]
                fetcher._notify(fetcher._wait_consume_future)
            start, position = self._reported[tp], state.position
            if position != start:
                self._reported[tp] = position
                out.append(Drained(TP(*tp), start, records, position, result._created))
        return out

    async def seek_committed(self, tps: Collection[TP]) -> tuple[int, dict[TP, int]]:
        """Go to the group's committed offsets, or the earliest, and let reading begin.

        Gives the epoch in which what is read counts, and the position of each partition.
        Raises Interrupted if a rebalance came in between.
        """
        epoch = self.epoch
        committed = await self._ensure_consumer()._coordinator.fetch_committed_offsets(list(tps))
        known = {tp: committed[tp].offset for tp in tps if tp in committed and committed[tp].offset >= 0}
        return await self._seek({tp: known.get(tp) for tp in tps}, epoch)

    async def seek_offsets(self, starts: Mapping[TP, int | None]) -> tuple[int, dict[TP, int]]:
        """Go to the given offsets, None for the earliest; otherwise as ``seek_committed``."""
        return await self._seek(starts, self.epoch)

    async def _seek(self, starts: Mapping[TP, int | None], epoch: int) -> tuple[int, dict[TP, int]]:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        self._check(epoch)
        try:
            for tp, offset in starts.items():
                if offset is not None:
                    fetcher.seek_to(tp, offset)
            earliest = [tp for tp, offset in starts.items() if offset is None]
            if earliest:
                await fetcher.request_offset_reset(earliest, OffsetResetStrategy.EARLIEST)
            self._check(epoch)
            # No await from here on: positions, epoch and resumption are one step.
            assignment = fetcher._subscriptions.subscription.assignment
            positions = {tp: assignment.state_value(tp).position for tp in starts}
            self.epoch += 1
            self._woken.set()
            self._reported = dict(positions)
            for tp in starts:
                self.fetches.pop(tp, None)
                consumer.resume(TopicPartition(*tp))
        except IllegalStateError as exc:
            raise Interrupted from exc
        return self.epoch, positions

    def _check(self, epoch: int) -> None:
        subscriptions = self._ensure_consumer()._subscription
        if self.epoch != epoch or subscriptions.reassignment_in_progress:
            raise Interrupted

    async def pause(self, tps: Iterable[TP]) -> None:
        """Fetch these no more; those no longer assigned are ignored."""
        consumer = self._ensure_consumer()
        for tp in tps:
            if tp in consumer.assignment():
                consumer.pause(TopicPartition(*tp))

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False if the group has moved on and will deliver again what this would have covered.

        Any other failure is raised: nobody may go on believing that a failed commit was one.
        """
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as exc:
            self.log.warning("Offsets not committed, they will be delivered again: %s", exc)
            return False
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust compares wall and monotonic time here; ``watchdog`` does this work."""

    def close(self) -> None:
        """Nothing: Faust closes the client on the wrong thread; stopping the thread closes it."""

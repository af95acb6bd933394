"""A courier for each endpoint: takes what waits for it to it, when its time has come.

Each has its own clock-ordered queue, its own connections and a bound of its own on requests under way, so an
endpoint that is slow or hangs holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Final

from schemas.topics import ALERTS
from streams.agents.hook_partition import Chain, Partition
from streams.domain.deliveries import Answer, Delivery

#: Requests under way to one endpoint.
UNDER_WAY: Final = 8
#: The wall clock may leap: it is looked at this often at least.
_LOOK_S: Final = 0.5
#: A receiver that says it has too much to do is left alone altogether, but no longer than this.
LONGEST_PAUSE_MS: Final = 5 * 60_000
_TOO_MUCH: Final = frozenset({429, 503})

#: (due, number of the entry, delivery_id, partition)
_Entry = tuple[int, int, str, Partition]
Attempt = Callable[[Delivery], Awaitable[Answer]]
#: The last: whether the attempt was made beside the schedule.
Settle = Callable[[Partition, Delivery, Answer, bool], Awaitable[None]]
#: The wall clock, in ms.
Clock = Callable[[], int]
#: Is handed what ends the process.
Fail = Callable[[BaseException], Awaitable[None]]


class Courier:
    """Attempts the deliveries of one endpoint.

    attempt: sends, and gives the answer. settle: keeps what has become of it, and returns when that is kept;
    it may push again. clock: wall clock in ms. fail: is handed what neither of them may raise.
    """

    def __init__(
        self,
        attempt: Attempt,
        settle: Settle,
        clock: Clock,
        fail: Fail,
        under_way: int = UNDER_WAY,
    ) -> None:
        self._attempt = attempt
        self._settle = settle
        self._clock = clock
        self._fail = fail
        self._most = under_way
        #: What is urgent, and what is not.
        self._queues: tuple[list[_Entry], list[_Entry]] = ([], [])
        self._count = 0
        self._running: dict[asyncio.Task[None], tuple[Partition, Chain]] = {}
        self._busy: set[tuple[int, Chain]] = set()
        #: What waits for another revision of its chain.
        self._parked: dict[tuple[int, Chain], list[tuple[str, Partition]]] = {}
        #: Deliveries whose oldest waiting revision has just been tried before them, to no avail.
        self._preceded: set[str] = set()
        self._paused_until = 0
        self._news = asyncio.Event()

    @property
    def under_way(self) -> int:
        """Requests that no answer has come to yet."""
        return len(self._running)

    def push(self, partition: Partition, delivery: Delivery) -> None:
        """``delivery`` waits to be attempted at its ``next_at``; or it is over, and others may go."""
        if delivery.next_at is not None:
            self._push(delivery, delivery.next_at, partition)
        self._unpark((partition.number, delivery.chain))

    def drop(self, partition: Partition) -> None:
        """Stop sending for a partition that is another worker's now."""
        for queue in self._queues:
            queue[:] = sorted(entry for entry in queue if entry[3] is not partition)
        self._parked = {at: each for at, each in self._parked.items() if each[0][1] is not partition}
        for task, (owner, _) in list(self._running.items()):
            if owner is partition:
                task.cancel()

    def nudge(self) -> None:
        """The clock has moved."""
        self._news.set()

    async def run(self) -> None:
        """Attempt what is due, for ever."""
        try:
            while True:
                self._news.clear()
                wait_s = self._begin_all()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._running:
                task.cancel()

    def _push(self, delivery: Delivery, at: int, partition: Partition) -> None:
        self._count += 1
        # However many facts of customers wait, an alert does not stand behind them.
        queue = self._queues[0 if delivery.topic == ALERTS.name else 1]
        heappush(queue, (at, self._count, delivery.delivery_id, partition))
        self._news.set()

    def _unpark(self, chain: tuple[int, Chain]) -> None:
        now = self._clock()
        for name, partition in self._parked.pop(chain, ()):
            delivery = partition.deliveries.get(name)
            if delivery is not None and not partition.closed:
                self._push(delivery, now, partition)

    def _begin_all(self) -> float | None:
        """Begin all that is due and has room; gives for how many seconds there is nothing to do."""
        now = self._clock()
        while len(self._running) < self._most:
            queue = next((queue for queue in self._queues if queue and queue[0][0] <= now), None)
            if queue is None or self._paused_until > now:
                waits = [queue[0][0] for queue in self._queues if queue]
                due = max(min(waits, default=now), self._paused_until)
                return min(_LOOK_S, max(0, due - now) / 1000) if waits else None
            _, _, name, partition = heappop(queue)
            self._begin(name, partition, now)
        return None

    def _begin(self, name: str, partition: Partition, now: int) -> None:
        delivery = partition.deliveries.get(name)
        if partition.closed or delivery is None or delivery.next_at is None or delivery.next_at > now:
            return  # it is over, or has been put off: then it has another place in the queue
        chain = (partition.number, delivery.chain)
        if chain in self._busy or partition.must_wait(delivery, now):
            self._parked.setdefault(chain, []).append((name, partition))
            return
        self._busy.add(chain)
        oldest = partition.revisions(delivery.chain)[0]
        beside = oldest is not delivery and name not in self._preceded
        if beside:
            self._preceded.add(name)
            self._parked.setdefault(chain, []).append((name, partition))
            delivery = oldest
        else:
            self._preceded.discard(name)
        task = asyncio.create_task(self._deliver(partition, delivery, beside))
        self._running[task] = partition, delivery.chain
        task.add_done_callback(self._ended)

    async def _deliver(self, partition: Partition, delivery: Delivery, beside: bool) -> None:
        try:
            answer = await self._attempt(delivery)
            if answer.retry_after_ms is not None and answer.http_status in _TOO_MUCH:
                pause = min(answer.retry_after_ms, LONGEST_PAUSE_MS)
                self._paused_until = max(self._paused_until, self._clock() + pause)
            await self._settle(partition, delivery, answer, beside)
        except Exception as exc:
            await self._fail(exc)

    def _ended(self, task: asyncio.Task[None]) -> None:
        partition, chain = self._running.pop(task)
        self._busy.discard((partition.number, chain))
        self._unpark((partition.number, chain))
        self._news.set()

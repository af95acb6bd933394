"""Bundles of different partitions worked on side by side, those of one partition one after the other.

A batch waits for the broker several times; meanwhile another partition's batch can be computed. Partitions
share no state, so only the order inside each of them matters. What has come for a partition while its last
batch was in work makes one batch: a customer who is in several bundles is read and written once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from streams.adapters.telemetry import BATCH_SECONDS, timed

#: More than two find nothing to wait for: one computes while the other waits.
SIDE_BY_SIDE: Final = 2
#: Bundles that wait in all lanes together; then ``put`` waits, and the consumer stops reading.
MOST_WAITING: Final = 10

Work = Callable[[int, Sequence[Any]], Awaitable[None]]


class Lanes:
    """Runs ``work(lane, bundles)`` on what is ``put``; a failure is handed to ``fail``, once, and nothing is
    begun after it.

    ``records``: bundles are put together while the first of them hold fewer. To be used as an asynchronous
    context manager: leaving it cancels what is still running.
    """

    def __init__(
        self,
        work: Work,
        fail: Callable[[BaseException], Awaitable[None]],
        records: int,
        side_by_side: int = SIDE_BY_SIDE,
    ) -> None:
        self._work = work
        self._fail = fail
        self._records = records
        self._side_by_side = side_by_side
        #: By lane, the one that has waited longest first: (bundle, its records).
        self._waiting: dict[int, deque[tuple[Any, int]]] = {}
        self._count = 0
        self._running: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._failed = False

    async def put(self, lane: int, bundle: Any, records: int) -> None:
        """Take ``bundle`` of so many ``records``; waits for room, and after a failure for ever."""
        while self._failed or self._count >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        self._waiting.setdefault(lane, deque()).append((bundle, records))
        self._count += 1
        self._begin()

    def _begin(self) -> None:
        for lane in [lane for lane in self._waiting if lane not in self._running]:
            if self._failed or len(self._running) >= self._side_by_side:
                return
            waiting = self._waiting.pop(lane)
            bundles: list[Any] = []
            records = 0
            while waiting and (not bundles or records < self._records):
                bundle, size = waiting.popleft()
                bundles.append(bundle)
                records += size
            if waiting:
                self._waiting[lane] = waiting
            self._count -= len(bundles)
            self._room.set()
            self._running[lane] = asyncio.create_task(self._run(lane, bundles))

    async def _run(self, lane: int, bundles: Sequence[Any]) -> None:
        try:
            with timed(BATCH_SECONDS):
                await self._work(lane, bundles)
        except Exception as exc:
            self._failed = True
            await self._fail(exc)
        del self._running[lane]
        self._begin()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self._failed = True
        for task in self._running.values():
            task.cancel()

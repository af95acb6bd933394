"""Bundles of different partitions worked on side by side, those of one partition one after the other.

A batch waits for the broker several times; meanwhile another partition's batch can be computed. Partitions
share no state, so only the order inside each of them matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

#: More than two find nothing to wait for: one computes while the other waits.
SIDE_BY_SIDE: Final = 2


class Lanes:
    """Runs ``work`` on what is ``put``; a failure is handed to ``fail``, once, and nothing is begun after it.

    To be used as an asynchronous context manager: leaving it cancels what is still running.
    """

    def __init__(
        self,
        work: Callable[[Any], Awaitable[None]],
        fail: Callable[[BaseException], Awaitable[None]],
        side_by_side: int = SIDE_BY_SIDE,
    ) -> None:
        self._work = work
        self._fail = fail
        self._most = side_by_side
        self._running: dict[int, asyncio.Task[None]] = {}
        self._failed = False

    async def put(self, lane: int, bundle: Any) -> None:
        """Begin ``bundle`` once everything put into its lane before is done and there is room."""
        while self._failed or lane in self._running or len(self._running) >= self._most:
            # After a failure this waits for the end of the process: what comes later must not be begun.
            waited = self._running.values() or [asyncio.get_running_loop().create_future()]
            await asyncio.wait(list(waited), return_when=asyncio.FIRST_COMPLETED)
        self._running[lane] = asyncio.create_task(self._run(lane, bundle))

    async def _run(self, lane: int, bundle: Any) -> None:
        try:
            await self._work(bundle)
        except Exception as exc:
            self._failed = True
            await self._fail(exc)
        finally:
            del self._running[lane]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        for task in self._running.values():
            task.cancel()

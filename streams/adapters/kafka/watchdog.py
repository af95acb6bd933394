"""Ends a worker that no longer works, or that was away so long that it may no longer own its partitions."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from mode import Service

if TYPE_CHECKING:
    from streams.adapters.kafka.worker import WorkerApp

EXIT_CODE = 1


class StalledError(RuntimeError):
    """The process stood still so long that its partitions may belong to somebody else by now."""


def say(reason: str) -> None:
    """One line on standard error, at once: whatever else is to be written may not be any more."""
    # Not by way of the log, whose lock a thread that stands still may hold.
    record = logging.LogRecord("ebbtide", logging.CRITICAL, "", 0, reason, None, None)
    handlers = logging.getLogger().handlers
    formatter = handlers[0].formatter if handlers else None
    line = (formatter or logging.Formatter("%(name)s: %(message)s")).format(record)
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def end_process(reason: str, code: int = EXIT_CODE) -> NoReturn:
    """Leave at once: no clean-up, no commit, no further byte to the broker."""
    say(reason)
    os._exit(code)


def seconds() -> float:
    """Seconds that go on while the process is stopped and while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LoopGuard:
    """Knows when the event loop last ran.

    ``tick`` is called from the loop all the time; ``check`` before anything that only an owner may do.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = seconds) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._last: float | None = None
        self._stalled_s: float | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the last tick, 0 before the first."""
        return 0.0 if self._last is None else self._clock() - self._last

    def tick(self) -> None:
        """The loop runs. Raises StalledError if it did not for longer than the limit, from then on always."""
        self.check()
        self._last = self._clock()

    def check(self) -> None:
        """Raise StalledError if the loop did not run for longer than the limit, now or ever before."""
        if self._stalled_s is None and self.age_s > self.limit_s:
            self._stalled_s = self.age_s
        if self._stalled_s is not None:
            raise StalledError(
                f"this worker stood still for {self._stalled_s:.1f} s, longer than the {self.limit_s:g} s"
                " after which its partitions may belong to another"
            )


class Watchdog(Service):
    """Ends the process on a stalled loop, on lag without progress, and on a rebalance without end."""

    abstract = False

    def __init__(self, app: WorkerApp, watchdog_s: float, rebalance_s: float) -> None:
        super().__init__()
        self.app = app
        self._watchdog_s = watchdog_s
        self._rebalance_s = rebalance_s
        self._seen = -1
        self._seen_at = self._settled_at = time.monotonic()

    def alive(self) -> None:
        """An agent says that it waits knowingly, for a store that is away: no progress is not a fault."""
        self._seen_at = time.monotonic()

    async def on_start(self) -> None:
        threading.Thread(target=self._watch_loop, name="loop-watch", daemon=True).start()

    def _watch_loop(self) -> None:
        guard = self.app.guard
        while not self.should_stop:
            time.sleep(0.5)
            if guard.age_s > max(self._watchdog_s, guard.limit_s):
                end_process(f"the event loop has not run for {guard.age_s:.0f} s")

    @Service.task
    async def _tick(self) -> None:
        interval = min(0.5, self.app.guard.limit_s / 10)
        while not self.should_stop:
            try:
                self.app.guard.tick()
            except StalledError as exc:
                end_process(str(exc))
            await asyncio.sleep(interval)

    @Service.task
    async def _watch_progress(self) -> None:
        while not self.should_stop:
            await self.sleep(min(1.0, self._watchdog_s / 4))
            if self.app.should_stop:
                return
            now = time.monotonic()
            consumer = self.app.consumer
            if not self.app.rebalancing:
                self._settled_at = now
            elif now - self._settled_at > self._rebalance_s:
                end_process(f"no assignment was complete {self._rebalance_s:g} s after the rebalance began")
            if consumer.progress != self._seen or not consumer.lagging:
                self._seen, self._seen_at = consumer.progress, now
            elif now - self._seen_at > self._watchdog_s:
                end_process(f"no record was finished for {self._watchdog_s:g} s although there are some")

"""Other rules of segments come into force: everyone is looked at once, a bounded number a batch.

Only its end is kept. After a crash or a rebalance all keys are gone through again, and ``advance`` passes
over whoever has been looked at by these rules already.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from msgspec.structs import replace

from streams.agents.partition import Step
from streams.domain.progress import NOT_A_CUSTOMER, RUN_KEY, Run, encode_run
from streams.domain.visitor import advance

#: How far a run has come is told about this often.
REPORT_INTERVAL_S: Final = 1.0


class RuleRun:
    """One partition's run, in the hands of the worker that owns the partition."""

    __slots__ = ("_reported_at", "_waiting", "run")

    def __init__(self, run: Run, waiting: Iterable[bytes]) -> None:
        self.run = run
        self._waiting = deque(waiting)
        self._reported_at: float | None = None

    @classmethod
    def start(cls, version: int, keys: Iterable[bytes], before: Run | None = None) -> RuleRun:
        """Everyone there is now; ``before``: what was kept of a run, perhaps of these rules."""
        if before is not None and before.version == version:
            # That it has ended may have been kept, but not told.
            return cls(before, () if before.finished else customers(keys))
        waiting = list(customers(keys))
        return cls(Run(version, len(waiting), time.time_ns() // 1_000_000), waiting)

    def __len__(self) -> int:
        """Who is still to be looked at."""
        return len(self._waiting)

    def go_on(self, get: Callable[[bytes], bytes | None], step: Step, watermark: int, limit: int) -> None:
        """Look at the next ones as part of ``step``, at most ``limit``; ``get`` gives a customer's state."""
        context = replace(step.context, watermark=watermark, other_rules=True)
        for _ in range(min(limit, len(self._waiting))):
            key = self._waiting.popleft()
            if key in step.changes:
                self._waiting.append(key)  # advanced a moment ago: its turn comes with a later batch
            elif (state := get(key)) is not None:
                step.take(key, state, advance(key.decode(), state, (), context))
        if not self._waiting and not self.run.finished:
            self.run = replace(self.run, finished=True)
            step.changes[RUN_KEY] = encode_run(self.run)

    def report(self, partition: int) -> dict[str, Any] | None:
        """How far it has come, as a fact; None if that was told a moment ago and it has not ended."""
        if not self.run.version and not self.run.total:
            return None  # a partition that nobody has ever been in
        now = time.monotonic()
        ended = self.run.finished
        if not ended and self._reported_at is not None and now - self._reported_at < REPORT_INTERVAL_S:
            return None
        self._reported_at = now
        total = self.run.total
        return {
            "rules_version": self.run.version,
            "partition": partition,
            "done": total if ended else max(0, total - len(self)),
            "total": total,
            "started_at": self.run.started_at,
            "at": time.time_ns() // 1_000_000,
            "is_finished": ended,
        }


def customers(keys: Iterable[bytes]) -> Iterator[bytes]:
    """The keys of customers' states, without what else the changelog keeps."""
    return (key for key in keys if not key.startswith(NOT_A_CUSTOMER))

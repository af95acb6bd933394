"""What the customers agent holds in memory: of each partition that is its own, and of the batch in hand."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from schemas import topics
from streams.domain.clock import UNKNOWN, Deadlines, PartitionClock
from streams.domain.events import Input
from streams.domain.facts import SessionFact
from streams.domain.policy import Policy
from streams.domain.progress import MARKER_KEY, Progress, decode_marker
from streams.domain.visitor import APPLIED, CLASSES, Context, Transition, header

#: Deadlines are found at most this much event time after they fall due.
DEADLINE_GRANULE_MS = 250
#: A partition's watermark is kept, and sent with all its counts, about this often while it moves.
INGEST_INTERVAL_S = 1.0

_INPUTS = len(topics.INPUTS)


class Partition:
    """What is kept in memory of one partition while it is ours; all of it comes from the changelog."""

    __slots__ = (
        "_announced",
        "_announced_at",
        "clock",
        "deadlines",
        "next_batch",
        "paid",
        "progress",
        "settled",
        "unpaid",
    )

    def __init__(self, stored: Iterable[tuple[bytes, bytes]], marker: bytes | None) -> None:
        self.progress = Progress.start(_INPUTS) if marker is None else decode_marker(marker)
        self.clock = PartitionClock(_INPUTS)
        self.clock.times = list(self.progress.times)
        self.clock.watermark = self.progress.watermark
        self.deadlines = Deadlines(DEADLINE_GRANULE_MS)
        #: The watermark up to which every verdict that was due has been given.
        self.settled = UNKNOWN
        self._announced = UNKNOWN
        self._announced_at: float | None = None
        # A state that is as new as the marker, or newer, may owe facts that a crash kept from being sent.
        self.paid = self.progress.batch - 1
        self.unpaid: set[bytes] = set()
        newest = self.progress.batch
        for key, state in stored:
            if key == MARKER_KEY:
                continue
            wake_at, batch, owes = header(state)
            newest = max(newest, batch)
            if owes and batch > self.paid:
                self.unpaid.add(key)
            self.deadlines.add(key, wake_at)
        self.next_batch = newest + 1

    def settle(self, watermark: int) -> bool:
        """Note how far all deadlines have been worked off; whether the partition's counts are to be sent."""
        due = self.deadlines.next()
        self.settled = max(self.settled, watermark if due is None else min(watermark, due - 1))
        now = monotonic()
        if self._announced_at is None or (
            self.settled > self._announced and now - self._announced_at >= INGEST_INTERVAL_S
        ):
            self._announced, self._announced_at = self.settled, now
            return True
        return False


class Step:
    """What one batch has come to so far."""

    __slots__ = ("answers", "changes", "context", "facts", "tally", "wakes")

    def __init__(self, partition: Partition, policy: Policy) -> None:
        self.context = Context(
            partition.progress.watermark,
            policy,
            partition.next_batch,
            partition.paid,
            partition.progress.done,
        )
        self.changes: dict[bytes, bytes | None] = {}
        self.facts: list[tuple[bytes, SessionFact]] = []
        self.answers: list[tuple[Input, int]] = []
        self.wakes: list[tuple[bytes, int]] = []
        self.tally = [0] * CLASSES

    def take(self, key: bytes, before: bytes | None, result: Transition) -> None:
        """Note what became of one customer."""
        if result.stored is not before:
            self.changes[key] = result.stored
            # A deadline that has moved later is found to have moved when the earlier one comes.
            if result.wake_at is not None:
                self.wakes.append((key, result.wake_at))
        if result.facts:
            self.facts += [(key, fact) for fact in result.facts]
        if result.answers:
            self.answers += result.answers
        self.tally[APPLIED] += result.applied
        for kind in result.odd:
            self.tally[kind] += 1

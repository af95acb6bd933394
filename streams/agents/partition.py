"""What the customers agent holds in memory: of each partition that is its own, and of the batch in hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from schemas import topics
from streams.adapters.codec import Rejected
from streams.adapters.telemetry import count_records
from streams.domain.clock import UNKNOWN, Deadlines, PartitionClock
from streams.domain.context import Context
from streams.domain.erasure import digest
from streams.domain.events import Handover, Input
from streams.domain.outlook import ShopModel
from streams.domain.policy import Policy
from streams.domain.progress import (
    CALENDAR_KEY,
    ERASED_KEY,
    MARKER_KEY,
    MODEL_KEY,
    NOT_A_CUSTOMER,
    RULES_KEY,
    RUN_KEY,
    Calendar,
    Progress,
    Run,
    decode_calendar,
    decode_erased,
    decode_marker,
    decode_model,
    decode_rules,
    decode_run,
)
from streams.domain.ready_made import READY_MADE
from streams.domain.segments import Rules
from streams.domain.settle import Fact
from streams.domain.state import header
from streams.domain.visitor import APPLIED, CLASSES, DUPLICATE, LATE, REFUSED, Transition

#: Deadlines are found at most this much event time after they fall due.
DEADLINE_GRANULE_MS = 250
#: A partition's watermark is kept, and sent with all its counts, about this often while it moves.
INGEST_INTERVAL_S = 1.0

#: Topics that the offset guard covers.
_INPUTS = len(topics.INPUTS)
_READ = len(topics.READ)
#: What the classes are called where they are counted.
_FATES = {APPLIED: "applied", DUPLICATE: "duplicate", LATE: "late", REFUSED: "rejected"}


class Partition:
    """What is kept in memory of one partition while it is ours; all of it comes from the changelog."""

    __slots__ = (
        "_announced",
        "_announced_at",
        "_erased_by",
        "calendars",
        "clock",
        "deadlines",
        "erased",
        "models",
        "next_batch",
        "paid",
        "policies",
        "progress",
        "rules",
        "run",
        "settled",
        "unpaid",
    )

    def __init__(self, stored: Iterable[tuple[bytes, bytes]], marker: bytes | None, policy: Policy) -> None:
        started = Progress.start(_READ, _INPUTS)
        self.progress = started if marker is None else decode_marker(marker)
        self.progress.widen(_READ, _INPUTS)
        self.clock = PartitionClock(_INPUTS)
        self.clock.times = list(self.progress.times)
        self.clock.watermark = self.progress.watermark
        self.deadlines = Deadlines(DEADLINE_GRANULE_MS)
        #: The parameters in force, by shop.
        self.models: dict[str, ShopModel] = {}
        #: The calendars that were published, by shop, and the policy with the zone of each.
        self.calendars: dict[str, Calendar] = {}
        self.policies: dict[str, Policy] = {}
        #: When, in ms, customers were erased, by the digests of their ids.
        self.erased: dict[bytes, int] = {}
        self._erased_by: dict[bytes, int] = {}
        #: The segments' rules in force, and the last run by any that was kept.
        self.rules = READY_MADE
        self.run: Run | None = None
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
            if key == RULES_KEY:
                self.rules = Rules(decode_rules(state))
                continue
            if key == RUN_KEY:
                self.run = decode_run(state)
                continue
            if key.startswith(MODEL_KEY):
                model = decode_model(state)
                self.models[model.shop_id] = model
                continue
            if key.startswith(CALENDAR_KEY):
                self.go_by(decode_calendar(state), policy)
                continue
            if key.startswith(ERASED_KEY):
                named = key.removeprefix(ERASED_KEY)
                self.erased[named], self._erased_by[named] = decode_erased(state)
                newest = max(newest, self._erased_by[named])
                continue
            wake_at, batch, owes = header(state)
            newest = max(newest, batch)
            if owes and batch > self.paid:
                self.unpaid.add(key)
            self.deadlines.add(key, wake_at)
        self.next_batch = newest + 1

    def revived(self, stored: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """Keys of states of the erased, written by a worker that had lost the partition before."""
        if not self._erased_by:
            return []
        return [
            key
            for key, state in stored
            if not key.startswith(NOT_A_CUSTOMER)
            and header(state)[1] <= self._erased_by.get(digest(key), UNKNOWN)
        ]

    def go_by(self, calendar: Calendar, policy: Policy) -> None:
        """Count a shop's days by ``calendar`` from now on."""
        self.calendars[calendar.shop_id] = calendar
        self.policies[calendar.shop_id] = replace(policy, zone=calendar.zone)

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

    __slots__ = ("answers", "changes", "context", "ends", "facts", "handovers", "latest", "tally", "wakes")

    def __init__(self, partition: Partition, policy: Policy) -> None:
        self.context = Context(
            partition.progress.watermark,
            policy,
            partition.next_batch,
            partition.paid,
            # As the last marker has it, to the end of the batch: a crash takes back what moves meanwhile.
            tuple(partition.progress.done),
            partition.models,
            partition.policies,
            rules=partition.rules,
        )
        self.changes: dict[bytes, bytes | None] = {}
        self.facts: list[tuple[bytes, Fact]] = []
        self.handovers: list[Handover] = []
        self.answers: list[tuple[Input, int]] = []
        self.wakes: list[tuple[bytes, int]] = []
        #: Per input topic of the batch: the highest offset, and the latest event time.
        self.ends: dict[int, int] = {}
        self.latest: dict[int, int] = {}
        #: Per input topic, how many of each class; those applied are counted with the whole batch.
        self.tally = [[0] * CLASSES for _ in range(_READ)]

    def take(self, key: bytes, before: bytes | None, result: Transition) -> None:
        """Note what became of one customer."""
        if result.stored is not before:
            self.changes[key] = result.stored
            # A deadline that has moved later is found to have moved when the earlier one comes.
            if result.wake_at is not None:
                self.wakes.append((key, result.wake_at))
        if result.facts:
            self.facts += [(key, fact) for fact in result.facts]
        if result.handovers:
            self.handovers += result.handovers
        if result.answers:
            self.answers += result.answers
        for topic, kind in result.odd:
            self.tally[topic][kind] += 1
            self.tally[topic][APPLIED] -= 1

    def count(
        self,
        progress: Progress,
        topic: int,
        records: Sequence[Any],
        inputs: Sequence[Input],
        rejected: Sequence[Rejected],
    ) -> None:
        """Note a bundle of the batch; what an earlier, completed batch has counted is left out."""
        done = progress.done[topic]
        self.ends[topic] = max(self.ends.get(topic, done), records[-1].offset)
        if inputs:
            self.latest[topic] = max(self.latest.get(topic, UNKNOWN), max([event.t for event in inputs]))
        tally = self.tally[topic]
        if records[0].offset > done:
            progress.received[topic] += len(records)
            tally[APPLIED] += len(inputs)
            tally[REFUSED] += len(rejected)
        else:
            progress.received[topic] += sum(record.offset > done for record in records)
            tally[APPLIED] += sum(event.offset > done for event in inputs)
            tally[REFUSED] += sum(refused.offset > done for refused in rejected)

    def close(self, clock: PartitionClock, progress: Progress) -> None:
        """Every event of the batch has been taken in: the clock and the progress move."""
        for topic, at in self.latest.items():
            if topic < _INPUTS:
                clock.observe(topic, at)
        for topic, end in self.ends.items():
            progress.done[topic] = end
            counts, tally = progress.counts[topic], self.tally[topic]
            for kind, count in enumerate(tally):
                counts[kind] += count
            count_records(topics.READ[topic].name, {name: tally[kind] for kind, name in _FATES.items()})

"""Workers over the partitions of an engine in memory, with the handovers between them; any may be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from schemas import topics
from streams.adapters.handovers import decode_handovers, encode_handover
from streams.domain.context import Context
from streams.domain.events import Handover, Input
from streams.domain.facts import ActionFact, ProfileFact, SessionFact, TransitionFact
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact
from streams.domain.policy import Policy
from streams.domain.state import header
from streams.domain.visitor import CLASSES, advance
from tests.domain.reference import Row
from tests.domain.test_laws import standing_buyers

NEVER_CUT: Final = 10**9


class Cut(Exception):
    """The process is gone."""


@dataclass(frozen=True)
class Record:
    """What the decoder reads of a Kafka record."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0


class World:
    """The partitions, and the log of handovers of each. ``partition_of``: of each customer."""

    def __init__(self, policy: Policy, partition_of: Mapping[str, int], zones: Mapping[str, str]) -> None:
        self.policy = policy
        self.policies = {shop: replace(policy, zone=zone) for shop, zone in zones.items()}
        self.partition_of = partition_of
        self.handed: list[list[Record]] = [[] for _ in range(1 + max(partition_of.values()))]
        self.sent: dict[tuple[str, ...], dict[int, Row]] = {}
        self.fuse = NEVER_CUT
        self.workers = [Worker(self, number) for number in range(len(self.handed))]

    def burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise Cut

    def hand(self, handover: Handover) -> None:
        """As the producer does: into the receiver's partition."""
        assert handover.partition == self.partition_of[handover.customer_id]
        log = self.handed[handover.partition]
        log.append(Record(len(log), handover.customer_id.encode(), encode_handover(handover)))

    def restart(self) -> None:
        for worker in self.workers:
            worker.restart()

    def settle(self, watermark: int) -> None:
        """All handovers arrive, and time passes until nobody is due at ``watermark`` any more."""
        for _ in range(200):
            if not sum(worker.go_on(watermark) for worker in self.workers):
                return
        raise AssertionError("somebody stays due, so a worker would never rest")

    def say(self, fact: Any) -> None:
        row: Row = msgspec.json.decode(msgspec.json.encode(fact))
        told = self.sent.setdefault((type(fact).__name__, *_identity(fact)), {})
        assert row["version"] >= max(told, default=0), "versions never go back"
        assert told.get(row["version"], row) == row, "one version says one thing"
        told[row["version"]] = row

    def standing(self, kind: type[Any]) -> list[Row]:
        """The facts of a kind that stand."""
        latest = [self.sent[key][max(self.sent[key])] for key in self.sent if key[0] == kind.__name__]
        return [row for row in latest if not row["is_deleted"]]

    def buyers(self) -> dict[str, Row]:
        kinds = (ProfileFact, TransitionFact)
        return standing_buyers(row for kind in kinds for row in self.standing(kind))


class Worker:
    """One partition. States, the marker and what was sent survive a cut; the rest is made anew."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.states: dict[str, bytes] = {}
        self.done = [-1] * len(topics.READ)
        self.batch, self.watermark = 0, -1
        self.tally = [0] * CLASSES
        #: How many records of handovers are acked.
        self.acked = 0
        self.restart()

    def restart(self) -> None:
        self._paid = self.batch - 1
        headers = {customer: header(state) for customer, state in self.states.items()}
        self._next = max([self.batch, *(batch for _, batch, _ in headers.values())]) + 1
        self._unpaid = {c for c, (_, batch, owes) in headers.items() if owes and batch > self._paid}

    def waiting(self) -> int:
        return len(self.world.handed[self.number]) - self.acked

    def go_on(self, watermark: int) -> bool:
        """Take what has been handed over, and wake whoever is due; False if there was nothing to do."""
        if not self.waiting() and not self.due(watermark) and not self._unpaid:
            return False
        self.handle([], watermark, self.waiting())
        return True

    def due(self, watermark: int) -> set[str]:
        return {customer for customer, state in self.states.items() if header(state)[0] <= watermark}

    def handle(self, inputs: Sequence[Input], watermark: int, handed: int = 0) -> None:
        """One batch: its events and so many records of handovers, then whoever is due at ``watermark``."""
        records = self.world.handed[self.number][self.acked : self.acked + handed]
        received, rejected = decode_handovers(records)  # type: ignore[arg-type]
        assert not rejected
        everything = [*inputs, *received]
        by_customer: dict[str, list[Input]] = {}
        for event in everything:
            by_customer.setdefault(event.body.customer_id, []).append(event)
        changes: dict[str, bytes | None] = {}
        facts: list[Any] = []
        owed: list[Handover] = []
        tally = [0] * CLASSES
        new = [e for e in everything if e.offset > self.done[e.topic] and e.topic < len(topics.INPUTS)]
        tally[0] = len(new)
        for customer, events in by_customer.items():
            self._advance(customer, events, self.watermark, changes, facts, owed, tally)
        watermark = max(watermark, self.watermark)
        unpaid, self._unpaid = self._unpaid, set()
        for customer in sorted(unpaid | self.due(watermark)):
            if customer not in changes:
                self._advance(customer, [], watermark, changes, facts, owed, tally)
        for customer, state in changes.items():
            self.world.burn()
            if state is None:
                self.states.pop(customer, None)
            else:
                self.states[customer] = state
        self.world.burn()
        self.batch, self.watermark = self._next, watermark
        self.tally = [a + b for a, b in zip(self.tally, tally, strict=True)]
        for event in everything:
            self.done[event.topic] = max(self.done[event.topic], event.offset)
        self._next += 1
        for fact in facts:
            self.world.burn()
            self.world.say(fact)
        for handover in owed:
            self.world.burn()
            self.world.hand(handover)
        self._paid = self.batch
        self.acked += len(records)

    def _advance(
        self,
        customer: str,
        events: Sequence[Input],
        watermark: int,
        changes: dict[str, bytes | None],
        facts: list[Any],
        owed: list[Handover],
        tally: list[int],
    ) -> None:
        before = changes.get(customer, self.states.get(customer))
        context = Context(
            watermark,
            self.world.policy,
            self._next,
            self._paid,
            tuple(self.done),
            policies=self.world.policies,
        )
        result = advance(customer, before, events, context)
        for topic, kind in result.odd:
            if topic < len(topics.INPUTS):
                tally[kind] += 1
                tally[0] -= 1
        if result.stored is not before:
            changes[customer] = result.stored
        facts += result.facts
        owed += result.handovers


def _identity(fact: Any) -> tuple[str, ...]:
    if isinstance(fact, SessionFact):
        return (fact.session_id,)
    if isinstance(fact, TransitionFact):
        return (fact.transition_id,)
    if isinstance(fact, ProfileFact):
        return fact.shop_id, fact.customer_id
    if isinstance(fact, ActionFact):
        return (fact.action_id,)
    if isinstance(fact, LeakFact):
        return (fact.leak_id,)
    if isinstance(fact, PurchaseFact):
        return fact.shop_id, fact.customer_id, fact.order_id
    if isinstance(fact, ItemDaysFact):
        return fact.shop_id, fact.customer_id, fact.day.isoformat()
    return (str(msgspec.json.encode(fact)),)

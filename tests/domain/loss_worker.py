"""A worker over one partition of the engine, in memory, that may be cut at any record it writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from schemas import topics
from streams.domain.context import Context
from streams.domain.events import Input
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact
from streams.domain.policy import Policy
from streams.domain.state import header
from streams.domain.visitor import LATE, advance
from tests.domain.loss_reference import Row

Loss = PurchaseFact | ItemDaysFact | LeakFact
NEVER_CUT: Final = 10**9
_KINDS: Final[dict[type[Any], str]] = {
    PurchaseFact: "purchases",
    ItemDaysFact: "item_days",
    LeakFact: "leaks",
}


class Cut(Exception):
    """The process is gone."""


class Worker:
    """States, the marker and the facts sent survive a cut; the rest is made anew by ``restart``.

    As the batch loop has it: the states of a batch are written first, one by one, then its marker (``done``,
    ``batch``, ``watermark``), then its facts are sent, one by one. fuse: records to be written until the cut.
    """

    def __init__(self, policy: Policy, zones: Mapping[str, str], fuse: int = NEVER_CUT) -> None:
        self.policy = policy
        self.policies = {shop: replace(policy, zone=zone) for shop, zone in zones.items()}
        self.fuse = fuse
        self.states: dict[str, bytes] = {}
        self.done = [-1] * len(topics.INPUTS)
        self.batch, self.watermark = 0, -1
        #: By identity and version.
        self.sent: dict[tuple[str, ...], dict[int, Row]] = {}
        self.restart()

    def restart(self) -> None:
        """Begin with what others have written."""
        self._paid = self.batch - 1
        headers = {customer: header(state) for customer, state in self.states.items()}
        self._next = max([self.batch, *(batch for _, batch, _ in headers.values())]) + 1
        self._unpaid = {c for c, (_, batch, owes) in headers.items() if owes and batch > self._paid}

    def handle(self, inputs: Sequence[Input], watermark: int) -> None:
        """One batch: its events, as of the watermark before; then whoever is due, as of ``watermark``."""
        by_customer: dict[str, list[Input]] = {}
        for event in inputs:
            by_customer.setdefault(event.body.customer_id, []).append(event)
        changes: dict[str, bytes | None] = {}
        facts: list[Any] = []
        for customer, events in by_customer.items():
            self._advance(customer, events, self.watermark, changes, facts)
        watermark = max(watermark, self.watermark)
        unpaid, self._unpaid = self._unpaid, set()
        for customer in sorted(unpaid | self.due(watermark)):
            if customer not in changes:
                self._advance(customer, [], watermark, changes, facts)
        for customer, state in changes.items():
            self._burn()
            if state is None:
                self.states.pop(customer, None)
            else:
                self.states[customer] = state
        self._burn()
        self.batch, self.watermark = self._next, watermark
        for event in inputs:
            self.done[event.topic] = max(self.done[event.topic], event.offset)
        self._next += 1
        for fact in facts:
            self._burn()
            self._send(fact)
        self._paid = self.batch

    def due(self, watermark: int) -> set[str]:
        """The customers whose deadlines have come."""
        return {customer for customer, state in self.states.items() if header(state)[0] <= watermark}

    def settle(self, watermark: int) -> None:
        """Time passes until nobody is due at ``watermark`` any more, nor owes what a cut has kept back."""
        for _ in range(200):
            if not self.due(watermark) and not self._unpaid:
                return
            self.handle([], watermark)
        raise AssertionError("somebody stays due, so a worker would never rest")

    def rows(self, kind: str) -> list[Row]:
        """The facts of a kind that stand, in the columns of the reference."""
        latest = [self.sent[key][max(self.sent[key])] for key in self.sent if key[0] == kind]
        left_out = {"is_deleted"} if kind == "purchases" else {"is_deleted", "version"}
        return [
            {name: value for name, value in row.items() if name not in left_out}
            for row in latest
            if not row["is_deleted"]
        ]

    def _advance(
        self,
        customer: str,
        events: Sequence[Input],
        watermark: int,
        changes: dict[str, bytes | None],
        facts: list[Any],
    ) -> None:
        before = self.states.get(customer)
        context = Context(
            watermark, self.policy, self._next, self._paid, tuple(self.done), policies=self.policies
        )
        result = advance(customer, before, events, context)
        assert all(kind < LATE for _, kind in result.odd), "nothing here is late or refused"
        if result.stored is not before:
            changes[customer] = result.stored
        facts += result.facts

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise Cut

    def _send(self, fact: Any) -> None:
        kind = _KINDS.get(type(fact))
        if kind is None:
            return  # of sessions and of buyers there are laws of their own
        row: Row = msgspec.json.decode(msgspec.json.encode(fact))
        told = self.sent.setdefault((kind, *_identity(fact)), {})
        assert row["version"] >= max(told, default=0), "versions never go back"
        # Of an order that an event says nothing new of, the same is said once more.
        assert row["version"] not in told or kind == "purchases", "a version is said once"
        assert told.get(row["version"], row) == row, "one version says one thing"
        told[row["version"]] = row


def _identity(fact: Loss) -> tuple[str, ...]:
    if isinstance(fact, PurchaseFact):
        return fact.shop_id, fact.customer_id, fact.order_id
    if isinstance(fact, ItemDaysFact):
        return fact.shop_id, fact.customer_id, fact.day.isoformat()
    return (fact.leak_id,)


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows in an order of their own."""
    return sorted(rows, key=lambda row: msgspec.json.encode(row, order="sorted"))

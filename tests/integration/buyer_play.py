"""Buyers' stories through the engine without Kafka, and into ClickHouse as the pipeline would have stored it.

A story is half a year of a few customers in two shops, drawn from a seed: visits, favorites, carts, orders in
several currencies, payments, cancellations and refunds; told in another order than they happened in, some of
it twice, some behind the horizon, some beyond a customer's bound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import msgspec
from clickhouse_connect.driver.client import Client

from schemas.topics import INPUTS
from streams.adapters.clickhouse import Store
from streams.adapters.rows import TABLES, input_rows
from streams.domain.context import Context
from streams.domain.events import Cart, Favorite, Input, Order, OrderLine, Visit
from streams.domain.facts import ActionFact, ProfileFact, SessionFact, TransitionFact
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact, ReasonFact, SegmentFact
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.domain.ready_made import READY_MADE
from streams.domain.segments import Rules
from streams.domain.state import header
from streams.domain.visitor import LATE, advance
from streams.settings import Settings
from tests.builders import record
from tests.domain.stories import make

#: Windows short enough for half a year to cross each; a zone whose clocks change meanwhile.
POLICY: Final = Policy(
    zone="Europe/London",
    horizon=2 * DAY,
    amendment_window=5 * DAY,
    lapsed_after=80 * DAY,
    prospect_memory=30 * DAY,
    max_events=60,
)
DAYS: Final = 180
#: 2024-01-20T00:00:00Z
START: Final = 1_705_708_800_000
_CATEGORIES: Final = ("tea", "mugs", "cups", "pots", "", None)
_TOPICS: Final[dict[type[Any], str]] = {
    SessionFact: "sessions",
    ProfileFact: "customers",
    TransitionFact: "transitions",
    ActionFact: "actions",
    PurchaseFact: "purchases",
    ItemDaysFact: "item-days",
    LeakFact: "leaks",
    ReasonFact: "reasons",
    SegmentFact: "segments",
}


def story(customer: str, chance: random.Random) -> list[Input]:
    """What the customer does, by no order."""
    events: list[Input] = []

    def say(t: int, kind: type[Any], **fields: Any) -> None:
        name = f"{customer}-{len(events)}"
        shop = fields.pop("shop_id", "s")
        events.append(make(t, name, kind, customer_id=customer, shop_id=shop, **fields))

    for _ in range(chance.randint(0, 6)):
        t, shop = _moment(chance), chance.choice("ssz")
        for _ in range(chance.randint(1, 4)):
            what = chance.randrange(4)
            if what == 2:
                say(t, Favorite, action=chance.choice(["add", "remove"]), item_id="i", shop_id=shop)
            elif what == 3:
                say(t, Cart, action="add", item_id="i", quantity=1, shop_id=shop)
            else:
                say(t, Visit, shop_id=shop)
            t += chance.choice((1, 10 * MINUTE, 30 * MINUTE, 30 * MINUTE + 1))
    for number in range(chance.choice((0, 1, 1, 2, 3, 6, 12))):
        _order(f"{customer}-o{number}", say, chance)
    return events


def _moment(chance: random.Random) -> int:
    """Any; often around a local midnight, which is an hour off UTC's in summer."""
    at = START + chance.randrange(DAYS) * DAY
    edge = chance.choice((0, -HOUR))
    return at + (
        edge + chance.randint(-2, 2) if chance.random() < 0.2 else chance.randrange(DAY // 1000) * 1000
    )


def _order(order_id: str, say: Any, chance: random.Random) -> None:
    at = _moment(chance)
    where = {"order_id": order_id, "shop_id": chance.choice("sssz")}
    lines = tuple(
        OrderLine(
            item_id=f"i{n}",
            category=chance.choice(_CATEGORIES),
            quantity=chance.randint(1, 3),
            price=chance.choice((None, Decimal("9.99"), Decimal(5))),
            discount=chance.choice((None, None, Decimal(1))),
        )
        for n in range(chance.randint(0, 3))
    )
    content = {
        "lines": lines,
        "total": chance.choice((None, Decimal(0), Decimal(20), Decimal("7.0001"))),
        "currency": chance.choice(("GBP", "GBP", "EUR", None)),
    }
    if chance.random() < 0.95:
        say(at, Order, action="placed", **where, **content)
    if chance.random() < 0.3:
        say(at + chance.choice((-HOUR, HOUR, DAY)), Order, action="paid", **where, **content)
    if chance.random() < 0.4:
        later = at + chance.choice((-MINUTE, HOUR, 3 * DAY, 5 * DAY, 5 * DAY + 1, 8 * DAY))
        amount = chance.choice((None, Decimal(5), Decimal(20)))
        action = chance.choice(("cancelled", "refunded", "refunded"))
        say(later, Order, action=action, refund_amount=amount if action == "refunded" else None, **where)


@dataclass
class Play:
    """One partition: what was told of whom, and the watermark it has come to. ``lag``: how far the watermark
    is behind the clock, so that events after it are known. ``zones``: of shops that have one of their own.
    ``rules``: of segments, in force from the beginning."""

    partition: int
    lag: int = 0
    policy: Policy = POLICY
    zones: Mapping[str, str] = field(default_factory=dict)
    rules: Rules = READY_MADE
    events: list[Input] = field(default_factory=list)
    refused: list[tuple[Input, int]] = field(default_factory=list)
    facts: list[Any] = field(default_factory=list)
    watermark: int = -1
    _states: dict[str, bytes] = field(default_factory=dict)
    _batch: int = 0
    _done: list[int] = field(default_factory=lambda: [-1] * len(INPUTS))

    def run(self, stories: Sequence[Sequence[Input]], until: int, chance: random.Random) -> None:
        """Let all of it arrive, in batches cut anywhere, and time pass to ``until`` (by the clock)."""
        arrivals = []
        for event in (event for each in stories for event in each):
            delay = chance.choice((0, 0, 0, 0, HOUR, DAY, DAY + 20 * HOUR))
            if chance.random() < 0.02:
                delay = 3 * DAY
            arrivals.append((event.t + delay, event))
            if chance.random() < 0.05:
                arrivals.append((event.t + delay + chance.choice((0, HOUR)), event))
        arrivals.sort(key=lambda a: (a[0], a[1].id))
        offsets = [0] * len(INPUTS)
        while arrivals and arrivals[0][0] <= until:
            size = chance.choice((1, 1, 5, 40))
            batch, arrivals = arrivals[:size], arrivals[size:]
            inputs = []
            for _, e in batch:
                inputs.append(Input(e.topic, offsets[e.topic], e.id, e.t, e.arrived, e.body, e.raw))
                offsets[e.topic] += 1
            if chance.random() < 0.7:
                self._settle(batch[0][0] - 1 - self.lag)
            self._step(inputs, batch[0][0] - self.lag)
        # Day by day, as ticks would have it.
        for at in range(self.watermark + DAY, until - self.lag, DAY):
            self._settle(at)
        self._settle(until - self.lag)

    def _step(self, inputs: Sequence[Input], watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        self._batch += 1
        for customer in dict.fromkeys(event.body.customer_id for event in inputs):
            self._advance(customer, [e for e in inputs if e.body.customer_id == customer])
        for event in inputs:
            self._done[event.topic] = max(self._done[event.topic], event.offset)
        self.events += inputs

    def _settle(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        for _ in range(100):
            due = [c for c, stored in self._states.items() if header(stored)[0] <= self.watermark]
            if not due:
                return
            self._batch += 1
            for customer in due:
                self._advance(customer, [])
        raise AssertionError("somebody stays due, so a worker would never rest")

    def _advance(self, customer: str, inputs: Sequence[Input]) -> None:
        policies = {shop: replace(self.policy, zone=zone) for shop, zone in self.zones.items()}
        context = Context(
            self.watermark,
            self.policy,
            self._batch,
            self._batch - 1,
            self._done,
            policies=policies,
            rules=self.rules,
        )
        result = advance(customer, self._states.pop(customer, None), inputs, context)
        if result.stored is not None:
            self._states[customer] = result.stored
        self.refused += result.answers
        self.facts += result.facts

    def accepted(self) -> list[Input]:
        """What verdicts rest on: of one id the first, and none that came too late or was too much."""
        refused = {(event.topic, event.offset) for event, _ in self.refused}
        first: dict[tuple[str, str, int], Input] = {}
        for event in self.events:
            first.setdefault((event.body.customer_id, event.body.shop_id, event.id), event)
        return [event for event in first.values() if (event.topic, event.offset) not in refused]

    def store(self, store: Store, client: Client) -> None:
        """Put the events where the sink would have, and how far they were read."""
        for index in range(len(INPUTS)):
            of_topic = [event for event in self.events if event.topic == index]
            store.insert("events", input_rows(index, self.partition, of_topic))
        places = [[INPUTS[e.topic].name, self.partition, e.offset, kind] for e, kind in self.refused]
        columns = ["topic", "partition", "offset"]
        client.insert("late_events", [p[:3] for p in places if p[3] == LATE], column_names=columns)
        client.insert("dead_letters", [p[:3] for p in places if p[3] != LATE], column_names=columns)
        client.command(
            "INSERT INTO ingest (topic, partition, next_offset, watermark) VALUES"
            f" ('visits', {self.partition}, 1, fromUnixTimestamp64Milli({self.watermark}))"
        )


def publish(store: Store, partition: int, *facts: Any) -> None:
    """Store facts as if they had come from their topics' partition."""
    by_topic: dict[str, list[Any]] = {}
    for fact in facts:
        by_topic.setdefault(_TOPICS[type(fact)], []).append(fact)
    for topic, told in by_topic.items():
        table, rows_of = TABLES[topic]
        records = [record(topic, msgspec.json.encode(f), partition=partition, key=b"c") for f in told]
        store.insert(table, rows_of(records, Settings()))

"""Laws of segments: at every instant the members are those of the definitions, told with their instants."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.context import Context
from streams.domain.events import Cart, Favorite, Input, Order, OrderLine, Visit
from streams.domain.loss_facts import SegmentFact
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.domain.segment_rules import RuleSet, Segment, read
from streams.domain.segments import Rules
from streams.domain.state import header
from streams.domain.visitor import advance
from tests.domain.segment_reference import Member, instants, members
from tests.domain.stories import make

EXAMPLES = int(
    os.environ.get("EBBTIDE_TEST_EXAMPLES", "400" if os.environ.get("EBBTIDE_TEST_DEEP") else "100")
)
laws = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)

#: A zone whose clocks change in the story, and windows that nothing in it falls out of.
POLICY = Policy(
    zone="Europe/London",
    horizon=12 * DAY,
    amendment_window=3 * DAY,
    lapsed_after=25 * DAY,
    prospect_memory=1000 * DAY,
    buyer_memory=1000 * DAY,
)
#: Two days before clocks go forward.
START = 1_711_670_400_000

CONDITIONS = [
    "visits_1d >= 2",
    "visits_2d == 2",
    "visits_3d < 3",
    "visits_90d != 4",
    "favorites_2d >= 1",
    "favorites_4d <= 0",
    "carts_1d >= 1",
    "carts_3d > 1",
    "carted_1d >= 1",
    "carted_2d == 0",
    "carted_4d != 1",
    "orders_1d == 0",
    "orders_4d >= 2",
    "orders_30d != 1",
    "since_last_visit >= 10m",
    "since_last_visit > 1h",
    "since_last_visit >= 2d",
    "since_last_visit < 30m",
    "since_last_visit <= 3d",
    "since_last_order >= 1d",
    "since_last_order < 2d",
    "orders == 0",
    "orders >= 2",
    "purchase_days == 1",
    "monetary >= 15.5",
    "recency_days >= 1",
    "recency_days != 2",
    "recency_days == null",
    "preferred_categories contains tea",
]
RULES = st.recursive(
    st.sampled_from(CONDITIONS),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)
SEGMENTS = st.lists(RULES, min_size=1, max_size=4).map(
    lambda rules: {f"s{n}": r for n, r in enumerate(rules)}
)

_DRAW = st.tuples(st.integers(0, 5), st.integers(0, 47), st.integers(0, 9), st.integers(0, 5))


def _events(number: int, drawn: tuple[int, int, int, int]) -> list[Input]:
    day, half_hour, kind, detail = drawn
    t = START + day * DAY + half_hour * 30 * MINUTE + detail * MINUTE
    common = {"customer_id": "c" if detail else "d", "shop_id": "z" if detail == 5 else "s"}
    if kind < 4:
        return [make(t, f"e{number}", Visit, **common)]
    if kind < 6:
        action = "add" if detail < 4 else "remove"
        return [make(t, f"e{number}", Favorite, action=action, item_id="a", **common)]
    if kind < 8:
        action = ("add", "add", "set", "remove", "clear", "add")[detail]
        item = None if action == "clear" else "a"
        return [make(t, f"e{number}", Cart, action=action, item_id=item, quantity=day % 3, **common)]
    order = {
        "order_id": f"o{number}",
        "total": Decimal(10),
        "currency": "CNY",
        "lines": (OrderLine(item_id="a", category="tea" if detail % 2 else "mugs"),),
    }
    placed = make(t, f"e{number}", Order, action="placed", **order, **common)
    if kind == 8:
        return [placed]
    later = {"order_id": f"o{number}", "refund_amount": Decimal(4) if detail % 2 else None}
    back = make(t + detail * 11 * HOUR + 1, f"r{number}", Order, action="refunded", **later, **common)
    return [placed, back]


def story(most: int = 10) -> st.SearchStrategy[list[Input]]:
    """Up to ``most`` things that customers do in six days."""
    return st.lists(_DRAW, min_size=1, max_size=most).map(
        lambda drawn: [event for number, one in enumerate(drawn) for event in _events(number, one)]
    )


def compiled(segments: Mapping[str, Any], version: int = 1) -> Rules:
    return Rules(RuleSet(version, tuple(Segment(name, "", read(rule)) for name, rule in segments.items())))


class Floor:
    """The engine over one partition with rules in force, and the segments' facts."""

    def __init__(self, rules: Rules, policy: Policy = POLICY) -> None:
        self.rules, self.policy = rules, policy
        self.states: dict[str, bytes] = {}
        self.facts: dict[Member, SegmentFact] = {}
        self.told: list[SegmentFact] = []
        self.batch = 0
        self.paid: int | None = None
        self.done = [-1] * 5
        self.offsets = [0] * 5
        self.steps = 0

    def take(self, events: Sequence[Input], watermark: int) -> None:
        self.batch += 1
        by_customer: dict[str, list[Input]] = {}
        for event in events:
            offset = self.offsets[event.topic]
            self.offsets[event.topic] += 1
            told = Input(event.topic, offset, event.id, event.t, event.arrived, event.body, event.raw)
            by_customer.setdefault(event.body.customer_id, []).append(told)
        for customer, each in by_customer.items():
            self.advance(customer, each, watermark)
        self.done = [offset - 1 for offset in self.offsets]

    def pass_to(self, watermark: int) -> None:
        """Time passes until nobody is due any more."""
        for _ in range(300):
            due = [c for c, s in self.states.items() if header(s)[0] <= watermark]
            if not due:
                return
            self.batch += 1
            for customer in due:
                self.advance(customer, [], watermark)
        raise AssertionError("somebody stays due, so a worker would never rest")

    def publish(self, rules: Rules, watermark: int) -> None:
        """Other rules come into force, and everyone is looked at once."""
        self.rules = rules
        self.batch += 1
        for customer in list(self.states):
            self.advance(customer, [], watermark, other_rules=True)

    def advance(
        self, customer: str, events: Sequence[Input], watermark: int, other_rules: bool = False
    ) -> None:
        self.steps += 1
        paid = self.batch - 1 if self.paid is None else self.paid
        context = Context(
            watermark, self.policy, self.batch, paid, self.done, rules=self.rules, other_rules=other_rules
        )
        result = advance(customer, self.states.get(customer), events, context)
        if result.stored is None:
            self.states.pop(customer, None)
        else:
            self.states[customer] = result.stored
        self.hear([fact for fact in result.facts if isinstance(fact, SegmentFact)])

    def hear(self, facts: Sequence[SegmentFact]) -> None:
        for fact in facts:
            key = (fact.customer_id, fact.shop_id, fact.segment)
            before = self.facts.get(key)
            if before is not None and fact.version <= before.version:
                assert fact == before, "what is told again is told as it was"
                continue
            self.facts[key] = fact
            self.told.append(fact)

    def members(self) -> set[Member]:
        return {key for key, fact in self.facts.items() if fact.is_member and not fact.is_deleted}


@laws
@given(story(), SEGMENTS)
def test_at_every_instant_the_members_are_those_of_the_definitions(
    events: list[Input], segments: dict[str, Any]
) -> None:
    """The watermark passes every instant at which anything may change; each turn has its own instant."""
    floor = Floor(compiled(segments))
    end = max(event.t for event in events) + 5 * DAY
    stood: set[Member] = set()
    for now in instants(events, segments, end, POLICY):
        floor.told.clear()
        floor.pass_to(now - 1)
        assert floor.told == []
        assert floor.members() == stood
        happened = [event for event in events if event.t == now]
        if happened:
            floor.take(happened, now - 1)
        floor.pass_to(now)
        stands = members(events, now, segments, POLICY)
        assert floor.members() == stands
        for fact in floor.told:
            assert fact.at == now
            here = any(event.body.customer_id == fact.customer_id for event in happened)
            assert fact.cause == "time" or here
        turned = {(f.customer_id, f.shop_id, f.segment) for f in floor.told}
        assert turned == stands ^ stood
        stood = stands


@laws
@given(story(), SEGMENTS, st.data())
def test_order_duplication_and_lateness_do_not_matter(
    events: list[Input], segments: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever order the horizon allows, the watermark anywhere: in the end, the same members."""
    floor = Floor(compiled(segments))
    end = max(event.t for event in events) + data.draw(st.integers(0, 4 * DAY))
    waiting = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=3))))
    watermark = START
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        floor.take(batch, watermark)
        most = min((e.t for e in waiting), default=end) + POLICY.horizon
        watermark = max(watermark, min(end, data.draw(st.integers(START, max(START, most)))))
        floor.pass_to(watermark)
    floor.pass_to(end)
    assert floor.members() == members(events, end, segments, POLICY)


@laws
@given(story(), SEGMENTS)
def test_one_long_leap_of_time_tells_the_instants_all_the_same(
    events: list[Input], segments: dict[str, Any]
) -> None:
    """A replay's ticks may be days apart: what came about between them by time has its own instant."""
    end = max(event.t for event in events) + 5 * DAY
    last = max(event.t for event in events)
    step_by_step, leaping = Floor(compiled(segments)), Floor(compiled(segments))
    for floor in (step_by_step, leaping):
        floor.take(events, START)
        floor.pass_to(last)
        floor.told.clear()
    for now in instants(events, segments, end, POLICY):
        step_by_step.pass_to(max(now, last))
    step_by_step.pass_to(end)
    leaping.pass_to(end)
    for fact in leaping.told:
        there = step_by_step.facts[fact.customer_id, fact.shop_id, fact.segment]
        assert (fact.is_member, fact.at, fact.cause) == (there.is_member, there.at, there.cause)
    assert leaping.members() == step_by_step.members() == members(events, end, segments, POLICY)


@laws
@given(story(), SEGMENTS, SEGMENTS, st.integers(0, 6 * DAY))
def test_other_rules_find_everyone_as_if_they_had_always_been(
    events: list[Input], before: dict[str, Any], after: dict[str, Any], when: int
) -> None:
    """Published in the middle: gone segments are left by tombstones, and all goes on by the new rules."""
    end = max(START + when, max(event.t for event in events) + 3 * DAY)
    early = [event for event in events if event.t <= START + when]
    late = [event for event in events if event.t > START + when]
    floor = Floor(compiled({f"old-{name}": rule for name, rule in before.items()}))
    floor.take(early, START)
    floor.pass_to(START + when)
    floor.told.clear()
    floor.publish(compiled(after, 2), START + when)
    assert floor.members() == members(early, START + when, after, POLICY)
    for fact in floor.told:
        assert (fact.cause, fact.rules_version, fact.at) == ("rules", 2, START + when)
        assert fact.is_deleted == fact.segment.startswith("old-")
    told = len(floor.told)
    floor.publish(floor.rules, START + when)
    assert len(floor.told) == told, "who has been looked at is not looked at again"
    for event in sorted(late, key=lambda e: e.t):
        floor.pass_to(event.t - 1)
        floor.take([event], event.t - 1)
    floor.pass_to(end)
    assert floor.members() == members(events, end, after, POLICY)


class Crashing(Floor):
    """What a step told may be lost after its state was written; the next one knows that it may be."""

    def __init__(self, rules: Rules, lose: st.DataObject) -> None:
        super().__init__(rules)
        self.lose = lose

    def advance(
        self, customer: str, events: Sequence[Input], watermark: int, other_rules: bool = False
    ) -> None:
        stands = self.facts.copy()
        super().advance(customer, events, watermark, other_rules)
        while self.lose.draw(st.booleans()):
            self.facts = stands.copy()
            self.paid, self.batch = self.batch - 1, self.batch + 1
            super().advance(customer, [], watermark)
        self.paid = None


@settings(laws, max_examples=60)
@given(story(), SEGMENTS, st.data())
def test_turns_lost_in_crashes_are_told_again(
    events: list[Input], segments: dict[str, Any], data: st.DataObject
) -> None:
    """Any step may lose what it told, any number of times."""
    floor = Crashing(compiled(segments), data)
    end = max(event.t for event in events) + 3 * DAY
    for event in sorted(events, key=lambda e: e.t):
        floor.pass_to(event.t - 1)
        floor.take([event], event.t - 1)
    floor.pass_to(end)
    assert floor.members() == members(events, end, segments, POLICY)

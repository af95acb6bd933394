"""Laws of segments: at every instant the members are those of the definitions, told with their instants."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.context import Context
from streams.domain.events import Cart, Favorite, Input, Order, OrderLine, Visit
from streams.domain.loss_facts import SegmentFact
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import RuleSet, Segment, read
from streams.domain.segments import Rules
from streams.domain.state import decode, header
from streams.domain.visitor import advance
from tests.domain.segment_reference import Member, instants, members
from tests.domain.stories import make

EXAMPLES = int(os.environ.get("EBBTIDE_TEST_EXAMPLES", "500" if os.environ.get("CI") else "100"))
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


def day_at(day: int, hour: int, minute: int = 0) -> int:
    """So much after the local midnight that the story begins with; no clock has changed yet."""
    return START + day * DAY + hour * HOUR + minute * MINUTE


def test_a_late_event_that_moves_a_session_to_yesterday_is_noticed_at_once() -> None:
    """The session is open still, so nothing else has the customer looked at."""
    floor = Floor(compiled({"today": "visits_1d >= 1"}))
    floor.take([make(day_at(1, 0, 10), "on time", Visit)], day_at(1, 0, 10))
    assert floor.members() == {("c", "s", "today")}
    floor.take([make(day_at(0, 23, 50), "late", Visit)], day_at(1, 0, 12))
    assert floor.members() == set()


def test_what_comes_after_too_many_may_be_exact_when_these_have_left() -> None:
    """Three yesterday, two shortly before midnight in a session that is open still when the three leave."""
    floor = Floor(compiled({"two": "visits_2d == 2"}))
    for n in range(3):
        floor.take([make(day_at(0, 12, n), f"many {n}", Visit)], day_at(0, 12, n))
    floor.pass_to(day_at(1, 23, 44))
    for n in range(2):
        floor.take([make(day_at(1, 23, 45 + n), f"few {n}", Visit)], day_at(1, 23, 45 + n))
    assert floor.members() == set()
    floor.told.clear()
    floor.pass_to(day_at(2, 0))
    assert [(f.is_member, f.at, f.cause) for f in floor.told] == [(True, day_at(2, 0), "time")]


def test_two_events_ahead_of_the_watermark_have_each_their_own_time() -> None:
    floor = Floor(compiled({"here": "visits_1d >= 1", "bought": "orders_1d >= 1"}))
    visit = make(START + 100, "v", Visit)
    bought = make(START + 300, "o", Order, action="placed", order_id="o")
    floor.take([visit, bought], START)
    assert floor.told == []
    floor.pass_to(START + 100)
    floor.pass_to(START + 300)
    assert [(f.segment, f.at, f.cause) for f in floor.told] == [
        ("here", START + 100, "event"),
        ("bought", START + 300, "event"),
    ]


def test_ninety_days_of_orders_are_counted_and_no_more_are_kept() -> None:
    """An order every ten days, most of them settled long ago."""
    floor = Floor(compiled({"nine": "orders_90d == 9", "four": "orders_40d == 4"}))
    for n in range(30):
        at = START + 10 * n * DAY
        floor.pass_to(at - 1)
        floor.take([make(at, f"e{n}", Order, action="placed", order_id=f"o{n}")], at - 1)
        floor.pass_to(at)
        assert floor.members() == {
            ("c", "s", name) for name, count in (("nine", 9), ("four", 4)) if n + 1 >= count
        }
    [shop] = decode(floor.states["c"]).shops.values()
    buyer = shop.buyer()
    assert buyer is not None
    assert len(buyer.settled.recent) <= 10


def test_turns_are_kept_until_they_are_paid_and_not_longer() -> None:
    floor = Floor(compiled({"here": "visits_1d >= 1"}))
    floor.take([make(START, "v", Visit)], START)

    def turns() -> int:
        [shop] = decode(floor.states["c"]).shops.values()
        buyer = shop.buyer()
        return 0 if buyer is None else len(buyer.turns)

    assert turns() == 1
    floor.pass_to(START + HOUR)
    assert turns() == 0


def test_who_is_forgotten_leaves_by_tombstones() -> None:
    """And nothing is left of them."""
    policy = replace(POLICY, prospect_memory=10 * DAY, horizon=DAY)
    floor = Floor(compiled({"gone-quiet": "since_last_visit >= 2d"}), policy)
    floor.take([make(START, "v", Visit)], START)
    floor.pass_to(START + 5 * DAY)
    assert floor.members() == {("c", "s", "gone-quiet")}
    floor.pass_to(START + 20 * DAY)
    assert floor.members() == set()
    assert floor.told[-1].is_deleted
    assert floor.states == {}


def test_without_buyers_there_are_no_segments() -> None:
    floor = Floor(compiled({"here": "visits_1d >= 1"}), replace(POLICY, buyers=False))
    floor.take([make(START, "v", Visit)], START)
    floor.pass_to(START + 5 * DAY)
    assert floor.told == []


def test_a_segment_of_one_shop_is_of_no_other() -> None:
    segment = Segment("here", "", read("visits_1d >= 1"), ("s",))
    floor = Floor(Rules(RuleSet(1, (segment,))))
    floor.take([make(START, "v", Visit), make(START, "w", Visit, shop_id="z")], START)
    assert floor.members() == {("c", "s", "here")}


def test_an_event_that_can_change_nothing_has_nobody_looked_at() -> None:
    """With the ready-made rules, a session of pages alone is looked at when it closes, not before."""
    floor = Floor(READY_MADE)
    for n in range(20):
        floor.take([make(START + n * MINUTE, f"v{n}", Visit)], START + n * MINUTE)
        [shop] = decode(floor.states["c"]).shops.values()
        assert shop.person == b""
    floor.pass_to(START + 3 * HOUR)
    [shop] = decode(floor.states["c"]).shops.values()
    assert shop.person != b""


def test_at_most_one_event_in_twenty_has_somebody_looked_at() -> None:
    """Pages, favorites and carts in the shares of Taobao's UserBehavior data, by the ready-made rules."""
    floor, chance, n, paid = Floor(READY_MADE), Random(7), 0, 0
    kinds = [Visit] * 896 + [Favorite] * 29 + [Cart] * 55
    for customer in map(str, range(40)):
        t = START + chance.randrange(DAY)
        for _ in range(chance.randrange(1, 6)):
            for _ in range(chance.randrange(4, 13)):
                t += chance.randrange(4 * MINUTE)
                kind, n = chance.choice(kinds), n + 1
                fields = {} if kind is Visit else {"action": "add", "item_id": "a"}
                event = make(t, f"e{n}", kind, customer_id=customer, **fields)
                floor.pass_to(t - 1)
                floor.take([event], t - 1)
                [shop] = decode(floor.states[customer]).shops.values()
                paid += shop.stirred == t
            t += chance.randrange(HOUR, 20 * HOUR)
    assert n > 500
    assert 0 < paid <= n // 20, f"{paid} of {n}"

"""Laws of the session engine, each against the slow reference, over generated stories."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.checkup import NEVER
from streams.domain.checkup import Fact as BuyerFact
from streams.domain.context import Context
from streams.domain.events import Input
from streams.domain.facts import ActionFact, ProfileFact, SessionFact, TransitionFact
from streams.domain.policy import Policy
from streams.domain.state import header
from streams.domain.visitor import APPLIED, CLASSES, DUPLICATE, advance
from tests.domain.reference import Row, sessions
from tests.domain.stories import POLICY, deliver, story

EXAMPLES = int(
    os.environ.get("EBBTIDE_TEST_EXAMPLES", "1500" if os.environ.get("EBBTIDE_TEST_DEEP") else "300")
)
laws = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)


class Run:
    """The engine over one partition, without Kafka: states and the facts that stand."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.states: dict[str, bytes] = {}
        self.facts: dict[str, SessionFact] = {}
        self.told: dict[str, BuyerFact] = {}
        self.tally = [0] * CLASSES
        self.batch = 0
        self.done = [-1] * 4

    def step(self, inputs: Sequence[Input], watermark: int) -> None:
        """One batch: its events, then whoever is due."""
        self.batch += 1
        by_customer: dict[str, list[Input]] = {}
        for event in inputs:
            by_customer.setdefault(event.body.customer_id, []).append(event)
        for customer, events in by_customer.items():
            self._advance(customer, events, watermark)
        for event in inputs:
            self.done[event.topic] = max(self.done[event.topic], event.offset)

    def settle(self, watermark: int) -> None:
        """Time passes until nobody is due at ``watermark`` any more."""
        for _ in range(100):
            due = [c for c, s in self.states.items() if header(s)[0] <= watermark]
            if not due:
                return
            self.batch += 1
            for customer in due:
                self._advance(customer, [], watermark)
        raise AssertionError("somebody stays due, so a worker would never rest")

    def _advance(self, customer: str, events: Sequence[Input], watermark: int) -> None:
        context = Context(watermark, self.policy, self.batch, self.batch - 1, self.done)
        result = advance(customer, self.states.get(customer), events, context)
        self.tally[APPLIED] += len(events) - len(result.odd)
        for _, kind in result.odd:
            self.tally[kind] += 1
        if result.stored is None:
            self.states.pop(customer, None)
        else:
            self.states[customer] = result.stored
        for fact in result.facts:
            if isinstance(fact, SessionFact):
                before = self.facts.get(fact.session_id)
                assert before is None or fact.version > before.version, "a version is said once"
                self.facts[fact.session_id] = fact
            elif isinstance(fact, (ProfileFact, TransitionFact, ActionFact)):  # losses have laws of their own
                told = self.told.get(identity(fact))
                assert told is None or fact.version > told.version, "a version is said once"
                self.told[identity(fact)] = fact

    def rows(self) -> list[Row]:
        """The facts that stand, as rows."""
        return [msgspec.structs.asdict(f) for f in self.facts.values() if not f.is_deleted]

    def buyers(self) -> dict[str, Row]:
        """The profiles and stages that stand."""
        return standing_buyers(msgspec.json.decode(msgspec.json.encode(f)) for f in self.told.values())


def identity(fact: ProfileFact | TransitionFact | ActionFact) -> str:
    if isinstance(fact, ProfileFact):
        return f"{fact.customer_id} {fact.shop_id}"
    return fact.transition_id if isinstance(fact, TransitionFact) else fact.action_id


def standing_buyers(facts: Iterable[Row]) -> dict[str, Row]:
    """Profiles and stages, in their wire form, the highest version of each. As of which day, and under which
    version, they were told depends on when events came; tiers and actions do, too."""
    latest: dict[str, Row] = {}
    for fact in facts:
        if "action_id" not in fact and fact.get("kind") != "tier":
            key = fact.get("transition_id") or f"{fact['customer_id']} {fact['shop_id']}"
            if key not in latest or fact["version"] >= latest[key]["version"]:
                latest[key] = fact
    passing = ("version", "as_of", "recency_days", "overdue_days")
    return {
        key: {name: value for name, value in fact.items() if name not in passing}
        for key, fact in latest.items()
        if not fact["is_deleted"]
    }


def ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["session_id"]))


def end_of(events: Sequence[Input]) -> int:
    return max(e.t for e in events) + POLICY.gap + 1


@laws
@given(story())
def test_a_sorted_stream_ends_in_the_rows_of_the_definitions(events: list[Input]) -> None:
    """One event a batch, the watermark right behind: verdicts are published and revised on the way."""
    run = Run()
    for event in deliver(sorted(events, key=lambda e: (e.t, e.id))):
        run.settle(event.t - 1)
        run.step([event], event.t - 1)
    run.settle(end_of(events))
    assert ordered(run.rows()) == ordered(sessions(events, POLICY))


@laws
@given(story(), st.data())
def test_order_duplication_and_lateness_inside_the_horizon_do_not_matter(
    events: list[Input], data: st.DataObject
) -> None:
    """Any order, any duplication, batches cut anywhere, the watermark as far ahead as the horizon allows."""
    delivery = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=5))))
    run = Run()
    waiting = deliver(delivery)
    watermark = -1
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        run.step(batch, watermark)
        most = min((e.t for e in waiting), default=watermark) + POLICY.horizon
        watermark = max(watermark, data.draw(st.integers(10**9, max(10**9, most))))
        run.settle(watermark)
    run.settle(max(watermark, end_of(events)))
    assert ordered(run.rows()) == ordered(sessions(events, POLICY))
    assert sum(run.tally) == len(delivery)
    assert run.tally[APPLIED] == len(events)
    assert run.tally[DUPLICATE] == len(delivery) - len(events)
    in_order = Run()
    in_order.step(deliver(events), -1)
    in_order.settle(max(watermark, end_of(events)))
    assert run.buyers() == in_order.buyers()


@settings(laws, max_examples=50)
@given(story())
def test_without_buyers_and_losses_the_sessions_are_the_same_and_nothing_else_is_told(
    events: list[Input],
) -> None:
    """Who wants sessions alone pays for nothing else, and state is gone as soon as they are settled."""
    run = Run(replace(POLICY, buyers=False, losses=False))
    run.step(deliver(events), -1)
    run.settle(end_of(events))
    assert ordered(run.rows()) == ordered(sessions(events, POLICY))
    run.settle(end_of(events) + 2 * POLICY.horizon)
    assert run.states == {}
    assert run.told == {}


@laws
@given(story())
def test_after_the_last_timer_nothing_is_left(events: list[Input]) -> None:
    """Every state has a deadline until it is gone; the end of time comes in finitely many steps."""
    run = Run()
    run.step(deliver(events), -1)
    watermark = end_of(events)
    run.settle(watermark)
    for _ in range(100):
        if not run.states:
            break
        watermark = min(header(s)[0] for s in run.states.values())
        assert watermark < NEVER, "a state without a deadline would stay for ever"
        run.settle(watermark)
    assert run.states == {}
    assert ordered(run.rows()) == ordered(sessions(events, POLICY))

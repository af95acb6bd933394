"""Laws of the check-up: in any order and at any time, the same orders end in the definitions' figures."""

from __future__ import annotations

import os
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain import buyer as kept
from streams.domain.buyer import Buyer, History
from streams.domain.checkup import Fact, evaluate
from streams.domain.facts import TransitionFact
from streams.domain.lifecycle import STAGE_TRANSITIONS
from streams.domain.outlook import DEFAULT_MODEL
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.session import Session
from tests.domain import buyer_reference as reference
from tests.domain.buyer_reference import Said
from tests.domain.buyer_stories import MODEL, POLICY, START, Counter, in_order, purchases

EXAMPLES = int(
    os.environ.get("EBBTIDE_TEST_EXAMPLES", "1500" if os.environ.get("EBBTIDE_TEST_DEEP") else "150")
)
laws = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
END = START + 130 * DAY


def agrees(counter: Counter, events: list[Said], now: int) -> None:
    """What stands is what the definitions say."""
    assert counter.stages() == sorted(reference.stages(events, MODEL, now, POLICY))
    wanted = reference.profile(events, MODEL, now, POLICY)
    assert counter.profile is not None
    told = msgspec.structs.asdict(counter.profile)
    assert {name: told[name] for name in wanted} == wanted


@laws
@given(purchases())
def test_in_order_the_figures_are_those_of_the_definitions(events: list[Said]) -> None:
    """The watermark right behind each event: every stage is told as it comes, and corrected."""
    counter = Counter()
    for said in in_order(events):
        counter.until(said.at)
        counter.take([said])
    counter.until(END)
    agrees(counter, events, END)


@laws
@given(purchases(), st.data())
def test_order_duplication_and_the_time_of_looking_do_not_matter(
    events: list[Said], data: st.DataObject
) -> None:
    """Any order the horizon allows, events twice, looks at any time: the same figures."""
    counter = Counter()
    waiting = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=3))))
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        counter.take(batch)
        most = min((e.at for e in waiting if e.id not in counter.seen), default=END) + POLICY.horizon
        if data.draw(st.booleans()):
            now = data.draw(st.integers(START, max(START, min(most, END))))
            if now >= counter.now:
                counter.until(now)
    counter.until(END)
    agrees(counter, events, END)


@laws
@given(purchases(), st.integers(0, 130))
def test_the_same_check_up_again_tells_nothing(events: list[Said], day: int) -> None:
    """And after a crash it tells again what was told, as it was."""
    counter = Counter()
    counter.take(events)
    now = START + day * DAY
    first = counter.look(now)
    told = {f.transition_id: f for f in first if isinstance(f, TransitionFact)}
    again = counter_copy(counter).look(now, unpaid=True)
    assert {f.transition_id: f for f in again if isinstance(f, TransitionFact)} == told
    assert bool(again) == bool(first)
    assert counter.look(now) == []
    assert counter.look(now, unpaid=True) == []


class Crashing(Counter):
    """Whatever a check-up told may be lost after its state was written; the next one knows that it may be."""

    def __init__(self, lose: st.DataObject) -> None:
        super().__init__()
        self.lose, self.lost = lose, False

    def look(self, now: int, unpaid: bool = False) -> list[Fact]:
        stands = self.transitions.copy(), self.actions.copy(), self.profile
        told = super().look(now, unpaid or self.lost)
        self.lost = self.lose.draw(st.booleans())
        if self.lost:
            self.transitions, self.actions, self.profile = stands
        return told


@laws
@given(purchases(), st.data())
def test_facts_lost_in_crashes_are_told_again_until_they_are_not_lost(
    events: list[Said], data: st.DataObject
) -> None:
    """Any number of check-ups in a row may lose what they told."""
    counter = Crashing(data)
    for said in in_order(events):
        counter.until(said.at)
        counter.take([said])
    for day in range(0, 131, 10):
        counter.until(max(counter.now, START + day * DAY))
    Counter.look(counter, END, unpaid=counter.lost)
    agrees(counter, events, END)


def counter_copy(counter: Counter) -> Counter:
    twin = Counter(counter.policy, counter.model)
    twin.stored, twin.ledger, twin.sessions = counter.stored, dict(counter.ledger), list(counter.sessions)
    return twin


@laws
@given(purchases())
def test_every_timeline_walks_the_table(events: list[Said]) -> None:
    """Each transition starts where the last one ended, at or after it, by a row of STAGE_TRANSITIONS."""
    counter = Counter()
    counter.take(events)
    counter.until(END)
    stage, at = "prospect", 0
    trigger = {"order": "order", "overdue": "overdue", "silence": "silence", "model": "overdue"}
    line = sorted(
        (t for t in counter.transitions.values() if t.kind == "stage" and not t.is_deleted),
        key=lambda t: (t.at, t.anchor),
    )
    for step in line:
        assert step.from_state == stage
        assert step.at >= at
        assert STAGE_TRANSITIONS[stage, trigger[step.cause]] == step.to_state  # type: ignore[index]
        stage, at = step.to_state or "", step.at


def test_state_stays_bounded_over_a_thousand_orders() -> None:
    """Many days, currencies, categories and sessions; what is settled takes at most two kilobytes."""
    counter = Counter()
    for n in range(1000):
        at = START + n * DAY
        counter.until(at)
        counter.take(
            [Said(at, n, f"o{n}", "placed", 10_000 + n, f"A{chr(65 + n % 26)}B", (f"category-{n % 40}",))]
        )
        session = Session(at, at + HOUR, 5, 4, 1)
        counter.sessions.append(session)
        counter.look(at)
        counter.leave(session)
    counter.until(START + 1010 * DAY)
    assert counter.ledger == {}
    assert counter.stored is not None
    assert len(counter.stored) <= 2048
    buyer = counter.buyer
    assert buyer is not None
    assert buyer.settled.days == buyer.settled.orders == 1000
    assert len(buyer.settled.categories) == kept.MOST_CATEGORIES
    assert len(buyer.settled.money) == kept.MOST_CURRENCIES
    assert len(buyer.episodes) == 1


def test_a_refund_takes_the_only_purchase_back() -> None:
    """The transition is withdrawn with its cause, and the customer is a prospect again."""
    counter = Counter()
    order = Said(START, 0, "o", "placed", 50_000, "GBP")
    counter.take([order])
    counter.until(START)
    assert [t.to_state for t in counter.transitions.values()] == ["new"]
    counter.take([Said(START + DAY, 1, "o", "refunded")])
    counter.until(START + DAY)
    [withdrawn] = counter.transitions.values()
    assert (withdrawn.is_deleted, withdrawn.cause) == (True, "refund")
    assert counter.profile is not None
    assert (counter.profile.stage, counter.profile.reversed_orders, counter.profile.orders) == (
        "prospect",
        1,
        0,
    )


def test_an_order_beyond_the_watermark_waits_for_it() -> None:
    """The watermark may lag behind the events: nothing is known of a time that is not over."""
    counter = Counter()
    counter.take([Said(START, 0, "o", "placed", 50_000, "GBP")])
    assert counter.look(START - 1) == []
    assert counter.wake_at == START
    assert len(counter.look(START)) >= 2


def test_a_silent_prospect_is_withdrawn_and_forgotten() -> None:
    """Ninety days after the last session; the tombstone is told before the rest goes."""
    counter = Counter(Policy())
    session = Session(START, START + HOUR, 3, 2, 1)
    counter.sessions.append(session)
    counter.until(START + 2 * HOUR)
    assert counter.profile is not None
    assert (counter.profile.stage, counter.profile.visits_30d, counter.profile.favorites_90d) == (
        "prospect",
        2,
        1,
    )
    counter.leave(session)
    counter.until(START + 95 * DAY)
    assert counter.stored is None
    assert counter.profile.is_deleted


def test_who_is_first_looked_at_long_after_is_forgotten_too() -> None:
    """A replay may pass months in one step: what is folded in that step is not in the way of forgetting."""
    counter = Counter(Policy())
    counter.take([Said(START, 0, "a", "placed", 100_000), Said(START + HOUR, 1, "a", "cancelled")])
    counter.until(START + 200 * DAY)
    counter.until(START + 200 * DAY + 1)
    assert counter.profile is not None
    assert counter.profile.is_deleted
    assert counter.stored is None


def test_money_is_never_added_across_currencies() -> None:
    """The currency of most orders counts; the others are named by a flag."""
    counter = Counter()
    counter.take(
        [
            Said(START, 0, "a", "placed", 100_000, "GBP"),
            Said(START + DAY, 2, "b", "placed", 50_000, "GBP"),
            Said(START + 2 * DAY, 4, "c", "placed", 990_000, "EUR"),
            Said(START + 2 * DAY, 5, "b", "refunded", amount=20_000),
        ]
    )
    counter.until(START + 3 * DAY)
    assert counter.profile is not None
    assert (counter.profile.monetary, counter.profile.currency) == ("13.0000", "GBP")
    assert counter.profile.average_order_value == "6.5000"
    assert counter.profile.mixed_currency
    assert Decimal(counter.profile.monetary) == 13


def test_a_fresh_prospect_takes_at_most_100_bytes() -> None:
    """One session, told once."""
    got = evaluate("c", "s", None, (), [Session(START, START, 1, 1)], DEFAULT_MODEL, START + HOUR, Policy())
    assert got.buyer is not None
    assert len(msgspec.msgpack.encode(got.buyer)) <= 100
    assert History() == Buyer().settled

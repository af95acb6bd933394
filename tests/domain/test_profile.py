"""What a profile says, when it is told, and when it is not."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from streams.domain.facts import ProfileFact
from streams.domain.outlook import DEFAULT_MODEL
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.session import Session
from tests.domain.buyer_reference import Said
from tests.domain.buyer_stories import START, Counter


def drawn(counter: Counter) -> ProfileFact:
    assert counter.profile is not None
    return counter.profile


def told(counter: Counter) -> list[ProfileFact]:
    return [fact for fact in counter.told if isinstance(fact, ProfileFact)]


def test_it_is_told_again_only_when_it_says_something_new() -> None:
    """A day that moves only the day's own figures is silent; all that are told differ in something else."""
    counter = Counter(Policy())
    counter.take([Said(START + n * DAY, n, f"o{n}", "placed", 10_000, "GBP") for n in (0, 10, 20)])
    counter.until(START + 800 * DAY)
    content = [
        {k: v for k, v in msgspec.structs.asdict(fact).items() if k not in DAILY} for fact in told(counter)
    ]
    assert all(a != b for a, b in pairwise(content))
    assert len(content) < 250


DAILY = {"as_of", "recency_days", "overdue_days", "version"}


def test_activity_leaves_the_thirty_and_the_ninety_days() -> None:
    """By the local day that the session began on, to the day, and no event comes."""
    counter = Counter(Policy(prospect_memory=200 * DAY), DEFAULT_MODEL)
    session = Session(START, START + HOUR, 9, 7, 2)
    counter.sessions.append(session)
    counter.until(START + 2 * HOUR)
    counter.leave(session)
    counter.look(START + 3 * HOUR)
    counter.until(START + 150 * DAY)
    assert [
        (f.as_of.toordinal() - told(counter)[0].as_of.toordinal(), f.visits_30d, f.visits_90d)
        for f in told(counter)
    ] == [
        (0, 7, 7),
        (30, 0, 7),
        (90, 0, 0),
    ]


def test_a_session_counts_the_same_before_and_after_it_leaves_the_state() -> None:
    """Taken over, its activity is neither lost nor counted twice."""
    counter = Counter(Policy(), DEFAULT_MODEL)
    sessions = [Session(START + n * HOUR, START + n * HOUR + 1, 4, 3, 1) for n in range(3)]
    counter.sessions += sessions
    counter.until(START + 5 * HOUR)
    before = drawn(counter)
    for session in sessions:
        counter.leave(session)
        assert counter.look(START + 5 * HOUR) == []
    assert (before.visits_30d, before.favorites_90d, before.last_seen_at) == (9, 3, START + 2 * HOUR + 1)


def test_preferences_and_discounts_are_of_standing_orders() -> None:
    """The three categories bought most; an order taken back speaks for nothing."""
    counter = Counter(Policy(), DEFAULT_MODEL)
    counter.take(
        [
            Said(START, 0, "a", "placed", 10_000, "GBP", ("tea", "mugs"), 100),
            Said(START + DAY, 1, "b", "placed", 10_000, "GBP", ("tea",)),
            Said(START + 2 * DAY, 2, "c", "placed", 10_000, "GBP", ("cups", "pots")),
            Said(START + 3 * DAY, 3, "d", "placed", 10_000, "GBP", ("gone",), 100),
            Said(START + 3 * DAY, 4, "d", "cancelled"),
        ]
    )
    counter.until(START + 4 * DAY)
    assert drawn(counter).preferred_categories == ("tea", "cups", "pots")
    assert drawn(counter).discount_affinity == 0.33
    assert (drawn(counter).orders, drawn(counter).reversed_orders) == (3, 1)

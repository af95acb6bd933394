"""Corners of segments, each a story of its own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from streams.domain.events import Cart, Favorite, Order, Visit
from streams.domain.policy import DAY, HOUR, MINUTE
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import RuleSet, Segment, read
from streams.domain.segments import Rules
from streams.domain.state import decode
from tests.domain.stories import make
from tests.domain.test_segments import POLICY, START, Floor, compiled


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


@pytest.mark.parametrize("ahead", [0, 8 * HOUR])
def test_what_was_done_in_a_first_session_counts_once_it_has_closed_though_nothing_watched_it(
    ahead: int,
) -> None:
    """While the silence is shorter than the gap no cart can change the answer, so carts are not watched."""
    floor = Floor(compiled({"left-it": {"all": ["carted_1d >= 1", "since_last_visit >= 1h"]}}))
    at = START + 10 * HOUR
    floor.take([make(at, "c", Cart, action="add", item_id="a", quantity=1)], at - ahead)
    floor.pass_to(at + HOUR - 1)
    assert floor.told == []
    floor.pass_to(at + HOUR)
    assert [(f.is_member, f.at, f.cause) for f in floor.told] == [(True, at + HOUR, "time")]


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

"""What is asked for, when, for whom, and when it is withdrawn."""

from __future__ import annotations

from streams.domain.actions import is_holdout
from streams.domain.facts import ActionFact
from streams.domain.policy import DAY, HOUR, Policy
from tests.domain.buyer_reference import Said
from tests.domain.buyer_stories import POLICY, START, Counter, counted


def buys(*days: int, categories: tuple[str, ...] = (), discount: int = 0) -> list[Said]:
    return [
        Said(START + day * DAY, day, f"o{day}", "placed", 10_000, "GBP", categories, discount) for day in days
    ]


def asked(counter: Counter, kind: str) -> list[ActionFact]:
    found = [a for a in counter.actions.values() if a.kind == kind]
    return sorted(found, key=lambda a: a.at)


def test_a_reminder_is_due_before_the_expected_day_once_per_episode() -> None:
    """As many days before as the policy says, with the reason."""
    counter = counted(buys(0, 10, 20), 40)
    [early, late] = asked(counter, "repurchase_due")[-2:]
    assert early.anchor == START + 10 * DAY
    assert late.anchor == START + 20 * DAY
    assert late.expected_on is not None
    assert counter.told.count(late) == 1
    assert late.reason == f"buys here every 10.0 days; expected by {late.expected_on}"
    assert not late.is_deleted


def test_a_category_with_a_rhythm_of_its_own_has_its_own_reminder() -> None:
    """And then there is none for the buyer as a whole."""
    events = buys(0, 4, 8, categories=("tea",)) + buys(1, 2, categories=("mugs",))
    counter = counted(events, 11)
    late = [a for a in asked(counter, "repurchase_due") if a.anchor == START + 8 * DAY]
    assert [a.category for a in late] == ["tea"]
    assert late[0].usual_gap_days == 4.0
    assert (late[0].at - START) // DAY == 8 + 4 - POLICY.repurchase_lead // DAY


def test_coupons_are_for_those_who_wait_for_discounts() -> None:
    """The same silence, with and without discounts."""
    assert asked(counted(buys(0, 3), 15), "coupon_care") == []
    [coupon] = asked(counted(buys(0, 3, discount=100), 15), "coupon_care")
    assert coupon.stage == "lapsing"
    assert coupon.discount_affinity == 1.0
    assert coupon.reason.endswith("100 % of orders with a discount")


def test_one_time_and_price_sensitive_buyers_are_won_back_first() -> None:
    """1: both, 2: one-time, 3: price-sensitive, 4: neither."""
    stories = [buys(0, discount=100), buys(0), buys(0, 3, discount=100), buys(0, 3)]
    found = [asked(counted(story, 40), "win_back") for story in stories]
    assert [[a.priority for a in one] for one in found] == [[1], [2], [3], [4]]
    assert found[1][0].reason == "no order for 25 days; bought once"


def test_a_refund_withdraws_what_rested_on_the_order() -> None:
    """The reminder of an episode that never was."""
    counter = counted(buys(0), 0)
    counter.until(START + 4 * DAY)
    [reminder] = asked(counter, "repurchase_due")
    counter.take([Said(START + 4 * DAY + HOUR, 50, "o0", "cancelled")])
    counter.until(START + 4 * DAY + HOUR)
    [withdrawn] = asked(counter, "repurchase_due")
    assert withdrawn.action_id == reminder.action_id
    assert withdrawn.is_deleted
    assert withdrawn.version > reminder.version


def test_a_late_order_withdraws_what_it_came_before() -> None:
    """They had bought before the reminder was due, and it was not known."""
    counter = counted(buys(0), 4)
    [reminder] = asked(counter, "repurchase_due")
    counter.take([Said(reminder.at - HOUR, 77, "late", "placed", 10_000, "GBP")])
    counter.until(START + 4 * DAY + HOUR)
    assert asked(counter, "repurchase_due")[0].is_deleted


def test_nothing_is_asked_for_a_time_that_has_passed() -> None:
    """A worker that was away for long does not remind of what was expected meanwhile."""
    counter = Counter()
    counter.take(buys(0, 3))
    counter.look(START + 24 * DAY)
    assert asked(counter, "repurchase_due") == []


def test_the_holdout_is_a_tenth_drawn_anew_for_each_kind() -> None:
    """Always the same for one customer and kind; the kinds independent of each other."""
    policy = Policy()
    customers = [f"c-{n}" for n in range(10_000)]
    coupon = {c for c in customers if is_holdout(c, "s", "coupon_care", policy)}
    back = {c for c in customers if is_holdout(c, "s", "win_back", policy)}
    assert 900 < len(coupon) < 1100
    assert 900 < len(back) < 1100
    assert 60 < len(coupon & back) < 140
    assert not any(is_holdout(c, "s", "win_back", Policy(holdout_percent=0)) for c in customers)
    assert all(is_holdout(c, "s", "win_back", Policy(holdout_percent=100)) for c in customers)

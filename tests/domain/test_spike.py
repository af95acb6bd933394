"""Laws of the detector: pure, upward only, floors, what is learnt, and the states of a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain import spike
from streams.domain.spike import Excess, Judgement, Memory, SpikeRule, Standing, advance
from streams.domain.spike_memory import usual
from streams.domain.windows import Reading
from tests.domain.spike_shops import WEEK, Shop, minutes, taught

laws = settings(max_examples=60, deadline=None, derandomize=True)
RULE = SpikeRule()
#: Three weeks are remembered; the minute after, of a Monday at 14:00.
NOW = 3 * WEEK + 14 * 60
USUAL_LOSS = 0.6

counts = st.one_of(st.integers(0, 20), st.integers(0, 10**9))


@st.composite
def open_windows(draw: st.DrawFn) -> list[Reading]:
    """Up to 60 minutes, with holes."""
    ago = sorted(draw(st.sets(st.integers(0, 59), min_size=1)), reverse=True)
    found = []
    for each in ago:
        closed = draw(counts)
        lost = draw(st.integers(0, closed))
        found.append(Reading(NOW - each, closed, lost, draw(counts), draw(counts)))
    return found


@cache
def _known() -> bytes:
    return msgspec.msgpack.encode(taught(minutes(Shop(400, USUAL_LOSS), 3, 4)[: NOW - 60], RULE))


def known() -> Memory:
    """Of a shop of 400 sessions an hour."""
    return msgspec.msgpack.decode(_known(), type=Memory)


def judged(memory: Memory, open_: Sequence[Reading], rule: SpikeRule = RULE) -> Judgement:
    return spike.judge(memory, open_, [each.minute % WEEK for each in open_], None, rule)


def signals(judgement: Judgement) -> set[str]:
    return {each.signal for each in judgement.out if each.score >= 1}


def hour(closed: int, loss: float, carts: int = 0, orders: int = 0) -> list[Reading]:
    """An hour of minutes that are all alike."""
    lost = [round(closed * loss * (n + 1)) - round(closed * loss * n) for n in range(60)]
    return [Reading(NOW - 59 + n, closed, lost[n], carts, orders) for n in range(60)]


# -- pure


@laws
@given(open_windows())
def test_to_judge_changes_nothing_and_gives_the_same_again(open_: list[Reading]) -> None:
    memory = known()
    first = judged(memory, open_)
    assert judged(memory, open_) == first
    assert msgspec.msgpack.encode(memory) == _known()
    assert judged(known(), open_) == first


@laws
@given(open_windows(), st.data())
def test_after_a_correction_it_is_as_if_it_had_come_right_first(
    open_: list[Reading], data: st.DataObject
) -> None:
    memory = known()
    wrong = list(open_)
    at = data.draw(st.integers(0, len(open_) - 1))
    wrong[at] = Reading(open_[at].minute, open_[at].closed + 50, open_[at].lost + 50, 9, 0)
    judged(memory, wrong)
    assert judged(memory, open_) == judged(known(), open_)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 1999), max_size=6), st.sets(st.integers(0, 1999), max_size=40))
def test_a_memory_stored_and_read_again_at_any_minute_goes_on_the_same(
    stored: set[int], missing: set[int]
) -> None:
    readings = minutes(Shop(300, 0.5), 7, 1)[:2000]
    whole, broken = Memory(), Memory()
    for reading in readings:
        slot = reading.minute % WEEK
        if reading.minute in missing:
            continue
        if reading.minute in stored:
            broken = msgspec.msgpack.decode(msgspec.msgpack.encode(broken), type=Memory)
            assert judged(whole, [reading]) == judged(broken, [reading])
        spike.remember(whole, reading, slot, None, RULE)
        spike.remember(broken, reading, slot, None, RULE)
    assert whole == broken


# -- whatever comes


@laws
@given(open_windows())
def test_whatever_comes_is_judged_in_finite_figures(open_: list[Reading]) -> None:
    for memory in (known(), Memory()):
        found = judged(memory, open_)
        figures = [each for each in found[:7] if each is not None]
        for excess in found.out:
            figures += [excess.observed, excess.expected, excess.band, excess.score]
            assert open_[-1].minute - 59 <= excess.began <= open_[-1].minute or excess.signal == "drift"
        assert all(math.isfinite(each) and each >= 0 for each in figures)
        if found.expected is not None and found.band is not None:
            assert 0 < found.expected <= found.band <= 1


@laws
@given(open_windows())
def test_whatever_comes_can_be_remembered(open_: list[Reading]) -> None:
    memory = known()
    for reading in open_:
        spike.remember(memory, reading, reading.minute % WEEK, None, RULE)
    later = Reading(NOW + 20 * 365 * 1440, 10, 5)
    for reading in (later, later._replace(minute=later.minute + 60)):
        spike.remember(memory, reading, reading.minute % WEEK, None, RULE)
    assert all(math.isfinite(each) for each in usual(memory, None, 0))
    assert 0 < usual(memory, None, 0).loss < 1


def test_an_hour_of_nothing_is_nothing() -> None:
    found = judged(known(), hour(0, 0.0))
    assert (found.observed, found.expected, found.band, found.out) == (None, None, None, ())


@pytest.mark.parametrize("allowed", [1e-9, 1.0, 1e9])
def test_any_number_of_false_alarms_may_be_allowed(allowed: float) -> None:
    found = judged(known(), hour(10, 0.9, 5, 0), SpikeRule(false_alarms=allowed))
    assert all(math.isfinite(each.score) for each in found.out)


# -- upward only, and floors


@laws
@given(open_windows())
def test_less_lost_than_usual_and_more_orders_are_never_out(open_: list[Reading]) -> None:
    fewer = [each._replace(lost=0, orders=each.carts) for each in open_]
    assert judged(known(), fewer).out == ()


@laws
@given(st.integers(1, 11), st.integers(0, 59))
def test_fewer_sessions_and_carts_than_the_floors_are_never_out(closed: int, ago: int) -> None:
    open_ = [Reading(NOW - each, 0, 0) for each in range(59, -1, -1)]
    open_[59 - ago] = Reading(NOW - ago, closed, closed, 4, 0)
    assert judged(known(), open_).out == ()


def test_a_change_below_the_floor_is_not_out_however_certain() -> None:
    usually = usual(known(), None, NOW % WEEK).loss
    up = usually + 0.4 * min(usually, 1 - usually)
    assert "loss_rate" in signals(judged(known(), hour(10**6, up), SpikeRule(min_change=0.3)))
    assert signals(judged(known(), hour(10**6, up), SpikeRule(min_change=0.5))) == set()


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_campaign_that_multiplies_traffic_is_no_spike(times: int) -> None:
    now = usual(known(), None, NOW % WEEK)
    carts = 4 * times
    open_ = hour(round(now.closed_a_minute) * times, now.loss, carts, round(carts * now.per_cart))
    assert judged(known(), open_).out == ()


@pytest.mark.parametrize("since", [3, 8, 14])
def test_a_rush_of_carts_whose_orders_come_later_is_no_lack_of_orders(since: int) -> None:
    now = usual(known(), None, NOW % WEEK)
    orders = round(20 * now.per_cart)
    open_ = []
    for each in hour(7, now.loss, 20, orders):
        ago = NOW - each.minute
        rush = 5 if ago < since else 1
        open_.append(each._replace(carts=20 * rush, orders=orders * (5 if ago < since - 4 else 1)))
    assert "orders_per_cart" not in signals(judged(known(), open_))


def test_without_orders_the_leading_signal_is_out_before_any_session_has_closed() -> None:
    now = usual(known(), None, NOW % WEEK)
    open_ = hour(7, now.loss, 5, round(5 * now.per_cart))
    broken = [each._replace(orders=0) if each.minute > NOW - 10 else each for each in open_]
    assert signals(judged(known(), open_)) == set()
    found = judged(known(), broken)
    assert signals(found) == {"orders_per_cart"}
    [excess] = [each for each in found.out if each.signal == "orders_per_cart"]
    assert NOW - 12 <= excess.began <= NOW - 4
    assert excess.observed < excess.band < excess.expected


def test_orders_that_are_missing_since_make_a_doubtful_rate_certain() -> None:
    usually = usual(known(), None, NOW % WEEK)
    base = hour(7, usually.loss, 5, round(5 * usually.per_cart))
    up = [e._replace(lost=7 if e.minute % 3 else 5) if e.minute > NOW - 5 else e for e in base]
    fewer = [e._replace(orders=e.minute % 3) if e.minute > NOW - 35 else e for e in up]
    alone = max((e.score for e in judged(known(), up).out if e.signal == "loss_rate"), default=0.0)
    both = max((e.score for e in judged(known(), fewer).out if e.signal == "loss_rate"), default=0.0)
    assert alone < 1 <= both


def test_a_signal_that_is_not_asked_for_is_never_out() -> None:
    open_ = hour(50, 1.0, 20, 0)
    assert signals(judged(known(), open_)) >= {"loss_rate", "lost_count", "orders_per_cart"}
    for one in sorted(RULE.signals):
        found = judged(known(), open_, SpikeRule(signals=frozenset({one})))
        assert {each.signal for each in found.out} <= {one}


# -- what is learnt


def test_a_series_never_seen_is_learning_and_leans_on_what_is_above_it() -> None:
    found = judged(Memory(), hour(20, 1.0))
    assert found.learning
    assert found.out == ()
    prior = spike.prior_of(known())
    assert prior.loss == pytest.approx(USUAL_LOSS, abs=0.03)
    assert usual(Memory(), prior, 0).loss == pytest.approx(prior.loss)
    assert spike.prior_of(Memory(), prior).loss == pytest.approx(prior.loss)


def test_a_young_series_is_told_of_with_caution() -> None:
    young = taught([Reading(n, 4, 2) for n in range(240)], RULE)
    old = taught([Reading(n, 4, 2) for n in range(2 * WEEK)], RULE)

    def score(memory: Memory, upto: int) -> float:
        open_ = [Reading(upto + n, 4, 3) for n in range(60)]
        return max((each.score for each in judged(memory, open_).out), default=0.0)

    assert score(young, 240) < score(old, 2 * WEEK)


def spell(rate: float, weeks: float, known_weeks: int = 3) -> Memory:
    """What is remembered of a shop of 5 sessions a minute after so long at another rate."""
    memory = Memory()
    for minute in range(int((known_weeks + weeks) * WEEK)):
        usually = minute < known_weeks * WEEK
        lost = 2 + minute % 2 if usually else round(5 * rate)
        spike.remember(memory, Reading(minute, 5, lost), minute % WEEK, None, RULE)
    return memory


def test_an_alert_of_some_hours_is_not_learnt() -> None:
    four_hours = spell(0.8, weeks=4 / 168)
    assert usual(four_hours, None, 90).loss == pytest.approx(0.5, abs=0.03)


def test_a_level_that_lasts_is_learnt_in_the_end() -> None:
    assert usual(spell(0.8, weeks=6), None, 90).loss > 0.7


def test_a_rate_that_creeps_up_is_found_as_a_drift_and_one_that_does_not_is_not() -> None:
    def found(up: float) -> set[str]:
        chance = Random(1)
        memory, out = Memory(), set[str]()
        begins = 3 * WEEK
        readings = []
        for minute in range(begins + 2 * 1440):
            loss = 0.5 + up * min(1.0, max(0, minute - begins) / 1440)
            lost = sum(chance.random() < loss for _ in range(2))
            readings.append(Reading(minute, 2, lost))
            if minute >= 60:
                spike.remember(memory, readings[minute - 60], (minute - 60) % WEEK, None, RULE)
            if minute >= begins and not minute % 10:
                out |= signals(judged(memory, readings[-60:]))
        return out

    assert "drift" in found(0.12)
    assert found(0.0) == set()


def test_what_wavers_more_has_a_wider_band() -> None:
    open_ = hour(30, 0.6)
    calm = taught(minutes(Shop(400, 0.6, wavers=0.0005), 5, 3), RULE)
    wild = taught(minutes(Shop(400, 0.6, wavers=0.03), 5, 3), RULE)
    bands = [judged(memory, open_).band for memory in (calm, wild)]
    assert bands[0] is not None
    assert bands[1] is not None
    assert bands[0] + 0.03 < bands[1]


def test_a_day_of_23_or_25_hours_is_remembered_by_the_shops_clock() -> None:
    memory = Memory()
    for minute in range(2 * WEEK):
        # The clock goes back an hour in the night of the first Sunday, and forth in the second.
        slot = (minute - (60 if WEEK - 1320 <= minute < 2 * WEEK - 1320 else 0)) % WEEK
        evening = slot % 1440 >= 18 * 60
        spike.remember(memory, Reading(minute, 10, 8 if evening else 4), slot, None, RULE)
    assert usual(memory, None, 3 * 1440 + 12 * 60).loss == pytest.approx(0.4, abs=0.03)
    assert usual(memory, None, 3 * 1440 + 21 * 60).loss == pytest.approx(0.8, abs=0.05)


def test_a_memory_stays_small() -> None:
    assert len(_known()) < 4096


# -- states


scores = st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.99, 1.0, 2.0]), max_size=60)


@laws
@given(scores, st.integers(1, 4), st.integers(1, 5))
def test_a_signal_fires_after_minutes_out_in_a_row_and_is_over_after_minutes_well_inside(
    series: list[float], for_minutes: int, resolve_after: int
) -> None:
    rule = SpikeRule(for_minutes=for_minutes, resolve_after=resolve_after)
    standing: Standing | None = None
    out = inside = 0
    fires = False
    for minute, score in enumerate(series):
        excess = Excess("loss_rate", minute - 2, 0.9, 0.5, 0.6, score) if score else None
        standing, step = advance(standing, excess, minute, rule)
        was = fires
        if fires:
            inside = inside + 1 if score < 0.5 else 0
            fires = inside < resolve_after
            out = 0
        else:
            out = out + 1 if score >= 1 else 0
            fires, inside = out >= for_minutes, 0
        assert step.state == ("firing" if fires else "pending" if out else "within")
        assert step.changed == (was != fires)
        assert (standing is None) == (step.state == "within")
        if standing is not None:
            again = msgspec.msgpack.decode(msgspec.msgpack.encode(standing), type=Standing)
            assert again == standing


@laws
@given(scores)
def test_what_fires_began_where_it_was_first_out_and_keeps_that(series: list[float]) -> None:
    standing: Standing | None = None
    began = -1
    for minute, score in enumerate(series):
        excess = Excess("drift", minute - 7, 0.9, 0.5, 0.6, score) if score else None
        fresh = standing is None
        standing, step = advance(standing, excess, minute, RULE)
        if fresh and standing is not None:
            began = minute - 7
        if step.state != "within":
            assert step.began == began

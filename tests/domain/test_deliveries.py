"""Deliveries: the schedule of the specification, what answers make of them, and laws of any answers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import DeliveryFact
from streams.adapters.hook_facts import delivery_fact
from streams.domain.deliveries import (
    LIFETIME_MS,
    LONGEST_WAIT_MS,
    ORDER_MS,
    SCHEDULE_MS,
    Answer,
    Delivery,
    after,
    again,
    begun,
    beside,
    cancelled,
    given_up,
    goes_first,
    hurried,
    identity,
    one_line,
    retry_after_ms,
    wait_ms,
)
from streams.domain.hook_state import DeliveryRow, encode, is_stale
from tests.builders import NOON
from tests.domain.test_laws import laws

ALERT = f"{1:032x}"
OK = Answer(204)
BROKEN = Answer(500, "answered 500")
AWAY = Answer(None, "it cannot be connected to")

answers = st.one_of(
    st.sampled_from(
        [BROKEN, AWAY, Answer(302, "answered 302"), Answer(404, "answered 404"), Answer(503, "busy")]
    ),
    st.builds(
        Answer,
        st.sampled_from([429, 503, 500]),
        st.just("later"),
        st.integers(0, 10**12),
    ),
)


def delivery(number: int = 1, revision: int = 1) -> Delivery:
    return begun("e", "alerts", f"{number:032x}", revision, b"{}", NOON)


def played(one: Delivery, told: list[Answer]) -> list[Delivery]:
    """What it is after each answer, each attempt made when it is due and answered at once."""
    states = [one]
    for answer in told:
        last = states[-1]
        if last.next_at is None:
            break
        states.append(after(last, answer, last.next_at))
    return states


def test_attempts_are_made_on_the_schedule_of_the_specification() -> None:
    """Standard Webhooks 1.0.0, "Deliverability and reliability": the column "Time since start"."""
    starts = ["00:00:00", "00:00:05", "00:05:05", "00:35:05", "02:35:05"]
    starts += ["07:35:05", "17:35:05", "31:35:05", "51:35:05", "75:35:05"]
    since = [sum(SCHEDULE_MS[: n + 1]) // 1000 for n in range(len(SCHEDULE_MS))]
    assert [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in since] == starts


@given(st.integers(0, 10**6))
def test_every_wait_is_the_schedules_or_up_to_a_tenth_longer(number: int) -> None:
    states = played(delivery(number), [BROKEN] * 20)
    assert states[-1].status == "dead"
    assert states[-1].attempts == len(SCHEDULE_MS)
    attempts = [state.next_at for state in states[:-1]]
    assert attempts[0] == NOON
    for step, (one, next_one) in enumerate(itertools.pairwise(attempts), 1):
        assert one is not None
        assert next_one is not None
        assert SCHEDULE_MS[step] <= next_one - one <= SCHEDULE_MS[step] * 1.1


def test_what_failed_together_does_not_come_back_together_and_each_at_its_own_fixed_time() -> None:
    waits = [wait_ms(delivery(n).delivery_id, 2) for n in range(200)]
    assert len(set(waits)) > 150
    assert waits == [wait_ms(delivery(n).delivery_id, 2) for n in range(200)]
    spread = [(wait - SCHEDULE_MS[2]) / SCHEDULE_MS[2] for wait in waits]
    assert min(spread) < 0.01
    assert max(spread) > 0.09


@laws
@given(st.lists(answers, max_size=60), st.integers(0, 60))
def test_whatever_is_answered_it_ends_in_time_and_never_waits_for_long(
    told: list[Answer], arrives: int
) -> None:
    states = played(delivery(), [*told[:arrives], OK, *[BROKEN] * 20])
    for before, state in itertools.pairwise(states):
        assert state.version > before.version
        assert state.attempts == before.attempts + 1
        assert state.fact == (b"" if state.status == "delivered" else b"{}")
        if state.next_at is not None:
            assert before.next_at is not None
            assert before.next_at < state.next_at <= before.next_at + LONGEST_WAIT_MS * 1.1
    last = states[-1]
    assert last.status in ("delivered", "dead")
    assert last.next_at is None
    assert last.at is not None
    assert last.at - NOON <= LIFETIME_MS + LONGEST_WAIT_MS * 1.1


@given(st.lists(st.integers(0, 2_000), max_size=400))
def test_a_receiver_that_wants_it_at_once_again_and_again_does_not_use_up_the_attempts(
    asked: list[int],
) -> None:
    states = played(delivery(), [Answer(429, "later", wait) for wait in asked])
    assert states[-1].status == "waiting"
    waits = [b.next_at - a.next_at for a, b in itertools.pairwise(states) if a.next_at and b.next_at]
    assert all(wait >= 1_000 * (n + 1) for n, wait in enumerate(waits))


def test_a_receiver_that_always_wants_it_later_is_given_up_when_the_schedule_would_have_ended() -> None:
    states = played(delivery(), [Answer(429, "later", 10**9)] * 50)
    assert states[-1].status == "dead"
    assert states[-1].at is not None
    assert LIFETIME_MS - LONGEST_WAIT_MS < states[-1].at - NOON <= LIFETIME_MS


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    done = after(delivery(), Answer(status), NOON + 7)
    assert (done.status, done.http_status, done.error, done.next_at) == ("delivered", status, None, None)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 404, 418, 429, 500, 502, 599])
def test_anything_else_is_tried_again_a_redirect_too(status: int) -> None:
    waits = after(delivery(), Answer(status, f"answered {status}"), NOON)
    assert (waits.status, waits.step) == ("waiting", 1)


def test_a_2xx_that_broke_off_is_tried_again() -> None:
    waits = after(delivery(), Answer(200, "answered 200, and broke off"), NOON)
    assert (waits.status, waits.http_status) == ("waiting", 200)


def test_410_is_final_and_so_is_what_cannot_be_said() -> None:
    assert after(delivery(), Answer(410, "answered 410", 5), NOON).status == "dead"
    assert after(delivery(), Answer(None, "21,000 bytes", final=True), NOON).status == "dead"


def test_retry_after_takes_the_place_of_the_next_wait_and_is_bounded() -> None:
    later = after(delivery(), Answer(429, "answered 429", 40_000), NOON)
    assert (later.next_at, later.step) == (NOON + 40_000, 0)
    sooner = after(played(delivery(), [BROKEN] * 3)[-1], Answer(503, "answered 503", 10_000), NOON)
    assert sooner.next_at == NOON + 10_000
    longest = after(delivery(), Answer(429, "answered 429", 10**12), NOON)
    assert longest.next_at == NOON + LONGEST_WAIT_MS


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (None, None),
        ("120", 120_000),
        (" 0 ", 0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("9" * 400, 999_999_999_000),
        ("Mon, 02 Mar 2026 12:02:00 GMT", 120_000),
        ("Monday, 02-Mar-26 12:02:00 GMT", 120_000),
        ("Mon, 02 Mar 2026 13:02:00 +0100", 120_000),
        ("Mon, 02 Mar 2026 12:02:00", 120_000),
        ("Mon, 02 Mar 2020 12:02:00 GMT", 0),
        ("Mon, 99 Mar 2026 12:02:00 GMT", None),
        ("Mon, 02 Mar 99999 12:02:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, ms: int | None) -> None:
    assert retry_after_ms(text, NOON) == ms


@given(st.integers(631_152_000, 4_102_444_800), st.integers(0, 2**42))
def test_every_http_date_is_read_as_it_is_meant(at_s: int, now: int) -> None:
    date = datetime.fromtimestamp(at_s, UTC)
    assert retry_after_ms(format_datetime(date, usegmt=True), now) == max(0, at_s * 1000 - now)


@given(st.text())
def test_no_header_is_too_odd(text: str) -> None:
    found = retry_after_ms(text, NOON)
    assert found is None or found >= 0


def test_a_dead_delivery_can_be_had_again_and_a_cancelled_one_cannot() -> None:
    dead = played(delivery(), [BROKEN] * 20)[-1]
    fresh = again(dead, NOON * 2)
    assert (fresh.status, fresh.next_at, fresh.step, fresh.attempts) == (
        "waiting",
        NOON * 2,
        0,
        dead.attempts,
    )
    assert len(played(fresh, [BROKEN] * 20)) == len(SCHEDULE_MS) + 1
    gone = cancelled(dead, "the customer was erased", NOON)
    assert (again(gone, NOON), gone.fact) == (gone, b"")
    assert again(after(delivery(), OK, NOON), NOON).status == "delivered"


@given(st.integers(0, NOON))
def test_versions_grow_even_if_the_clock_is_put_back(earlier: int) -> None:
    one = delivery()
    changes = [
        after(one, BROKEN, earlier),
        again(one, earlier),
        given_up(one, "w", earlier),
        cancelled(one, "w", earlier),
        hurried(one, earlier),
    ]
    assert all(change.version == one.version + 1 for change in changes)
    for change in changes:
        old, new = encode(DeliveryRow(one)), encode(DeliveryRow(change))
        assert not is_stale(old, new)
        assert is_stale(new, old)


def test_an_older_revision_goes_first_only_while_it_is_to_be_tried_soon() -> None:
    states = played(delivery(), [BROKEN] * 4)
    assert [goes_first(state, (state.at or NOON)) for state in states] == [True, True, True, False, False]
    later = states[3]
    assert later.next_at is not None
    assert goes_first(later, later.next_at - ORDER_MS)
    assert not goes_first(after(delivery(), OK, NOON), NOON)


@laws
@given(st.lists(answers, max_size=60), st.integers(0, 9))
def test_attempts_beside_the_schedule_cost_nothing_of_it(told: list[Answer], step: int) -> None:
    before = state = played(delivery(), [BROKEN] * step)[-1]
    for answer in told:
        state = beside(state, answer, NOON)
        assert (state.status, state.step, state.postponed) == ("waiting", step, 0)
        assert before.next_at is not None
        assert state.next_at is not None
        assert before.next_at <= state.next_at <= max(before.next_at, NOON + LONGEST_WAIT_MS)
    assert state.attempts == before.attempts + len(told)
    assert beside(state, OK, NOON).status == "delivered"
    assert beside(state, Answer(410, "answered 410"), NOON).status == "dead"


def test_what_comes_after_a_revision_that_arrived_is_hurried_unless_the_receiver_wants_it_later() -> None:
    waits = played(delivery(), [BROKEN] * 3)[-1]
    assert hurried(waits, NOON + 9).next_at == NOON + 9
    assert hurried(waits, NOON + 9).step == waits.step
    later = after(delivery(), Answer(429, "later", 50_000), NOON)
    assert hurried(later, NOON + 9) == later


def test_the_id_is_of_endpoint_topic_subject_and_revision_and_the_key_of_the_last_two() -> None:
    names = [("a", "alerts", ALERT, 1), ("b", "alerts", ALERT, 1), ("a", "actions", ALERT, 1)]
    names += [("a", "alerts", f"{2:032x}", 1), ("a", "alerts", ALERT, 2), ("a", "alerts", ALERT, 11)]
    assert len({identity(*name) for name in names}) == len(names)
    one, other = begun("a", "alerts", ALERT, 7, b"", 1), begun("b", "alerts", ALERT, 7, b"", 2)
    assert one.webhook_id == other.webhook_id == f"{ALERT}-7"
    # The specification, "Signature scheme": no full stop, which parts what is signed.
    assert "." not in one.webhook_id


@given(st.text(max_size=2_000))
def test_an_error_is_one_short_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 300
    assert line.isprintable()
    assert line == line.strip()


@laws
@given(st.lists(answers, max_size=15))
def test_what_is_told_is_a_fact_of_the_contract_without_its_payload(told: list[Answer]) -> None:
    for state in [
        *played(delivery(), told),
        cancelled(delivery(), "gone", NOON),
        given_up(delivery(), "x", NOON),
    ]:
        key, value = delivery_fact(state)
        fact = DeliveryFact.model_validate_json(value)
        assert (fact.delivery_id, fact.webhook_id) == (key.decode(), state.webhook_id)
        assert (fact.next_at is None) == (fact.status != "waiting")


@pytest.mark.parametrize("away_for", [1_000, 60_000, 20 * 60_000, 3 * 3_600_000, 70 * 3_600_000])
def test_a_receiver_that_was_away_gets_it_at_the_first_attempt_after_it_is_back(away_for: int) -> None:
    """20 minutes: not at 0 s, 5 s, 5 min; at 35 min, and a tenth of that later at most."""
    state = delivery()
    while state.next_at is not None:
        state = after(state, AWAY if state.next_at < NOON + away_for else OK, state.next_at)
    assert state.status == "delivered"
    assert state.at is not None
    due = next(at for n in range(10) if (at := sum(SCHEDULE_MS[: n + 1])) >= away_for)
    assert state.at - NOON <= due * 1.1 + 1

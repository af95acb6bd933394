"""Whether the pipeline is found broken when it is, by its own rhythm, and left alone when it is not."""

from __future__ import annotations

import random
from math import exp, pi, sin

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.health import Beat, Health, HealthRule, TroubleNow, check, lagging
from streams.domain.policy import MINUTE

RULE = HealthRule()
TOPICS = {"visits": 60.0, "favorites": 4.0, "carts": 8.0, "orders": 5.0}
#: A Monday at 00:00 UTC, in minutes.
MONDAY = 29_540_160


def drawn(chance: random.Random, mean: float) -> int:
    """A Poisson number."""
    limit, count, product = exp(-mean), 0, chance.random()
    while product > limit:
        count += 1
        product *= chance.random()
    return count


def level(minute: int) -> float:
    """By day and night: a tenth of the noon's traffic at the least."""
    return 0.55 + 0.45 * sin((minute % 1440 / 1440 - 0.25) * 2 * pi)


def run(
    minutes: int,
    silent: frozenset[str] = frozenset(),
    since: int | None = None,
    scale: float = 1.0,
    seed: int = 1,
    health: Health | None = None,
    begin: int = MONDAY,
) -> tuple[Health, list[tuple[int, TroubleNow]]]:
    """Traffic by day and night; ``silent`` topics have nothing from the minute ``since`` on."""
    chance = random.Random(seed)
    health = health or Health()
    found = []
    for number in range(minutes):
        minute = begin + number
        received = {
            topic: drawn(chance, mean * scale * level(minute))
            for topic, mean in TOPICS.items()
            if not (topic in silent and since is not None and number >= since)
        }
        beat = Beat(minute, {t: n for t, n in received.items() if n}, {})
        found += [(number, each) for each in check(health, beat, RULE).troubles]
    return health, found


def test_three_weeks_of_days_and_nights_are_no_trouble() -> None:
    for scale, seed in ((1.0, 1), (0.1, 2), (0.02, 3)):
        _, found = run(21 * 1440, scale=scale, seed=seed)
        assert found == [], (scale, found[:2])


def test_orders_that_stop_are_found_within_minutes_by_day_and_later_by_night() -> None:
    noon, night = 3 * 1440 + 12 * 60, 3 * 1440
    for since, within in ((noon, 8), (night, 60)):
        _, found = run(since + 120, frozenset({"orders"}), since)
        number, first = found[0]
        assert (first.trouble, first.topic) == ("silent_topic", "orders")
        assert 0 < number - since <= within
        # By chance there may have been none for a minute or two before.
        assert since - 3 <= first.since - MONDAY <= since


def test_a_topic_is_suspect_before_it_is_silent() -> None:
    health, _ = run(720)
    for number in range(720, 722):
        found = check(health, Beat(MONDAY + number, {"visits": 60, "favorites": 4, "carts": 8}, {}), RULE)
    assert found.suspects == {"orders"}
    assert found.troubles == ()


def test_topics_that_are_all_silent_are_told_as_one() -> None:
    _, found = run(720 + 30, frozenset(TOPICS), 720)
    assert {(each.trouble, each.topic) for _, each in found} == {("silent_topic", "")}


def test_a_topic_that_fades_with_the_others_is_not_silent() -> None:
    health, _ = run(720)
    chance = random.Random(5)
    for number in range(720, 960):
        fades = max(0.1, 0.97 ** (number - 720))
        received = {topic: drawn(chance, mean * fades) for topic, mean in TOPICS.items()}
        beat = Beat(MONDAY + number, {t: n for t, n in received.items() if n}, {})
        assert check(health, beat, RULE).troubles == (), number


def test_a_topic_without_a_rhythm_is_never_silent() -> None:
    health = Health()
    for number in range(600):
        received = {"visits": 30, **({"orders": 1} if number < 20 else {})}
        assert check(health, Beat(MONDAY + number, received, {}), RULE).troubles == ()


def test_a_silence_that_ends_is_over_ten_minutes_later() -> None:
    health, found = run(780, frozenset({"orders"}), 720)
    assert found
    over = []
    for number in range(780, 800):
        beat = Beat(MONDAY + number, {"visits": 60, "favorites": 4, "carts": 8, "orders": 5}, {})
        over.append(bool(check(health, beat, RULE).troubles))
    assert over == [True] * 9 + [False] * 11


def test_a_burst_of_refused_records_is_found_and_a_few_are_not() -> None:
    health, _ = run(720)
    beat = Beat(MONDAY + 720, {"visits": 100, "carts": 8, "orders": 5}, {"visits": 2})
    assert check(health, beat, RULE).troubles == ()
    beat = Beat(MONDAY + 721, {"visits": 100, "carts": 8, "orders": 5}, {"visits": 60})
    [found] = check(health, beat, RULE).troubles
    assert (found.trouble, found.topic) == ("schema_errors", "visits")


def test_a_burst_of_machines_is_found_against_what_is_usual() -> None:
    health = Health()
    for number in range(720):
        assert check(health, Beat(MONDAY + number, {}, {}, bots=2, closed=40), RULE).troubles == ()
    troubles = []
    for number in range(720, 730):
        troubles = list(check(health, Beat(MONDAY + number, {}, {}, bots=60, closed=40), RULE).troubles)
    assert [each.trouble for each in troubles] == ["bot_burst"]


def test_what_is_read_late_is_a_lag() -> None:
    health = Health()
    assert check(health, Beat(MONDAY, {}, {}, lag_s=299), RULE).troubles == ()
    [found] = check(health, Beat(MONDAY + 1, {}, {}, lag_s=301), RULE).troubles
    assert (found.trouble, found.observed, found.band) == ("lag", 301, 300)


def test_that_nothing_gets_complete_is_a_lag_and_told_once() -> None:
    health, wall = Health(), (MONDAY + 1) * MINUTE
    assert lagging(health, MONDAY, wall + 299_000, RULE) is None
    assert lagging(health, MONDAY, wall + 301_000, RULE) is not None
    assert lagging(health, MONDAY, wall + 302_000, RULE) is None


@given(st.lists(st.dictionaries(st.sampled_from(sorted(TOPICS)), st.integers(0, 10**9)), max_size=40))
def test_health_that_is_kept_goes_on_as_if_it_had_not_been(beats: list[dict[str, int]]) -> None:
    one, other = Health(), Health()
    for number, received in enumerate(beats):
        other = msgspec.msgpack.decode(msgspec.msgpack.encode(other), type=Health)
        beat = Beat(MONDAY + number, received, {}, bots=number % 3, closed=number)
        assert check(one, beat, RULE) == check(other, beat, RULE)

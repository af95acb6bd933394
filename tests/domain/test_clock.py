"""The watermark rule and the deadlines: what holds time back, what moves it, who is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.clock import UNKNOWN, Deadlines, PartitionClock

NOBODY = frozenset[int]()


def clock_with(times: list[int]) -> PartitionClock:
    clock = PartitionClock(len(times))
    for topic, t in enumerate(times):
        clock.observe(topic, t)
    return clock


def test_the_watermark_is_the_minimum_over_the_topics() -> None:
    """The slowest topic decides."""
    assert clock_with([50, 30, 40]).advance(lambda topic, since: False) == 30


def test_without_a_word_from_every_topic_there_is_no_watermark() -> None:
    """A topic that has said nothing, and is not known to be read to its end, may hold anything."""
    clock = PartitionClock(2)
    clock.observe(0, 100)
    assert clock.advance(lambda topic, since: False) == UNKNOWN


def test_a_tick_moves_an_idle_topic_and_not_a_lagging_one() -> None:
    """Topic 1 is read to its end, topic 2 is not: it holds the watermark where its events are."""
    clock = clock_with([50, 10, 20])
    clock.tick(100, received=7.0)
    assert clock.advance(lambda topic, since: topic != 2) == 20
    assert clock.times == [100, 100, 20]
    assert clock.advance(lambda topic, since: True) == 100


def test_a_tick_counts_only_if_the_topic_was_read_to_its_end_after_it_came() -> None:
    """An earlier tick may hold where a later one does not yet."""
    clock = clock_with([0])
    clock.tick(100, received=1.0)
    clock.tick(200, received=2.0)
    assert clock.advance(lambda topic, since: since <= 1.0) == 100
    assert clock.advance(lambda topic, since: since <= 2.0) == 200


def test_the_watermark_never_goes_backwards() -> None:
    """A tick of a clock that was set back changes nothing."""
    clock = clock_with([500])
    clock.advance(lambda topic, since: False)
    clock.tick(300, received=1.0)
    assert clock.advance(lambda topic, since: True) == 500


def test_ticks_do_not_pile_up_behind_a_topic_that_is_never_read_to_its_end() -> None:
    """What is kept of the ticks is bounded by what topics still wait for."""
    clock = clock_with([0, 0])
    for n in range(10_000):
        clock.tick(n, received=float(n))
        clock.advance(lambda topic, since: topic == 0)
    assert len(clock._ticks) <= PartitionClock.MOST_TICKS


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5))),
    st.lists(st.integers(0, 6_000)),
    st.integers(1, 4),
)
def test_everyone_is_found_once_due_and_never_much_later(
    added: list[tuple[int, int]], watermarks: list[int], limit: int
) -> None:
    """A key added at t is found when the watermark is a granule past t, or before; nobody is lost."""
    granule = 250
    deadlines = Deadlines(granule)
    waiting: dict[bytes, int] = {}
    for at, name in added:
        key = b"%d" % name
        deadlines.add(key, at)
        waiting[key] = min(at, waiting.get(key, at))
    for watermark in sorted(watermarks):
        while found := list(deadlines.due(watermark, limit)):
            assert len(found) <= limit
            for key in found:
                waiting.pop(key, None)
        assert all(at + granule > watermark for at in waiting.values())
        following = deadlines.next()
        assert following is None or following > watermark
    assert not list(deadlines.due(-1, 10))


def test_a_topic_that_has_had_nothing_holds_the_watermark_until_a_tick_finds_it_read_to_its_end() -> None:
    """At the start of a replay the others may come first: what is the oldest of all may not be read yet."""
    clock = PartitionClock(2)
    clock.observe(0, 100)
    assert clock.advance(lambda *_: True) == UNKNOWN
    clock.tick(80, 1.0)
    assert clock.advance(lambda topic, _since: topic == 0) == UNKNOWN
    clock.observe(1, 50)
    assert clock.advance(lambda topic, _since: topic == 0) == 50
    assert clock.advance(lambda *_: True) == 80

"""What drives a spike is what loses more than is usual for it, not what is always large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.contributors import MOST_VALUES, Shares, contributors, learn
from streams.domain.windows import Cell

MINUTE = 29_540_160


def usual(minutes: int = 600) -> Shares:
    """Ten sessions a minute, half of them lost; ads have seven of ten, i1 eight."""
    shares = Shares()
    for number in range(minutes):
        learn(
            shares,
            Cell(
                MINUTE + number,
                closed=10,
                lost=5,
                channels={"ads": (7, 4), "search": (3, 1)},
                items={"i1": (8, 4), "i2": (2, 1)},
                stages={"bounced": 4, "carted": 1},
            ),
        )
    return shares


def cell(**changes: object) -> Cell:
    """A minute as usual, ten times over, but for ``changes``."""
    told: dict[str, object] = {
        "closed": 100,
        "lost": 50,
        "channels": {"ads": (70, 40), "search": (30, 10)},
        "items": {"i1": (80, 40), "i2": (20, 10)},
        "stages": {"bounced": 40, "carted": 10},
        **changes,
    }
    return Cell(MINUTE + 1000, **told)  # type: ignore[arg-type]


def test_a_minute_as_usual_has_nothing_that_drives_it() -> None:
    assert contributors(usual(), [cell()]) == ()


def test_of_a_shop_nothing_is_known_of_nothing_is_said() -> None:
    assert contributors(Shares(), [cell(lost=100)]) == ()


def test_one_channel_that_loses_all_comes_first_though_another_is_larger() -> None:
    broken = cell(
        lost=70, channels={"ads": (70, 40), "search": (30, 30)}, items={"i1": (80, 56), "i2": (20, 14)}
    )
    first, *rest = contributors(usual(), [broken])
    assert (first.dimension, first.value, first.observed) == ("channel", "search", 30)
    assert first.share > 0.9
    assert not [each for each in rest if each.dimension in ("channel", "item")]


def test_one_item_and_one_stage_are_each_found() -> None:
    broken = cell(
        lost=60,
        channels={"ads": (70, 48), "search": (30, 12)},
        items={"i1": (80, 40), "i2": (20, 20)},
        stages={"bounced": 40, "carted": 20},
    )
    found = contributors(usual(), [broken])
    assert {(each.dimension, each.value) for each in found} == {("item", "i2"), ("stage", "carted")}


def test_where_all_lose_more_alike_nothing_drives_it() -> None:
    worse = cell(
        lost=75,
        channels={"ads": (70, 58), "search": (30, 17)},
        items={"i1": (80, 60), "i2": (20, 15)},
        stages={"bounced": 60, "carted": 15},
    )
    assert [each for each in contributors(usual(), [worse]) if each.dimension != "destination"] == []


def test_more_traffic_at_the_usual_rate_drives_nothing() -> None:
    campaign = cell(closed=170, lost=90, channels={"ads": (140, 80), "search": (30, 10)})
    assert not [each for each in contributors(usual(), [campaign]) if each.value == "ads"]


def test_where_the_lost_went_is_said_when_it_is_new() -> None:
    found = contributors(usual(), [cell(lost=80, destinations={"rival": 12})])
    assert ("destination", "rival", 12.0) in [(e.dimension, e.value, e.observed) for e in found]


names = st.sampled_from(("", "a", "b", "c", "d"))
pairs = st.dictionaries(
    names, st.tuples(st.integers(1, 50), st.integers(0, 50)).map(lambda p: (p[0], min(p)))
)
counts = st.dictionaries(names, st.integers(1, 50))
cells = st.builds(
    Cell,
    minute=st.integers(MINUTE, MINUTE + 10**6),
    closed=st.integers(0, 100),
    lost=st.integers(0, 100),
    stages=counts,
    channels=pairs,
    items=pairs,
    destinations=counts,
)


@given(st.lists(cells, max_size=8), st.lists(cells, max_size=4), st.integers(1, 6))
def test_shares_are_parts_and_the_greatest_come_first(
    learnt: list[Cell], now: list[Cell], limit: int
) -> None:
    shares = Shares()
    for each in sorted(learnt, key=lambda cell: cell.minute):
        learn(shares, each)
    found = contributors(shares, now, limit)
    assert len(found) <= limit
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)
    assert all(0 < each.share <= 1 and each.value and each.observed > each.expected >= 0 for each in found)


def test_what_is_kept_is_bounded_and_the_past_fades() -> None:
    shares = Shares()
    for number in range(500):
        learn(shares, Cell(MINUTE + number, closed=1, lost=1, items={f"i{number}": (1, 1)}))
    assert len(shares.items) <= 2 * MOST_VALUES
    before = shares.lost / shares.closed
    for number in range(200):
        learn(shares, Cell(MINUTE + number * 1440 + 500, closed=10, lost=0))
    assert shares.lost / shares.closed < before / 10
    assert shares.closed < 1e9

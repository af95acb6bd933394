"""Scores at and beside the cut points, the tiers, and what is told of them."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from streams.domain.facts import Tier
from streams.domain.policy import DAY
from streams.domain.rfm import TIERS, Cuts, next_recency_change, recency_score, score, tier
from tests.domain.buyer_reference import Said
from tests.domain.buyer_stories import MODEL, START, Counter

CUTS = Cuts((2, 5, 10, 20), (1, 2, 3, 4), {"GBP": (10_000, 20_000, 30_000, 40_000)})


def test_a_value_equal_to_a_cut_point_lies_below_it() -> None:
    """So that the score of the lowest fifth includes its highest value."""
    assert [score(v, (10, 20, 30, 40)) for v in (0, 10, 11, 20, 40, 41)] == [1, 1, 2, 2, 4, 5]
    assert [recency_score(d, (2, 5, 10, 20)) for d in (0, 2, 3, 20, 21)] == [5, 5, 4, 2, 1]


def test_the_next_change_is_the_first_day_with_another_score() -> None:
    """Found without trying each day."""
    for days in range(21):
        change = next_recency_change(days, CUTS.recency)
        assert change is not None
        assert recency_score(change, CUTS.recency) < recency_score(change - 1, CUTS.recency)
        assert recency_score(change - 1, CUTS.recency) == recency_score(days, CUTS.recency)
    assert next_recency_change(21, CUTS.recency) is None


def test_every_score_has_a_tier_and_every_tier_a_score() -> None:
    """The grid covers R by FM."""
    found = {tier(r, f, m) for r, f, m in product(range(1, 6), repeat=3)}
    assert found == set(get_args(Tier)) == {t for row in TIERS for t in row}
    assert tier(5, 5, 5) == "champion"
    assert tier(1, 1, 1) == "dormant"
    assert tier(5, 1, None) == tier(5, 1, 1) == "new"


def test_cut_points_ascend() -> None:
    """What is published wrongly is refused when it is read."""
    with pytest.raises(ValueError, match="ascend"):
        Cuts((5, 2, 10, 20), (1, 2, 3, 4))


def test_a_tier_changes_by_silence_and_once_a_day() -> None:
    """One transition a day, from what the day began with; a day that ends as it began has none."""
    counter = Counter(model=MODEL.__class__("s", 1, MODEL.lapse, None, 0.5, CUTS))
    counter.take([Said(START, 0, "o", "placed", 25_000, "GBP")])
    counter.until(START + 30 * DAY)
    line = sorted((t for t in counter.transitions.values() if t.kind == "tier"), key=lambda t: t.at)
    assert [t.to_state for t in line] == ["new", "promising", "almost_lost", "dormant"]
    assert [t.from_state for t in line] == [None, "new", "promising", "almost_lost"]
    assert [t.cause for t in line] == ["order", "silence", "silence", "silence"]
    back = START + 30 * DAY + 1
    counter.take([Said(back, 1, "p", "placed", 25_000, "GBP")])
    counter.until(back)
    counter.take([Said(back + 1, 2, "p", "cancelled")])
    counter.until(back + 1)
    last = max((t for t in counter.transitions.values() if t.kind == "tier"), key=lambda t: t.at)
    assert (last.from_state, last.to_state, last.is_deleted) == ("dormant", "dormant", True)

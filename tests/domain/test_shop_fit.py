"""From buyers of several shops to what each is judged by, and how what was said is scored."""

from __future__ import annotations

import numpy as np
import pytest

from streams.domain.backtest import Judged, auc, flags, for_each, lead_at_the_cut, recency_rule, score, waits
from streams.domain.comeback import Comeback
from streams.domain.lapse import ModifiedBetaGeometric
from streams.domain.lapse_fit import MIN_BUYERS, Buyers, Floats
from streams.domain.shop_fit import SHORTEST_LESSON, Watched, learn, lesson_days
from tests.domain.simulated import simulate

TRUE = ModifiedBetaGeometric(0.9, 45.0, 0.8, 2.0)
WITHIN = 90


def buyers(count: int, seed: int) -> Buyers:
    return simulate(TRUE, count, 500, seed, whole_days=True).buyers


def lesson(count: int, seed: int, share: float = 1.0) -> Watched:
    """Buyers of whom ``share`` of as many come back as the true model says."""
    known = simulate(TRUE, count, 400, seed, whole_days=True).buyers
    says = for_each(known, lambda x, t_x, T: TRUE.p_returns(x, t_x, T, WITHIN))
    came = np.random.default_rng(seed).binomial(known.count.astype(int), share * says).astype(float)
    return Watched(known, came, WITHIN)


def each(said: list[float], came: list[int]) -> tuple[Floats, Watched]:
    """Buyers one by one; their histories are of no consequence."""
    n = len(said)
    return np.array(said), Watched(
        Buyers(*([np.zeros(n)] * 2), np.ones(n), np.ones(n)), np.array(came, float), 9
    )


def test_a_shop_is_calibrated_by_its_own_buyers_or_by_those_of_all() -> None:
    """Own where there were enough on both days; else the weights of all shops, on the shop's own model."""
    now = {"old": buyers(1200, 1), "young": buyers(600, 2), "few": buyers(MIN_BUYERS - 1, 3)}
    taught = {"old": lesson(1000, 4), "young": lesson(50, 5), "few": lesson(200, 6, share=0.5)}
    other, found = learn(now, taught, WITHIN)
    assert [found[s].basis for s in now] == ["own", "own", "pooled"]
    assert found["few"] == other
    comebacks = [found[s].comeback for s in now]
    assert all(c is not None and c.within == WITHIN for c in comebacks)
    old, young, pooled = (c for c in comebacks if c is not None)
    assert old.base == found["old"].parameters
    assert (young.intercept, young.slope, young.loyalty) == (pooled.intercept, pooled.slope, pooled.loyalty)
    assert young.base == found["young"].parameters != pooled.base
    assert (old.intercept, old.slope) != (pooled.intercept, pooled.slope)


def test_one_shop_alone_is_learnt_as_among_all() -> None:
    now = {"a": buyers(700, 1), "b": buyers(100, 2)}
    taught = {"a": lesson(500, 3), "b": lesson(80, 4)}
    other, every = learn(now, taught, WITHIN)
    for shop in now:
        assert learn(now, taught, WITHIN, only=shop) == (other, {shop: every[shop]})


def test_a_single_shop_is_all_shops() -> None:
    other, found = learn({"a": buyers(700, 1)}, {"a": lesson(500, 3)}, WITHIN)
    assert found["a"].basis == "own"
    assert (found["a"].parameters, found["a"].comeback) == (other.parameters, other.comeback)


def test_without_a_lesson_nobody_is_calibrated() -> None:
    """Without an earlier day, or with too few buyers on it, or with too few now."""
    now = {"a": buyers(700, 1)}
    for taught in ({}, {"a": lesson(20, 2)}):
        other, found = learn(now, taught, WITHIN)
        assert other.comeback is None
        assert found["a"].comeback is None
    _, found = learn({"a": buyers(20, 1)}, {"a": lesson(700, 2)}, WITHIN)
    assert found["a"].basis == "personal"
    assert found["a"].comeback is None


def test_a_lesson_is_the_span_or_half_of_what_is_known() -> None:
    assert lesson_days(90, 400) == 90
    assert lesson_days(90, 100) == 50
    assert lesson_days(90, 2 * SHORTEST_LESSON) == SHORTEST_LESSON
    assert lesson_days(90, 2 * SHORTEST_LESSON - 1) is None
    assert lesson_days(7, 14) == 7
    assert lesson_days(7, 13) is None


def test_watched_for_different_spans_cannot_be_joined() -> None:
    a, b = lesson(10, 1), lesson(10, 2)
    assert Watched.joined([a, b]).buyers.total == 20
    with pytest.raises(ValueError, match="same number of days"):
        Watched.joined([a, Watched(b.buyers, b.returned, 1)])


def test_auc_counts_pairs() -> None:
    """Right pairs of all pairs of one who came and one who did not; equal answers are half right."""
    assert auc(*each([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0])) == 1
    assert auc(*each([0.9, 0.8, 0.3, 0.1], [0, 1, 0, 1])) == pytest.approx(1 / 4)
    assert auc(*each([0.5, 0.5, 0.5], [1, 0, 0])) == pytest.approx(1 / 2)
    assert auc(*each([0.5, 0.5], [1, 1])) is None


def test_scores_by_hand() -> None:
    found = score(*each([0.9, 0.6, 0.4, 0.4], [1, 0, 1, 0]), [0.5])
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.16) / 4, abs=1e-4)
    assert found["flags"] == {"0.5": {"flagged": 2, "precision": 0.5, "recall": 0.5}}
    assert [(b["buyers"], b["said"], b["returned"]) for b in found["reliability"]] == [
        (2, 0.4, 0.5),
        (1, 0.6, 0.0),
        (1, 0.9, 1.0),
    ]
    nobody = flags(np.zeros(2, dtype=bool), each([0.9, 0.8], [1, 1])[1])
    assert nobody == {"flagged": 0, "precision": None, "recall": None}


def test_groups_score_as_their_buyers_one_by_one() -> None:
    """Whatever is computed of groups is what it would be of a row a buyer."""
    grouped = lesson(900, 7)
    times = grouped.buyers.count.astype(int)
    b = grouped.buyers
    columns = (np.repeat(column, times) for column in (b.x, b.t_x, b.T))
    came = np.concatenate(
        [np.arange(n) < k for n, k in zip(times.tolist(), grouped.returned.tolist(), strict=True)]
    )
    single = Watched(Buyers(*columns, np.ones(times.sum())), came.astype(float), WITHIN)
    comeback = Comeback(TRUE, float(WITHIN))
    results = []
    for seen in (grouped, single):
        rule = recency_rule(seen, seen.buyers, WITHIN)
        said = for_each(seen.buyers, comeback.p)
        results.append(
            (
                score(said, seen, [0.3, 0.5]),
                score(rule, seen, [0.5]),
                lead_at_the_cut([Judged(comeback, seen)], 60, 0.5),
            )
        )
    assert results[0] == results[1]
    assert "why_not" not in results[0][2]


def test_leads_of_shops_are_by_each_ones_model() -> None:
    """Two shops under one model are one shop; under another model the flags are others."""
    a, b = lesson(700, 8), lesson(500, 9)
    one, other = Comeback(TRUE, 90.0), Comeback(TRUE, 90.0, intercept=1.5)
    together = lead_at_the_cut([Judged(one, Watched.joined([a, b]))], 60, 0.5)
    assert lead_at_the_cut([Judged(one, a), Judged(one, b)], 60, 0.5) == together
    assert lead_at_the_cut([Judged(one, a), Judged(other, b)], 60, 0.5) != together


def test_a_rule_that_flags_hardly_anybody_is_not_compared() -> None:
    assert lead_at_the_cut([Judged(Comeback(TRUE, 90.0), lesson(30, 1))], 60, 0.5)["why_not"].endswith(
        "buyers"
    )


def test_waits_are_the_silences_after_which_buyers_lapse() -> None:
    comeback = Comeback(TRUE, 90.0)
    x, t_x = np.array([0.0, 3.0, 0.0]), np.array([0.0, 60.0, 0.0])
    found = waits(comeback, x, t_x, 0.4)
    assert found[0] == found[2] == comeback.lapsing_at(0, 0.0, 0.4)
    assert found[1] == pytest.approx((comeback.lapsing_at(3, 60.0, 0.4) or 0) - 60)

"""Lift: published figures, agreement with scipy, and a simulation whose lift is planted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from streams.domain.lift import Group, lift, p_value, wilson

groups = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        # Newcombe 1998, table II, method 10: the contrasts (a) to (h).
        (Group(70, 56), Group(80, 48), 0.0524, 0.3339),
        (Group(10, 9), Group(10, 3), 0.1705, 0.8090),
        (Group(7, 6), Group(7, 2), 0.0582, 0.8062),
        (Group(56, 5), Group(29, 0), -0.0381, 0.1926),
        (Group(10, 0), Group(20, 0), -0.1611, 0.2775),
        (Group(10, 0), Group(10, 0), -0.2775, 0.2775),
        (Group(10, 10), Group(20, 0), 0.6791, 1.0000),
        (Group(10, 10), Group(10, 0), 0.6075, 1.0000),
    ],
)
def test_the_interval_is_the_published_one(one: Group, other: Group, low: float, high: float) -> None:
    found = lift(one, other)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(groups)
def test_a_rates_interval_is_wilsons(group: tuple[int, int]) -> None:
    n, bought = group
    told = binomtest(bought, n).proportion_ci(method="wilson")
    assert wilson(Group(n, bought)) == pytest.approx((told.low, told.high), abs=1e-9)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_where_few_are_expected_the_test_is_the_exact_one(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    bought = a + b
    if min(n, m) * min(bought, n + m - bought) / (n + m) >= 1:
        return
    told = fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert p_value(Group(n, a), Group(m, b)) == pytest.approx(told, rel=1e-6)


def test_else_it_is_the_chi_squared_test_of_n_less_one() -> None:
    # 56 of 70 and 48 of 80: (ad - bc)² (N - 1) over the product of the four margins.
    chi_squared = (56 * 32 - 48 * 14) ** 2 * 149 / (70 * 80 * 104 * 46)
    assert chi_squared == pytest.approx(6.976, abs=1e-3)
    assert p_value(Group(70, 56), Group(80, 48)) == pytest.approx(0.00826, abs=1e-5)


@given(groups, groups)
def test_the_interval_holds_the_difference_and_stays_in_range(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    found = lift(Group(*one), Group(*other))
    assert found is not None
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert 0 <= found.p_value <= 1
    turned = lift(Group(*other), Group(*one))
    assert turned is not None
    assert turned.low == pytest.approx(-found.high)
    assert turned.p_value == pytest.approx(found.p_value)


def test_nobody_cannot_be_compared() -> None:
    assert lift(Group(0, 0), Group(10, 1)) is None
    assert lift(Group(10, 1), Group(0, 0)) is None
    with pytest.raises(ValueError, match="11 of 10"):
        lift(Group(10, 11), Group(10, 1))


def _drawn(chance: random.Random, customers: int, rate: float) -> Group:
    return Group(customers, sum(chance.random() < rate for _ in range(customers)))


def test_a_planted_lift_is_inside_of_the_interval_as_often_as_promised() -> None:
    """500 shops in which acting raises 12 % to 20 %, a tenth of the customers being left alone."""
    chance = random.Random(3)
    runs = [lift(_drawn(chance, 1800, 0.20), _drawn(chance, 200, 0.12)) for _ in range(500)]
    inside = sum(run is not None and run.low <= 0.08 <= run.high for run in runs)
    found = sum(run is not None and run.p_value < 0.05 for run in runs)
    # Binomial: 95 % of 500, give or take three standard deviations of 4.9.
    assert 460 <= inside <= 490
    assert found > 350
    assert sum(run.difference for run in runs if run is not None) / 500 == pytest.approx(0.08, abs=0.004)


def test_where_acting_does_nothing_a_lift_is_found_as_rarely_as_promised() -> None:
    chance = random.Random(4)
    runs = [lift(_drawn(chance, 900, 0.1), _drawn(chance, 100, 0.1)) for _ in range(500)]
    assert 10 <= sum(run is not None and run.p_value < 0.05 for run in runs) <= 40

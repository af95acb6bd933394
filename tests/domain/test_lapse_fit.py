"""Fitting: the figures of the papers from the real purchases, and what any fit must do."""

from __future__ import annotations

import time
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from streams.domain import lapse_fit
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric, PersonalRhythm
from streams.domain.lapse_fit import Buyers, Fitted, calibrate, fit, fit_best, fit_shops, log_likelihood
from tests.domain.purchases import Purchases, cdnow_sample, online_retail
from tests.domain.simulated import simulate

laws = settings(max_examples=60, deadline=None, derandomize=True)
TRUE = {
    BetaGeometric: BetaGeometric(0.6, 30.0, 0.8, 2.5),
    ModifiedBetaGeometric: ModifiedBetaGeometric(0.9, 45.0, 0.8, 2.0),
}
CALIBRATION_END = date(1997, 9, 30).toordinal()


def loaded(purchases: Purchases | str) -> Purchases:
    if isinstance(purchases, str):
        pytest.skip(purchases)
    return purchases


@pytest.fixture(scope="module")
def cdnow() -> Buyers:
    """The sample to 1997-09-30, in weeks."""
    known = loaded(cdnow_sample()).histories(CALIBRATION_END)
    return Buyers.grouped(known.x, known.t_x / 7, known.T / 7)


def test_cdnow_is_the_papers(cdnow: Buyers) -> None:
    """2,357 buyers with these repeat counts."""
    counts = [int(cdnow.count[cdnow.x == n].sum()) for n in range(7)]
    assert cdnow.total == 2357
    assert [*counts, int(cdnow.count[cdnow.x >= 7].sum())] == [1411, 439, 214, 100, 62, 38, 29, 64]


def test_bg_nbd_of_cdnow(cdnow: Buyers) -> None:
    """The published fit, to four digits and more, in under 5 seconds."""
    began = time.perf_counter()
    found = fit(cdnow, BetaGeometric)
    assert time.perf_counter() - began < 5
    p = found.parameters
    assert [round(v, 4) for v in (p.r, p.alpha, p.a, p.b)] == [0.2426, 4.4136, 0.7929, 2.4259]
    assert round(found.log_likelihood, 2) == -9582.43
    assert found.converged
    assert round(p.p_alive(2, 30.43, 38.86), 4) == 0.7266
    assert round(p.p_alive(2, 5.0, 38.86), 4) == 0.1237
    assert round(p.expected(2, 30.43, 38.86, 39), 3) == 1.226


def test_cdnow_in_days_is_the_same_model(cdnow: Buyers) -> None:
    """A unit of time is a unit of alpha, and nothing else."""
    in_days = fit(Buyers.grouped(cdnow.x, cdnow.t_x * 7, cdnow.T * 7, cdnow.count), BetaGeometric).parameters
    in_weeks = fit(cdnow, BetaGeometric).parameters.scaled(7)
    assert in_days.alpha == pytest.approx(in_weeks.alpha, rel=1e-5)
    assert in_days.b == pytest.approx(in_weeks.b, rel=1e-5)


def test_online_retail_in_days() -> None:
    """Repeat purchases, repeaters and the sums of recency and T at the end of the data."""
    purchases = loaded(online_retail())
    known = purchases.histories(date(2011, 12, 9).toordinal())
    buyers = known.buyers
    assert (buyers.total, buyers.repeaters) == (4339, 2790)
    assert (known.x.sum(), known.t_x.sum(), known.T.sum()) == (12427, 567287, 966655)
    assert (buyers.x @ buyers.count, buyers.t_x @ buyers.count, buyers.T @ buyers.count) == (
        12427,
        567287,
        966655,
    )


@pytest.mark.parametrize("model", [BetaGeometric, ModifiedBetaGeometric])
def test_parameters_are_recovered(model: Fitted) -> None:
    """From 20,000 simulated buyers: within a tenth; a and b, which pull together, within a quarter."""
    true = TRUE[model]
    found = fit(simulate(true, 20_000, 700, seed=7).buyers, model)
    assert found.converged
    assert found.parameters.r == pytest.approx(true.r, rel=0.1)
    assert found.parameters.alpha == pytest.approx(true.alpha, rel=0.1)
    assert found.parameters.a == pytest.approx(true.a, rel=0.25)
    assert found.parameters.b == pytest.approx(true.b, rel=0.25)
    assert found.log_likelihood >= log_likelihood(true, simulate(true, 20_000, 700, seed=7).buyers)


@pytest.mark.parametrize("model", [BetaGeometric, ModifiedBetaGeometric])
def test_the_likelier_model_is_the_true_one(model: Fitted) -> None:
    """Of buyers simulated by either model the fit tells by which."""
    assert type(fit_best(simulate(TRUE[model], 6_000, 700, seed=3).buyers).parameters) is model


groups = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=30
).map(lambda rows: [(x, t_x if x else 0, (t_x if x else 0) + more) for x, t_x, more in rows])
logs = st.tuples(*[st.floats(-2, 3)] * 4)


@laws
@given(groups, st.lists(st.integers(0, 29), max_size=60), logs, st.sampled_from(list(TRUE)))
def test_grouping_changes_no_likelihood(
    rows: list[tuple[int, int, int]], again: list[int], at: tuple[float, ...], model: Fitted
) -> None:
    """The sum over groups is the sum over buyers."""
    every = np.array(rows + [rows[i % len(rows)] for i in again], dtype=float)
    one_by_one = Buyers(every[:, 0], every[:, 1], every[:, 2], np.ones(len(every)))
    grouped = Buyers.grouped(every[:, 0], every[:, 1], every[:, 2])
    parameters = model(*np.exp(at))
    assert grouped.total == one_by_one.total
    assert len(grouped.x) == len(set(map(tuple, every)))
    assert log_likelihood(parameters, grouped) == pytest.approx(log_likelihood(parameters, one_by_one))


@laws
@given(groups, logs, st.booleans())
def test_gradient_is_the_slope(
    rows: list[tuple[int, int, int]], at: tuple[float, ...], modified: bool
) -> None:
    """The analytic gradient is the numeric one."""
    likelihood = lapse_fit._Likelihood(Buyers.grouped(*np.array(rows, dtype=float).T), modified)
    numeric = approx_fprime(np.array(at), lambda p: likelihood(p)[0], 1e-6)
    assert likelihood(np.array(at))[1] == pytest.approx(numeric, rel=1e-3, abs=1e-4)


def test_shops_with_few_buyers_use_the_pooled_fit() -> None:
    """Own fit, pooled fit, and for a marketplace with too few buyers at all the personal rhythm."""
    many = simulate(TRUE[ModifiedBetaGeometric], 2000, 400, seed=1).buyers
    few = simulate(TRUE[ModifiedBetaGeometric], lapse_fit.MIN_BUYERS - 1, 400, seed=2).buyers
    other, models = fit_shops({"many": many, "few": few, "none": Buyers.grouped([], [], [])})
    assert [models[s].basis for s in ("many", "few", "none")] == ["own", "pooled", "pooled"]
    assert models["few"].parameters == other.parameters
    assert other.fit is not None
    assert other.fit.buyers == many.total + few.total
    other, models = fit_shops({"few": few})
    assert models["few"].basis == other.basis == "personal"
    assert models["few"].parameters == PersonalRhythm()


def test_calibration_mends_odds_that_are_off() -> None:
    """Where half as many return as the model says, the calibrated one says so; where none do, nothing."""
    model = TRUE[ModifiedBetaGeometric]
    world = simulate(model, 20_000, 700, seed=5)
    buyers = world.buyers
    rows = list(zip(buyers.x.astype(int), buyers.t_x, buyers.T, strict=True))
    half = buyers.count * np.array([model.p_returns(*row, 90) for row in rows]) / 2
    calibrated = calibrate(model, 90, model, buyers, half, 90)
    said = buyers.count @ np.array([calibrated.p(*row) for row in rows])
    assert said == pytest.approx(half.sum(), rel=0.01)
    nobody = calibrate(model, 90, model, buyers, np.zeros(len(rows)), 90)
    assert (nobody.intercept, nobody.slope, nobody.loyalty) == (0, 1, 0)


def test_what_cannot_be_fitted_is_refused() -> None:
    """Histories that are none, and shops where nobody came back."""
    with pytest.raises(ValueError, match="not buyers' histories"):
        Buyers.grouped([1], [5], [4])
    with pytest.raises(ValueError, match="not buyers' histories"):
        Buyers.grouped([0], [1], [4])
    with pytest.raises(ValueError, match="differ in length"):
        Buyers.grouped([0, 1], [0], [4])
    with pytest.raises(ValueError, match="second purchase"):
        fit(Buyers.grouped([0, 0], [0, 0], [3, 4]), BetaGeometric)
    with pytest.raises(ValueError, match="returned"):
        calibrate(PersonalRhythm(), 90, PersonalRhythm(), Buyers.grouped([0], [0], [4]), [2.0], 90)

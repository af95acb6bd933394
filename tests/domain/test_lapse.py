"""Laws of the lapse models, and the figures of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import hyp2f1

from streams.domain.comeback import OVERDUE_SHARE, Comeback
from streams.domain.lapse import (
    BetaGeometric,
    LapseModel,
    ModifiedBetaGeometric,
    Parameters,
    PersonalRhythm,
    mixed_count,
)

laws = settings(max_examples=200, deadline=None, derandomize=True)

# As published (Fader, Hardie and Lee 2005), in weeks.
CDNOW = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Spread evenly over orders of magnitude."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


shapes = st.tuples(between(0.05, 20), between(0.5, 300), between(0.05, 20), between(0.1, 50))
models: st.SearchStrategy[Parameters] = st.one_of(
    shapes.map(lambda p: BetaGeometric(*p)),
    shapes.map(lambda p: ModifiedBetaGeometric(*p)),
    st.builds(PersonalRhythm, between(1, 300), between(0.1, 10), st.floats(0.01, 0.9)),
)
comebacks = st.builds(
    Comeback, models, between(1, 400), st.floats(-2, 2), st.floats(0.3, 3), st.floats(-0.5, 0.5)
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, float, float]:
    """(x, t_x, T); a one-time buyer's last purchase is the first."""
    x = draw(st.integers(0, 200))
    t_x = draw(between(0.5, 1000)) if x else 0.0
    return x, t_x, t_x + draw(st.just(0.0) | between(0.1, 1000))


@pytest.mark.parametrize(
    ("history", "alive"),
    [((2, 30.43, 38.86), 0.7266), ((1, 1.71, 38.86), 0.2121), ((2, 5.0, 38.86), 0.1237)],
)
def test_p_alive_of_the_paper(history: tuple[int, float, float], alive: float) -> None:
    """P(alive) of three CDNOW buyers under the published parameters."""
    assert round(CDNOW.p_alive(*history), 4) == alive


def test_expectation_of_the_paper() -> None:
    """E[Y(39) | x = 2, t_x = 30.43, T = 38.86], in weeks and in days."""
    assert round(CDNOW.expected(2, 30.43, 38.86, 39), 3) == 1.226
    assert round(CDNOW.scaled(7).expected(2, 30.43 * 7, 38.86 * 7, 39 * 7), 3) == 1.226


def textbook(r: float, alpha: float, a: float, b: float, t: float) -> float:
    """``mixed_count`` as it is printed, with SciPy's Gaussian hypergeometric function."""
    z = t / (alpha + t)
    return float((a + b - 1) / (a - 1) * (1 - (1 - z) ** r * hyp2f1(r, b, a + b - 1, z)))


@laws
@given(
    between(0.05, 10),
    between(1, 300),
    between(0.05, 10),
    between(0.5, 10),
    st.integers(0, 20),
    between(0.1, 3000),
)
def test_expectation_is_the_textbooks(r: float, alpha: float, a: float, b: float, x: int, t: float) -> None:
    """The rearranged series and the quadrature agree with the printed formula where that can be computed."""
    if abs(a - 1) < 1e-3 or abs(a + b + x - 1) < 1e-3 or t / (alpha + t) < 0.01:
        return  # the printed form divides by nothing there, or subtracts nearly equal numbers
    assert mixed_count(r + x, alpha, a, b + x, t) == pytest.approx(
        textbook(r + x, alpha, a, b + x, t), rel=2e-6
    )


@pytest.mark.parametrize("t", [0.5, 20.0, 40.0, 5000.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 2.5), (0.4, 0.6), (30.0, 5.0), (1.0 + 1e-9, 0.2)])
def test_expectation_where_the_textbook_divides_by_zero(a: float, b: float, t: float) -> None:
    """At a = 1 and a + b = 1 too, the expectation is the integral it stands for."""
    r, alpha = 0.7, 4.0
    beta = math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))

    def of_logit(u: float) -> float:
        p, q = 1 / (1 + math.exp(-u)), 1 / (1 + math.exp(u))
        return p**a * q**b / beta * -math.expm1(-r * math.log1p(p * t / alpha)) / p

    integral = sum(quad(of_logit, low, low + 10, epsrel=1e-11)[0] for low in range(-120, 120, 10))
    assert mixed_count(r, alpha, a, b, t) == pytest.approx(integral, rel=1e-7)


@laws
@given(models, histories(), between(0.1, 500), between(0.1, 500))
def test_probabilities_are_probabilities_and_fall_with_silence(
    model: LapseModel, history: tuple[int, float, float], more: float, within: float
) -> None:
    """P(alive) and P(returns) lie in [0, 1] and never grow while nothing is bought."""
    x, t_x, T = history
    for question in (model.p_alive, lambda *of: model.p_returns(*of, within)):
        now, later = question(x, t_x, T), question(x, t_x, T + more)
        assert 0 <= later <= now * (1 + 1e-12) <= 1 + 1e-12
    assert model.p_returns(x, t_x, T, within) <= model.p_alive(x, t_x, T)


@laws
@given(models, histories(), between(0.1, 500), between(0.01, 500))
def test_more_time_expects_more(
    model: LapseModel, history: tuple[int, float, float], within: float, more: float
) -> None:
    """Expected purchases grow with the span from nothing, and are at least the probability of any."""
    expected = model.expected(*history, within)
    assert model.expected(*history, 0.0) == 0
    assert 0 <= expected <= model.expected(*history, within + more) * (1 + 1e-6)
    assert expected >= model.p_returns(*history, within) * (1 - 1e-6)


def consistent(
    p: Callable[[int, float, float], float], at: float, x: int, t_x: float, threshold: float
) -> None:
    """The crossing: at most the threshold there and after it, more before it."""
    silence = at - t_x
    slack = 1e-5 * threshold
    assert p(x, t_x, at + 1e-4 * silence) <= threshold + slack
    if at > t_x:
        assert p(x, t_x, at) == pytest.approx(threshold, rel=1e-3)
        assert p(x, t_x, t_x + silence * 0.999) >= threshold - slack


@laws
@given(models, histories(), st.floats(0.01, 0.99))
def test_crossing_is_where_p_alive_meets_the_threshold(
    model: LapseModel, history: tuple[int, float, float], threshold: float
) -> None:
    """The solved instant and P(alive) say the same; None only of whoever stays above for good."""
    x, t_x, _ = history
    at = model.crosses_at(x, t_x, threshold)
    if at is None:
        assert model.p_alive(x, t_x, t_x + 0.99e9) > threshold
    else:
        consistent(model.p_alive, at, x, t_x, threshold)


@laws
@given(comebacks, histories(), st.floats(0.01, 0.99))
def test_crossing_of_a_comeback(
    comeback: Comeback, history: tuple[int, float, float], threshold: float
) -> None:
    """The instant at which too few like this buyer would still return in time."""
    x, t_x, _ = history
    at = comeback.crosses_at(x, t_x, threshold)
    if at is None:
        assert comeback.p(x, t_x, t_x + 0.2e9) > threshold
    else:
        consistent(comeback.p, at, x, t_x, threshold)


@laws
@given(comebacks, histories(), st.floats(0.01, 0.99))
def test_lapsing_is_overdue_and_unlikely_to_return(
    comeback: Comeback, history: tuple[int, float, float], threshold: float
) -> None:
    """Nobody is lapsing before both hold; both do from then on."""
    x, t_x, _ = history
    at = comeback.lapsing_at(x, t_x, threshold)
    if at is None:
        assert comeback.crosses_at(x, t_x, threshold) is None
        return
    due = comeback.base.next_due(x, t_x, OVERDUE_SHARE)
    assert at >= due
    if at < 1e9:
        assert comeback.p(x, t_x, at) <= threshold * (1 + 1e-6)
    if at > due:
        assert comeback.p(x, t_x, t_x + (at - t_x) * 0.999) >= threshold * (1 - 1e-6)


@laws
@given(models, histories(), st.floats(0.01, 0.99))
def test_next_due_is_the_quantile_of_the_next_gap(
    model: LapseModel, history: tuple[int, float, float], share: float
) -> None:
    """Of buyers surely not lapsed, as all are at the purchase, ``share`` are back by then."""
    x, t_x, _ = history
    due = model.next_due(x, t_x, share)
    assert due > t_x
    back = model.p_returns(x, t_x, t_x, due - t_x) / model.p_alive(x, t_x, t_x)
    assert back == pytest.approx(share, rel=1e-9)


def test_a_one_time_buyer_lapses_only_in_the_modified_model() -> None:
    """BG/NBD gives a one-time buyer no chance to lapse; the modified one and the personal rhythm do."""
    r, alpha, a, b = 0.5, 40.0, 0.9, 1.6
    plain, modified = BetaGeometric(r, alpha, a, b), ModifiedBetaGeometric(r, alpha, a, b)
    assert plain.p_alive(0, 0, 5000) == 1
    assert plain.crosses_at(0, 0, 0.5) is None
    assert modified.p_alive(0, 0, 5000) < 0.2
    assert modified.crosses_at(0, 0, 0.5) is not None
    assert PersonalRhythm().crosses_at(0, 0, 0.5) is not None


def test_rhythm_is_shrunk_towards_the_default() -> None:
    """Ten gaps of a week speak louder than one default gap of a month; none says the default."""
    rhythm = PersonalRhythm(default_gap=30, weight=1, lapse=0.2)
    assert rhythm.rhythm(0, 0) == 30
    assert rhythm.rhythm(10, 70) == pytest.approx(100 / 11)
    weekly, unknown = rhythm.crosses_at(10, 70, 0.5), rhythm.crosses_at(0, 0, 0.5)
    assert weekly is not None
    assert unknown is not None
    assert weekly - 70 < unknown


@laws
@given(models)
def test_parameters_survive_the_wire(model: Parameters) -> None:
    """Published and read back, they are the same model."""
    assert msgspec.json.decode(msgspec.json.encode(model), type=Parameters) == model
    comeback = Comeback(model, 90.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(comeback), type=Comeback) == comeback


@pytest.mark.parametrize("history", [(-1, 0.0, 1.0), (1, 5.0, 4.0), (1, -1.0, 4.0), (1, math.nan, 4.0)])
@pytest.mark.parametrize("model", [CDNOW, ModifiedBetaGeometric(1, 1, 1, 1), PersonalRhythm()])
def test_what_is_no_history_is_refused(model: LapseModel, history: tuple[int, float, float]) -> None:
    """A purchase after now, or before the first, is an error of the caller and not a probability."""
    with pytest.raises(ValueError, match="not a buyer's history"):
        model.p_alive(*history)


def test_senseless_parameters_are_refused() -> None:
    """Parameters are positive, a chance is below 1, a threshold between."""
    with pytest.raises(ValueError, match="alpha"):
        BetaGeometric(1, 0, 1, 1)
    with pytest.raises(ValueError, match="lapse"):
        PersonalRhythm(lapse=1.0)
    with pytest.raises(ValueError, match="slope"):
        Comeback(CDNOW, 90, slope=-1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        CDNOW.crosses_at(1, 1.0, 1.0)
    with pytest.raises(ValueError, match="span"):
        CDNOW.expected(1, 1.0, 2.0, -1.0)

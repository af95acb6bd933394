"""Is this buyer still a buyer? Models of lapsing, their frozen parameters, and the instants they solve for.

A buyer is three numbers, counted from the day of the first purchase:

    x     repeat purchases: days with a purchase after the first one
    t_x   when the last purchase was; 0 when there was only one
    T     now

    first              last                      now
      ├──●────●──────────●─────────────────────────┤──────── H ───────┤
      0                 t_x                        T                T + H

Every model answers the same questions (``LapseModel``), each in microseconds and without numpy, since the
stream asks them of one buyer at a time. Times are floats in the unit of the model's ``alpha`` or
``default_gap``; the stream's unit is the day (a day is 86,400,000 ms of event time). ``scaled`` turns a fit
in weeks into one in days.

Sources: BG/NBD: Fader, Hardie and Lee 2005, "Counting Your Customers" the Easy Way, Marketing Science
24(2). Modified BG/NBD: Batislam, Denizel and Filiztekin 2007, IJRM 24(3); Hoppe and Wagner 2007, Marketing
JRM 3(2).
"""

from __future__ import annotations

import itertools
import math
from typing import Final, Protocol

import msgspec

DAY_MS: Final = 86_400_000
"""Milliseconds of event time in the stream's unit of lapse models."""

FARTHEST: Final = 1e9
"""A crossing later than this many units is never: no deadline is set for it."""


class LapseModel(Protocol):
    """What the stream asks, whichever model a shop has. ValueError unless x >= 0 and 0 <= t_x <= T."""

    def p_alive(self, x: int, t_x: float, T: float) -> float:
        """P(the buyer will ever buy again), in [0, 1]; never grows with silence."""

    def p_returns(self, x: int, t_x: float, T: float, within: float) -> float:
        """P(at least one purchase in (T, T + within]), in [0, 1]: the probability that backtests score."""

    def expected(self, x: int, t_x: float, T: float, within: float) -> float:
        """Purchases to expect in (T, T + within], lapsed buyers counting as none."""

    def next_due(self, x: int, t_x: float, share: float = 0.5) -> float:
        """When, on the axis of T, ``share`` of buyers like this one who have not lapsed have bought again."""

    def crosses_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """The first T >= t_x at which ``p_alive`` is at most ``threshold``; None if that never happens."""


class BetaGeometric(msgspec.Struct, frozen=True, tag="bg_nbd"):
    """BG/NBD. Purchase rates ~ Gamma(r, alpha); each repeat purchase is the last with a chance ~ Beta(a, b).

    A buyer without a repeat purchase has had no chance to lapse, so p_alive stays 1 for them: a known
    complaint, which ``ModifiedBetaGeometric`` answers. ``p_returns`` falls with silence all the same, as
    slow buyers become likelier.
    """

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        _positive(self)

    def p_alive(self, x: int, t_x: float, T: float) -> float:
        """Fader, Hardie and Lee 2008, "Computing P(alive) using the BG/NBD model", equation 1."""
        _check(x, t_x, T)
        if x == 0:
            return 1.0
        return _still(self.a / (self.b + x - 1), _silence(self.r + x, self.alpha, t_x, T))

    def p_returns(self, x: int, t_x: float, T: float, within: float) -> float:
        """p_alive times P(a gap that has lasted until T ends in time): lapsing happens at purchases only."""
        return self.p_alive(x, t_x, T) * _ends_within(self.r + x, self.alpha + T, within)

    def expected(self, x: int, t_x: float, T: float, within: float) -> float:
        """Fader, Hardie and Lee 2005, equation 10."""
        alive = self.p_alive(x, t_x, T)
        return alive * mixed_count(self.r + x, self.alpha + T, self.a, self.b + x, within)

    def next_due(self, x: int, t_x: float, share: float = 0.5) -> float:
        """A quantile of the next gap as of the last purchase; its mean is infinite while r + x <= 1."""
        _check(x, t_x, t_x)
        return t_x + _gap_quantile(self.r + x, self.alpha + t_x, share)

    def crosses_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """``p_alive`` solved for T, in closed form."""
        _check(x, t_x, t_x)
        _share(threshold)
        if x == 0:
            return None
        return _crossing(self.a / (self.b + x - 1), self.r + x, self.alpha, t_x, threshold)

    def scaled(self, by: float) -> BetaGeometric:
        """The same model with ``by`` new units to the old one: ``scaled(7)`` turns weeks into days."""
        return BetaGeometric(self.r, self.alpha * by, self.a, self.b)


class ModifiedBetaGeometric(msgspec.Struct, frozen=True, tag="mbg_nbd"):
    """MBG/NBD. As BG/NBD, but the first purchase too may be the last: one-time buyers lapse with silence."""

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        _positive(self)

    def p_alive(self, x: int, t_x: float, T: float) -> float:
        """Hoppe and Wagner 2007, equation for P(active)."""
        _check(x, t_x, T)
        return _still(self.a / (self.b + x), _silence(self.r + x, self.alpha, t_x, T))

    def p_returns(self, x: int, t_x: float, T: float, within: float) -> float:
        """As of BG/NBD."""
        return self.p_alive(x, t_x, T) * _ends_within(self.r + x, self.alpha + T, within)

    def expected(self, x: int, t_x: float, T: float, within: float) -> float:
        """Batislam, Denizel and Filiztekin 2007: BG/NBD's expectation with one more chance survived."""
        alive = self.p_alive(x, t_x, T)
        return alive * mixed_count(self.r + x, self.alpha + T, self.a, self.b + x + 1, within)

    def next_due(self, x: int, t_x: float, share: float = 0.5) -> float:
        """As of BG/NBD."""
        _check(x, t_x, t_x)
        return t_x + _gap_quantile(self.r + x, self.alpha + t_x, share)

    def crosses_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """``p_alive`` solved for T, in closed form."""
        _check(x, t_x, t_x)
        _share(threshold)
        return _crossing(self.a / (self.b + x), self.r + x, self.alpha, t_x, threshold)

    def scaled(self, by: float) -> ModifiedBetaGeometric:
        """The same model with ``by`` new units to the old one."""
        return ModifiedBetaGeometric(self.r, self.alpha * by, self.a, self.b)


class PersonalRhythm(msgspec.Struct, frozen=True, tag="personal_rhythm"):
    """For a shop without a fit: the buyer's own gap, shrunk towards a default, and a fixed chance to lapse.

    default_gap: the gap assumed of a buyer who has shown none, in the unit of T. weight: how many gaps of
    evidence that assumption is worth. The rhythm is (weight default_gap + t_x) / (weight + x). lapse: the
    chance that any purchase, the first included, is the last.

    It is the modified BG/NBD with r = weight, alpha = weight default_gap, and every buyer's chance of
    lapsing the same.
    """

    default_gap: float = 30.0
    weight: float = 1.0
    lapse: float = 0.2

    def __post_init__(self) -> None:
        _positive(self)
        if self.lapse >= 1:
            raise ValueError(f"lapse must be below 1, not {self.lapse}")

    def rhythm(self, x: int, t_x: float) -> float:
        """The usual gap of this buyer, shrunk."""
        _check(x, t_x, t_x)
        return (self.weight * self.default_gap + t_x) / (self.weight + x)

    def p_alive(self, x: int, t_x: float, T: float) -> float:
        """Odds of having lapsed at the last purchase, times how unlikely this rhythm makes the silence."""
        _check(x, t_x, T)
        silence = _silence(self.weight + x, self.weight * self.default_gap, t_x, T)
        return _still(self.lapse / (1 - self.lapse), silence)

    def p_returns(self, x: int, t_x: float, T: float, within: float) -> float:
        """As of BG/NBD."""
        ends = _ends_within(self.weight + x, self.weight * self.default_gap + T, within)
        return self.p_alive(x, t_x, T) * ends

    def expected(self, x: int, t_x: float, T: float, within: float) -> float:
        """Purchases up to the last one are geometric in number: (1 - E exp(-rate lapse t)) / lapse."""
        ends = _ends_within(self.weight + x, self.weight * self.default_gap + T, within * self.lapse)
        return self.p_alive(x, t_x, T) * ends / self.lapse

    def next_due(self, x: int, t_x: float, share: float = 0.5) -> float:
        """As of BG/NBD."""
        _check(x, t_x, t_x)
        return t_x + _gap_quantile(self.weight + x, self.weight * self.default_gap + t_x, share)

    def crosses_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """``p_alive`` solved for T, in closed form."""
        _check(x, t_x, t_x)
        _share(threshold)
        odds = self.lapse / (1 - self.lapse)
        return _crossing(odds, self.weight + x, self.weight * self.default_gap, t_x, threshold)

    def scaled(self, by: float) -> PersonalRhythm:
        """The same model with ``by`` new units to the old one."""
        return PersonalRhythm(self.default_gap * by, self.weight, self.lapse)


Parameters = BetaGeometric | ModifiedBetaGeometric | PersonalRhythm
"""What is published per shop; msgspec tells them apart by their tag."""


def mixed_count(r: float, alpha: float, a: float, b: float, t: float) -> float:
    """Purchases to expect in ``t`` of a buyer who is active: E[(1 - exp(-rate chance t)) / chance].

    With z = t / (alpha + t) and c = a + b - 1 the textbook has c/(a - 1) [1 - (1 - z)^r F(r, b; c; z)],
    which is 0/0 at a = 1 and at a + b = 1. Euler's transformation F(r, b; c; z) = (1 - z)^(c-r-b) F(c - r,
    a - 1; c; z) and taking out the series' first term leaves nothing to divide by, and coefficients that
    shrink faster:

        c [1 - (1 - z)^(a-1)] / (a - 1)
          - (1 - z)^(a-1) sum_{n>=1} (a)_{n-1} (c - r)_n / ((c + 1)_{n-1} n!) z^n

    Accurate to 9 digits for fits as real shops give them, to 5 at the corners. Raises ValueError if ``t``
    is negative.
    """
    if not t >= 0:
        raise ValueError(f"a span must not be negative: {t}")
    if t == 0:
        return 0.0
    z = t / (alpha + t)
    if z > _SERIES_UP_TO or a > _SERIES_UP_TO_A:
        return _mixed_count_by_quadrature(r, alpha, a, b, t)
    c = a + b - 1
    power = -(a - 1) * math.log1p(t / alpha)
    base = math.log1p(t / alpha) if a == 1 else -math.expm1(power) / (a - 1)
    term = (c - r) * z
    total = term
    n = 1
    while abs(term) > 1e-13 * abs(total) and n < 10_000:
        term *= (a + n - 1) * (c - r + n) / ((c + n) * (n + 1)) * z
        total += term
        n += 1
    return c * base - math.exp(power) * total


_SERIES_UP_TO: Final = 0.9  # beyond it the series takes hundreds of terms
_SERIES_UP_TO_A: Final = 20.0  # beyond it the terms grow before they shrink


def _mixed_count_by_quadrature(r: float, alpha: float, a: float, b: float, t: float) -> float:
    """The same, integrated over chance ~ Beta(a, b), double exponentially: chance = logistic(pi sinh u)."""
    norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # The step must resolve the peak of the Beta density, which is about this wide in u.
    step = min(1 / 16, math.sqrt(1 / a + 1 / b) / (2 * math.pi))
    total = 0.0
    for direction, first in ((1, 0), (-1, 1)):
        for i in itertools.count(first):
            u = direction * i * step
            s = math.pi * math.sinh(u)
            if abs(s) > 700:
                break
            log_p = -math.log1p(math.exp(-s))
            p = math.exp(log_p)
            count = -math.expm1(-r * math.log1p(p * t / alpha)) / p
            part = math.exp(norm + a * log_p + b * (log_p - s)) * math.cosh(u) * count
            total += part
            if part < 1e-16 * total and abs(s) > 40:
                break
    return total * step * math.pi


def _positive(parameters: msgspec.Struct) -> None:
    for name, value in msgspec.structs.asdict(parameters).items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")


def _check(x: int, t_x: float, T: float) -> None:
    if not (x >= 0 and 0 <= t_x <= T < math.inf):
        raise ValueError(f"not a buyer's history: x={x}, t_x={t_x}, T={T}")


def _share(value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"must be between 0 and 1, both excluded: {value}")


def _silence(shape: float, alpha: float, t_x: float, T: float) -> float:
    """ln ((alpha + T) / (alpha + t_x))^shape: how much the silence since t_x speaks for having lapsed."""
    return shape * math.log1p((T - t_x) / (alpha + t_x))


def _still(odds: float, silence: float) -> float:
    """1 / (1 + odds exp(silence)), without overflow."""
    against = math.log(odds) + silence
    return 1 / (1 + math.exp(against)) if against < 700 else 0.0


def _crossing(odds: float, shape: float, alpha: float, t_x: float, threshold: float) -> float | None:
    """The T at which ``_still`` of ``_silence`` has come down to the threshold."""
    silence = math.log((1 - threshold) / threshold) - math.log(odds)
    if silence <= 0:
        return t_x
    growth = silence / shape
    if growth > 700:
        return None
    at = t_x + (alpha + t_x) * math.expm1(growth)
    return at if at <= FARTHEST else None


def _ends_within(shape: float, scale: float, within: float) -> float:
    """P(a purchase within that span) of an active buyer whose rate is Gamma(shape, scale) by now."""
    if not within >= 0:
        raise ValueError(f"a span must not be negative: {within}")
    return -math.expm1(-shape * math.log1p(within / scale))


def _gap_quantile(shape: float, scale: float, share: float) -> float:
    """The ``share`` quantile of ``_ends_within`` (Lomax)."""
    _share(share)
    return scale * math.expm1(min(-math.log1p(-share) / shape, 700.0))

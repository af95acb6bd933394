"""How much the rates of one series waver by themselves, beyond what chance does with so many sessions.

With n sessions and mean rate p, the lost sessions of a block have the variance n p q (1 + (n - 1) rho) of a
beta-binomial, so that rho = sum((L - n p)^2 - n p q) / sum(n (n - 1) p q): the moment estimator of
Griffiths (Biometrics 29, 1973) and Williams (Applied Statistics 31, 1982). Orders given carts, and sessions
given the profile, likewise with the variance E (1 + E rho) of a gamma-Poisson. It is measured on blocks of
an hour and of ten minutes: what wavers quickly evens out in an hour, what wavers slowly does not.
"""

from __future__ import annotations

from math import log
from typing import Final

from msgspec import Struct, field

RATE: Final = 0
ORDERS: Final = 1
TRAFFIC: Final = 2
_LONG, _SHORT = 60, 10
#: What it begins with, how many blocks that counts as, and the most it may come to.
_BEGINS: Final = (0.004, 0.01, 0.1)
_BLOCKS: Final = 24.0
_MOST: Final = (0.5, 5.0, 5.0)
#: What is beyond three deviations is no wavering.
_FAR: Final = 3.0
#: Sums of one length of blocks.
_WIDTH: Final = 4


class Wavers(Struct, array_like=True):
    """Decayed sums of the rate, of orders given carts, of traffic: (excess of variance, its unit, blocks,
    chance's part of the variance) of hours, then of ten minutes."""

    sums: list[list[float]] = field(default_factory=lambda: [[0.0] * (2 * _WIDTH) for _ in range(3)])

    def over(self, base: Wavers) -> Wavers:
        """These sums, cut to the weight of a beginning, or ``base``'s where there is nothing."""
        found = []
        for own, others in zip(self.sums, base.sums, strict=True):
            blocks = own[2]
            if blocks < _BLOCKS:
                found.append(list(others))
            else:
                found.append([each * _BLOCKS / blocks for each in own])
        return Wavers(found)

    def rescale(self, weight: float) -> None:
        """Divide all sums by ``weight``."""
        self.sums = [[each / weight for each in own] for own in self.sums]


def noted(
    wavers: Wavers,
    base: Wavers | None,
    what: int,
    short: bool,
    off: float,
    variance: float,
    others: float,
    weight: float,
) -> None:
    """Take a block in, in place: ``off`` by so much, where chance has ``variance`` and what wavers adds rho
    times that times ``others``."""
    unit = variance * others
    if unit <= 0:
        return
    at = _WIDTH if short else 0
    rho = rho_of(wavers, base, what, _SHORT if short else _LONG)
    excess = min(off * off, _FAR * _FAR * (variance + unit * rho)) - variance
    sums = wavers.sums[what]
    sums[at] += weight * excess
    sums[at + 1] += weight * unit
    sums[at + 2] += weight
    sums[at + 3] += weight * variance


def rho_of(wavers: Wavers, base: Wavers | None, what: int, length: float) -> float:
    """The overdispersion of spans of so many minutes."""
    own = wavers.sums[what]
    others = base.sums[what] if base else None
    if length <= _SHORT:
        return _rho(own, others, what, _WIDTH)
    if length >= _LONG:
        return _rho(own, others, what, 0)
    share = log(length / _SHORT) / log(_LONG / _SHORT)
    return share * _rho(own, others, what, 0) + (1 - share) * _rho(own, others, what, _WIDTH)


def _rho(own: list[float], others: list[float] | None, what: int, at: int) -> float:
    begins = _BEGINS[what]
    if others and others[at + 1] > 0:
        begins = max(others[at] / others[at + 1], begins / 8)
    excess, unit, blocks = own[at], own[at + 1], own[at + 2]
    if blocks <= 0 or unit <= 0:
        return begins
    # Blocks that carry nothing say nothing: what it begins with counts as mean blocks.
    prior = unit / blocks * _BLOCKS
    return min(_MOST[what], max((excess + begins * prior) / (unit + prior), _BEGINS[what] / 64))


def chance_of(wavers: Wavers, least: float) -> float:
    """Orders given carts may vary by less than Poisson's, as most carts order: the variance of ten minutes as
    a part of its mean, from ``least`` to 1."""
    excess, _, blocks, variance = wavers.sums[ORDERS][_WIDTH:]
    if variance <= 0:
        return 1.0
    prior = variance / blocks * 4 * _BLOCKS
    return min(1.0, max(least, 1 + excess / (variance + prior)))

"""What acting brings: how much more often treated customers buy than the holdout, and how sure that is.

Of each rate: Wilson's score interval (Wilson, "Probable inference, the law of succession, and statistical
inference", JASA 22, 1927). Of the difference: Newcombe's hybrid score interval, made of both (Newcombe,
"Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998,
method 10); it stays inside [-1, 1] and holds its level where a rate is near 0, as rates of return are.
p-value: two-sided; the "N - 1" chi-squared test where every expected count is at least 1, else the exact
test of Fisher and Irwin (Campbell, "Chi-squared and Fisher-Irwin tests of two-by-two tables with small
sample recommendations", Statistics in Medicine 26, 2007).

All of it takes customers to be independent, so each must be counted once.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

#: Of the normal distribution, for 95 %.
Z: Final = 1.959963984540054
#: Tables as likely as the one seen, but for rounding.
_AS_LIKELY: Final = 1 + 1e-7


class Group(NamedTuple):
    """Customers, and how many of them bought."""

    customers: int
    bought: int

    @property
    def rate(self) -> float | None:
        """The share that bought; None of nobody."""
        return self.bought / self.customers if self.customers else None


class Lift(NamedTuple):
    """difference: the treated group's rate less the holdout's; low, high: its 95 % confidence interval;
    p_value: how likely a difference as great is if acting does nothing."""

    difference: float
    low: float
    high: float
    p_value: float


def lift(treated: Group, holdout: Group) -> Lift | None:
    """The difference between both groups; None while one of them is empty. ValueError if counts are none."""
    for group in (treated, holdout):
        if not 0 <= group.bought <= group.customers:
            raise ValueError(f"{group.bought} of {group.customers} customers cannot have bought")
    p, q = treated.rate, holdout.rate
    if p is None or q is None:
        return None
    p_low, p_high = wilson(treated)
    q_low, q_high = wilson(holdout)
    difference = p - q
    low = difference - math.hypot(p - p_low, q_high - q)
    high = difference + math.hypot(p_high - p, q - q_low)
    return Lift(difference, low, high, p_value(treated, holdout))


def wilson(group: Group) -> tuple[float, float]:
    """The 95 % confidence interval of the group's rate; the group is not empty."""
    n, p = group.customers, group.bought / group.customers
    centre = p + Z * Z / (2 * n)
    reach = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # At 0 and 1 the bound is exact; rounding must not put it beyond.
    low = 0.0 if group.bought == 0 else (centre - reach) / scale
    high = 1.0 if group.bought == n else (centre + reach) / scale
    return low, high


def p_value(one: Group, other: Group) -> float:
    """How likely groups that differ by chance alone differ at least so much; neither is empty."""
    total = one.customers + other.customers
    bought = one.bought + other.bought
    expected = min(one.customers, other.customers) * min(bought, total - bought) / total
    if expected < 1:
        return _exact(one, other)
    cross = one.bought * (other.customers - other.bought) - other.bought * (one.customers - one.bought)
    squares = cross * cross * (total - 1) / (one.customers * other.customers * bought * (total - bought))
    return math.erfc(math.sqrt(squares / 2))


def _exact(one: Group, other: Group) -> float:
    """The sum of all tables with the same margins that are no likelier than this one."""
    total = one.customers + other.customers
    bought = one.bought + other.bought
    first, last = max(0, bought - other.customers), min(bought, one.customers)

    def log_chance(k: int) -> float:
        return _log_choose(one.customers, k) + _log_choose(other.customers, bought - k)

    all_tables = _log_choose(total, bought)
    seen = math.exp(log_chance(one.bought) - all_tables)
    chances = (math.exp(log_chance(k) - all_tables) for k in range(first, last + 1))
    return min(1.0, math.fsum(chance for chance in chances if chance <= seen * _AS_LIKELY))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

"""Evidence that more is lost than is usual, over trailing spans of minutes; in nats.

Over a span of n closed sessions, L of them lost where p is usual, it is that of a binomial less its design
effect under overdispersion (Rao and Scott, Biometrics 48, 1992): n KL(L/n || p) / (1 + (n - 1) rho), where
rho adds what the rate wavers by to what the estimate of p is unsure of. Of too few orders o, where m are
usual for so many active carts, it is that of a binomial of m / (1 - c) trials, whose variance is c m, over
1 + m rho / c: chance's part c of the variance is measured, between a Poisson's and that of carts of which
each orders or does not.

Both together: sessions close ``GAP`` minutes after their last event, so the orders of the last GAP minutes
are of sessions that have not closed, and tell of the same cause. sqrt(2 evidence) with the sign of the
change is nearly standard normal, so the two add up to one normal, weighed by how far either would move were
the same share of all orders lost (Stouffer's sum with Liptak's weights).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import log, sqrt
from operator import mul
from typing import Final, NamedTuple

from streams.domain.spike_memory import Memory, Prior, quarters
from streams.domain.spike_wavers import ORDERS, RATE, chance_of, rho_of
from streams.domain.windows import Reading

#: Lengths of the spans, in minutes.
SPANS: Final = (3, 5, 8, 12, 20, 30, 45, 60)
#: Minutes until a session closes.
GAP: Final = 30
#: An order may come so many minutes after its cart.
_LAGS: Final = (5, 10)
#: Carts of so many deviations more than before are a rush.
_RUSH: Final = 2.0
#: What the rate may waver by from one hour of the day to another that has not been seen yet.
_UNSEEN: Final = 0.01
#: Orders vary by so much of a Poisson's variance at least.
_LEAST_CHANCE: Final = 0.1
#: From a part of less than this on a binomial is a Poisson.
_LEAST_TIED: Final = 0.02
#: Minutes from which on orders are tied to their carts as in the blocks measured.
_TIED: Final = 10
_QUARTER: Final = 15


class Span(NamedTuple):
    """Sums from ``began`` to the minute judged. usual_orders: given the carts; expected_orders: if carts have
    become more in the last minutes, given those before. usually_lost: of all readings."""

    length: int
    began: int
    closed: int
    lost: int
    expected_lost: float
    carts: int
    orders: int
    usual_orders: float
    expected_orders: float
    usually_lost: float


def spans_of(
    memory: Memory, prior: Prior | None, open_: Sequence[Reading], slots: Sequence[int]
) -> list[Span]:
    """Of the readings, by minute, with the minute of the week of each; up to the last."""
    minutes, closed, lost, carts, orders = zip(*open_, strict=True)
    last = minutes[-1]
    at_quarter = quarters(memory, prior)
    usuals = zip(*[at_quarter[slot // _QUARTER] for slot in slots], strict=True)
    loss, per_cart, _, lost_a_minute, *_ = usuals
    sums_closed = list(accumulate(closed, initial=0))
    sums_lost = list(accumulate(lost, initial=0))
    sums_expected = list(accumulate(map(mul, closed, loss), initial=0.0))
    usually_lost = sum(lost_a_minute)
    has_carts = any(carts) or any(orders)
    if has_carts:
        sums_carts = list(accumulate(carts, initial=0))
        sums_orders = list(accumulate(orders, initial=0))
        sums_usual = list(accumulate(map(mul, carts, per_cart), initial=0.0))
        lates = [(lag, sums_usual[-1] - sums_usual[bisect_left(minutes, last - lag + 1)]) for lag in _LAGS]
    found: list[Span] = []
    for length in SPANS:
        first = last - length + 1
        at = bisect_left(minutes, first)
        n_carts = n_orders = 0
        usual_orders = expected_orders = 0.0
        if has_carts:
            n_carts, n_orders = sums_carts[-1] - sums_carts[at], sums_orders[-1] - sums_orders[at]
            upto = sums_usual[at]
            usual_orders = expected_orders = sums_usual[-1] - upto
            # Carts fill before orders follow: a rush is no lack of orders.
            for lag, late in lates if n_orders < usual_orders else ():
                early = upto - sums_usual[bisect_left(minutes, first - lag)]
                if late - early > _RUSH * sqrt(late + early):
                    expected_orders = min(expected_orders, usual_orders - late + early)
        found.append(
            Span(
                length,
                first,
                sums_closed[-1] - sums_closed[at],
                sums_lost[-1] - sums_lost[at],
                sums_expected[-1] - sums_expected[at],
                n_carts,
                n_orders,
                usual_orders,
                expected_orders,
                usually_lost,
            )
        )
        if at == 0:
            break
    return found


class Measure:
    """Measures the spans of one series at one moment."""

    def __init__(self, memory: Memory, prior: Prior | None, slot: int) -> None:
        now = quarters(memory, prior)[slot // _QUARTER]
        self.now = now
        self._wavers, self._base = memory.wavers, prior.wavers if prior else None
        unseen = _UNSEEN * max(0.0, 1 - now.days)
        self._unsure = 1 / (now.weight + 1) + unseen
        self._unsure_orders = 1 / (now.weight_carts * now.per_cart + 1) + unseen
        self._rhos: dict[int, float] = {}
        self._rhos_orders: dict[int, float] = {}
        self._chance = chance_of(memory.wavers, _LEAST_CHANCE)

    def effect(self, closed: int, length: int) -> float:
        """By how much the variance of the lost is more than a binomial's."""
        rho = self._rhos.get(length)
        if rho is None:
            rho = self._rhos[length] = rho_of(self._wavers, self._base, RATE, length)
        return 1 + (closed - 1) * (rho + self._unsure)

    def chance(self, length: int) -> float:
        """Chance's part in the variance of orders; in a few minutes carts say little of them."""
        return self._chance + (1 - self._chance) * max(0.0, 1 - length / _TIED)

    def effect_orders(self, expected: float, length: int) -> float:
        """By how much the variance of orders is more than a Poisson's."""
        rho = self._rhos_orders.get(length)
        if rho is None:
            rho = self._rhos_orders[length] = rho_of(self._wavers, self._base, ORDERS, length)
        return self.chance(length) + expected * (rho + self._unsure_orders)

    def lost(self, span: Span) -> float:
        """The signed root of twice the evidence for a greater loss rate."""
        n = span.closed
        if not n:
            return 0.0
        rate, p = span.lost / n, span.expected_lost / n
        kl = 0.0
        if rate > 0:
            kl += rate * log(rate / p)
        if rate < 1:
            kl += (1 - rate) * log((1 - rate) / (1 - p))
        root = sqrt(max(0.0, 2 * n * kl / self.effect(n, span.length)))
        return root if rate >= p else -root

    def lost_weight(self, span: Span) -> float:
        """How far ``lost`` would move, were all orders gone, to the first order."""
        if not span.closed:
            return 0.0
        p = span.expected_lost / span.closed
        return sqrt(span.closed * (1 - p) / (p * self.effect(span.closed, span.length)))

    def missing(self, span: Span) -> float:
        """The signed root of twice the evidence for fewer orders given carts."""
        mean = span.expected_orders if span.orders < span.expected_orders else span.usual_orders
        if mean <= 0 or span.expected_orders <= span.orders <= span.usual_orders:
            return 0.0
        # As many trials as give a binomial chance's part of the variance.
        chance = self.chance(span.length)
        p = max(_LEAST_TIED, 1 - chance)
        trials = mean / p
        rate = min(1.0, span.orders / trials)
        kl = rate * log(rate / p) if rate > 0 else 0.0
        if rate < 1:
            kl += (1 - rate) * log((1 - rate) / (1 - p))
        kl *= trials * chance
        root = sqrt(max(0.0, 2 * kl / self.effect_orders(mean, span.length)))
        return root if span.orders < mean else -root

    def missing_weight(self, span: Span) -> float:
        """How far ``missing`` would move, were all orders gone, to the first order."""
        mean = span.expected_orders
        return sqrt(mean / self.effect_orders(mean, span.length)) if mean > 0 else 0.0


def change(lost: int, closed: int, expected: float) -> float:
    """How far a rate has moved, as a part of itself or of its complement, whichever is less."""
    rate, p = lost / closed, expected / closed
    return (rate - p) / min(p, 1 - p)


def surplus(count: int, expected: float, rho: float) -> float:
    """Evidence that a count is more than a gamma-Poisson's."""
    return (count * log(count / expected) - count + expected) / (1 + expected * rho)

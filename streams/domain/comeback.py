"""Will this buyer be back in time? The calibrated probability that a lapsing flag stands on.

P(alive) asks whether a buyer will *ever* return, which nobody can check, and a shop where nobody leaves for
good but many are slow has P(alive) near 1 for all. That a buyer returns within, say, 90 days can be checked
at every earlier date, so this probability is calibrated against what happened before, and the flag that
stands on it means the same in every shop.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from streams.domain.lapse import FARTHEST, Parameters

OVERDUE_SHARE: Final = 0.3
"""Chosen, with a threshold of 0.5, by what the lapse bench showed: about as precise as 90 days of silence.

It showed CDNOW and Online Retail both, so the bench's leads are no test of the choice on data unseen.
"""

_CLOSE: Final = 1e-6  # of a crossing, relative to the silence that leads to it


class Comeback(msgspec.Struct, frozen=True):
    """P(a purchase in (T, T + within]), calibrated.

        logit P = intercept + slope logit(1 - exp(-expected)) + loyalty ln(1 + x)

    base: the model that expects; within: the span, in its unit. As they are by default, intercept, slope
    and loyalty leave the Poisson probability of at least one purchase where ``expected`` are due.
    ``lapse_fit.calibrate`` finds them from who did return by an earlier date. ``loyalty`` makes up for what
    the models leave out: they take a buyer's rate and chance of lapsing for independent, but frequent
    buyers lapse less.
    """

    base: Parameters
    within: float
    intercept: float = 0.0
    slope: float = 1.0
    loyalty: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.within < math.inf:
            raise ValueError(f"within must be positive and finite, not {self.within}")
        if not self.slope > 0:
            raise ValueError(f"slope must be positive, or silence would speak for a return: {self.slope}")

    def logit(self, x: int, t_x: float, T: float) -> float:
        """The logit of ``p``; falls as T grows. Raises ValueError as the models do."""
        return (
            self.intercept
            + self.slope * logit_of_any(self.base.expected(x, t_x, T, self.within))
            + self.loyalty * math.log1p(x)
        )

    def p(self, x: int, t_x: float, T: float) -> float:
        """P(at least one purchase in (T, T + within]), in [0, 1]."""
        logit = self.logit(x, t_x, T)
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    def lapsing_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """When the buyer is lapsing: ``p`` is down to the threshold, and they are overdue by their rhythm.

        Overdue is when ``OVERDUE_SHARE`` of buyers like them who have not lapsed have bought again. In a shop
        where few return everybody's ``p`` is low from the first day, but a buyer of yesterday is not lapsing.
        """
        at = self.crosses_at(x, t_x, threshold)
        return None if at is None else max(at, self.base.next_due(x, t_x, OVERDUE_SHARE))

    def crosses_at(self, x: int, t_x: float, threshold: float) -> float | None:
        """The first T >= t_x at which ``p`` is at most ``threshold``; None if that is beyond any calendar.

        No closed form: bracketed, then regula falsi (Illinois) in the log of the silence, in which
        ``logit`` is nearly straight; some ten evaluations. Where p is flat the answer errs to the later
        side.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, both excluded: {threshold}")
        goal = math.log(threshold / (1 - threshold))

        def above(silence: float) -> float:
            return self.logit(x, t_x, t_x + silence) - goal

        if above(0.0) <= 0:
            return t_x
        early, late = 0.0, self.within
        over, under = math.inf, above(late)
        while under > 0:
            early, over = late, under
            late *= 4
            if late > FARTHEST:
                return None
            under = above(late)
        while over == math.inf:
            early = late / 16
            if early < _CLOSE:
                return t_x + late
            value = above(early)
            if value > 0:
                over = value
            else:
                late, under = early, value
        low, high = math.log(early), math.log(late)
        side = 0
        while high - low > _CLOSE:
            middle = (low * under - high * over) / (under - over)
            # An interpolation that hugs one end would shrink the bracket from that side only.
            if not low + _CLOSE / 4 < middle < high - _CLOSE / 4:
                middle = min(max(middle, low + _CLOSE / 2), high - _CLOSE / 2)
            value = above(math.exp(middle))
            if value > 0:
                low, over = middle, value
                under = under / 2 if side == 1 else under
                side = 1
            else:
                high, under = middle, value
                over = over / 2 if side == -1 else over
                side = -1
        return t_x + math.exp(high)


def logit_of_any(expected: float) -> float:
    """The logit of 1 - exp(-expected), the Poisson probability of any; bounded, so that it stays finite."""
    if expected < 1e-300:
        return -690.0
    if expected > 690.0:
        return 690.0
    return math.log(math.expm1(expected))

"""Predictors of the lapse bench, each fitted on what was known at the end of the day of the cut."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from streams.domain.backtest import for_each, recency_rule
from streams.domain.comeback import Comeback
from streams.domain.lapse_fit import Buyers, Fit, Floats, calibrate, fit_best
from streams.domain.shop_fit import Watched
from tests.domain.purchases import Purchases


@dataclass(frozen=True)
class Task:
    """Foretell for each buyer known at ``cut`` whether they buy in the ``within`` days after it."""

    purchases: Purchases
    cut: int
    within: int

    @property
    def earlier(self) -> int:
        """The date to learn from: far enough back to have watched the span, or half of what there is."""
        return self.cut - min(self.within, (self.cut - self.purchases.first_day) // 2)

    @property
    def watched(self) -> int:
        return self.cut - self.earlier

    def lesson(self) -> Watched:
        """The buyers known at the earlier date, and who of them had bought again by the cut."""
        return self._watched(self.earlier, self.watched)

    def outcome(self) -> Watched:
        """The buyers known at the cut, and who of them really came back."""
        return self._watched(self.cut, self.within)

    def _watched(self, cut: int, days: int) -> Watched:
        known = self.purchases.histories(cut)
        return Watched(known.each, self.purchases.back(known.ids, cut, days).astype(float), days)


@dataclass(frozen=True)
class Ours:
    """Ebbtide's model of a task: what the stream would be given on the day of the cut."""

    fit: Fit
    comeback: Comeback

    def calibrated(self, known: Buyers) -> Floats:
        return for_each(known, self.comeback.p)

    def plain(self, known: Buyers) -> Floats:
        within = self.comeback.within
        return for_each(known, lambda x, t_x, T: self.fit.parameters.p_returns(x, t_x, T, within))

    def alive(self, known: Buyers) -> Floats:
        return for_each(known, self.fit.parameters.p_alive)


def ours(task: Task) -> Ours:
    """The likelier model at the cut, calibrated by what that of the earlier date foretold until the cut."""
    now = fit_best(task.purchases.histories(task.cut).buyers)
    lesson = task.lesson()
    then = fit_best(task.purchases.histories(task.earlier).buyers).parameters
    comeback = calibrate(
        now.parameters, float(task.within), then, lesson.buyers, lesson.returned, float(lesson.days)
    )
    return Ours(now, comeback)


def lifetimes_bg_nbd(task: Task) -> tuple[Floats, Floats, float]:
    """The package's BG/NBD: P(alive); 1 - exp(-expected purchases); the penalty it needed to converge."""
    known = task.purchases.histories(task.cut)
    # It warns, and prints every optimization that did not converge.
    silent = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), np.errstate(all="ignore"), silent:
        warnings.simplefilter("ignore")
        from lifetimes import BetaGeoFitter
        from lifetimes.utils import ConvergenceError

        for penalty in (0.0, 0.001, 0.01, 0.1):
            model: Any = BetaGeoFitter(penalizer_coef=penalty)
            try:
                model.fit(known.x, known.t_x, known.T)
            except ConvergenceError:
                continue
            break
        else:
            raise RuntimeError("BG/NBD of lifetimes does not converge")
        alive = np.asarray(model.conditional_probability_alive(known.x, known.t_x, known.T))
        expected = np.asarray(
            model.conditional_expected_number_of_purchases_up_to_time(
                task.within, known.x, known.t_x, known.T
            )
        )
    # Its hypergeometric function is not finite for some very frequent buyers; those are expected to buy.
    returns = np.where(np.isfinite(expected), -np.expm1(-np.clip(expected, 0, None)), 1.0)
    return alive, returns, penalty


def recency(task: Task) -> Floats:
    """The recency rule, taught by the same lesson."""
    return recency_rule(task.lesson(), task.purchases.histories(task.cut).each, task.within)

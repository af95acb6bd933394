"""Predictors of the lapse bench, each fitted on what was known at the end of the day of the cut."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.domain.comeback import Comeback
from streams.domain.lapse_fit import Buyers, Fit, calibrate, fit_best
from tests.domain.purchases import Histories, Purchases

Floats = NDArray[np.float64]


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

    def lesson(self) -> tuple[Histories, NDArray[np.bool_]]:
        """Histories at the earlier date, and who of them had bought again by the cut."""
        then = self.purchases.histories(self.earlier)
        return then, self.purchases.back(then.ids, self.earlier, self.watched)


@dataclass(frozen=True)
class Ours:
    """Ebbtide's model of a task: what the stream would be given on the day of the cut."""

    fit: Fit
    comeback: Comeback

    def calibrated(self, known: Histories) -> Floats:
        return for_each(known, lambda x, t_x, T: self.comeback.p(x, t_x, T))

    def plain(self, known: Histories) -> Floats:
        within = self.comeback.within
        return for_each(known, lambda x, t_x, T: self.fit.parameters.p_returns(x, t_x, T, within))

    def alive(self, known: Histories) -> Floats:
        return for_each(known, self.fit.parameters.p_alive)


def ours(task: Task) -> Ours:
    """The likelier model at the cut, calibrated by what that of the earlier date foretold until the cut."""
    now = fit_best(task.purchases.histories(task.cut).buyers)
    then, came = task.lesson()
    parameters = fit_best(then.buyers).parameters
    each = Buyers(then.x, then.t_x, then.T, np.ones(len(then.ids)))
    comeback = calibrate(now.parameters, float(task.within), parameters, each, came, float(task.watched))
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
    """Days since the last purchase alone, made a probability by a logistic regression on the same lesson.

    If less than the span could be watched, the same hazard is assumed of the rest of it.
    """
    then, came = task.lesson()
    known = task.purchases.histories(task.cut)
    p = logistic(np.log1p(then.T - then.t_x), came)(np.log1p(known.T - known.t_x))
    return 1 - (1 - p) ** (task.within / task.watched)


def logistic(feature: Floats, came: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """Newton's method; two coefficients."""
    columns = np.column_stack([np.ones(len(feature)), feature])
    w = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-columns @ w))
        step = np.linalg.solve(
            (columns * (p * (1 - p))[:, None]).T @ columns + 1e-6 * np.eye(2), columns.T @ (came - p)
        )
        w += step
        if np.abs(step).max() < 1e-10:
            break
    return lambda other: 1 / (1 + np.exp(-(w[0] + w[1] * other)))


def for_each(known: Histories, question: Callable[[int, float, float], float]) -> Floats:
    """The answer for each buyer, asked once of each different history."""
    rows = np.column_stack([known.x, known.t_x, known.T])
    different, of = np.unique(rows, axis=0, return_inverse=True)
    answers = np.array([question(int(x), t_x, T) for x, t_x, T in different.tolist()])
    return answers[of.ravel()]

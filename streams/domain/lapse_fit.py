"""Fits the models of ``lapse`` to a shop's buyers by maximum likelihood, from grouped sufficient statistics.

The likelihood needs of a buyer only (x, t_x, T), and many buyers share theirs when times are whole days: a
million buyers are a few hundred thousand groups. Pure, but with numpy and scipy: the stream's workers never
import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, gammaln

from streams.domain.comeback import Comeback, logit_of_any
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric, Parameters, PersonalRhythm

Floats = NDArray[np.float64]
Fitted = type[BetaGeometric] | type[ModifiedBetaGeometric]

MIN_BUYERS: Final = 300
"""Buyers a shop must have for a fit of its own; below it the pooled fit of all shops is used."""

MIN_REPEATERS: Final = 50
"""Of these, how many must have bought again: one-time buyers alone tell nothing about rhythm."""

CLEARLY: Final = 2.0
"""The difference in log-likelihood from which one model is clearly the likelier (a factor of seven)."""

# ln of each parameter; a fit that ends on an edge says that the data do not hold that parameter.
_EDGES: Final = (np.log(1e-4), np.log(1e5))
_TOLERANCE: Final = 1e-6  # of the gradient of the mean log-likelihood, by the logs of the parameters


@dataclass(frozen=True, slots=True)
class Buyers:
    """Groups of buyers with the same history, four arrays of the same length.

    x: repeat purchases; t_x: time from first to last purchase; T: time from the first purchase to the end
    of what was observed; count: buyers of the group. Times are in any one unit; parameters fitted come out
    in it.
    """

    x: Floats
    t_x: Floats
    T: Floats
    count: Floats

    @classmethod
    def grouped(cls, x: ArrayLike, t_x: ArrayLike, T: ArrayLike, count: ArrayLike | None = None) -> Buyers:
        """Groups equal histories. ValueError unless x >= 0, 0 <= t_x <= T, and t_x = 0 where x = 0."""
        columns = [np.asarray(c, dtype=np.float64).ravel() for c in (x, t_x, T)]
        xs, tx, ts = columns
        weight = np.ones(len(xs)) if count is None else np.asarray(count, dtype=np.float64).ravel()
        if not len(xs) == len(tx) == len(ts) == len(weight):
            raise ValueError("x, t_x, T and count differ in length")
        wrong = ~((xs >= 0) & (tx >= 0) & (tx <= ts) & np.isfinite(ts) & (weight > 0))
        wrong |= (xs == 0) & (tx != 0)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"{int(wrong.sum())} not buyers' histories, the first: {xs[i]}, {tx[i]}, {ts[i]}"
            )
        if not len(xs):
            return cls(xs, tx, ts, weight)
        order = np.lexsort(columns)
        first = np.zeros(len(order), dtype=bool)
        first[0] = True
        for column in columns:
            in_order = column[order]
            first[1:] |= in_order[1:] != in_order[:-1]
        starts = np.flatnonzero(first)
        at = order[starts]
        return cls(xs[at], tx[at], ts[at], np.add.reduceat(weight[order], starts))

    @property
    def total(self) -> int:
        """Buyers in all groups."""
        return int(self.count.sum())

    @property
    def repeaters(self) -> int:
        """Buyers who bought on more than one day."""
        return int(self.count[self.x > 0].sum())

    @staticmethod
    def pooled(shops: Mapping[str, Buyers]) -> Buyers:
        """The buyers of all shops as those of one."""
        parts = list(shops.values())
        if not parts:
            return Buyers.grouped([], [], [])
        return Buyers.grouped(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in ("x", "t_x", "T", "count"))
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """What maximum likelihood found.

    log_likelihood: natural, without constants of the data, so comparable between models of the same buyers.
    converged: the gradient vanished, and no parameter stands on the edge of its range; if not, the parameters
    still predict, but should not be read as rates.
    """

    parameters: BetaGeometric | ModifiedBetaGeometric
    log_likelihood: float
    buyers: int
    groups: int
    converged: bool


def fit(buyers: Buyers, model: Fitted) -> Fit:
    """The maximum of the likelihood over r, alpha, a and b. Raises ValueError if nobody bought twice."""
    if not buyers.repeaters:
        raise ValueError("no buyer has a second purchase day: there is no rhythm to fit")
    likelihood = _Likelihood(buyers, model is ModifiedBetaGeometric)
    best: Any = None
    for start in _starts(buyers):
        found = minimize(
            likelihood, start, jac=True, method="L-BFGS-B", bounds=[_EDGES] * 4,
            options={"maxiter": 1000, "maxfun": 3000, "ftol": 1e-14, "gtol": 1e-8},
        )  # fmt: skip
        if best is None or found.fun < best.fun:
            best = found
    inside = bool(np.all((best.x > _EDGES[0] + 1e-6) & (best.x < _EDGES[1] - 1e-6)))
    flat = bool(np.max(np.abs(best.jac)) < _TOLERANCE)
    return Fit(
        parameters=model(*(float(v) for v in np.exp(best.x))),
        log_likelihood=-float(best.fun) * float(buyers.count.sum()),
        buyers=buyers.total,
        groups=len(buyers.x),
        converged=inside and flat,
    )


def fit_best(buyers: Buyers) -> Fit:
    """The likelier of BG/NBD and modified BG/NBD, which have the same number of parameters.

    The modified one unless BG/NBD is clearly likelier: it alone can tell of a one-time buyer that they left.
    """
    modified, plain = fit(buyers, ModifiedBetaGeometric), fit(buyers, BetaGeometric)
    return plain if plain.log_likelihood > modified.log_likelihood + CLEARLY else modified


@dataclass(frozen=True, slots=True)
class ShopModel:
    """The model a shop's buyers are judged by.

    basis: "own", "pooled" (the shop has too few buyers) or "personal" (all shops together have).
    fit: what the parameters come from; None for "personal".
    """

    parameters: Parameters
    basis: str
    fit: Fit | None


def fit_shops(
    shops: Mapping[str, Buyers], model: Fitted | None = None, only: str | None = None
) -> tuple[ShopModel, dict[str, ShopModel]]:
    """A model for every shop, or for ``only`` one of them, and (first) the one for a shop that is not among
    them.

    ``model`` is fitted; None takes the likelier one, shop by shop.
    """

    def fitted(buyers: Buyers) -> Fit:
        return fit_best(buyers) if model is None else fit(buyers, model)

    pool = Buyers.pooled(shops)
    if enough(pool):
        of_all = fitted(pool)
        other = ShopModel(of_all.parameters, "pooled", of_all)
    else:
        other = ShopModel(PersonalRhythm(), "personal", None)
    models: dict[str, ShopModel] = {}
    for shop, buyers in shops.items():
        if only not in (None, shop):
            continue
        if not enough(buyers):
            models[shop] = other
        elif other.fit is not None and buyers.total == pool.total:
            # The buyers of all shops are this shop's: the same fit.
            models[shop] = ShopModel(other.parameters, "own", other.fit)
        else:
            own = fitted(buyers)
            models[shop] = ShopModel(own.parameters, "own", own)
    return other, models


def enough(buyers: Buyers) -> bool:
    """Whether these buyers hold a fit of their own."""
    return buyers.total >= MIN_BUYERS and buyers.repeaters >= MIN_REPEATERS


def calibrate(
    base: Parameters, within: float, then: Parameters, buyers: Buyers, returned: ArrayLike, watched: float
) -> Comeback:
    """``Comeback`` of ``base`` and ``within``, calibrated on an earlier date.

    then: the model fitted to what was known at that date; buyers: their histories at it, ungrouped or
    grouped; returned: of each group the buyers who bought within ``watched`` after it. ``watched`` may be
    shorter than ``within`` where the history is: what is learnt is how far the model's odds are to be
    trusted, and that carries over. Falls back to no calibration where the outcome says nothing: everybody
    returned, nobody did, or the odds misled.
    """
    came = np.asarray(returned, dtype=np.float64)
    if came.shape != buyers.count.shape or ((came < 0) | (came > buyers.count)).any():
        raise ValueError("returned must be a number of buyers for each group")
    total = float(buyers.count.sum())
    if not 0 < came.sum() < total:
        return Comeback(base, within)
    odds = [
        logit_of_any(then.expected(int(x), t_x, T, watched))
        for x, t_x, T in zip(buyers.x.tolist(), buyers.t_x.tolist(), buyers.T.tolist(), strict=True)
    ]
    columns = np.column_stack([np.ones(len(came)), odds, np.log1p(buyers.x)])

    def loss(w: Floats) -> tuple[float, Floats]:
        z = np.einsum("ij,j->i", columns, w)
        value = _dot(np.logaddexp(0, z), buyers.count) - _dot(came, z)
        # A weak pull towards no calibration keeps the weights finite where outcomes separate.
        pull = w - np.array([0.0, 1.0, 0.0])
        gradient = np.einsum("ij,i->j", columns, expit(z) * buyers.count - came) + pull
        return float(value + pull @ pull / 2) / total, gradient / total

    found = minimize(loss, np.array([0.0, 1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-7})
    intercept, slope, loyalty = (float(v) for v in found.x)
    if slope <= 0:
        return Comeback(base, within)
    return Comeback(base, within, intercept, slope, loyalty)


def log_likelihood(parameters: BetaGeometric | ModifiedBetaGeometric, buyers: Buyers) -> float:
    """Of these buyers, under these parameters (Fader, Hardie and Lee 2005; Batislam et al. 2007)."""
    likelihood = _Likelihood(buyers, isinstance(parameters, ModifiedBetaGeometric))
    logs = np.log([parameters.r, parameters.alpha, parameters.a, parameters.b])
    return -likelihood(logs)[0] * float(buyers.count.sum())


class _Likelihood:
    """Minus the mean log-likelihood and its gradient, as a function of the logs of r, alpha, a and b.

    With y the chances to lapse that an active buyer has survived (x, or x + 1 if the first purchase is one)
    a buyer gives

        ln G(r+x)/G(r) + r ln alpha + ln B(a, b+y)/B(a, b)
          + ln [ (alpha+T)^-(r+x) + a/(b+y-1) (alpha+t_x)^-(r+x) ]

    where the last summand, having lapsed at t_x, is absent while y = 0. What depends on x alone is computed
    once a value.
    """

    def __init__(self, buyers: Buyers, first_purchase_may_be_last: bool) -> None:
        self.buyers = buyers
        self.total = float(buyers.count.sum())
        self.xs, self.of_x = np.unique(buyers.x, return_inverse=True)
        self.count_of_x: Floats = np.bincount(self.of_x, weights=buyers.count).astype(np.float64)
        self.y = self.xs + (1.0 if first_purchase_may_be_last else 0.0)
        self.chances = self.y[self.of_x]

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        r, alpha, a, b = np.exp(logs)
        own, x, y, weight = self.buyers, self.xs, self.y, self.count_of_x
        shape = r + own.x
        active, lapsed = np.log(alpha + own.T), np.log(alpha + own.t_x)
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = np.where(y > 0, np.log(a) - np.log(b + y - 1), -np.inf)[self.of_x]
        against = odds + shape * (active - lapsed)
        gone = expit(against)
        # logaddexp(alive, lapsed) with the alive part taken out, so that nothing overflows.
        last = -shape * active + np.logaddexp(0.0, against)
        value = _dot(last, own.count)
        value += _dot(weight, gammaln(r + x) - gammaln(r) + betaln(a, b + y) - betaln(a, b))
        value += self.total * r * logs[1]

        gone_weight = gone * own.count
        alive_weight = own.count - gone_weight
        gone_of_x = np.bincount(self.of_x, weights=gone_weight, minlength=len(x))
        by_r = _dot(weight, digamma(r + x) - digamma(r)) + self.total * logs[1]
        by_r -= _dot(active, alive_weight) + _dot(lapsed, gone_weight)
        by_alpha = self.total * r / alpha
        by_alpha -= _dot(shape / (alpha + own.T), alive_weight)
        by_alpha -= _dot(shape / (alpha + own.t_x), gone_weight)
        by_sum = _dot(weight, digamma(a + b) - digamma(a + b + y))
        by_a = by_sum + gone_of_x.sum() / a
        could = y > 0
        by_b = by_sum + _dot(weight, digamma(b + y) - digamma(b))
        by_b -= (gone_of_x[could] / (b + y[could] - 1)).sum()
        gradient = np.array([by_r * r, by_alpha * alpha, by_a * a, by_b * b])
        return -float(value) / self.total, -gradient / self.total


def _starts(buyers: Buyers) -> list[Floats]:
    """Where to begin: the mean rate of these buyers; buyers alike or not, lapsing seldom or often."""
    rate = max(_dot(buyers.x, buyers.count) / max(_dot(buyers.T, buyers.count), 1e-9), 1e-9)
    starts = []
    for r, a, b in ((0.5, 1.0, 3.0), (2.0, 0.3, 3.0)):
        starts.append(np.clip(np.log([r, r / rate, a, b]), *_EDGES))
    return starts


def _dot(one: Floats, other: Floats) -> float:
    """Their product, without BLAS: its threads wait for one another by spinning, which beside other processes
    takes several times as long as the whole fit."""
    return float(np.einsum("i,i->", one, other))

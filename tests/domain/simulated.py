"""Buyers who behave as a lapse model says, for tests of the fit and for its timing."""

from __future__ import annotations

import numpy as np

from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric
from tests.domain.purchases import Histories


def simulate(
    model: BetaGeometric | ModifiedBetaGeometric, buyers: int, days: int, seed: int, whole_days: bool = False
) -> Histories:
    """Buyers who first buy at even pace over the first half of ``days`` and are watched until its end."""
    rng = np.random.default_rng(seed)
    T = rng.uniform(days / 2, days, buyers)
    if whole_days:
        T = np.floor(T)
    rate = rng.gamma(model.r, 1 / model.alpha, buyers)
    chance = rng.beta(model.a, model.b, buyers)
    x, t_x = np.zeros(buyers), np.zeros(buyers)
    active = np.ones(buyers, dtype=bool)
    if isinstance(model, ModifiedBetaGeometric):
        active = rng.random(buyers) >= chance
    while active.any():
        who = np.flatnonzero(active)
        at = t_x[who] + rng.exponential(1 / np.maximum(rate[who], 1e-300))
        bought = at <= T[who]
        t_x[who[bought]] = at[bought]
        x[who[bought]] += 1
        active[who[~bought]] = False
        active[who[bought]] = rng.random(int(bought.sum())) >= chance[who[bought]]
    if whole_days:
        t_x = np.floor(t_x)
    return Histories(np.arange(buyers), x, t_x, T)

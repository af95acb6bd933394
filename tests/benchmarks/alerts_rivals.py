"""What others find spikes by, on the same minutes; and what nobody can do better than.

All score each minute, and what a score comes to is decided alike: out of its band for two minutes in a row,
over after ten minutes below half of it, and nothing of fewer than twelve sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tests.benchmarks.alerts_traffic import WEEK, Floats, Minutes, trailing

_SPAN: Final = 20
_FLOOR: Final = 12
_DAY: Final = 24 * 60
_FOR: Final = 2
_OVER: Final = 10
#: Over so many minutes the best test possible adds up its evidence, at most.
_LONGEST: Final = 60


def firings(score: Floats, limit: float, stays: float = 0.5) -> list[int]:
    """The minutes at which something begins to fire."""
    found: list[int] = []
    out = np.flatnonzero(score >= limit)
    last, row, firing_until = -2, 0, -1
    for minute in out.tolist():
        row = row + 1 if minute == last + 1 else 1
        last = minute
        if minute <= firing_until:
            continue
        if row >= _FOR:
            found.append(minute)
            firing_until = _ends(score, minute, stays * limit)
    return found


def _ends(score: Floats, begins: int, below: float) -> int:
    """The minute at which it has been below for ten minutes in a row."""
    run = 0
    for minute in range(begins + 1, len(score)):
        run = run + 1 if score[minute] < below else 0
        if run >= _OVER:
            return minute
    return len(score)


def _rate(minutes: Minutes) -> tuple[Floats, Floats]:
    closed, lost = trailing(minutes.closed, _SPAN), trailing(minutes.lost, _SPAN)
    return np.divide(lost, closed, out=np.zeros_like(lost), where=closed > 0), closed


def fixed(minutes: Minutes, _learnt: int) -> Floats:
    """The rate of the last 20 minutes itself."""
    rate, closed = _rate(minutes)
    return np.where(closed >= _FLOOR, rate, 0)


def z_score(minutes: Minutes, _learnt: int) -> Floats:
    """By how many standard deviations of the last day the rate is above its mean."""
    rate, closed = _rate(minutes)
    mean = trailing(rate, _DAY) / _DAY
    spread = np.sqrt(np.maximum(trailing(rate**2, _DAY) / _DAY - mean**2, 1e-6))
    return np.where(closed >= _FLOOR, (rate - mean) / spread, 0)


def mad(minutes: Minutes, _learnt: int) -> Floats:
    """By how many median absolute deviations of the last day, looked at by the quarter, it is above its
    median."""
    rate, closed = _rate(minutes)
    found = np.zeros_like(rate)
    step = 15
    for begins in range(_DAY, len(rate), step):
        past = rate[begins - _DAY : begins : 5]
        middle = np.median(past)
        spread = max(1.4826 * float(np.median(np.abs(past - middle))), 1e-3)
        found[begins : begins + step] = (rate[begins : begins + step] - middle) / spread
    return np.where(closed >= _FLOOR, found, 0)


def profile(minutes: Minutes, learnt: int) -> Floats:
    """By how many binomial standard deviations it is above its hour of the week in the weeks learnt from."""
    rate, closed = _rate(minutes)
    hour = np.arange(len(rate)) % WEEK // 60
    lost_by = np.bincount(hour[:learnt], minutes.lost[:learnt], 168)
    closed_by = np.bincount(hour[:learnt], minutes.closed[:learnt], 168)
    usual = np.clip((lost_by + 1) / (closed_by + 2), 0.01, 0.99)[hour]
    spread = np.sqrt(usual * (1 - usual) / np.maximum(closed, 1))
    return np.where(closed >= _FLOOR, (rate - usual) / spread, 0)


RIVALS: Final[dict[str, tuple[Callable[[Minutes, int], Floats], Floats, float]]] = {
    "fixed threshold": (fixed, np.linspace(0.3, 1.0, 71), 0.95),
    "z-score of a day": (z_score, np.linspace(1, 12, 56), 3.0),
    "MAD of a day": (mad, np.linspace(1, 20, 58), 3.0),
    "weekly profile": (profile, np.linspace(1, 12, 56), 3.0),
}


def best_possible(minutes: Minutes, usual: Floats, more: float) -> Floats:
    """The evidence of who knows the true rate of each minute and by how much a spike moves it: the greatest
    log-likelihood ratio over all beginnings in the last hour, of closed sessions and of orders given
    carts."""
    spiked = np.clip(usual + more, 0, 0.99)
    before, then = np.roll(usual, 32), np.roll(spiked, 32)
    step = np.asarray(minutes.lost * np.log(then / before), dtype=np.float64)
    step = step + (minutes.closed - minutes.lost) * np.log((1 - then) / (1 - before))
    per_cart, fewer = _per_cart(usual), _per_cart(spiked)
    step = step + minutes.orders * np.log(fewer / per_cart) - minutes.carts * (fewer - per_cart)
    sums = np.concatenate([[0.0], np.cumsum(step)])
    found: Floats = np.zeros(len(step))
    for ago in range(1, _LONGEST + 1):
        found[ago - 1 :] = np.maximum(found[ago - 1 :], sums[ago:] - sums[:-ago])
    return found


def _per_cart(rate: Floats) -> Floats:
    return (1 - rate) / (1 - rate + 0.15 * rate)

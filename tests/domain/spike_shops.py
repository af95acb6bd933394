"""Shops whose minutes are drawn by seed: seasonal, overdispersed, with campaigns; spikes can be planted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streams.domain import spike
from streams.domain.spike import Excess, Memory, SpikeRule, Standing
from streams.domain.windows import Reading

WEEK = 7 * 24 * 60
#: Minutes from the end of a session until it closes.
CLOSES = 31
Plant = Literal["nothing", "loss", "checkout"]


@dataclass(frozen=True)
class Shop:
    """an_hour: sessions in the mean; wavers: rho of the loss rate in quarters of an hour."""

    an_hour: float
    loss: float
    wavers: float = 0.004


def minutes(shop: Shop, seed: int, weeks: int, plant: Plant = "nothing", at: int = 0) -> list[Reading]:
    """All minutes from the first on; ``at``: the minute in which what is planted begins, for four hours: 20
    points of the sessions that end in it are lost with their carts filled, or nobody can check out."""
    rng = np.random.default_rng(seed)
    count = weeks * WEEK
    minute = np.arange(count)
    hour, day = minute / 60 % 24, minute // 1440 % 7
    traffic = (0.55 + 0.45 * np.sin((hour - 9) / 24 * 2 * np.pi)) * (1 + 0.25 * (day >= 5))
    traffic *= shop.an_hour / 60 / traffic.mean()
    loss = shop.loss + 0.15 * shop.loss * (1 - shop.loss) * np.sin((hour - 3) / 24 * 2 * np.pi)
    for _ in range(weeks):
        begins = rng.integers(0, count)
        traffic[begins : begins + rng.integers(60, 300)] *= rng.uniform(2, 5)
    spread = np.sqrt(shop.wavers * shop.loss * (1 - shop.loss))
    loss = np.clip(loss + np.repeat(rng.normal(size=count // 15), 15) * spread, 0.01, 0.99)
    traffic *= np.exp(0.15 * np.repeat(rng.normal(size=count // 30), 30))
    sessions = rng.poisson(traffic)
    buys = rng.binomial(sessions, 1 - loss)
    carted = buys + rng.binomial(sessions - buys, 0.2)
    if plant != "nothing":
        spell = slice(at, at + 240)
        stay = 0.02 if plant == "checkout" else np.clip(1 - 0.2 / (1 - loss[spell]), 0.02, 1)
        buys[spell] = rng.binomial(buys[spell], stay)
    carts = np.zeros(count, dtype=int)
    before = rng.multinomial(carted, [0.4, 0.25, 0.15, 0.1, 0.05, 0.05])
    for lag in range(6):
        carts[: count - lag] += before[lag:, lag]
    closed, lost = _later(sessions), _later(sessions - buys)
    columns = (minute, closed, lost, carts, buys)
    return [Reading(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _later(counts: NDArray[np.int_]) -> NDArray[np.int_]:
    found = np.zeros_like(counts)
    found[CLOSES:] = counts[:-CLOSES]
    return found


def taught(readings: list[Reading], rule: SpikeRule) -> Memory:
    """What is left of the readings once all have been remembered."""
    memory = Memory()
    for reading in readings:
        spike.remember(memory, reading, reading.minute % WEEK, None, rule)
    return memory


def alarms(readings: list[Reading], first: int, last: int, rule: SpikeRule) -> list[tuple[int, str]]:
    """(minute, signal) of what begins to fire in minutes ``first`` to ``last``."""
    memory = taught(readings[: first - 60], rule)
    standings: dict[str, Standing] = {}
    found: list[tuple[int, str]] = []
    for now in range(first, last):
        open_ = readings[now - 59 : now + 1]
        spike.remember(memory, readings[now - 60], (now - 60) % WEEK, None, rule)
        slots = [each.minute % WEEK for each in open_]
        out: dict[str, Excess] = {
            each.signal: each for each in spike.judge(memory, open_, slots, None, rule).out
        }
        for signal in sorted({*standings, *out}):
            standing, step = spike.advance(standings.pop(signal, None), out.get(signal), now, rule)
            if standing is not None:
                standings[signal] = standing
            if step.changed and step.state == "firing":
                found.append((now, signal))
    return found

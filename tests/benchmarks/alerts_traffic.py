"""Made-up traffic of shops by the minute: seasonal, wavering, with campaigns; and what is planted in it.

A session begins, may put something in the cart, may order at once, and closes half an hour after its last
click: so orders and carts are of this minute, and closed sessions of those that began ``CLOSES`` minutes ago.
Traffic has a day and a week, and an autocorrelated gamma-like wavering of its own; the loss rate has a day
and a week, too, and a beta distribution around that by quarters of an hour. All is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["loss +10", "loss +20", "loss +40", "checkout", "drift", "item", "channel"]
KINDS: Final[tuple[Kind, ...]] = ("loss +10", "loss +20", "loss +40", "checkout", "drift", "item", "channel")

WEEK: Final = 7 * 24 * 60
#: Two minutes of session, thirty of silence.
CLOSES: Final = 32
_QUARTER: Final = 15
#: How long a spike lasts, and a drift takes.
SPIKE: Final = 240
DRIFT: Final = 36 * 60
#: Of those who buy nothing, so many put something in their cart.
_CARTED: Final = 0.15
#: The part of the traffic that one item, or one channel, has.
PART: Final = 0.3


@dataclass(frozen=True, slots=True)
class Shop:
    """What is random of a shop. per_hour: mean sessions; loss: mean rate; rho: overdispersion of the rate."""

    per_hour: float
    loss: float
    rho: float
    seed: int


@dataclass(slots=True)
class Minutes:
    """Of each minute: sessions begun, the part of them that is lost, and what is seen of it."""

    begun: Ints
    rate: Floats
    closed: Ints
    lost: Ints
    carts: Ints
    orders: Ints


def shops(count: int, seed: int) -> list[Shop]:
    """So many shops, of 10 to 3,000 sessions an hour and a loss of 0.3 to 0.95."""
    rng = np.random.default_rng(seed)
    return [
        Shop(
            float(np.exp(rng.uniform(np.log(10), np.log(3000)))),
            float(rng.uniform(0.3, 0.95)),
            float(rng.uniform(0.001, 0.006)),
            int(rng.integers(2**31)),
        )
        for _ in range(count)
    ]


def expected(shop: Shop, weeks: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Sessions to expect in each minute, and the loss rate around which they waver."""
    minute = np.arange(weeks * WEEK)
    hour, day = minute / 60 % 24, minute // (24 * 60) % 7
    swing, phase = rng.uniform(0.3, 0.6), rng.uniform(0, 24)
    traffic = shop.per_hour / 60 * (1 + swing * np.sin((hour - phase) / 24 * 2 * np.pi))
    traffic *= 1 + rng.uniform(-0.3, 0.3) * (day >= 5)
    memory = np.exp(-1 / 90)
    wavers = lfilter([np.sqrt(1 - memory**2)], [1, -memory], rng.normal(size=len(minute)))
    traffic *= np.exp(0.2 * wavers)
    room = 4 * shop.loss * (1 - shop.loss)
    rate = shop.loss + 0.06 * room * np.sin((hour - rng.uniform(0, 24)) / 24 * 2 * np.pi)
    rate += 0.03 * room * (day >= 5)
    for week in range(weeks):
        # A campaign: twice to five times the traffic for hours, and other people.
        begins = week * WEEK + int(rng.integers(WEEK - 360))
        lasts = int(rng.integers(60, 360))
        traffic[begins : begins + lasts] *= rng.uniform(2, 5)
        rate[begins : begins + lasts] += rng.uniform(-0.03, 0.03) * room
    return traffic, np.clip(rate, 0.02, 0.985)


def begin(shop: Shop, weeks: int) -> tuple[np.random.Generator, Ints, Floats]:
    """The generator, sessions begun in each minute, and the rate at which they are lost."""
    rng = np.random.default_rng(shop.seed)
    traffic, rate = expected(shop, weeks, rng)
    quarters = rate[::_QUARTER]
    sharp = 1 / shop.rho - 1
    wavering = rng.beta(quarters * sharp, (1 - quarters) * sharp) - quarters
    return rng, rng.poisson(traffic), np.clip(rate + np.repeat(wavering, _QUARTER), 0.01, 0.99)


def seen(rng: np.random.Generator, begun: Ints, rate: Floats, failing: Floats | None = None) -> Minutes:
    """What is seen of sessions that are lost at ``rate``; ``failing``: the part of orders that a broken
    checkout loses."""
    bought = rng.binomial(begun, 1 - rate)
    wanted = bought
    if failing is not None:
        bought = rng.binomial(bought, 1 - failing)
    lost = begun - bought
    carts = wanted + rng.binomial(begun - wanted, _CARTED)
    return Minutes(begun, rate, _later(begun), _later(lost), carts, bought)


def planted(kind: Kind, rng: np.random.Generator, begun: Ints, rate: Floats, onset: int) -> Minutes:
    """The same with something planted that begins with the minute ``onset``."""
    more = np.zeros(len(begun))
    failing = None
    ends = onset + SPIKE
    if kind == "checkout":
        failing = np.zeros(len(begun))
        failing[onset:ends] = 0.95
    elif kind == "drift":
        grows = np.minimum(1, np.arange(len(begun) - onset) / DRIFT)
        more[onset:] = 0.2 * grows
    elif kind in ("item", "channel"):
        more[onset:ends] = 0.4 * PART
    else:
        more[onset:ends] = int(kind.removeprefix("loss +")) / 100
    return seen(rng, begun, np.clip(rate + more, 0, 0.99), failing)


def _later(counts: Ints) -> Ints:
    found = np.zeros_like(counts)
    found[CLOSES:] = counts[:-CLOSES]
    return found


def trailing(counts: Sequence[int] | Ints | Floats, span: int) -> Floats:
    """Sums over the last ``span`` minutes, at each minute."""
    sums = np.cumsum(np.asarray(counts, dtype=np.float64))
    found: Floats = sums.copy()
    found[span:] -= sums[:-span]
    return found

"""What is usual in one series of minutes: loss rate and orders per active cart by hour of the week.

The past fades with a half-life of three weeks. Of each hour of the week the series keeps decayed sums, and an
hour's rate is drawn from them in steps, each shrunk to the one before by a weight in sessions: the prior
(of the platform, of the shop), the series as a whole, the hour of the day, the hour of the week with half
of each hour beside it. Between the middles of two hours rates are interpolated.

How much rates waver by themselves is measured on blocks of an hour and of ten minutes: with n sessions, mean
rate p, a block's lost sessions L have the variance n p q (1 + (n - 1) rho) of a beta-binomial, so that
rho = sum((L - n p)^2 - n p q) / sum(n (n - 1) p q), the moment estimator of Griffiths (Biometrics 29, 1973)
and Williams (Applied Statistics 31, 1982); orders likewise, with variance E (1 + E rho) of a gamma-Poisson.

A block beyond what wavers teaches only as far as three standard deviations: what an alert was about is learnt
slowly, and a level that lasts in the end.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain.windows import Reading

HOURS: Final = 168
#: Weights of new blocks grow by the minute, so that old ones fade.
_GROWS: Final = log(2) / (21 * 24 * 60)
_RESCALE_AT: Final = 1e6
#: The half-life of the overdispersion is longer: it is a matter of many blocks.
_WAVERS_GROW: Final = _GROWS / 2
_BLOCK: Final = 60
_SHORT_BLOCK: Final = 10
#: Sessions (carts) that a level of the hierarchy weighs towards the next.
_PRIOR_WEIGHT: Final = 30.0
_DAY_WEIGHT: Final = 120.0
_WEEK_WEIGHT: Final = 240.0
_BESIDE: Final = 0.5
#: Blocks that the overdispersion begins with, and what they say.
_RHO_BLOCKS: Final = 24.0
_RHO: Final = 0.003
_RHO_ORDERS: Final = 0.015
#: Sessions of its own by which a series is known well enough to be judged; with a prior that rests on many.
_LEARNT: Final = 200.0
_LEARNT_WITH_PRIOR: Final = 30.0
_PRIOR_RESTS: Final = 1_000.0
_MOST_SDS: Final = 3.0
_FLOOR: Final = 1e-3


class Prior(NamedTuple):
    """What a young series leans on: rates, the overdispersion of each, how many sessions they rest on."""

    loss: float
    rho: float
    per_cart: float
    rho_orders: float
    weight: float


class Sums(Struct, array_like=True):
    """Decayed sums of one hour of the week."""

    minutes: float = 0.0
    closed: float = 0.0
    lost: float = 0.0
    carts: float = 0.0
    orders: float = 0.0


class Block(Struct, array_like=True):
    """An hour (or ten minutes) that is not over, by its number; expected: lost sessions, orders."""

    number: int = -1
    slot: int = 0
    minutes: int = 0
    closed: int = 0
    lost: int = 0
    carts: int = 0
    orders: int = 0
    expected_lost: float = 0.0
    variance: float = 0.0
    expected_orders: float = 0.0


class Memory(Struct, array_like=True, dict=True):
    """All minutes of a series that have left the open window. origin: the minute whose weight is one. rho and
    rho_orders: (excess variance, its unit) on blocks of an hour, and of ten minutes. cusum: evidence that the
    rate has drifted up since ``drifting``; upto: the first minute that is not part of it."""

    origin: int = 0
    hours: list[Sums] = field(default_factory=list)
    total: Sums = field(default_factory=Sums)
    rho: list[float] = field(default_factory=lambda: [0.0] * 4)
    rho_orders: list[float] = field(default_factory=lambda: [0.0] * 4)
    block: Block = field(default_factory=Block)
    short: Block = field(default_factory=Block)
    cusum: float = 0.0
    drifting: int = 0
    upto: int = 0


class Usual(NamedTuple):
    """Rates to expect, and the minutes' mean of closed and lost sessions, at one moment of the week. weight:
    sessions that ``loss`` rests on; weight_carts: carts that ``per_cart`` does."""

    loss: float
    per_cart: float
    lost_a_minute: float
    weight: float
    weight_carts: float


def prior_of(memory: Memory, parent: Prior | None = None) -> Prior:
    """What a series below this one leans on."""
    total = memory.total
    scale = _now_weight(memory)
    closed, carts = total.closed / scale, total.carts / scale
    base = parent or Prior(0.5, _RHO, 0.5, _RHO_ORDERS, 0.0)
    weight = _PRIOR_WEIGHT if parent else 2.0
    return Prior(
        (total.lost / scale + weight * base.loss) / (closed + weight),
        rho_of(memory, parent),
        (total.orders / scale + weight * base.per_cart) / (carts + weight),
        rho_orders_of(memory, parent),
        min(closed, 10_000.0),
    )


def is_learning(memory: Memory, prior: Prior | None) -> bool:
    """Whether too little is known yet to judge by."""
    closed = memory.total.closed / _now_weight(memory)
    leans = prior is not None and prior.weight >= _PRIOR_RESTS
    return closed < (_LEARNT_WITH_PRIOR if leans else _LEARNT)


def rho_of(memory: Memory, prior: Prior | None) -> float:
    """The overdispersion of the loss rate: the greater of that of hours and of tens of minutes."""
    return _rho(memory.rho, prior.rho if prior else _RHO, cap=0.5)


def rho_orders_of(memory: Memory, prior: Prior | None) -> float:
    """The overdispersion of orders given carts, likewise."""
    return _rho(memory.rho_orders, prior.rho_orders if prior else _RHO_ORDERS, cap=5.0)


def _rho(sums: list[float], begins: float, cap: float) -> float:
    found = 0.0
    for excess, unit, blocks in ((sums[0], sums[1], sums[2]), (sums[3], sums[1] / 6, sums[2])):
        if blocks <= 0 or unit <= 0:
            continue
        # Blocks that carry nothing say nothing: the unit is that of a mean block.
        prior_unit = unit / blocks * _RHO_BLOCKS
        found = max(found, (excess + begins * prior_unit) / (unit + prior_unit))
    return min(cap, max(found, begins / 8)) if sums[2] > 0 else begins


def usual(memory: Memory, prior: Prior | None, slot: int) -> Usual:
    """What to expect in the minute ``slot`` of the week."""
    middle = slot / _BLOCK - 0.5
    first = int(middle // 1)
    share = middle - first
    a, b = _of_hour(memory, prior, first % HOURS), _of_hour(memory, prior, (first + 1) % HOURS)
    if share == 0.0:
        return a
    rest = 1 - share
    return Usual(
        rest * a.loss + share * b.loss,
        rest * a.per_cart + share * b.per_cart,
        rest * a.lost_a_minute + share * b.lost_a_minute,
        rest * a.weight + share * b.weight,
        rest * a.weight_carts + share * b.weight_carts,
    )


def _of_hour(memory: Memory, prior: Prior | None, hour: int) -> Usual:
    cache: dict[int, Usual] = memory.__dict__.setdefault("_hours", {})
    if memory.__dict__.get("_prior") is not prior:
        cache.clear()
        memory.__dict__["_prior"] = prior
    found = cache.get(hour)
    if found is None:
        found = cache[hour] = _drawn(memory, prior, hour)
    return found


def _drawn(memory: Memory, prior: Prior | None, hour: int) -> Usual:
    scale = _now_weight(memory)
    base = prior or Prior(0.5, _RHO, 0.5, _RHO_ORDERS, 0.0)
    weight = _PRIOR_WEIGHT if prior else 2.0
    total = memory.total
    closed, carts = total.closed / scale, total.carts / scale
    loss = (total.lost / scale + weight * base.loss) / (closed + weight)
    per_cart = (total.orders / scale + weight * base.per_cart) / (carts + weight)
    rests, rests_carts = closed + weight, carts + weight
    a_minute = total.lost / total.minutes if total.minutes else 0.0
    if memory.hours:
        of_day = _sum([(memory.hours[day * 24 + hour % 24], 1.0) for day in range(7)], scale)
        at_hour = _sum(
            [
                (memory.hours[hour], 1.0),
                (memory.hours[(hour - 1) % HOURS], _BESIDE),
                (memory.hours[(hour + 1) % HOURS], _BESIDE),
            ],
            scale,
        )
        for sums, w in ((of_day, _DAY_WEIGHT), (at_hour, _WEEK_WEIGHT)):
            loss = (sums.lost + w * loss) / (sums.closed + w)
            per_cart = (sums.orders + w * per_cart) / (sums.carts + w)
            rests, rests_carts = sums.closed + min(w, rests), sums.carts + min(w, rests_carts)
            if sums.minutes >= 30:
                a_minute = sums.lost / sums.minutes
    loss = min(max(loss, _FLOOR), 1 - _FLOOR)
    return Usual(loss, max(per_cart, _FLOOR), a_minute, rests, rests_carts)


def _sum(parts: list[tuple[Sums, float]], scale: float) -> Sums:
    whole = Sums()
    for part, weight in parts:
        w = weight / scale
        whole.minutes += w * part.minutes
        whole.closed += w * part.closed
        whole.lost += w * part.lost
        whole.carts += w * part.carts
        whole.orders += w * part.orders
    return whole


def _now_weight(memory: Memory) -> float:
    return exp(_GROWS * (memory.upto - memory.origin))


def take(memory: Memory, reading: Reading, slot: int, prior: Prior | None) -> Block | None:
    """Take in a minute that has left the open window, in place, in order. Gives the hour that it has
    closed."""
    if not memory.upto:
        memory.origin = reading.minute
    expected = usual(memory, prior, slot)
    closed_hour = None
    for short, length in ((False, _BLOCK), (True, _SHORT_BLOCK)):
        block = memory.short if short else memory.block
        number = reading.minute // length
        if block.number != number:
            if block.number >= 0:
                _fold(memory, block, prior, short)
                if not short:
                    closed_hour = block
            block = Block(number, slot)
            if short:
                memory.short = block
            else:
                memory.block = block
        p = expected.loss
        block.minutes += 1
        block.closed += reading.closed
        block.lost += reading.lost
        block.carts += reading.carts
        block.orders += reading.orders
        block.expected_lost += reading.closed * p
        block.variance += reading.closed * p * (1 - p)
        block.expected_orders += reading.carts * expected.per_cart
    memory.upto = reading.minute + 1
    return closed_hour


def _fold(memory: Memory, block: Block, prior: Prior | None, short: bool) -> None:
    """Take a block that is over into the sums."""
    wavers = exp(_WAVERS_GROW * (memory.upto - memory.origin))
    rho, rho_orders = rho_of(memory, prior), rho_orders_of(memory, prior)
    pq = block.variance / block.closed if block.closed else 0.0
    pairs = block.closed * (block.closed - 1) * pq
    spread = sqrt(block.variance + rho * pairs)
    most = block.expected_lost + _MOST_SDS * spread
    least_orders = block.expected_orders - _MOST_SDS * sqrt(
        block.expected_orders * (1 + block.expected_orders * rho_orders)
    )
    known = usual(memory, prior, block.slot)
    for sums, off, variance, unit, well_known in (
        (memory.rho, block.lost - block.expected_lost, block.variance, pairs, known.weight > 500),
        (
            memory.rho_orders,
            block.orders - block.expected_orders,
            block.expected_orders,
            block.expected_orders**2,
            known.weight_carts > 100,
        ),
    ):
        if not unit or not well_known:
            continue
        # What is beyond three deviations is no wavering.
        cap = _MOST_SDS**2 * (variance + unit * (rho if sums is memory.rho else rho_orders))
        excess = wavers * (min(off * off, cap) - variance)
        if short:
            sums[3] += excess
        else:
            sums[0] += excess
            sums[1] += wavers * unit
            sums[2] += wavers
    if short:
        return
    if not memory.hours:
        memory.hours = [Sums() for _ in range(HOURS)]
    weight = _now_weight(memory)
    lost = min(float(block.lost), most) if known.weight > 500 else float(block.lost)
    orders = max(float(block.orders), least_orders) if known.weight_carts > 100 else float(block.orders)
    for into in (memory.hours[block.slot // _BLOCK % HOURS], memory.total):
        into.minutes += weight * block.minutes
        into.closed += weight * block.closed
        into.lost += weight * lost
        into.carts += weight * block.carts
        into.orders += weight * orders
    memory.__dict__.pop("_hours", None)
    if weight > _RESCALE_AT:
        for sums_of in (*memory.hours, memory.total):
            sums_of.minutes /= weight
            sums_of.closed /= weight
            sums_of.lost /= weight
            sums_of.carts /= weight
            sums_of.orders /= weight
        memory.rho = [each / wavers for each in memory.rho]
        memory.rho_orders = [each / wavers for each in memory.rho_orders]
        memory.origin = memory.upto

"""What is usual in one series of minutes: loss rate and orders per active cart by hour of the week.

The past fades with a half-life of three weeks. Of each hour of the shop's week the series keeps decayed
sums, and an hour's rate is drawn from them in steps, each shrunk to the one before by a weight in sessions:
the prior (of the platform, of the shop), the series as a whole, the hour of the day, the hour of the week
with half of each hour beside it. Between the middles of two hours rates are interpolated.

What an hour beyond what wavers teaches is cut off: one deviation above the usual in the first day of it,
three until the third day, all of it from then on. So an alert is not learnt at once, and a level that lasts
is.
"""

from __future__ import annotations

from math import exp, log, sqrt
from struct import Struct as Layout
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain.spike_wavers import ORDERS, RATE, TRAFFIC, Wavers, noted, rho_of
from streams.domain.windows import Reading

HOURS: Final = 168
#: Weights of new blocks grow by the minute, so that old ones fade.
_GROWS: Final = log(2) / (21 * 24 * 60)
#: The half-life of what wavers is longer: it is a matter of many blocks.
_WAVERS_GROW: Final = _GROWS / 2
_RESCALE_AT: Final = 1e6
_BLOCK: Final = 60
_SHORT_BLOCK: Final = 10
_QUARTER: Final = 15
#: Sessions (carts) that a level of the hierarchy weighs towards the next.
_PRIOR_WEIGHT: Final = 30.0
_DAY_WEIGHT: Final = 120.0
_WEEK_WEIGHT: Final = 240.0
_BESIDE: Final = 0.5
#: Sessions (carts) from which on a block far off is held to be an exception.
_KNOWN: Final = 500.0
_KNOWN_CARTS: Final = 100.0
_KNOWN_DAYS: Final = 2.5
_FAR: Final = 3.0
#: Hours in a row that are far off, and how far such an hour teaches, in deviations.
_TEACHES: Final = ((24, 1.0), (72, 3.0))
_FLOOR: Final = 1e-3
#: Half-life of three weeks, by the hour; correlation of one hour with the next to begin with, and its weight.
_LASTING_FADES: Final = 0.5 ** (1 / (21 * 24))
_LASTING: Final = 0.3
_LASTING_HOURS: Final = 48.0
_RATES: Final = Layout("<fff")
_CARTS: Final = Layout("<ff")


class Prior(NamedTuple):
    """What a young series leans on: rates, what wavers, how many sessions the rates rest on."""

    loss: float
    per_cart: float
    wavers: Wavers
    weight: float


class Sums(Struct, array_like=True):
    """Decayed sums of minutes."""

    minutes: float = 0.0
    closed: float = 0.0
    lost: float = 0.0
    carts: float = 0.0
    orders: float = 0.0


class Block(Struct, array_like=True):
    """An hour, or ten minutes, of the shop's clock that is not over, by its first minute; ``slot``: that of
    the week. expected_lost and expected_orders: as usual, given its sessions and carts."""

    start: int = -1
    slot: int = 0
    minutes: int = 0
    closed: int = 0
    lost: int = 0
    carts: int = 0
    orders: int = 0
    expected_lost: float = 0.0
    expected_orders: float = 0.0


class Lasting(Struct, array_like=True):
    """How long what wavers lasts: of the last hour its first minute and deviation; decayed sums of products
    of deviations with the one before, and of squares."""

    start: int = -1
    off: float = 0.0
    products: float = 0.0
    squares: float = 0.0

    def note(self, start: int, off: float) -> None:
        """Take an hour in, ``off`` by so many deviations."""
        off = max(-_FAR, min(_FAR, off))
        if start == self.start + _BLOCK:
            self.products = _LASTING_FADES * self.products + off * self.off
            self.squares = _LASTING_FADES * self.squares + (off * off + self.off * self.off) / 2
        self.start, self.off = start, off

    def effect(self) -> float:
        """By how much the variance of a sum over many hours is more than of independent ones; as of an
        autoregression of order one, (1 + a) / (1 - a)."""
        a = (self.products + _LASTING * _LASTING_HOURS) / (self.squares + _LASTING_HOURS)
        a = max(0.0, min(0.9, a))
        return (1 + a) / (1 - a)


class Memory(Struct, array_like=True, dict=True):
    """All minutes of a series that have left the open window. origin: the minute whose weight is one. rates
    and carts: of each hour of the week, packed as 32-bit floats, (minutes, closed, lost) and (carts, orders);
    empty while there is nothing of it. high: hours in a row far above the usual;
    lasting: how alike hours in a row are. cusum: evidence that the
    rate has drifted up since ``drifting``; upto: the first minute that is not part of it."""

    origin: int = 0
    upto: int = 0
    rates: bytes = b""
    carts: bytes = b""
    total: Sums = field(default_factory=Sums)
    wavers: Wavers = field(default_factory=Wavers)
    block: Block = field(default_factory=Block)
    short: Block = field(default_factory=Block)
    high: int = 0
    lasting: Lasting = field(default_factory=Lasting)
    cusum: float = 0.0
    drifting: int = 0


class Usual(NamedTuple):
    """Rates to expect, and the mean of sessions closed and lost in a minute, at one moment of the week.
    weight: sessions that ``loss`` rests on; weight_carts: carts that ``per_cart`` does; days: on which this
    hour of the day has been seen."""

    loss: float
    per_cart: float
    closed_a_minute: float
    lost_a_minute: float
    weight: float
    weight_carts: float
    days: float

    @property
    def is_known(self) -> bool:
        """Whether what is far off is an exception rather than another time of the day."""
        return self.weight > _KNOWN and self.days >= _KNOWN_DAYS


_NOBODY: Final = Prior(0.5, 0.5, Wavers(), 0.0)


def prior_of(memory: Memory, parent: Prior | None = None) -> Prior:
    """What a series below this one leans on."""
    total, scale = memory.total, _weight_now(memory)
    closed, carts = total.closed / scale, total.carts / scale
    base = parent or _NOBODY
    weight = _PRIOR_WEIGHT if parent else 2.0
    return Prior(
        (total.lost / scale + weight * base.loss) / (closed + weight),
        (total.orders / scale + weight * base.per_cart) / (carts + weight),
        memory.wavers.over(base.wavers),
        min(closed, 10_000.0),
    )


def rests_on(memory: Memory) -> float:
    """Sessions that the series has seen, less what has faded."""
    return memory.total.closed / _weight_now(memory)


class Quarters(dict[int, Usual]):
    """What is usual in each quarter of an hour of the week, drawn when it is asked for; within one it hardly
    moves."""

    def __init__(self, memory: Memory, prior: Prior | None) -> None:
        super().__init__()
        self.prior = prior
        self._memory = memory
        self._scale = _weight_now(memory)
        self._hours: dict[int, Usual] = {}

    def __missing__(self, quarter: int) -> Usual:
        middle = (quarter + 0.5) * _QUARTER / _BLOCK - 0.5
        first = int(middle // 1)
        share = middle - first
        rest = 1 - share
        a, b = self._hour(first % HOURS), self._hour((first + 1) % HOURS)
        found = self[quarter] = Usual(*(rest * x + share * y for x, y in zip(a, b, strict=True)))
        return found

    def _hour(self, hour: int) -> Usual:
        found = self._hours.get(hour)
        if found is None:
            found = self._hours[hour] = _drawn(self._memory, self.prior, hour, self._scale)
        return found


def quarters(memory: Memory, prior: Prior | None) -> Quarters:
    """As of the last block taken in: kept until the next, for it is asked in each minute."""
    found: Quarters | None = memory.__dict__.get("_quarters")
    if found is None or found.prior is not prior:
        found = memory.__dict__["_quarters"] = Quarters(memory, prior)
    return found


def usual(memory: Memory, prior: Prior | None, slot: int) -> Usual:
    """What to expect in the minute ``slot`` of the week."""
    return quarters(memory, prior)[slot // _QUARTER]


def _drawn(memory: Memory, prior: Prior | None, hour: int, scale: float) -> Usual:
    base, weight = prior or _NOBODY, _PRIOR_WEIGHT if prior else 2.0
    total = memory.total
    closed, carts = total.closed / scale, total.carts / scale
    loss = (total.lost / scale + weight * base.loss) / (closed + weight)
    per_cart = (total.orders / scale + weight * base.per_cart) / (carts + weight)
    rests, rests_carts = closed + weight, carts + weight
    a_minute = lost_a_minute = days = 0.0
    if total.minutes:
        a_minute, lost_a_minute = total.closed / total.minutes, total.lost / total.minutes
    of_day = [(day * 24 + hour % 24, 1.0) for day in range(7)]
    of_week = [(hour, 1.0), ((hour - 1) % HOURS, _BESIDE), ((hour + 1) % HOURS, _BESIDE)]
    for parts, w in ((of_day, _DAY_WEIGHT), (of_week, _WEEK_WEIGHT)):
        sums = _sum(memory, parts, scale)
        loss = (sums.lost + w * loss) / (sums.closed + w)
        per_cart = (sums.orders + w * per_cart) / (sums.carts + w)
        rests, rests_carts = sums.closed + min(w, rests), sums.carts + min(w, rests_carts)
        if w == _DAY_WEIGHT:
            days = sums.minutes / _BLOCK
        if sums.minutes >= _BLOCK / 2:
            a_minute, lost_a_minute = sums.closed / sums.minutes, sums.lost / sums.minutes
    loss = min(max(loss, _FLOOR), 1 - _FLOOR)
    return Usual(loss, max(per_cart, _FLOOR), a_minute, lost_a_minute, rests, rests_carts, days)


def _sum(memory: Memory, parts: list[tuple[int, float]], scale: float) -> Sums:
    whole = Sums()
    for hour, share in parts:
        w = share / scale
        if memory.rates:
            minutes, closed, lost = _RATES.unpack_from(memory.rates, hour * _RATES.size)
            whole.minutes += w * minutes
            whole.closed += w * closed
            whole.lost += w * lost
        if memory.carts:
            carts, orders = _CARTS.unpack_from(memory.carts, hour * _CARTS.size)
            whole.carts += w * carts
            whole.orders += w * orders
    return whole


def _weight_now(memory: Memory) -> float:
    # As of the block under way, not of the minute: what is drawn must not hang on when it was.
    return exp(_GROWS * max(0, memory.block.start - memory.origin))


def take(memory: Memory, reading: Reading, slot: int, prior: Prior | None) -> Block | None:
    """Take in a minute that has left the open window, in place, in order. Gives the hour that is over with
    it."""
    if not memory.upto:
        memory.origin = reading.minute
    over = None
    if memory.short.start != reading.minute - slot % _SHORT_BLOCK:
        if memory.short.minutes:
            _note(memory, memory.short, prior, short=True)
        memory.short = Block(reading.minute - slot % _SHORT_BLOCK, slot)
    if memory.block.start != reading.minute - slot % _BLOCK:
        if memory.block.minutes:
            over = memory.block
            _fold(memory, over, prior)
        memory.block = Block(reading.minute - slot % _BLOCK, slot)
        memory.__dict__.pop("_quarters", None)
    expected = usual(memory, prior, slot)
    for block in (memory.block, memory.short):
        block.minutes += 1
        block.closed += reading.closed
        block.lost += reading.lost
        block.carts += reading.carts
        block.orders += reading.orders
        block.expected_lost += reading.closed * expected.loss
        block.expected_orders += reading.carts * expected.per_cart
    memory.upto = reading.minute + 1
    return over


def _note(memory: Memory, block: Block, prior: Prior | None, short: bool) -> None:
    """What a block says of how much things waver."""
    known = usual(memory, prior, block.slot)
    weight = exp(_WAVERS_GROW * max(0, block.start - memory.origin))
    wavers = memory.wavers
    base = prior.wavers if prior else None
    if known.weight > _KNOWN:
        p = block.expected_lost / block.closed if block.closed else 0.0
        off = block.lost - block.expected_lost
        noted(wavers, base, RATE, short, off, block.expected_lost * (1 - p), max(0, block.closed - 1), weight)
        if not short:
            usually = known.closed_a_minute * block.minutes
            noted(wavers, base, TRAFFIC, short, block.closed - usually, usually, usually, weight)
    if known.weight_carts > _KNOWN_CARTS:
        mean = block.expected_orders
        noted(wavers, base, ORDERS, short, block.orders - mean, mean, mean, weight)


def _fold(memory: Memory, block: Block, prior: Prior | None) -> None:
    """Take an hour that is over into the sums."""
    known = usual(memory, prior, block.slot)
    base = prior.wavers if prior else None
    lost, orders = float(block.lost), float(block.orders)
    if block.closed and known.is_known:
        variance = block.expected_lost * (1 - block.expected_lost / block.closed)
        effect = 1 + (block.closed - 1) * (rho_of(memory.wavers, base, RATE, _BLOCK) + 1 / known.weight)
        spread = sqrt(variance * effect)
        memory.lasting.note(block.start, (lost - block.expected_lost) / spread)
        if lost <= block.expected_lost + _FAR * spread:
            memory.high = 0
        else:
            memory.high += 1
            for hours, teaches in _TEACHES:
                if memory.high <= hours:
                    lost = block.expected_lost + teaches * spread
                    break
    if known.is_known and known.weight_carts > _KNOWN_CARTS and memory.high <= _TEACHES[-1][0]:
        mean = block.expected_orders
        spread = sqrt(mean * (1 + mean * rho_of(memory.wavers, base, ORDERS, _BLOCK)))
        if orders < mean - _FAR * spread:
            orders = mean - _TEACHES[0][1] * spread
    _note(memory, block, prior, short=False)
    weight = exp(_GROWS * max(0, block.start - memory.origin))
    if weight > _RESCALE_AT:
        _rescale(memory, block.start, weight)
        weight = 1.0
    hour, total = block.slot // _BLOCK % HOURS, memory.total
    minutes, closed = weight * block.minutes, weight * block.closed
    lost, carts, orders = weight * lost, weight * block.carts, weight * orders
    total.minutes += minutes
    total.closed += closed
    total.lost += lost
    total.carts += carts
    total.orders += orders
    memory.rates = _added(_RATES, memory.rates, hour, (minutes, closed, lost))
    if carts or orders or memory.carts:
        memory.carts = _added(_CARTS, memory.carts, hour, (carts, orders))


def _added(layout: Layout, packed: bytes, hour: int, sums: tuple[float, ...]) -> bytes:
    cells = bytearray(packed or bytes(HOURS * layout.size))
    had = layout.unpack_from(cells, hour * layout.size)
    layout.pack_into(cells, hour * layout.size, *(a + b for a, b in zip(had, sums, strict=True)))
    return bytes(cells)


def _rescale(memory: Memory, origin: int, weight: float) -> None:
    for name, layout in (("rates", _RATES), ("carts", _CARTS)):
        packed = getattr(memory, name)
        cells = [layout.pack(*(each / weight for each in cell)) for cell in layout.iter_unpack(packed)]
        setattr(memory, name, b"".join(cells))
    total = memory.total
    memory.total = Sums(
        total.minutes / weight,
        total.closed / weight,
        total.lost / weight,
        total.carts / weight,
        total.orders / weight,
    )
    memory.wavers.rescale(exp(_WAVERS_GROW * (origin - memory.origin)))
    memory.origin = origin

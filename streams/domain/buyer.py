"""What is kept of one customer in one shop: purchases that are settled, activity, and what was told.

Orders stay in the shop's ledger until no accepted event can change them; then they are folded into
``settled`` in the order of their moments, and never out of it. So the history

    settled ⊕ the orders in the ledger

is the same whenever the folding happens and in whatever order the events came, although a history is lossy:
it is bounded, whatever a customer does.

    ──●────●───────●──────────┊───●─────────●──────┤ now
       folded into settled    ┊    in the ledger
                              └ the first order that an amendment, or a late event, may still change
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import Struct, field

from streams.domain.activity import LONG_SPAN, Activity, Day, by_day
from streams.domain.days import day_of
from streams.domain.facts import ActionKind, Cause, Stage, Tier
from streams.domain.loss_facts import SegmentCause
from streams.domain.order import OrderRecord
from streams.domain.policy import Policy

#: What a history keeps, at most.
MOST_GAPS: Final = 8
MOST_CATEGORIES: Final = 12
MOST_CURRENCIES: Final = 4
LONGEST_CATEGORY: Final = 64

_moment: Final = attrgetter("at", "id")


class Money(Struct, array_like=True, frozen=True, gc=False):
    """Standing orders in one currency, in ten-thousandths; ``net`` is what partial refunds have left."""

    orders: int = 0
    gross: int = 0
    discount: int = 0
    net: int = 0
    pieces: int = 0


class Category(Struct, array_like=True, frozen=True, gc=False):
    """Standing orders with the category, the days they lie on, and the last one's day and moment."""

    orders: int
    days: int
    first_day: int
    last_day: int
    last_at: int

    def gap(self) -> float | None:
        """The mean of the days between purchases; None while there are fewer than two gaps."""
        return (self.last_day - self.first_day) / (self.days - 1) if self.days > 2 else None


class History(Struct, array_like=True, gc=False):
    """Standing orders, taken in by moment. Days are local, times in ms.

    days: purchase occasions, that is days with a standing order. first_at, last_at: of the first and the last
    standing order. anchor: the first one's of the last day. gaps: the last few between days; squares: the sum
    of the squares of all.
    money: by currency, "" where an order names none. upto: (moment, event id) of the last order taken in.
    recent: (day, how many) of the last ``LONG_SPAN`` days up to the last order; none of those that were taken
    in before it was kept.
    """

    days: int = 0
    first_day: int = 0
    last_day: int = 0
    first_at: int = 0
    last_at: int = 0
    anchor: int = 0
    gaps: list[int] = field(default_factory=list)
    squares: int = 0
    orders: int = 0
    reversed: int = 0
    discounted: int = 0
    money: dict[str, Money] = field(default_factory=dict)
    categories: dict[str, Category] = field(default_factory=dict)
    upto: tuple[int, int] = (-1, -1)
    recent: list[tuple[int, int]] = field(default_factory=list)

    def copy(self) -> History:
        """Another history that can be taken further."""
        return History(
            self.days,
            self.first_day,
            self.last_day,
            self.first_at,
            self.last_at,
            self.anchor,
            self.gaps,  # replaced, never changed
            self.squares,
            self.orders,
            self.reversed,
            self.discounted,
            self.money.copy(),
            self.categories.copy(),
            self.upto,
            self.recent,  # likewise
        )

    def take(self, order: Pending, policy: Policy) -> bool:
        """Take in the next order by moment; whether it begins a new purchase occasion."""
        at = order.at
        self.upto = (at, order.id)
        record = order.record
        back = record.refunded(policy.amendment_window) if record.amendments else 0
        if back is None:
            self.reversed += 1
            return False
        day = day_of(at, policy.zone)
        fresh = not self.days or day > self.last_day
        if fresh:
            if self.days:
                gap = day - self.last_day
                self.gaps = [*self.gaps[1 - MOST_GAPS :], gap]
                self.squares += gap * gap
            else:
                self.first_day, self.first_at = day, at
            self.days += 1
            self.last_day, self.anchor = day, at
        self.last_at = at
        self.orders += 1
        self._count(day)
        if record.discount > 0:
            self.discounted += 1
        currency = record.currency or ""
        net = max(0, record.total - back)
        had = self.money.get(currency)
        if had is not None:
            self.money[currency] = Money(
                had.orders + 1,
                had.gross + record.gross,
                had.discount + record.discount,
                had.net + net,
                had.pieces + record.pieces,
            )
        elif len(self.money) < MOST_CURRENCIES:
            self.money[currency] = Money(1, record.gross, record.discount, net, record.pieces)
        for name in record.categories:
            self._buy(name[:LONGEST_CATEGORY], day, at)
        return fresh

    def _count(self, day: int) -> None:
        recent = self.recent
        if recent and recent[-1][0] == day:
            self.recent = [*recent[:-1], (day, recent[-1][1] + 1)]
        elif recent and recent[0][0] <= day - LONG_SPAN:
            self.recent = [*(each for each in recent if each[0] > day - LONG_SPAN), (day, 1)]
        else:
            self.recent = [*recent, (day, 1)]

    def _buy(self, name: str, day: int, at: int) -> None:
        had = self.categories.get(name)
        if had is not None:
            days = had.days + (day > had.last_day)
            self.categories[name] = Category(had.orders + 1, days, had.first_day, day, at)
            return
        if len(self.categories) >= MOST_CATEGORIES:
            # The rarest makes room, the longest unbought of several.
            _, _, rarest = min((c.orders, c.last_at, n) for n, c in self.categories.items())
            del self.categories[rarest]
        self.categories[name] = Category(1, 1, day, day, at)

    @property
    def x(self) -> int:
        """Repeat purchases, as lapse models count them."""
        return self.days - 1

    @property
    def t_x(self) -> int:
        """Days from the first purchase to the last."""
        return self.last_day - self.first_day

    def main(self) -> tuple[str, Money]:
        """The currency of most standing orders, the first by name of several, "" where none is named;
        and what was bought in it, with the orders that name none."""
        if len(self.money) == 1:
            ((currency, money),) = self.money.items()
            return currency, money
        named = [(-money.orders, currency) for currency, money in self.money.items() if currency]
        currency = min(named)[1] if named else ""
        money = self.money.get(currency, Money())
        nameless = self.money.get("") if currency else None
        if nameless is None:
            return currency, money
        pairs = zip(msgspec.structs.astuple(money), msgspec.structs.astuple(nameless), strict=True)
        return currency, Money(*(a + b for a, b in pairs))

    def mixed(self) -> bool:
        """Whether standing orders name more than one currency."""
        return len(self.money) - ("" in self.money) > 1

    def preferred(self) -> tuple[str, ...]:
        """At most three categories, by standing orders, then the latest bought, then name."""
        if len(self.categories) < 2:
            return tuple(self.categories)
        ranked = sorted((-c.orders, -c.last_at, name) for name, c in self.categories.items())
        return tuple(name for _, _, name in ranked[:3])


class Pending(Struct, frozen=True, gc=False):
    """An order of the ledger with its moment."""

    at: int
    id: int
    record: OrderRecord


class Episode(Struct, array_like=True, gc=False):
    """From one purchase occasion to the next: what lapse models are asked about.

    anchor: the moment of the occasion's first standing order; day: its local day; x, t_x: as of that day.
    entered: the stage that the occasion led to, or left as it was; lag: from the anchor to when it began.
    lapses_at: when the buyer is lapsing, in ms; 0 while nobody has asked, -1 for never. model: the version
    that said so. cause: why then.
    """

    anchor: int
    day: int
    x: int
    t_x: int
    entered: Stage = "new"
    lag: int = 0
    lapses_at: int = 0
    model: int = 0
    cause: Cause = "overdue"

    @property
    def since(self) -> int:
        """When the stage began."""
        return self.anchor + self.lag


class Told(Struct, array_like=True, gc=False):
    """A stage's transition that was told and may still change, or was told just now, ``lag`` ms after the
    anchor. Chances in 1/10,000, the usual gap in tenths of a day; version 0 is not told yet."""

    anchor: int
    lag: int
    before: Stage
    after: Stage
    cause: Cause
    x: int
    gap: int | None = None
    alive: int | None = None
    returns: int | None = None
    overdue: int | None = None
    model: int = 0
    version: int = 0
    gone: bool = False

    @property
    def at(self) -> int:
        """When it happened."""
        return self.anchor + self.lag


class Asked(Struct, array_like=True, gc=False):
    """An action that was told and is not to be told again, or may still be withdrawn. Units as in ``Told``;
    ``expected`` is a local day, ``discounts`` in percent."""

    kind: ActionKind
    category: str
    anchor: int
    at: int
    stage: Stage
    priority: int
    expected: int | None = None
    gap: int | None = None
    alive: int | None = None
    returns: int | None = None
    overdue: int | None = None
    discounts: int | None = None
    model: int = 0
    version: int = 0
    gone: bool = False


class Tiers(Struct, array_like=True, gc=False):
    """The tier last told, and the one that the day of that change began with; ``version`` of the fact."""

    now: Tier | None
    day: int
    before: Tier | None
    cause: Cause = "order"
    model: int = 0
    version: int = 0


class Turn(Struct, array_like=True, frozen=True, gc=False):
    """A change of membership as it was told. gone: the segment, or the customer, is there no more."""

    segment: str
    member: bool
    at: int
    cause: SegmentCause
    rules: int
    version: int
    gone: bool = False


class Buyer(Struct, array_like=True, gc=False):
    """One customer in one shop; times in ms.

    episodes: of the last settled occasion, and of each one in the ledger. activity: by local day, of sessions
    that have left the state; seen: the latest end of one.
    version: of what was told last. owed: the lowest version that may not have been sent, 0 if all was.
    checked: when it was last looked at. final: transitions before it cannot change any more.
    profile: the digest of the last profile told, 0 if none was. model: the version that it was drawn up with.
    orders, reversed, net: what stood then, to tell why something has changed.
    forgotten: the profile is withdrawn, and the rest goes once that has been sent.
    segments: that they belong to, as told; turns: the changes of it that may not have been sent. flips_at:
    until when time alone leaves it so, 0 for ever. likeness: of the profile that segments last went by, 0 if
    none was asked about.
    """

    settled: History = field(default_factory=History)
    episodes: list[Episode] = field(default_factory=list)
    activity: list[Day] = field(default_factory=list)
    seen: int = 0
    version: int = 0
    owed: int = 0
    checked: int = 0
    final: int = 0
    profile: int = 0
    model: int = 0
    orders: int = 0
    reversed: int = 0
    net: int = 0
    told: list[Told] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    tier: Tiers | None = None
    forgotten: bool = False
    segments: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    flips_at: int = 0
    likeness: int = 0


def pending(buyer: Buyer, orders: Iterable[OrderRecord]) -> list[Pending]:
    """The orders of the ledger that are not settled, by moment; none that only amendments are known of."""
    upto = buyer.settled.upto
    found = []
    for record in orders:
        moment = record.moment()
        if moment is not None and moment[1:] > upto:
            found.append(Pending(moment[1], moment[2], record))
    if len(found) > 1:
        found.sort(key=_moment)
    return found


def is_settled(buyer: Buyer | None, record: OrderRecord) -> bool:
    """Whether the ledger may forget the order: it is folded, or was never mentioned."""
    moment = record.moment()
    return moment is None or (buyer is not None and moment[1:] <= buyer.settled.upto)


def history(buyer: Buyer, orders: Iterable[OrderRecord], now: int, policy: Policy) -> History:
    """All purchases up to ``now``, settled or not."""
    whole = buyer.settled.copy()
    for order in pending(buyer, orders):
        if order.at <= now:
            whole.take(order, policy)
    return whole


def leave(buyer: Buyer, session: Activity, policy: Policy) -> None:
    """Take over the activity of a session that leaves the state."""
    buyer.seen = max(buyer.seen, session.end)
    buyer.activity = by_day(buyer.activity, [session], policy.zone)


def unit_price(money: Money) -> int | None:
    """The mean price of a piece, in ten-thousandths; None where no line had a price."""
    return money.gross // money.pieces if money.pieces and money.gross else None

"""Orders as verdicts see them: one record an order id, whatever order its events arrive in.

An order's *moment* is its earliest ``placed`` event, or its earliest ``paid`` one if it was never placed;
what that event says is what the order says. Cancellations and refunds amend it and are no activity.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from streams.domain.events import Input, Order
from streams.domain.facts import to_amount

PLACED: Final = 0
PAID: Final = 1

CANCELLED: Final = 0
REFUNDED: Final = 1
PARTLY_REFUNDED: Final = 2

#: (rank, time, id): the smallest is the event that an order is attributed by.
Mention = tuple[int, int, int]


class Amendment(Struct, array_like=True, frozen=True, gc=False):
    """A cancellation or refund; ``amount`` in ten-thousandths, of a partial refund."""

    t: int
    id: int
    code: int
    amount: int = 0


class Detail(Struct, array_like=True, frozen=True, gc=False):
    """What a line says beyond its item. category: its place among the order's categories, -1 for none;
    gross: at the price of one piece, -1 where none is told; discount: off the line; in ten-thousandths."""

    category: int
    quantity: int
    gross: int
    discount: int


class OrderRecord(Struct, array_like=True, gc=False):
    """All that is known of one order. All but mentions and amendments is of the smallest mention.

    gross: its priced lines before discounts, in ten-thousandths; discount: what was taken off them, line by
    line or by a lower total; pieces: of priced lines; categories: each once, as lines name them. details: of
    each of the items.
    """

    mentions: list[Mention] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)
    total: int = 0
    currency: str | None = None
    items: list[str] = field(default_factory=list)
    # A record of a state from before these fields has none of them.
    gross: int = 0
    discount: int = 0
    pieces: int = 0
    categories: list[str] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)

    def mention(self, event: Input, order: Order) -> None:
        """Take in a ``placed`` or ``paid`` event; which of them arrives first is of no consequence."""
        seen: Mention = (PLACED if order.action == "placed" else PAID, event.t, event.id)
        if not self.mentions or seen < min(self.mentions):
            self.total = _total(order)
            self.currency = order.currency
            self.items = [line.item_id for line in order.lines]
            self._price(order)
        self.mentions.append(seen)

    def _price(self, order: Order) -> None:
        gross = discount = pieces = 0
        places: dict[str, int] = {}
        self.details = []
        for line in order.lines:
            off = 0 if line.discount is None else to_amount(line.discount)
            worth = -1
            if line.price is not None:
                worth = to_amount(line.price) * line.quantity
                gross += worth
                pieces += line.quantity
                discount += off
            place = places.setdefault(line.category, len(places)) if line.category else -1
            self.details.append(Detail(place, line.quantity, worth, off))
        self.gross, self.pieces = gross, pieces
        self.discount = max(discount, gross - self.total)
        self.categories = list(places)

    def amend(self, event: Input, order: Order) -> None:
        """Take in a ``cancelled`` or ``refunded`` event; a refund without an amount is a full one."""
        if order.action == "cancelled":
            amendment = Amendment(event.t, event.id, CANCELLED)
        elif order.refund_amount is None:
            amendment = Amendment(event.t, event.id, REFUNDED)
        else:
            amendment = Amendment(event.t, event.id, PARTLY_REFUNDED, to_amount(order.refund_amount))
        self.amendments.append(amendment)

    def absorb(self, other: OrderRecord) -> bool:
        """Become the union of both; False if ``other`` says nothing new."""
        mentions = [each for each in other.mentions if each not in self.mentions]
        known = {each.id for each in self.amendments}
        amendments = [each for each in other.amendments if each.id not in known]
        if mentions and (not self.mentions or min(mentions) < min(self.mentions)):
            self.total, self.currency, self.items = other.total, other.currency, other.items
            self.gross, self.discount, self.pieces = other.gross, other.discount, other.pieces
            self.categories, self.details = other.categories, other.details
        self.mentions += mentions
        self.amendments += amendments
        return bool(mentions or amendments)

    def moment(self) -> Mention | None:
        """The mention it is attributed by; None while only amendments are known."""
        if len(self.mentions) == 1:
            return self.mentions[0]
        return min(self.mentions) if self.mentions else None

    def refunded(self, window: int) -> int | None:
        """What amendments at most ``window`` ms from the moment have taken back; None if it is all of it."""
        first = self.moment()
        if first is None:
            return 0
        back = 0
        for amendment in self.amendments:
            if abs(amendment.t - first[1]) <= window:
                if amendment.code != PARTLY_REFUNDED:
                    return None
                back += amendment.amount
        return None if 0 < self.total <= back else back

    def weight(self, window: int) -> int:
        """How many events have a say in it: part of the version of each verdict that it bears on.

        An amendment counts if it is within ``window`` ms of any mention, so that the sum only grows.
        """
        if not self.amendments:
            return len(self.mentions)
        times = [mention[1] for mention in self.mentions]
        heard = sum(any(abs(a.t - t) <= window for t in times) for a in self.amendments)
        return len(times) + heard

    def expires(self, policy_window: int, horizon: int) -> int:
        """The watermark beyond which no accepted event can change it any more."""
        if len(self.mentions) == 1:
            return self.mentions[0][1] + policy_window + horizon
        times = [m[1] for m in self.mentions] or [a.t for a in self.amendments]
        return max(times) + policy_window + horizon


#: By order id.
Orders = dict[str, OrderRecord]


def _total(order: Order) -> int:
    if order.total is not None:
        return to_amount(order.total)
    total = 0
    for line in order.lines:
        if line.price is not None:
            total += to_amount(line.price) * line.quantity
            if line.discount is not None:
                total -= to_amount(line.discount)
    return total

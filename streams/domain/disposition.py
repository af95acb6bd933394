"""What became of an interest: a customer's looks at the items of one shop on one day, and what they bought.

All is commutative: touches may be folded in any order, in any portions, and a day says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, field

from streams.domain.loss_facts import Disposition, ItemDay
from streams.domain.order import OrderRecord
from streams.domain.session import CARTED, FAVORITED, LOOKED, Touch

_ANY: Final = ""


class Sale(Struct, frozen=True, gc=False):
    """A standing order with its moment ``at``; taken_back: of its total."""

    shop_id: str
    order_id: str
    at: int
    record: OrderRecord
    taken_back: int


class Item(Struct, array_like=True, gc=False):
    """An item on one day; times in ms since the day began.

    looks: at its page; first and last of them. named: (time, category) of the earliest touch that names one.
    prices: (time, price) last told, by currency, "" where none is named; in ten-thousandths.
    """

    looks: int = 0
    first: int = 0
    last: int = 0
    named: tuple[int, str] | None = None
    favorited: bool = False
    carted: bool = False
    prices: dict[str, tuple[int, int]] | None = None

    @property
    def category(self) -> str | None:
        """As the earliest touch names it."""
        return self.named[1] if self.named else None

    def take(self, touch: Touch, begins: int) -> None:
        """Fold a touch of the day that begins at ``begins``."""
        at = touch.t - begins
        if touch.kind == LOOKED:
            if not self.looks or at < self.first:
                self.first = at
            if at > self.last:
                self.last = at
            self.looks += 1
        elif touch.kind == FAVORITED:
            self.favorited = True
        elif touch.kind == CARTED:
            self.carted = True
        if touch.category and (self.named is None or (at, touch.category) < self.named):
            self.named = (at, touch.category)
        if touch.price is not None:
            told = (at, touch.price)
            currency = touch.currency or _ANY
            if self.prices is None:
                self.prices = {currency: told}
            elif told > self.prices.get(currency, (-1, -1)):
                self.prices[currency] = told

    def price(self, currency: str | None) -> int | None:
        """The price last told in ``currency``, or without one; of all, where ``currency`` is None."""
        if not self.prices:
            return None
        if currency is None:
            return max(self.prices.values())[1]
        told = [self.prices[name] for name in (currency, _ANY) if name in self.prices]
        return max(told)[1] if told else None


class Day(Struct, array_like=True, gc=False):
    """One customer's day in one shop.

    folds: a moment of each portion of touches, which lies in one session whatever it merges with; in ms since
    the day began. told: the digest of what was told last, 0 if nothing was; version: of that. bought: whether
    a standing order bore on it then.
    """

    items: dict[str, Item] = field(default_factory=dict)
    folds: list[int] = field(default_factory=list)
    told: int = 0
    version: int = 0
    bought: bool = False

    def fold(self, touches: Sequence[Touch], begins: int) -> None:
        """Take in touches of one session on this day, which begins at ``begins``."""
        items = self.items
        for touch in touches:
            item = items.get(touch.item)
            if item is None:
                item = items[touch.item] = Item()
            item.take(touch, begins)
        self.folds.append(touches[0].t - begins)

    def looked_at(self) -> bool:
        """Whether the page of any item was seen."""
        return any(item.looks for item in self.items.values())


def dispositions(
    day: Day, begins: int, own: Sequence[Sale], elsewhere: Iterable[Sale]
) -> tuple[tuple[ItemDay, ...], bool]:
    """What became of each item that was looked at, by item id; and whether any sale bears on it.

    own: sales in the shop on that day; elsewhere: in others, from the beginning of the day to the end of the
    leak window.
    """
    bought: set[str] = set()
    similar: set[str] = set()
    for sale in own:
        bought.update(sale.record.items)
        similar.update(sale.record.categories)
    latest: dict[str, int] = {}
    if not own:
        for sale in elsewhere:
            for name in sale.record.categories:
                if sale.at > latest.get(name, -1):
                    latest[name] = sale.at
    found = []
    bears = bool(own)
    items = day.items
    for item_id in sorted(items):
        item = items[item_id]
        if not item.looks:
            continue
        category = item.category
        became: Disposition = "nothing"
        if own:
            if item_id in bought:
                became = "bought_item"
            elif category in similar:
                became = "bought_similar"
            else:
                became = "bought_other"
        elif latest and category is not None and latest.get(category, -1) >= begins + item.first:
            became = "bought_elsewhere"
            bears = True
        found.append(
            ItemDay(item_id, category, became, begins + item.first, item.looks, item.favorited, item.carted)
        )
    return tuple(found), bears

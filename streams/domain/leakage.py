"""Where the lost went: orders elsewhere of what a visitor who bought nothing had looked at."""

from __future__ import annotations

from msgspec import Struct

from streams.domain.days import date_of
from streams.domain.disposition import Day, Sale
from streams.domain.facts import money
from streams.domain.loss_facts import Intent, LeakFact, leak_id
from streams.domain.purchase import shares, unit_price


class Leak(Struct, array_like=True, frozen=True, gc=False):
    """An order elsewhere that a day leaked; times in ms since 1970 UTC, money in ten-thousandths.

    price_here: the lowest last told of the items looked at; price_there: the mean of a piece as ordered.
    """

    day: int
    seen_at: int
    items: tuple[str, ...]
    categories: tuple[str, ...]
    intent: Intent | None
    at: int
    to_items: tuple[str, ...]
    pieces: int
    amount: int
    currency: str | None
    price_here: int | None
    price_there: int | None
    is_bot: bool


def leak(number: int, day: Day, begins: int, sale: Sale, is_bot: bool) -> Leak | None:
    """What ``day``, which is ``number`` and begins at ``begins``, leaked by ``sale``; None if nothing.

    The caller has seen to it that nothing stands bought in the shop on that day, and that the sale lies
    elsewhere and inside the leak window.
    """
    at, record = sale.at, sale.record
    offered = record.categories
    if not offered:
        return None
    matching = {
        item_id: item
        for item_id, item in day.items.items()
        if item.looks and item.category in offered and begins + item.first <= at
    }
    if not matching:
        return None
    categories = {item.category for item in matching.values() if item.category}
    places = {place for place, name in enumerate(offered) if name in categories}
    lines = [
        (item_id, detail, net)
        for item_id, detail, net in zip(
            record.items, record.details, shares(record, sale.taken_back), strict=False
        )
        if detail.category in places
    ]
    if not lines:
        return None
    intent: Intent | None = None
    if any(item.carted for item in matching.values()):
        intent = "cart"
    elif any(item.favorited for item in matching.values()):
        intent = "favorite"
    prices = [price for item in matching.values() if (price := item.price(record.currency)) is not None]
    seen = (item.last if begins + item.last <= at else item.first for item in matching.values())
    return Leak(
        day=number,
        seen_at=begins + max(seen),
        items=tuple(sorted(matching)),
        categories=tuple(sorted(categories)),
        intent=intent,
        at=at,
        to_items=tuple(sorted({item_id for item_id, _, _ in lines})),
        pieces=sum(detail.quantity for _, detail, _ in lines),
        amount=sum(net for _, _, net in lines),
        currency=record.currency,
        price_here=min(prices, default=None),
        price_there=unit_price([detail for _, detail, _ in lines]),
        is_bot=is_bot,
    )


class Leaked(Struct, array_like=True, gc=False):
    """A leak of ``shop`` that was told, and the version of what was said last; 0: it must be told anew."""

    shop: str
    to_shop: str
    order: str
    leak: Leak
    version: int = 0
    gone: bool = False

    def fact(self, customer_id: str) -> LeakFact:
        """What is said of it now."""
        lost = self.leak
        return LeakFact(
            leak_id=leak_id(customer_id, self.shop, self.to_shop, self.order),
            shop_id=self.shop,
            customer_id=customer_id,
            day=date_of(lost.day),
            seen_at=lost.seen_at,
            item_ids=lost.items,
            categories=lost.categories,
            intent=lost.intent,
            to_shop_id=self.to_shop,
            order_id=self.order,
            ordered_at=lost.at,
            to_item_ids=lost.to_items,
            pieces=lost.pieces,
            amount=money(lost.amount),
            currency=lost.currency,
            price_here=None if lost.price_here is None else money(lost.price_here),
            price_there=None if lost.price_there is None else money(lost.price_there),
            is_bot=lost.is_bot,
            version=self.version,
            is_deleted=self.gone,
        )

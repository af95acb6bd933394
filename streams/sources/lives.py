"""The people and shops of ``streams.sources.causes``: what they sell, do and say, blurred as real data is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from schemas.topics import CARTS, FAVORITES, FEEDBACK, ORDERS, VISITS, Topic
from streams.domain.policy import DAY, HOUR, MINUTE
from streams.sources.marketplace import Chance, Item
from streams.sources.scripts import amount

CATEGORIES: Final = (
    "shoes",
    "bags",
    "phones",
    "audio",
    "kitchen",
    "toys",
    "books",
    "skincare",
    "garden",
    "tea",
)
_MODELS: Final = 8
#: No event of one session comes this long after the one before.
_STEP: Final = 8 * MINUTE
#: Between two sessions of a customer in one shop.
_APART: Final = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Noise:
    """What blurs a cause, in percent.

    no_price: of pages. no_line_price: of lines of orders. no_category: of pages and lines. foreign: of shops,
    that sell in another currency, at par. grievance: of purchases, after which something bad is heard of that
    nobody leaves for. coincidence: of sessions lost for nothing that shows, after which the same category is
    bought elsewhere on that day. unrelated: of months with a background purchase, of another category.

    browsing: sessions of mere browsing a customer. spread: how far from the item that is wanted the others
    are that are looked at beside it, in steps of a tenth of the usual price.
    """

    no_price: int = 5
    no_line_price: int = 5
    no_category: int = 5
    foreign: int = 9
    grievance: int = 4
    coincidence: int = 1
    unrelated: int = 50
    browsing: int = 3
    spread: int = 2

    def times(self, factor: int) -> Noise:
        """The same with so many times as much missing, foreign, bad and coincident."""
        more = ("no_price", "no_line_price", "no_category", "foreign", "grievance", "coincidence")
        return replace(self, **{name: min(100, factor * getattr(self, name)) for name in more})


@dataclass(frozen=True, slots=True)
class Seller:
    """A shop; items by category and model."""

    shop_id: str
    currency: str
    items: dict[str, dict[int, Item]]


@dataclass(slots=True)
class Life:
    """One customer's events so far. taken: when they were in which shop; left: a shop they never go to again;
    until: when they are no longer told of, if later than their last event."""

    customer_id: str
    chance: Chance
    noise: Noise
    events: list[tuple[int, Topic, dict[str, Any]]] = field(default_factory=list)
    taken: list[tuple[str, int, int]] = field(default_factory=list)
    orders: int = 0
    left: Seller | None = None
    until: int = 0

    def free(self, shop: Seller, at: int) -> int:
        """``at``, or the next time after it at which the customer is not near another session there."""
        while any(s == shop.shop_id and a - _APART < at < z + _APART for s, a, z in self.taken):
            at += HOUR
        return at

    def say(self, at: int, topic: Topic, shop: Seller, **body: Any) -> None:
        self.events.append((at, topic, {"shop_id": shop.shop_id, **body}))

    def of(self, item: Item) -> dict[str, Any]:
        named = {} if self.chance.happens(self.noise.no_category) else {"category": item.category}
        return {"item_id": item.item_id, **named}

    def look(self, shop: Seller, at: int, items: list[Item], intends: bool = False) -> int:
        """A session of looks, and perhaps of more where something is intended; gives its end."""
        begins = at
        for item in items:
            told = {} if self.chance.happens(self.noise.no_price) else _price(shop, item)
            self.say(at, VISITS, shop, **self.of(item), **told)
            at += self.chance.between(MINUTE // 6, _STEP)
        if intends:
            item = items[0]
            if self.chance.happens(50):
                self.say(at, CARTS, shop, action="add", **self.of(item), **_price(shop, item))
            else:
                self.say(at, FAVORITES, shop, action="add", **self.of(item))
        end = self.events[-1][0]
        self.taken.append((shop.shop_id, begins, end))
        return end

    def buy(self, shop: Seller, at: int, item: Item, percent: int = 100) -> str:
        """A session with an order of ``item`` at ``percent`` of its price; gives the order's id."""
        begins = at
        if self.chance.happens(70):
            self.say(at, VISITS, shop, **self.of(item), **_price(shop, item))
            at += self.chance.between(MINUTE // 6, _STEP)
        self.orders += 1
        order_id = f"{self.customer_id}-{self.orders}"
        price = item.price * percent // 100
        told = {} if self.chance.happens(self.noise.no_line_price) else {"price": amount(price)}
        line = {**self.of(item), "quantity": 1, **told}
        order = {"order_id": order_id, "lines": [line], "total": amount(price), "currency": shop.currency}
        self.say(at, ORDERS, shop, action="placed", **order)
        self.taken.append((shop.shop_id, begins, at))
        return order_id

    def suffer(self, shop: Seller, order_id: str, at: int) -> None:
        """Something bad about the order. A refund is of a part: a session whose order stands is not lost."""
        kind = self.chance.pick(("review", "complaint", "refund", "reply"))
        if kind == "review":
            self.say(at, FEEDBACK, shop, action="review", rating=self.chance.between(1, 2), order_id=order_id)
        elif kind == "complaint":
            self.say(at, FEEDBACK, shop, action="complaint", order_id=order_id)
        elif kind == "reply":
            wait = self.chance.between(25, 90) * HOUR
            self.say(at, FEEDBACK, shop, action="reply", reply_ms=wait, order_id=order_id)
        else:
            back = {"refund_amount": "1.00", "currency": shop.currency}
            self.say(at, ORDERS, shop, action="refunded", order_id=order_id, **back)

    def perhaps_suffer(self, shop: Seller, order_id: str, at: int) -> None:
        """Now and then something bad follows an order of ``at`` that nobody leaves for."""
        if self.chance.happens(self.noise.grievance):
            self.suffer(shop, order_id, at + self.chance.between(DAY, 9 * DAY))


def _price(shop: Seller, item: Item) -> dict[str, Any]:
    return {"price": amount(item.price), "currency": shop.currency}


def daytime(chance: Chance, days: int) -> int:
    """A time of waking hours in one of so many days, in ms."""
    return chance.between(0, days - 1) * DAY + chance.between(8 * 60, 21 * 60) * MINUTE


def model_of(item: Item) -> int:
    return int(item.item_id.rsplit("-", 1)[1])


def same(shop: Seller, item: Item) -> Item:
    """The same model as that shop sells it."""
    return shop.items[item.category][model_of(item)]


def build_seller(chance: Chance, number: int, noise: Noise) -> Seller:
    """Sells six categories, each at a level of its own, and most models of each, each a little off it."""
    names = list(CATEGORIES)
    items: dict[str, dict[int, Item]] = {}
    for category in [names.pop(chance.between(0, len(names) - 1)) for _ in range(6)]:
        level = chance.between(80, 125)
        usual = 1_500 + 1_700 * CATEGORIES.index(category)
        items[category] = {
            model: Item(
                f"s{number}-{category}-{model}",
                category,
                usual * (60 + 10 * model) // 100 * level // 100 * chance.between(92, 108) // 100,
            )
            for model in range(1, _MODELS + 1)
            if chance.happens(80)
        }
    return Seller(
        f"shop-{number}",
        "USD" if number * noise.foreign // 100 > (number - 1) * noise.foreign // 100 else "EUR",
        items,
    )

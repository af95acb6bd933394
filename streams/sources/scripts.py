"""What a simulated customer does in one session, and what is thereby known of its outcome.

The script writes events and keeps the customer's own account of them (what stands in the basket, what is
among the favorites, what was ordered): the verdict is planned, not derived from the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.topics import CARTS, FAVORITES, FEEDBACK, ORDERS, VISITS, Topic
from streams.domain.policy import DAY, HOUR
from streams.sources.marketplace import Chance, Customer, Item, Shop

_CHANNELS: Final = (
    # channel, campaign, referrer
    ("search", None, "https://search.example/"),
    ("search", "brand-keywords", "https://search.example/"),
    ("social", "summer-looks", "https://social.example/feed"),
    ("email", "weekly-letter", None),
    ("ads", "retargeting", "https://ads.example/click"),
    ("direct", None, None),
    ("direct", None, None),
)


@dataclass(slots=True)
class Happening:
    """One event as it happens: ``at`` in ms since 1970 UTC, ``body`` without its envelope."""

    topic: Topic
    at: int
    body: dict[str, Any]


@dataclass(slots=True)
class PlacedOrder:
    """An order and what becomes of it; amounts in hundredths."""

    order_id: str
    at: int
    total: int
    body: dict[str, Any]
    refunded: int = 0
    reversed: bool = False


@dataclass(slots=True)
class Script:
    """One session in the making, from ``at`` on. Steps inside it never exceed ``gap`` (ms)."""

    chance: Chance
    customer: Customer
    shop: Shop
    at: int
    gap: int
    events: list[Happening] = field(default_factory=list)
    basket: dict[Item, int] = field(default_factory=dict)
    favorites: set[str] = field(default_factory=set)
    order: PlacedOrder | None = None
    bought: frozenset[Item] = frozenset()
    looked: list[Item] = field(default_factory=list)

    def step(self) -> None:
        """Time passes: mostly seconds, sometimes many minutes, now and then exactly the gap."""
        luck = self.chance.between(1, 100)
        if luck == 1:
            self.at += self.gap
        elif luck <= 4:
            self.at += self.chance.between(self.gap // 3, self.gap - 1)
        else:
            self.at += self.chance.between(1_500, 120_000)

    def item(self) -> Item:
        offers = self.shop.offers(self.customer.categories)
        return min(self.chance.pick(offers), self.chance.pick(offers), key=self._dearness)

    def _dearness(self, item: Item) -> int:
        return item.price if self.customer.thrift > 50 else 0

    def do(self, topic: Topic, **body: Any) -> None:
        if self.events:
            self.step()
        self.events.append(Happening(topic, self.at, body))

    def visit(self) -> Item:
        item = self.item()
        self.looked.append(item)
        body: dict[str, Any] = {"item_id": item.item_id, "category": item.category}
        if self.chance.happens(90):
            body |= {"price": amount(item.price), "currency": self.shop.currency}
        if not self.events:
            channel, campaign, referrer = self.chance.pick(_CHANNELS)
            body |= {"channel": channel, "campaign": campaign, "referrer": referrer}
        self.do(VISITS, **{name: value for name, value in body.items() if value is not None})
        return item

    def browse(self, fewest: int, most: int) -> None:
        for _ in range(self.chance.between(fewest, most)):
            self.visit()

    def favorite(self) -> None:
        if self.chance.happens(15):
            self.favorites.add("shop")
            self.do(FAVORITES, action="add", target="shop")
        else:
            item = self.item()
            self.favorites.add(item.item_id)
            self.do(FAVORITES, action="add", item_id=item.item_id, category=item.category)

    def unfavorite(self) -> None:
        for name in sorted(self.favorites):
            target: dict[str, Any] = {"target": "shop"} if name == "shop" else {"item_id": name}
            self.do(FAVORITES, action="remove", **target)
        self.favorites.clear()

    def put(self, item: Item) -> None:
        """Into the basket, by adding or by stating the quantity."""
        quantity = 1 if self.chance.happens(80) else self.chance.between(2, 4)
        absolute = self.chance.happens(20)
        self.basket[item] = quantity if absolute else self.basket.get(item, 0) + quantity
        self.do(
            CARTS,
            action="set" if absolute else "add",
            item_id=item.item_id,
            category=item.category,
            quantity=quantity,
            price=amount(item.price),
            currency=self.shop.currency,
        )

    def fill(self, fewest: int, most: int) -> None:
        for _ in range(self.chance.between(fewest, most)):
            self.put(self.item())
        if len(self.basket) > 1 and self.chance.happens(20):
            self.take_out(next(iter(self.basket)))

    def take_out(self, item: Item) -> None:
        del self.basket[item]
        self.do(CARTS, action="remove", item_id=item.item_id)

    def empty(self) -> None:
        if self.chance.happens(50):
            self.basket.clear()
            self.do(CARTS, action="clear")
        else:
            for item in list(self.basket):
                self.take_out(item)

    def buy(self, order_id: str) -> None:
        """Order the basket, or one item straight away if it is empty; sometimes a line is left behind."""
        lines = dict(self.basket) or {self.item(): 1}
        if len(lines) > 1 and self.chance.happens(15):
            lines.popitem()
        stated, total = [], 0
        for item, quantity in lines.items():
            discount = item.price * quantity // 10 if self.chance.happens(15) else 0
            total += item.price * quantity - discount
            line: dict[str, Any] = {
                "item_id": item.item_id,
                "category": item.category,
                "quantity": quantity,
                "price": amount(item.price),
            }
            stated.append({**line, "discount": amount(discount)} if discount else line)
        body: dict[str, Any] = {"action": "placed", "order_id": order_id, "lines": stated}
        body["currency"] = self.shop.currency
        if self.chance.happens(70):  # else the total is what the lines add up to
            body["total"] = amount(total)
        self.do(ORDERS, **body)
        self.order = PlacedOrder(order_id, self.at, total, body)
        self.bought = frozenset(lines)

    def pay(self) -> None:
        assert self.order is not None
        self.do(ORDERS, **payment(self.order, self.shop))

    def standing(self) -> int:
        """The value of what stands in the basket, in hundredths: not what a standing order bought."""
        kept = self.order is not None and not self.order.reversed
        return sum(
            item.price * quantity
            for item, quantity in self.basket.items()
            if not (kept and item in self.bought)
        )


def payment(order: PlacedOrder, shop: Shop) -> dict[str, Any]:
    return {
        "action": "paid",
        "order_id": order.order_id,
        "total": amount(order.total),
        "currency": shop.currency,
    }


def talk(chance: Chance, order: PlacedOrder) -> Iterator[Happening]:
    """What the customer says of the order, and the shop's reply to a complaint. No part of any session."""
    luck = chance.between(1, 100)
    at = order.at + chance.between(HOUR, 4 * DAY)
    if luck <= 20:
        rating = chance.pick((1, 2, 3, 4, 4, 5, 5, 5))
        yield Happening(FEEDBACK, at, {"action": "review", "rating": rating, "order_id": order.order_id})
    elif luck <= 24:
        yield Happening(FEEDBACK, at, {"action": "complaint", "order_id": order.order_id})
        wait = chance.between(HOUR, 2 * DAY)
        reply = {"action": "reply", "reply_ms": wait, "order_id": order.order_id}
        yield Happening(FEEDBACK, at + wait, reply)


def amount(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02}"


def play(script: Script, kind: str, how: str, order_id: str) -> None:
    """Play a session that ends as ``kind`` (the lost stages, ``converted``, or a bot's ``crawled``).

    A ``moved`` one is of someone who comes for what they have seen in another shop.
    ``how`` varies it: ``emptied`` and ``unfavorited`` take back what they put in, so nothing stands.
    """
    match kind:
        case "bounced":
            script.visit()
        case "crawled":
            script.browse(5, 40)
        case "browsed":
            script.browse(2, 6)
            if how == "emptied":
                script.fill(1, 3)
                script.empty()
            elif how == "unfavorited":
                script.favorite()
                script.unfavorite()
        case "favorited":
            script.browse(1, 4)
            if how == "emptied":
                script.fill(1, 2)
                script.empty()
            script.favorite()
            script.browse(0, 2)
        case "carted":
            script.browse(1, 5)
            if how == "unfavorited":
                script.favorite()
            script.fill(1, 4)
            script.browse(0, 2)
        case "converted":
            if how != "unfavorited":  # those come for a purchase and do nothing else
                script.browse(1, 5)
                if how == "emptied":
                    script.favorite()
                script.fill(0, 3)
            script.buy(order_id)
            if script.chance.happens(80):
                script.pay()
        case "moved":
            script.browse(1, 2)
            script.put(script.looked[-1])
            script.buy(order_id)
        case _:
            raise ValueError(kind)

"""The cast of the simulated marketplace: shops, their items, customers and their habits.

Everything follows from a seed. Only ``Random.random()`` is used, whose sequence Python keeps the same across
versions, and only whole numbers come out, so the same seed gives the same marketplace everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")

_CATEGORIES: Final = {
    # category: usual price in hundredths
    "dresses": 5_900,
    "shoes": 7_900,
    "bags": 8_900,
    "phones": 59_900,
    "audio": 12_900,
    "kitchen": 3_900,
    "toys": 2_400,
    "books": 1_500,
    "skincare": 2_900,
    "garden": 4_900,
}
#: Of the shops in turn: most have others beside them that sell in the same currency.
_CURRENCIES: Final = ("CNY", "EUR", "CNY", "EUR", "USD", "CNY", "EUR", "GBP")
#: Price levels in percent of the usual price.
_LEVELS: Final = (60, 80, 100, 130, 180)
_ITEMS_PER_CATEGORY: Final = 12
#: Sessions a week.
_RHYTHMS: Final = (1, 1, 2, 2, 3, 3, 5, 9)
_BROWSERS: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
)
_CRAWLERS: Final = (
    "PriceCrawler/2.1 (+https://crawler.example/bot)",
    "Mozilla/5.0 (compatible; FeedBot/1.0)",
)


class Chance:
    """Chance that is the same on every machine, named by what it is for."""

    def __init__(self, *name: object) -> None:
        self._random = random.Random(":".join(map(str, name))).random

    def happens(self, percent: int) -> bool:
        return self._random() * 100 < percent

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self._random() * len(values))]


@dataclass(frozen=True, slots=True)
class Item:
    """Something sold; ``price`` in hundredths of the shop's currency."""

    item_id: str
    category: str
    price: int


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop with its own currency, price level and categories."""

    shop_id: str
    currency: str
    items: tuple[Item, ...]

    def offers(self, categories: Sequence[str]) -> tuple[Item, ...]:
        """Its items in these categories, or all of them where it has none there."""
        return tuple(item for item in self.items if item.category in categories) or self.items

    def sells(self, category: str) -> bool:
        """Whether it has anything in this category."""
        return any(item.category == category for item in self.items)


@dataclass(frozen=True, slots=True)
class Customer:
    """Someone with habits. ``rhythm``: sessions a week; ``thrift``: 0 buys at any price, 100 hardly buys.

    ``outlets``: other shops, where they only go to buy what they have seen in one of their own.
    """

    customer_id: str
    shops: tuple[Shop, ...]
    outlets: tuple[Shop, ...]
    categories: tuple[str, ...]
    rhythm: int
    thrift: int
    user_agent: str
    is_bot: bool


def build_shops(seed: int, count: int) -> tuple[Shop, ...]:
    """``count`` shops, the same for the same seed."""
    return tuple(_shop(Chance(seed, "shop", number), number) for number in range(1, count + 1))


def _shop(chance: Chance, number: int) -> Shop:
    level = chance.pick(_LEVELS)
    names = list(_CATEGORIES)
    categories = [names.pop(chance.between(0, len(names) - 1)) for _ in range(chance.between(4, 6))]
    items = tuple(
        Item(
            f"s{number}-{category}-{index}",
            category,
            _CATEGORIES[category] * level // 100 * chance.between(70, 140) // 100,
        )
        for category in categories
        for index in range(1, _ITEMS_PER_CATEGORY + 1)
    )
    return Shop(f"shop-{number}", _CURRENCIES[(number - 1) % len(_CURRENCIES)], items)


def build_customer(seed: int, number: int, shops: Sequence[Shop]) -> Customer:
    """Customer ``number`` of the marketplace; does not depend on how many there are."""
    chance = Chance(seed, "customer", number)
    is_bot = chance.happens(2)
    favored = dict.fromkeys(chance.pick(shops) for _ in range(chance.between(1, 3)))
    others = [shop for shop in shops if shop not in favored]
    # Prices are compared in one currency, most of the time.
    currencies = {shop.currency for shop in favored}
    outlets = [shop for shop in others if shop.currency in currencies]
    if others:
        outlets.append(chance.pick(others))
    return Customer(
        customer_id=f"c{number:06}",
        shops=tuple(favored),
        outlets=tuple(dict.fromkeys(outlets)),
        categories=tuple(chance.pick(list(_CATEGORIES)) for _ in range(2)),
        rhythm=chance.pick(_RHYTHMS),
        thrift=chance.between(0, 100),
        user_agent=chance.pick(_CRAWLERS if is_bot else _BROWSERS),
        is_bot=is_bot,
    )

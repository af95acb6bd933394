"""A month of a few customers who look in one shop and buy in another, in three calendars whose clocks change.

Drawn from a seed: looks, favorites and carts with and without categories and prices, orders of several lines
in several currencies, payments, cancellations and refunds, feedback, and the haste of machines; much of it
around the shops' midnights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from streams.domain.events import Body, Cart, Favorite, Feedback, Input, Order, OrderLine, Visit
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from tests.domain.loss_stories import make

#: Shops of which nothing is told, `s` and `z`, are in the policy's zone.
ZONES: Final = {"york": "America/New_York", "west": "America/New_York", "kolkata": "Asia/Kolkata"}
SHOPS: Final = ("s", "s", "z", "york", "west", "kolkata")
#: Clocks are put forward in New York on the sixth day, in London on the twenty-seventh.
START: Final = 1_709_596_800_000  # 2024-03-05T00:00:00Z
DAYS: Final = 30
POLICY: Final = Policy(
    zone="Europe/London",
    horizon=2 * DAY,
    amendment_window=5 * DAY,
    lapsed_after=12 * DAY,
    prospect_memory=10 * DAY,
    buyer_memory=60 * DAY,
    grievance_window=6 * DAY,
    bot_events=3,
    bot_dwell=500,
    bot_rate=1,
)
#: Same-day leaks, and those of the two days after.
POLICIES: Final = (POLICY, replace(POLICY, leak_window=2 * DAY))
AGENTS: Final = (None, None, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
CRAWLER: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_CATEGORIES: Final = ("tea", "tea", "mugs", "pots", "", None)
_PRICES: Final = (None, Decimal("9.99"), Decimal(10), Decimal("10.2001"), Decimal(5))
_CURRENCIES: Final = ("EUR", "EUR", "EUR", "USD", None)
#: From one event to the next: at once, in one session, at its very end, beyond it.
_PAUSES: Final = (0, 1, 800, MINUTE, 10 * MINUTE, 29 * MINUTE, 30 * MINUTE, 30 * MINUTE + 1, 2 * HOUR)


class _Customer:
    """Whoever a story is of."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name, self.chance = name, chance
        self.events: list[Input] = []
        self.orders = 0

    def say(self, t: int, kind: type[Body], **fields: Any) -> None:
        fields |= {"customer_id": self.name, "is_bot": self.chance.random() < 0.01}
        self.events.append(make(t, f"{self.name}-{len(self.events)}", kind, **fields))

    def pick(self, *options: Any) -> Any:
        return self.chance.choice(options)

    def item(self) -> dict[str, Any]:
        """An item, mostly with its own category and a price of today."""
        number = self.chance.randrange(6)
        category = _CATEGORIES[number] if self.chance.random() < 0.8 else self.pick(*_CATEGORIES)
        return {"item_id": f"i{number}", "category": category}

    def price(self) -> dict[str, Any]:
        return {"price": self.pick(*_PRICES), "currency": self.pick(*_CURRENCIES)}

    def browse(self, t: int, shop: str, most: int = 5) -> int:
        """A few events in a shop; gives when it was over."""
        agent = CRAWLER if self.chance.random() < 0.03 else self.pick(*AGENTS)
        hasty = self.chance.random() < 0.1
        for _ in range(self.chance.randint(1, 8 if hasty else most)):
            what = self.chance.random()
            where = {"shop_id": shop, "user_agent": agent}
            if what < 0.65:
                item = self.item() if what < 0.6 else {"item_id": None}
                self.say(t, Visit, **where, **item, **self.price())
            elif what < 0.8:
                self.say(
                    t,
                    Favorite,
                    action=self.pick("add", "add", "remove"),
                    **where,
                    **self.item(),
                    **self.price(),
                )
            elif what < 0.83:
                self.say(t, Favorite, action="add", target="shop", **where)
            else:
                action, pieces = self.pick("add", "set", "remove"), self.pick(0, 1, 2)
                self.say(t, Cart, action=action, quantity=pieces, **where, **self.item(), **self.price())
            t += self.chance.randint(0, 999) if hasty else self.pick(*_PAUSES)
        return t

    def order(self, t: int, shop: str) -> None:
        """An order and what becomes of it, in any order."""
        where = {"shop_id": shop, "order_id": f"{self.name}-o{self.orders}"}
        self.orders += 1
        lines = tuple(
            OrderLine(
                **self.item(),
                quantity=self.chance.randint(0, 3),
                price=self.pick(*_PRICES),
                discount=self.pick(None, None, Decimal(1), Decimal(40)),
            )
            for _ in range(self.pick(0, 1, 1, 1, 2, 3, 4))
        )
        content = {
            "lines": lines,
            "total": self.pick(None, None, Decimal(0), Decimal(20), Decimal("7.0001"), Decimal("0.0002")),
            "currency": self.pick(*_CURRENCIES),
        }
        if self.chance.random() < 0.95:
            self.say(t, Order, action="placed", **where, **content)
        if self.chance.random() < 0.2:
            self.say(t + self.pick(-HOUR, HOUR, DAY), Order, action="paid", **where, **content)
        if self.chance.random() < 0.35:
            later = t + self.pick(-MINUTE, HOUR, 3 * DAY, 5 * DAY, 5 * DAY + 1)
            action, amount = (
                self.pick("cancelled", "refunded", "refunded"),
                self.pick(None, Decimal(5), Decimal("3.3333")),
            )
            self.say(
                later, Order, action=action, refund_amount=amount if action == "refunded" else None, **where
            )

    def complain(self, t: int, shop: str) -> None:
        action = self.pick("review", "review", "complaint", "reply")
        fields = {
            "review": {"rating": self.chance.randint(1, 5)},
            "complaint": {},
            "reply": {"reply_ms": self.pick(HOUR, DAY, DAY + 1, 3 * DAY)},
        }[action]
        self.say(t, Feedback, action=action, shop_id=shop, **fields)


def story(customer: str, chance: random.Random) -> list[Input]:
    """What the customer does, by no order."""
    one = _Customer(customer, chance)
    for _ in range(chance.randint(1, 7)):
        t = _moment(chance)
        for _ in range(chance.randint(1, 3)):
            shop = one.pick(*SHOPS)
            over = one.browse(t, shop)
            if chance.random() < 0.4:
                # Here or elsewhere, in the midst of it or after it, on that day or a later one.
                at = one.pick(t, over, over, over + HOUR, over + DAY, over + 2 * DAY)
                one.order(at, one.pick(shop, *SHOPS))
            if chance.random() < 0.2:
                one.complain(t - one.pick(-HOUR, MINUTE, HOUR, DAY, 6 * DAY - 1, 6 * DAY), shop)
            t = over + one.pick(0, MINUTE, HOUR)
    return one.events


def _moment(chance: random.Random) -> int:
    """Any; often around the midnights of the three calendars."""
    at = START + chance.randrange(DAYS) * DAY
    if chance.random() < 0.5:
        return at + chance.randrange(DAY // 1000) * 1000
    edge = chance.choice((0, -HOUR, 4 * HOUR, 5 * HOUR, -5 * HOUR - 30 * MINUTE))
    return at + edge + chance.choice((-40 * MINUTE, -10 * MINUTE, -1, 0, 1))


def stories(prefix: str, count: int, chance: random.Random) -> list[Sequence[Input]]:
    """Those of ``count`` customers."""
    return [story(f"{prefix}-{n}", chance) for n in range(count)]

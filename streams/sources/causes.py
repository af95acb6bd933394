"""A marketplace in which it is known why each visitor was lost and why each buyer lapsed: planted causes.

Each customer has one story, told by its cause, among background that has nothing to do with it: pages
without a price or a category, purchases of other things, browsing, and now and then something bad that
nobody acts on. The stories say what people do, not how reasons are scored: who leaves for the price goes to
the cheapest of the shops they look at, by however little; who leaves for a competitor goes where it is no
cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from schemas.topics import Topic
from streams.domain.policy import DAY, HOUR, MINUTE
from streams.sources.lives import CATEGORIES, Life, Noise, Seller, build_seller, daytime, model_of, same
from streams.sources.marketplace import Chance, Item
from streams.sources.record import SourceRecord

Cause = Literal["price", "competition", "forgot", "dissatisfied", "variety", "market", "natural", "unknown"]

#: 2024-01-01 00:00 UTC, a Monday.
START: Final = 1_704_067_200_000
#: Sessions are lost in the last of these days, after a history; who lapses does so from day 110 on.
DAYS: Final = 500
_LOSSES_FROM: Final = 440
_LAST_ORDERS: Final = 100

_SHOPS: Final = 12

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Planted:
    """One loss with its cause. at: the start of the session, or the last order before the lapse (ms)."""

    kind: Literal["session", "lapse"]
    customer_id: str
    shop_id: str
    at: int
    cause: Cause


class Causes:
    """``each`` stories a cause and kind of loss. A source: records by time, nothing late, nothing twice.

    The same arguments give the same bytes on every machine.
    """

    def __init__(self, *, seed: int = 1, each: int = 60, noise: Noise | None = None) -> None:
        self.fraction = 0.0
        self._noise = noise or Noise()
        self._seed = seed
        self._sellers = [
            build_seller(Chance(seed, "seller", n), n, self._noise) for n in range(1, _SHOPS + 1)
        ]
        self._planted: list[Planted] = []
        self._events: list[tuple[int, str, int, Topic, dict[str, Any]]] = []
        self._customers = 0
        for session in (self._price, self._competition, self._variety, self._dissatisfied, self._unknown):
            for _ in range(each):
                self._tell(session)
        for lapse in _LAPSES:
            for _ in range(each):
                self._tell(lambda life, lapse=lapse: self._lapse(life, lapse))  # type: ignore[misc]
        promotions = 0
        while promotions * 10 < each:
            promotions += 1
            self._promotion(Chance(seed, "promotion", promotions))
        self._events.sort(key=lambda event: event[:3])

    def __iter__(self) -> Iterator[SourceRecord]:
        for count, (at, customer, number, topic, body) in enumerate(self._events, 1):
            self.fraction = count / len(self._events)
            named = {"event_id": f"{customer}-{number}", "occurred_at": at, "customer_id": customer}
            yield SourceRecord(topic, customer.encode(), _encode(named | body), at)

    def __len__(self) -> int:
        return len(self._events)

    def truth(self) -> tuple[Planted, ...]:
        """Every lost session, and every lapse that a story is about. Buyers of whom no story tells more lapse
        too, for no cause."""
        return tuple(self._planted)

    def _tell(self, story: Callable[[Life], None]) -> None:
        self._customers += 1
        chance = Chance(self._seed, "cause", self._customers)
        life = Life(f"c{self._customers:05}", chance, self._noise)
        story(life)
        self._background(life)
        for number, (at, topic, body) in enumerate(life.events):
            self._events.append((at, life.customer_id, number, topic, body))

    def _lost(self, life: Life, shop: Seller, at: int, cause: Cause) -> None:
        self._planted.append(Planted("session", life.customer_id, shop.shop_id, at, cause))

    def _background(self, life: Life) -> None:
        """What has nothing to do with the story; from its first event to its last."""
        chance, noise = life.chance, self._noise
        times = [at for at, _, _ in life.events]
        first, last = min(times) - 30 * DAY, max(life.until, *times)
        about = {
            item.get("category") for _, _, body in life.events for item in (body, *body.get("lines", ()))
        }
        others = [name for name in CATEGORIES if name not in about]
        for month in range((last - first) // (30 * DAY)):
            if chance.happens(noise.unrelated):
                shop, item = self._any(chance, others, but=life.left)
                at = life.free(shop, first + month * 30 * DAY + daytime(chance, 30))
                life.perhaps_suffer(shop, life.buy(shop, at, item), at)
        for _ in range(noise.browsing):
            shop, item = self._any(chance, CATEGORIES, but=life.left)
            days = min((last - first) // DAY, 60)
            at = life.free(shop, last - days * DAY + daytime(chance, days))
            life.look(shop, at, self._some(chance, shop, item, most=8))
            self._lost(life, shop, at, "natural")
            self._perhaps(life, shop, at, item)

    def _perhaps(self, life: Life, shop: Seller, at: int, item: Item) -> None:
        """A coincidence: the same is bought elsewhere that day, though not in place of what was seen."""
        if life.chance.happens(self._noise.coincidence):
            other = life.chance.pick(self._selling(item, but=(shop,)))
            there = life.free(other, at + life.chance.between(2 * HOUR, 5 * HOUR))
            life.buy(other, there, same(other, item))

    def _price(self, life: Life) -> None:
        """Compares two or three shops and buys in the cheapest; is lost to all of the others."""
        chance = life.chance
        while True:
            item, asked = self._asked(chance, chance.between(2, 3))
            best = min(asked, key=lambda shop: same(shop, item).price)
            if asked[0] is not best:
                break
        at = self._moment(life)
        self._history(life, item, (asked[0], best), at)
        for shop in [each for each in asked if each is not best]:
            at = life.free(shop, at)
            end = life.look(shop, at, self._some(chance, shop, item), chance.happens(50))
            self._lost(life, shop, at, "price")
            at = end + chance.between(5 * MINUTE, 2 * HOUR)
        life.buy(best, life.free(best, at), same(best, item))

    def _competition(self, life: Life) -> None:
        """Looks in one shop and buys in another that is not cheaper: it delivers sooner, say."""
        chance = life.chance
        while True:
            item, (here, there) = self._asked(chance, 2)
            if same(there, item).price >= same(here, item).price:
                break
        at = self._moment(life)
        self._history(life, item, (here, there), at)
        at = life.free(here, at)
        end = life.look(here, at, self._some(chance, here, item), chance.happens(50))
        self._lost(life, here, at, "competition")
        life.buy(there, life.free(there, end + chance.between(5 * MINUTE, 4 * HOUR)), same(there, item))

    def _variety(self, life: Life) -> None:
        """Buys in one shop after the other, whatever the price."""
        chance = life.chance
        item, shops = self._asked(chance, chance.between(3, 5))
        at = self._moment(life)
        last = self._rotate(life, item, shops, at, chance.between(3, 7))
        here = chance.pick([shop for shop in shops if shop is not last])
        there = chance.pick([shop for shop in shops if shop is not here])
        at = life.free(here, at)
        end = life.look(here, at, self._some(chance, here, item), chance.happens(50))
        self._lost(life, here, at, "variety")
        life.buy(there, life.free(there, end + chance.between(5 * MINUTE, 4 * HOUR)), same(there, item))

    def _dissatisfied(self, life: Life) -> None:
        """Had something bad happen after an order, looks again, and leaves; half of them buy elsewhere."""
        chance = life.chance
        item, (here, there) = self._asked(chance, 2)
        at = self._moment(life)
        bad = at - chance.between(DAY, 45 * DAY)
        ordered = life.free(here, bad - chance.between(DAY, 14 * DAY))
        life.suffer(here, life.buy(here, ordered, same(here, item)), bad)
        at = life.free(here, at)
        end = life.look(here, at, self._some(chance, here, item), chance.happens(50))
        self._lost(life, here, at, "dissatisfied")
        if chance.happens(50):
            life.buy(there, life.free(there, end + chance.between(5 * MINUTE, 4 * HOUR)), same(there, item))

    def _unknown(self, life: Life) -> None:
        """Leaves a cart or a favorite behind for a reason that no data shows."""
        item, (here,) = self._asked(life.chance, 1)
        at = self._moment(life)
        life.look(here, at, self._some(life.chance, here, item), intends=True)
        self._lost(life, here, at, "unknown")
        self._perhaps(life, here, at, item)

    def _promotion(self, chance: Chance) -> None:
        """For two hours a shop sells a category cheaper; 4 to 16 leave other shops for it."""
        item, (there,) = self._asked(chance, 1)
        begins = START + chance.between(_LOSSES_FROM + 8, DAYS - 2) * DAY + chance.between(9, 19) * HOUR
        percent = chance.between(70, 90)

        def leave(life: Life) -> None:
            here = life.chance.pick(self._selling(item, but=(there,)))
            at = begins + life.chance.between(0, 2 * HOUR)
            end = life.look(here, at, self._some(life.chance, here, item), life.chance.happens(50))
            self._lost(life, here, at, "market")
            life.buy(there, end + life.chance.between(5 * MINUTE, HOUR), same(there, item), percent)

        for _ in range(chance.between(4, 16)):
            self._tell(leave)

    def _lapse(self, life: Life, cause: Cause) -> None:
        """Buys in a shop once or a few times, and never again; what they do instead is the cause."""
        chance = life.chance
        count = chance.between(3, 5) if cause == "variety" else 3 if cause == "price" else 2
        while True:
            item, shops = self._asked(chance, count)
            here, there = shops[0], min(shops[1:], key=lambda shop: same(shop, item).price)
            cheaper = same(there, item).price < same(here, item).price
            if cause not in ("price", "competition") or cheaper == (cause == "price"):
                break
        # Most of those who forget a shop have bought there once.
        times = 1 if chance.happens(60 if cause == "forgot" else 30) else chance.between(2, 5)
        gap = chance.between(8, 25)
        at = START + chance.between(30, _LAST_ORDERS) * DAY + daytime(chance, 1)
        order_id = ""
        for number in range(times):
            ordered = life.free(here, at - (times - 1 - number) * gap * DAY)
            order_id = life.buy(here, ordered, same(here, item))
            last = max(taken[2] for taken in life.taken)
            life.perhaps_suffer(here, order_id, last)
        self._planted.append(Planted("lapse", life.customer_id, here.shop_id, last, cause))
        life.left, life.until = here, last + 120 * DAY
        if cause == "variety":
            self._rotate(life, item, shops[1:], last + 70 * DAY, chance.between(3, 6))
            self._rotate(life, item, shops, last - gap * DAY * times, chance.between(2, 3))
        elif cause in ("price", "competition"):
            for number in range(1, chance.between(1, 3) + 1):
                when = last + number * gap * DAY + daytime(chance, 3)
                life.buy(there, life.free(there, when), same(there, item))
        elif cause == "dissatisfied":
            life.suffer(here, order_id, last + chance.between(DAY, 14 * DAY))
            if chance.happens(50):
                when = last + DAY + daytime(chance, 2 * gap)
                life.buy(there, life.free(there, when), same(there, item))
        elif cause == "unknown":
            # Keeps coming to look, and nobody knows why nothing is bought.
            looked = last
            while (looked := looked + chance.between(10, 28) * DAY) < last + 400 * DAY:
                at = life.free(here, looked)
                life.look(here, at, self._some(chance, here, item, most=3))
                self._lost(life, here, at, "natural")

    def _rotate(self, life: Life, item: Item, shops: list[Seller], until: int, times: int) -> Seller:
        """Purchases in ``shops``, each in another than the one before; gives the last shop."""
        last = None
        for number in range(times, 0, -1):
            shop = life.chance.pick([each for each in shops if each is not last])
            at = until - number * 12 * DAY + daytime(life.chance, 8)
            life.buy(shop, life.free(shop, at), same(shop, item))
            last = shop
        assert last is not None
        return last

    def _history(self, life: Life, item: Item, shops: tuple[Seller, Seller], at: int) -> None:
        """Earlier purchases of the category by someone who does not go from shop to shop."""
        for number in range(life.chance.between(0, 2)):
            shop = life.chance.pick(shops)
            when = life.free(shop, at - (20 + 25 * number) * DAY + daytime(life.chance, 10))
            life.perhaps_suffer(shop, life.buy(shop, when, same(shop, item)), when)

    def _moment(self, life: Life) -> int:
        day = life.chance.between(_LOSSES_FROM, DAYS - 2)
        return START + day * DAY + life.chance.between(8 * 60, 21 * 60) * MINUTE

    def _any(
        self, chance: Chance, categories: Sequence[str], but: Seller | None = None
    ) -> tuple[Seller, Item]:
        while True:
            shop, category = chance.pick(self._sellers), chance.pick(categories)
            if shop is not but and shop.items.get(category):
                return shop, chance.pick(list(shop.items[category].values()))

    def _asked(self, chance: Chance, count: int) -> tuple[Item, list[Seller]]:
        """Something that at least ``count`` shops sell, and that many of them."""
        while True:
            _, item = self._any(chance, CATEGORIES)
            selling = self._selling(item)
            if len(selling) >= count:
                return item, [selling.pop(chance.between(0, len(selling) - 1)) for _ in range(count)]

    def _selling(self, item: Item, but: tuple[Seller, ...] = ()) -> list[Seller]:
        model = model_of(item)
        return [s for s in self._sellers if s not in but and model in s.items.get(item.category, {})]

    def _some(self, chance: Chance, shop: Seller, item: Item, most: int = 4) -> list[Item]:
        """The item as ``shop`` sells it, and up to ``most - 1`` looks at others like it."""
        wanted, spread = model_of(item), self._noise.spread
        more = [one for number, one in shop.items[item.category].items() if abs(number - wanted) <= spread]
        return [same(shop, item), *(chance.pick(more) for _ in range(chance.between(0, most - 1)))]


_LAPSES: Final[tuple[Cause, ...]] = ("price", "competition", "forgot", "dissatisfied", "variety", "unknown")

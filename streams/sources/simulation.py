"""A seeded marketplace whose outcome is known beforehand: the default input of the demo.

Customers with habits go through sessions whose outcome is planned (streams.sources.scripts); the events are
delivered late, twice and among garbage. What the pipeline must find is the plan's own account, kept
apart from any session rule: ``Simulation.truth``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import msgspec

from schemas.topics import CARTS, ORDERS, VISITS, Topic
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.sources.marketplace import Chance, Customer, Item, Shop, build_customer, build_shops
from streams.sources.record import SourceRecord
from streams.sources.scripts import Happening, PlacedOrder, Script, amount, payment, play, talk

#: 2025-06-30 00:00 UTC.
DEFAULT_END_MS: Final = 1_751_241_600_000
#: A session and what follows it at once take less than this.
_LONGEST_SESSION: Final = 12 * HOUR
#: Of what visitors leave without, the percent that they then buy elsewhere.
_MOVES: Final = 20
#: Stages of a session that ends without an order, and how it may get there.
_BROWSED: Final = ("looked", "looked", "looked", "emptied", "unfavorited", "ordered-again")

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class PlannedSession:
    """One session as planned. Times in ms since 1970 UTC; amounts in hundredths of the currency.

    ``currency`` is None where no money was named; ``cart_value`` is of what stood at the end, in a converted
    session too.
    """

    customer_id: str
    shop_id: str
    started_at: int
    ended_at: int
    lost_stage: str | None
    currency: str | None
    cart_value: int
    revenue: int
    is_bot: bool
    recovered: bool = False

    @property
    def outcome(self) -> str:
        return "converted" if self.lost_stage is None else "lost"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor left a shop without, and when (ms)."""

    left_at: int
    shop: Shop
    item: Item


@dataclass(frozen=True, slots=True)
class Truth:
    """What the pipeline must find.

    events: in, applied, duplicate, late, rejected. sessions: total, converted, bounced, browsed, favorited,
    carted, and recovered (of the lost ones). buyers: customers with a converted session.
    value_at_risk: standing carts of lost sessions, recovered or not; revenue: of converted sessions less
    what was refunded; both by currency, in whole units. rows: every session.
    """

    events: dict[str, int]
    sessions: dict[str, int]
    bot_sessions: int
    buyers: int
    value_at_risk: dict[str, Decimal]
    revenue: dict[str, Decimal]
    rows: tuple[PlannedSession, ...]


class Simulation:
    """A marketplace of ``shops`` and ``customers`` during ``days`` until ``end`` (ms since 1970 UTC).

    It is a source: records in the order of delivery. Nothing is delivered later than half the policy's
    horizon, so nothing is late. The same arguments give the same bytes on every machine.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        customers: int = 3_000,
        shops: int = 8,
        days: int = 7,
        end: int = DEFAULT_END_MS,
        policy: Policy | None = None,
    ) -> None:
        self.fraction = 0.0
        self._policy = policy or Policy()
        self._begin, self._end = end - days * DAY, end
        self._rows: list[PlannedSession] = []
        self._deliveries: list[tuple[int, int, SourceRecord]] = []
        self._counts: Counter[str] = Counter()
        cast = build_shops(seed, shops)
        for number in range(1, customers + 1):
            self._live(Chance(seed, "life", number), build_customer(seed, number, cast))
        self._garble(Chance(seed, "garbage"))
        self._deliveries.sort()

    def __iter__(self) -> Iterator[SourceRecord]:
        for count, (_, _, record) in enumerate(self._deliveries, 1):
            self.fraction = count / len(self._deliveries)
            yield record

    def __len__(self) -> int:
        return len(self._deliveries)

    def truth(self) -> Truth:
        rows = self._rows
        converted = [row for row in rows if row.lost_stage is None]
        stages = Counter(row.lost_stage for row in rows)
        at_risk: Counter[str] = Counter()
        revenue: Counter[str] = Counter()
        for row in rows:
            if row.currency is not None and row.lost_stage is None:
                revenue[row.currency] += row.revenue
            elif row.currency is not None and row.cart_value:
                at_risk[row.currency] += row.cart_value
        return Truth(
            events={
                "in": len(self),
                **{name: self._counts[name] for name in ("applied", "duplicate", "late", "rejected")},
            },
            sessions={
                "total": len(rows),
                "converted": len(converted),
                **{stage: stages[stage] for stage in ("bounced", "browsed", "favorited", "carted")},
                "recovered": sum(row.recovered for row in rows),
            },
            bot_sessions=sum(row.is_bot for row in rows),
            buyers=len({row.customer_id for row in converted}),
            value_at_risk={currency: Decimal(sum_) / 100 for currency, sum_ in sorted(at_risk.items())},
            revenue={currency: Decimal(sum_) / 100 for currency, sum_ in sorted(revenue.items())},
            rows=tuple(rows),
        )

    def _live(self, chance: Chance, customer: Customer) -> None:
        """Everything one customer does, shop by shop."""
        events: list[tuple[Happening, Shop]] = []
        wanted: list[Wanted] = []
        for number, shop in enumerate(customer.shops):
            # The first shop is the favorite one.
            rhythm = customer.rhythm if number == 0 else max(1, customer.rhythm // 3)
            events += ((event, shop) for event in self._relation(chance, customer, shop, rhythm, wanted))
        if not customer.is_bot:
            events += self._elsewhere(chance, customer, sorted(wanted, key=attrgetter("left_at")))
        for number, (event, shop) in enumerate(events):
            self._deliver(chance, customer, shop, event, number)

    def _relation(
        self, chance: Chance, customer: Customer, shop: Shop, rhythm: int, wanted: list[Wanted]
    ) -> Iterator[Happening]:
        """One customer's sessions in one shop, each more than the gap after what was before.

        What they leave without is added to ``wanted``.
        """
        gap = self._policy.gap
        usual = 7 * DAY // rhythm
        rows: list[PlannedSession] = []
        orders: list[PlacedOrder] = []
        at = self._begin + chance.between(0, min(usual, self._end - self._begin))
        comes_back = False
        while at < self._end - _LONGEST_SESSION:
            script = Script(chance, customer, shop, at, gap)
            kind = "converted" if comes_back else self._kind(chance, customer)
            how = chance.pick(_BROWSED)
            if kind == "browsed" and how == "ordered-again" and orders:
                self._order_again(script, orders)
            else:
                play(script, kind, how, f"{customer.customer_id}-{shop.shop_id}-{len(orders) + 1}")
            yield from script.events
            if script.order is not None:
                orders.append(script.order)
                yield from self._afterwards(chance, shop, script.order)
            rows.append(self._row(script, kind))
            at = script.at
            if (
                script.order is not None
                and script.events[-1].body["action"] == "placed"
                and chance.happens(20)
            ):
                # Paid by bank transfer, much later: a payment alone is no session.
                at += gap + chance.between(1, 4 * HOUR)
                yield Happening(ORDERS, at, payment(script.order, shop))
            comes_back = kind == "carted" and chance.happens(25)
            if script.order is None and script.looked and not comes_back and kind != "bounced":
                wanted.append(Wanted(script.at, shop, script.looked[-1]))
            if comes_back:
                at += gap + chance.between(10 * MINUTE, 20 * HOUR)
            elif chance.happens(3):
                at += gap + 1
            else:
                at += gap + chance.between(usual // 2, usual * 3 // 2)
        self._recover(rows, orders)
        self._rows += rows

    def _elsewhere(
        self, chance: Chance, customer: Customer, wanted: Sequence[Wanted]
    ) -> Iterator[tuple[Happening, Shop]]:
        """Some of what was wanted is bought in an outlet, mostly on the same day; ``wanted`` by time."""
        rows: dict[Shop, list[PlannedSession]] = {}
        orders: dict[Shop, list[PlacedOrder]] = {}
        for want in wanted:
            at = want.left_at + chance.between(5 * MINUTE, 5 * HOUR)
            if not chance.happens(_MOVES) or at >= self._end - _LONGEST_SESSION:
                continue
            category, currency = want.item.category, want.shop.currency
            selling = [
                shop
                for shop in customer.outlets
                if shop.sells(category)
                and (shop not in rows or at > rows[shop][-1].ended_at + self._policy.gap)
            ]
            if not selling:
                continue
            shop = chance.pick([s for s in selling if s.currency == currency] or selling)
            script = Script(chance, replace(customer, categories=(category,)), shop, at, self._policy.gap)
            placed = orders.setdefault(shop, [])
            play(script, "moved", "looked", f"{customer.customer_id}-{shop.shop_id}-{len(placed) + 1}")
            assert script.order is not None
            placed.append(script.order)
            yield from ((event, shop) for event in script.events)
            yield from ((event, shop) for event in self._afterwards(chance, shop, script.order))
            rows.setdefault(shop, []).append(self._row(script, "moved"))
        for shop in rows:
            self._recover(rows[shop], orders[shop])
            self._rows += rows[shop]

    def _kind(self, chance: Chance, customer: Customer) -> str:
        luck = chance.between(1, 100)
        if customer.is_bot:
            return "bounced" if luck <= 40 else "crawled"
        # The thriftier, the more often a full cart is left.
        converted = 22 - customer.thrift * 16 // 100
        carted = 8 + customer.thrift * 12 // 100
        for share, kind in ((converted, "converted"), (carted, "carted"), (8, "favorited"), (35, "bounced")):
            if luck <= share:
                return kind
            luck -= share
        return "browsed"

    def _order_again(self, script: Script, orders: list[PlacedOrder]) -> None:
        """An old order's thank-you page is loaded again: the same order a second time is no order."""
        script.browse(1, 2)
        script.do(ORDERS, **orders[0].body)

    def _afterwards(self, chance: Chance, shop: Shop, order: PlacedOrder) -> Iterator[Happening]:
        """What becomes of an order: most stand, some are cancelled or refunded before the end; and what is
        said of it."""
        yield from (said for said in talk(chance, order) if said.at < self._end)
        luck = chance.between(1, 100)
        at = order.at + chance.between(10 * MINUTE, 3 * DAY)
        if luck > 20 or at >= self._end:
            return
        body: dict[str, Any] = {"order_id": order.order_id, "currency": shop.currency}
        if luck <= 8:
            order.reversed = True
            yield Happening(ORDERS, at, body | {"action": "cancelled"})
        elif luck <= 11:
            order.reversed = True
            yield Happening(ORDERS, at, body | {"action": "refunded"})
        elif luck <= 14:
            order.reversed = True
            first = order.total // 3
            for part, later in ((first, 0), (order.total - first, 1)):
                refund = {"action": "refunded", "refund_amount": amount(part)}
                yield Happening(ORDERS, at + later, body | refund)
        else:
            order.refunded = order.total // 4
            refund = {"action": "refunded", "refund_amount": amount(order.refunded)}
            yield Happening(ORDERS, at, body | refund)

    def _row(self, script: Script, kind: str) -> PlannedSession:
        order, value = script.order, script.standing()
        stage: str | None
        if order is not None and not order.reversed:
            stage = None
        elif order is not None:
            # The verdict is open again: what the order would have bought stands in the cart.
            stage = "carted" if value else "favorited" if script.favorites else "browsed"
        else:
            stage = "browsed" if kind == "crawled" else kind
        money_named = any(event.body.get("currency") for event in script.events if event.topic is CARTS)
        return PlannedSession(
            customer_id=script.customer.customer_id,
            shop_id=script.shop.shop_id,
            started_at=script.events[0].at,
            ended_at=script.events[-1].at,
            lost_stage=stage,
            currency=script.shop.currency if order is not None or money_named else None,
            cart_value=value,
            revenue=order.total - order.refunded if order is not None and stage is None else 0,
            is_bot=script.customer.is_bot,
        )

    def _recover(self, rows: list[PlannedSession], orders: list[PlacedOrder]) -> None:
        moments = [order.at for order in orders if not order.reversed]
        for row in rows:
            opens = row.ended_at + self._policy.gap
            row.recovered = row.lost_stage is not None and any(
                opens < moment <= opens + self._policy.recovery_window for moment in moments
            )

    def _deliver(self, chance: Chance, customer: Customer, shop: Shop, event: Happening, number: int) -> None:
        body: dict[str, Any] = {
            "event_id": f"{customer.customer_id}-{number}",
            "occurred_at": event.at,
            "customer_id": customer.customer_id,
            "shop_id": shop.shop_id,
            **event.body,
            "user_agent": customer.user_agent,
        }
        if customer.is_bot:
            body["is_bot"] = True
        luck = chance.between(1, 100)
        if luck <= 2:
            delay = chance.between(MINUTE, max(MINUTE, self._policy.horizon // 2))
        else:
            delay = chance.between(0, 3_000 if luck <= 90 else 2 * MINUTE)
        self._send(event.at + delay, event.topic, customer.customer_id.encode(), _encode(body), event.at)
        self._counts["applied"] += 1
        if chance.happens(2):
            again = event.at + delay + chance.between(0, 10 * MINUTE)
            self._send(again, event.topic, customer.customer_id.encode(), _encode(body), event.at)
            self._counts["duplicate"] += 1

    def _send(self, at: int, topic: Topic, key: bytes | None, value: bytes, event_time: int | None) -> None:
        # The running number decides between records of one moment, and never lets records be compared.
        self._deliveries.append((at, len(self._deliveries), SourceRecord(topic, key, value, event_time)))

    def _garble(self, chance: Chance) -> None:
        """Now and then a record that cannot be taken, of each kind in turn."""
        count = len(self._deliveries) // 500
        moments = (chance.between(self._begin, self._end) for _ in range(count))
        for number, at in enumerate(moments):
            body: dict[str, Any] = {
                "event_id": f"garbage-{number}",
                "occurred_at": at,
                "customer_id": "nobody",
                "shop_id": "shop-1",
            }
            good = _encode(body)
            far: dict[int, int] = {1: -2_134_949_234_000, 2: 4_294_967_296_000, 3: 4_000_000_000_000}
            kind = number % 12
            topic, key, value, event_time = VISITS, b"nobody", good, at
            if kind == 0:
                value = good[:-20]
            elif kind in far:  # 1902, 2106, and 2096: long after it arrived
                event_time = far[kind]
                value = _encode(body | {"occurred_at": event_time})
            elif kind == 4:
                value = _encode({name: each for name, each in body.items() if name != "shop_id"})
            elif kind == 5:
                value = _encode(body | {"item_id": 7})
            elif kind == 6:
                topic, value = CARTS, _encode(body | {"action": "juggle", "item_id": "x"})
            elif kind == 7:
                topic = ORDERS
                value = good[:-1] + b',"action":"placed","order_id":"x","total":NaN}'
            elif kind == 8:
                value = good.replace(b"shop-1", b"shop-\xff")
            elif kind == 9:
                value = b"[" + good + b"]"
            elif kind == 10:
                key = b"somebody"
            self._send(at, topic, None if kind == 11 else key, value, event_time)
            self._counts["rejected"] += 1

"""Purchases, item-days and leaks by the definitions, the slow way, from a complete set of events.

It lists, sorts and filters, and asks every question of every order and every day anew. It shares no code with
the rules beyond the digest that names a leak. Rows are facts in their wire form without ``is_deleted``; the
versions of item-days and leaks count tellings, so only purchases have theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from streams.domain.events import Cart, Favorite, Feedback, Input, Order, Visit
from streams.domain.loss_facts import leak_id
from streams.domain.policy import DAY, Policy
from tests.domain.buyer_reference import local_date
from tests.domain.reference import bot_by

Row = dict[str, Any]
Zones = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """A line of an order; money in ten-thousandths."""

    item: str
    category: str | None
    quantity: int
    has_price: bool
    gross: int
    discount: int
    net: int


@dataclass(frozen=True)
class Bought:
    """An order that has a moment, ``at``."""

    customer: str
    shop: str
    order: str
    at: int
    currency: str | None
    total: int
    refunded: int
    stands: bool
    lines: list[Line]
    version: int


@dataclass(frozen=True)
class Touched:
    """A touch of an item; ``kind`` is look, favorite or cart; ``by_bot``: in a session with a bot sign."""

    t: int
    kind: str
    item: str
    category: str | None
    price: int | None
    currency: str | None
    by_bot: bool


@dataclass(frozen=True)
class Seen:
    """An item that was looked at on a day, by all of that day's touches of it."""

    item: str
    category: str | None
    first: int
    last: int
    looks: int
    favorited: bool
    carted: bool
    touches: list[Touched]


def purchases(events: Iterable[Input], policy: Policy, zones: Zones) -> list[Row]:
    """One row an order that has a moment."""
    return [
        {
            "shop_id": o.shop,
            "customer_id": o.customer,
            "order_id": o.order,
            "ordered_at": o.at,
            "day": local_date(o.at, zones.get(o.shop, policy.zone)).isoformat(),
            "total": _money(o.total),
            "refunded": _money(o.refunded),
            "is_reversed": not o.stands,
            "currency": o.currency,
            "lines": [
                {
                    "item_id": x.item,
                    "category": x.category,
                    "quantity": x.quantity,
                    "gross": _money(x.gross),
                    "discount": _money(x.discount),
                    "net": _money(x.net),
                }
                for x in o.lines
            ],
            "version": o.version,
        }
        for o in _orders(_unique(events), policy)
    ]


def item_days(events: Iterable[Input], policy: Policy, zones: Zones) -> list[Row]:
    """One row a customer, shop and local day on which an item was looked at."""
    unique = _unique(events)
    standing = [o for o in _orders(unique, policy) if o.stands]
    rows = []
    for (customer, shop, day), touched in _days(unique, policy, zones).items():
        zone = zones.get(shop, policy.zone)
        own = [o for o in standing if o.customer == customer]
        items = [
            {
                "item_id": seen.item,
                "category": seen.category,
                "disposition": _disposition(seen, shop, day, own, zone, policy),
                "first_at": seen.first,
                "visits": seen.looks,
                "favorited": seen.favorited,
                "carted": seen.carted,
            }
            for seen in _seen(touched)
        ]
        if items:
            rows.append(
                {
                    "shop_id": shop,
                    "customer_id": customer,
                    "day": day.isoformat(),
                    "is_bot": any(x.by_bot for x in touched),
                    "items": items,
                }
            )
    return rows


def leaks(events: Iterable[Input], policy: Policy, zones: Zones) -> list[Row]:
    """One row an order and a shop that it leaked from."""
    unique = _unique(events)
    days = _days(unique, policy, zones)
    standing = [o for o in _orders(unique, policy) if o.stands]
    rows = []
    for order in standing:
        for shop in {shop for _, shop, _ in days}:
            own = [o for o in standing if (o.customer, o.shop) == (order.customer, shop)]
            zone = zones.get(shop, policy.zone)
            bought_on = {local_date(o.at, zone) for o in own}
            candidates = [
                day
                for customer, at, day in days
                if (customer, at) == (order.customer, shop)
                and order.shop != shop
                and day not in bought_on
                and _in_window(order.at, day, zone, policy)
                and _matching(days[customer, at, day], order)
            ]
            if candidates:
                day = max(candidates)
                rows.append(_leak(shop, day, days[order.customer, shop, day], order))
    return rows


def _leak(shop: str, day: date, touched: Sequence[Touched], order: Bought) -> Row:
    seen = _matching(touched, order)
    categories = {s.category for s in seen}
    lines = [x for x in order.lines if x.category in categories]
    priced = [x for x in lines if x.has_price]
    pieces = sum(x.quantity for x in priced)
    there = sum(x.gross - x.discount for x in priced)
    here = [price for s in seen if (price := _latest_price(s, order.currency)) is not None]
    return {
        "leak_id": leak_id(order.customer, shop, order.shop, order.order),
        "shop_id": shop,
        "customer_id": order.customer,
        "day": day.isoformat(),
        "seen_at": max(s.last if s.last <= order.at else s.first for s in seen),
        "item_ids": sorted(s.item for s in seen),
        "categories": sorted(categories),
        "intent": _intent(seen),
        "to_shop_id": order.shop,
        "order_id": order.order,
        "ordered_at": order.at,
        "to_item_ids": sorted({x.item for x in lines}),
        "pieces": sum(x.quantity for x in lines),
        "amount": _money(sum(x.net for x in lines)),
        "currency": order.currency,
        "price_here": _money(min(here)) if here else None,
        "price_there": _money(max(there, 0) // pieces) if pieces else None,
        "is_bot": any(x.by_bot for x in touched),
    }


def _intent(seen: Sequence[Seen]) -> str | None:
    if any(s.carted for s in seen):
        return "cart"
    return "favorite" if any(s.favorited for s in seen) else None


def _matching(touched: Sequence[Touched], order: Bought) -> list[Seen]:
    """The items of a day that the order elsewhere has a line of the category of, seen before it."""
    ordered = {x.category for x in order.lines if x.category}
    return [s for s in _seen(touched) if s.category in ordered and s.first <= order.at]


def _latest_price(seen: Seen, currency: str | None) -> int | None:
    told = [
        (x.t, x.price)
        for x in seen.touches
        if x.price is not None and (x.currency is None or currency is None or x.currency == currency)
    ]
    return max(told)[1] if told else None


def _disposition(
    seen: Seen, shop: str, day: date, standing: Sequence[Bought], zone: str, policy: Policy
) -> str:
    """The best that is true; ``standing`` are the customer's orders everywhere."""

    def has_category(order: Bought) -> bool:
        return seen.category is not None and any(x.category == seen.category for x in order.lines)

    here = [o for o in standing if o.shop == shop and local_date(o.at, zone) == day]
    elsewhere = [o for o in standing if o.shop != shop and o.at >= seen.first]
    if any(x.item == seen.item for o in here for x in o.lines):
        return "bought_item"
    if any(has_category(o) for o in here):
        return "bought_similar"
    if here:
        return "bought_other"
    if any(has_category(o) and _in_window(o.at, day, zone, policy) for o in elsewhere):
        return "bought_elsewhere"
    return "nothing"


def _in_window(at: int, day: date, zone: str, policy: Policy) -> bool:
    return 0 <= (local_date(at, zone) - day).days <= policy.leak_window // DAY


def _unique(events: Iterable[Input]) -> list[Input]:
    """Each event once, by time."""
    unique = {(e.body.customer_id, e.body.shop_id, e.id): e for e in events}
    return sorted(unique.values(), key=lambda e: (e.t, e.id))


def _amends(event: Input) -> bool:
    return isinstance(event.body, Order) and event.body.action in ("cancelled", "refunded")


def _orders(events: Sequence[Input], policy: Policy) -> list[Bought]:
    said: dict[tuple[str, str, str], list[Input]] = defaultdict(list)
    for event in events:
        if isinstance(event.body, Order):
            said[event.body.customer_id, event.body.shop_id, event.body.order_id].append(event)
    found = []
    for (customer, shop, order_id), all_of_it in said.items():
        mentions = [e for e in all_of_it if not _amends(e)]
        amendments = [e for e in all_of_it if _amends(e)]
        if not mentions:
            continue
        first = min(mentions, key=lambda e: (e.body.action != "placed", e.t, e.id))
        total = _total(first.body)
        back, stands = 0, True
        for event in amendments:
            if abs(event.t - first.t) > policy.amendment_window:
                continue
            if event.body.action == "cancelled" or event.body.refund_amount is None:
                stands = False
            else:
                back += _units(event.body.refund_amount)
        if 0 < total <= back:
            stands = False
        refunded = min(total, back) if stands else total
        heard = [a for a in amendments if any(abs(a.t - m.t) <= policy.amendment_window for m in mentions)]
        lines = _lines(first.body, total - refunded)
        currency, version = first.body.currency, len(mentions) + len(heard)
        found.append(
            Bought(customer, shop, order_id, first.t, currency, total, refunded, stands, lines, version)
        )
    return found


def _total(order: Order) -> int:
    """What was owed; discounts of more than the lines are worth leave nothing to be owed."""
    if order.total is not None:
        return _units(order.total)
    priced = [x for x in order.lines if x.price is not None]
    return max(0, sum(_units(x.price) * x.quantity - _units(x.discount) for x in priced))


def _lines(order: Order, net: int) -> list[Line]:
    """The lines, ``net`` split over them in proportion to their worth, else their pieces, else evenly."""
    gross = [_units(x.price) * x.quantity for x in order.lines]
    weights = [max(g - _units(x.discount), 0) for g, x in zip(gross, order.lines, strict=True)]
    if sum(weights) == 0:
        weights = [x.quantity for x in order.lines]
    if sum(weights) == 0:
        weights = [1 for _ in order.lines]
    lines = []
    for i, x in enumerate(order.lines):
        up_to, before = sum(weights[: i + 1]), sum(weights[:i])
        part = net * up_to // sum(weights) - net * before // sum(weights)
        category, has_price = x.category or None, x.price is not None
        lines.append(Line(x.item_id, category, x.quantity, has_price, gross[i], _units(x.discount), part))
    return lines


def _days(
    events: Sequence[Input], policy: Policy, zones: Zones
) -> dict[tuple[str, str, date], list[Touched]]:
    """The touches of each customer, shop and local day."""
    activity: dict[tuple[str, str], list[Input]] = defaultdict(list)
    for event in events:
        if not _amends(event) and not isinstance(event.body, Feedback):
            activity[event.body.customer_id, event.body.shop_id].append(event)
    days: dict[tuple[str, str, date], list[Touched]] = defaultdict(list)
    for (customer, shop), all_of_it in activity.items():
        zone = zones.get(shop, policy.zone)
        for session in _sessions(all_of_it, policy):
            by_bot = bot_by(session, policy) is not None
            for event in session:
                kind, body = _kind(event), event.body
                if kind is None or isinstance(body, Order | Feedback) or body.item_id is None:
                    continue
                price = None if body.price is None else _units(body.price)
                category = body.category or None
                days[customer, shop, local_date(event.t, zone)].append(
                    Touched(event.t, kind, body.item_id, category, price, body.currency, by_bot)
                )
    return days


def _sessions(events: Sequence[Input], policy: Policy) -> list[list[Input]]:
    sessions: list[list[Input]] = []
    for event in events:
        if not sessions or event.t - sessions[-1][-1].t > policy.gap:
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def _kind(event: Input) -> str | None:
    body = event.body
    if isinstance(body, Visit):
        return "look"
    if isinstance(body, Favorite) and body.action == "add" and body.target == "item":
        return "favorite"
    if isinstance(body, Cart) and body.action in ("add", "set") and body.quantity > 0:
        return "cart"
    return None


def _seen(touched: Sequence[Touched]) -> list[Seen]:
    """The items that were looked at, by item id."""
    seen = []
    for item in sorted({x.item for x in touched if x.kind == "look"}):
        own = [x for x in touched if x.item == item]
        looks = [x.t for x in own if x.kind == "look"]
        named = [(x.t, x.category) for x in own if x.category is not None]
        category = min(named)[1] if named else None
        favorited, carted = (any(x.kind == kind for x in own) for kind in ("favorite", "cart"))
        seen.append(Seen(item, category, min(looks), max(looks), len(looks), favorited, carted, own))
    return seen


def _units(amount: Decimal | None) -> int:
    return 0 if amount is None else int(amount * 10_000)


def _money(amount: int) -> str:
    return f"{Decimal(amount) / 10_000:.4f}"

"""The definitions, computed the slow way from a complete set of events: what the engine must end with.

Written from the definitions, not from the engine: it sorts, splits and counts, and shares no code with it
beyond the digest that names a session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import crawleruseragents

from streams.domain.events import Cart, Favorite, Input, Order, Visit
from streams.domain.facts import session_id
from streams.domain.policy import MINUTE, Policy

Row = dict[str, Any]


def sessions(events: Iterable[Input], policy: Policy) -> list[Row]:
    """One row a session, over all shops and customers, in no particular order."""
    by_shop: dict[tuple[str, str], dict[int, Input]] = defaultdict(dict)
    for event in events:
        by_shop[event.body.customer_id, event.body.shop_id].setdefault(event.id, event)
    rows = []
    for (customer, shop), unique in by_shop.items():
        rows += _of_shop(customer, shop, sorted(unique.values(), key=lambda e: (e.t, e.id)), policy)
    return rows


def _is_amendment(event: Input) -> bool:
    return isinstance(event.body, Order) and event.body.action in ("cancelled", "refunded")


def _of_shop(customer: str, shop: str, events: Sequence[Input], policy: Policy) -> list[Row]:
    split: list[list[Input]] = []
    for event in events:
        if _is_amendment(event):
            continue
        if not split or event.t - split[-1][-1].t > policy.gap:
            split.append([])
        split[-1].append(event)
    by_order: dict[str, list[Input]] = defaultdict(list)
    for event in events:
        if isinstance(event.body, Order):
            by_order[event.body.order_id].append(event)
    orders = [_order(order_id, said, policy) for order_id, said in by_order.items()]
    rows = []
    for session in split:
        row = _row(customer, shop, session, orders, policy)
        if row is not None:
            rows.append(row)
    return rows


def _order(order_id: str, said: Sequence[Input], policy: Policy) -> dict[str, Any]:
    mentions = [e for e in said if not _is_amendment(e)]
    amendments = [e for e in said if _is_amendment(e)]
    first = min(mentions, key=lambda e: (e.body.action != "placed", e.t, e.id), default=None)
    order: dict[str, Any] = {
        "id": order_id,
        "first": first,
        "mentions": mentions,
        "weight": len(mentions)
        + sum(any(abs(a.t - m.t) <= policy.amendment_window for m in mentions) for a in amendments),
        "total": Decimal(0),
        "stands": True,
        "back": Decimal(0),
    }
    if first is None:
        return order
    body = first.body
    if body.total is not None:
        order["total"] = body.total
    else:
        order["total"] = sum(
            (x.price * x.quantity - (x.discount or 0) for x in body.lines if x.price is not None), Decimal(0)
        )
    for event in amendments:
        if abs(event.t - first.t) > policy.amendment_window:
            continue
        if event.body.action == "cancelled" or event.body.refund_amount is None:
            order["stands"] = False
        else:
            order["back"] += event.body.refund_amount
    if order["total"] > 0 and order["back"] >= order["total"]:
        order["stands"] = False
    return order


def _row(
    customer: str, shop: str, events: Sequence[Input], orders: Sequence[dict[str, Any]], policy: Policy
) -> Row | None:
    start, end = events[0].t, events[-1].t
    opens, shuts = end + policy.gap, end + policy.gap + policy.recovery_window
    own = [o for o in orders if o["first"] is not None and start <= o["first"].t <= end]
    if not own and all(isinstance(e.body, Order) and e.body.action == "paid" for e in events):
        return None
    standing = [o for o in own if o["stands"]]
    lines = _cart([e for e in events if isinstance(e.body, Cart)], standing)
    currency = _currency(events, own)
    carts = [e.body for e in events if isinstance(e.body, Cart)]
    named = [o["first"].body.currency for o in own] + [c.currency for c in carts if c.price is not None]
    visits = [e for e in events if isinstance(e.body, Visit)]
    favorites = [e for e in events if isinstance(e.body, Favorite)]
    recovering = sorted(
        (o["first"].t, o["first"].id, o["id"])
        for o in orders
        if o["first"] is not None and o["stands"] and opens < o["first"].t <= shuts
    )
    lost = not standing
    recovered = lost and bool(recovering)
    bearing = [o for o in orders if any(start <= m.t <= end or opens < m.t <= shuts for m in o["mentions"])]
    return {
        "session_id": session_id(customer, shop, start),
        "shop_id": shop,
        "customer_id": customer,
        "started_at": start,
        "ended_at": end,
        "outcome": "lost" if lost else "converted",
        "lost_stage": _stage(events, favorites, lines) if lost else None,
        "events": len(events),
        "visits": len(visits),
        "favorites": sum(e.body.action == "add" for e in favorites),
        "carts": len(carts),
        "cart_value": _money(sum((q * p for q, p, c in lines if c in (None, currency)), Decimal(0))),
        "currency": currency,
        "mixed_currency": any(n is not None and n != currency for n in named),
        "orders": len(standing),
        "revenue": _money(
            sum(
                (
                    max(o["total"] - o["back"], Decimal(0))
                    for o in standing
                    if o["first"].body.currency in (None, currency)
                ),
                Decimal(0),
            )
        ),
        "recovered": recovered,
        "recovered_at": recovering[0][0] if recovered else None,
        "recovered_by": recovering[0][2] if recovered else None,
        "landing_item": next((e.body.item_id for e in visits if e.body.item_id is not None), None),
        "channel": next((e.body.channel for e in events if e.body.channel is not None), None),
        "campaign": next((e.body.campaign for e in events if e.body.campaign is not None), None),
        "is_bot": bot_by(events, policy) is not None,
        "day": datetime.fromtimestamp(start / 1000, ZoneInfo(policy.zone)).date(),
        "bot_by": bot_by(events, policy),
        "version": len(events) + sum(o["weight"] for o in bearing),
        "is_deleted": False,
    }


def bot_by(events: Sequence[Input], policy: Policy) -> str | None:
    """What gives away the machine whose session, in the order of time, these events are."""
    if any(e.body.is_bot for e in events):
        return "told"
    agents = {e.body.user_agent for e in events} - {None}
    if any(crawleruseragents.is_crawler(agent) and "okhttp" not in agent for agent in agents):
        return "user_agent"
    looks, length = sum(isinstance(e.body, Visit) for e in events), events[-1].t - events[0].t
    if looks < policy.bot_events:
        return None
    if length / (looks - 1) < policy.bot_dwell:
        return "no_dwell"
    return "rate" if looks > policy.bot_rate * max(length / MINUTE, 5) else None


def _cart(
    events: Sequence[Input], standing: Sequence[dict[str, Any]]
) -> list[tuple[int, Decimal, str | None]]:
    quantity: dict[str, int] = {}
    touched: dict[str, tuple[int, int]] = {}
    price: dict[str, tuple[Decimal, str | None]] = {}
    for event in events:
        body = event.body
        if body.action == "clear":
            quantity.clear()
        elif body.action == "remove":
            quantity[body.item_id] = 0
        else:
            base = quantity.get(body.item_id, 0) if body.action == "add" else 0
            quantity[body.item_id] = base + body.quantity
            touched[body.item_id] = (event.t, event.id)
            if body.price is not None:
                price[body.item_id] = (body.price, body.currency)
    lines = []
    for item, count in quantity.items():
        bought = any(
            item in [x.item_id for x in o["first"].body.lines]
            and (o["first"].t, o["first"].id) >= touched.get(item, (-1, -1))
            for o in standing
        )
        if count > 0 and not bought:
            lines.append((count, *price.get(item, (Decimal(0), None))))
    return lines


def _stage(events: Sequence[Input], favorites: Sequence[Input], lines: Sequence[Any]) -> str:
    if lines:
        return "carted"
    last: dict[str | None, bool] = {}
    for event in favorites:
        target = None if event.body.target == "shop" else event.body.item_id
        last[target] = event.body.action == "add"
    if any(last.values()):
        return "favorited"
    return "bounced" if len(events) == 1 and isinstance(events[0].body, Visit) else "browsed"


def _currency(events: Sequence[Input], own: Sequence[dict[str, Any]]) -> str | None:
    ordered = [
        (o["first"].t, o["first"].id, o["first"].body.currency)
        for o in own
        if o["first"].body.currency is not None
    ]
    if ordered:
        return min(ordered)[2]
    for event in events:
        if isinstance(event.body, Cart) and event.body.price is not None and event.body.currency is not None:
            return event.body.currency
    return None


def _money(amount: Decimal | int) -> str:
    return f"{Decimal(amount):.4f}"

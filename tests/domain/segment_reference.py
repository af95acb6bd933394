"""Who belongs to which segment at an instant, from raw events and the rules' text, the slow way.

It shares no code with the rules: it splits sessions, counts days and reads conditions by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from streams.domain.events import Cart, Favorite, Feedback, Input, Order, OrderLine, Visit
from streams.domain.policy import Policy
from tests.domain.buyer_reference import begins, local_date

#: By name, as ``segments.yaml`` has them.
Segments = Mapping[str, Any]
Member = tuple[str, str, str]

_AMENDING = ("cancelled", "refunded")
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_COMPARE = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def members(events: Sequence[Input], now: int, segments: Segments, policy: Policy) -> set[Member]:
    """(customer, shop, segment) of all who belong to one, given the events up to ``now``."""
    pairs: dict[tuple[str, str], list[Input]] = {}
    for event in events:
        if event.t <= now:
            pairs.setdefault((event.body.customer_id, event.body.shop_id), []).append(event)
    found = set()
    for (customer, shop), each in pairs.items():
        known = _known(each, now, policy)
        if known:
            found |= {(customer, shop, name) for name, rule in segments.items() if _holds(rule, known, now)}
    return found


def instants(events: Sequence[Input], segments: Segments, end: int, policy: Policy) -> list[int]:
    """Every instant up to ``end`` at which a membership may change."""
    times = {event.t for event in events}
    spans = {span for rule in segments.values() for span in _spans(rule)}
    found = times | {t + span + more for t in times for span in spans for more in (0, 1)}
    day, t = local_date(min(times), policy.zone), min(times)
    while t <= end:
        t = begins(day, policy.zone)
        found.add(t)
        day = type(day).fromordinal(day.toordinal() + 1)
    return sorted(t for t in found if min(times) <= t <= end)


def _known(events: Sequence[Input], now: int, policy: Policy) -> dict[str, Any]:
    amendments = [e for e in events if isinstance(e.body, Order) and e.body.action in _AMENDING]
    # What people say of a shop is no visit to it.
    heard = [e for e in events if isinstance(e.body, Feedback)]
    activity = sorted((e for e in events if e not in amendments + heard), key=lambda e: (e.t, e.id))
    if not activity:
        return {}
    today = local_date(now, policy.zone)
    counted: list[tuple[str, int]] = []
    last, day = None, today
    for event in activity:
        if last is None or event.t - last > policy.gap:
            day = local_date(event.t, policy.zone)
        last = event.t
        body = event.body
        kind = {Visit: "visits", Cart: "carts"}.get(type(body))
        if isinstance(body, Favorite) and body.action == "add":
            kind = "favorites"
        if kind:
            counted.append((kind, (today - day).days))
    counted += [("carted", age) for age in _carted(activity, today, policy)]
    net, days, at, categories = Decimal(0), set(), [], []
    for event, order in _moments(activity):
        back = [
            a.body.refund_amount if a.body.action == "refunded" else None
            for a in amendments
            if a.body.order_id == order.order_id and abs(a.t - event.t) <= policy.amendment_window
        ]
        part = sum((amount for amount in back if amount is not None), Decimal(0))
        total = order.total
        if total is None:
            total = sum((_worth(line) for line in order.lines), Decimal(0))
        if None in back or 0 < total <= part:
            continue
        net += max(total - part, Decimal(0))
        days.add(local_date(event.t, policy.zone))
        at.append(event.t)
        counted.append(("orders", (today - local_date(event.t, policy.zone)).days))
        categories += [line.category for line in order.lines]
    return {
        "counted": counted,
        "since_last_visit": now - activity[-1].t,
        "since_last_order": now - max(at) if at else None,
        "orders": len(at),
        "purchase_days": len(days),
        "monetary": net,
        "recency_days": (today - max(days)).days if days else None,
        "preferred_categories": categories,
    }


def _moments(activity: Sequence[Input]) -> Iterator[tuple[Input, Order]]:
    """Each order by the event that it is attributed to: the first that says it was placed, else paid."""
    orders: dict[str, list[Input]] = {}
    for event in activity:
        if isinstance(event.body, Order):
            orders.setdefault(event.body.order_id, []).append(event)
    for said in orders.values():
        event = min(said, key=lambda e: (e.body.action == "paid", e.t, e.id))
        assert isinstance(event.body, Order)
        yield event, event.body


def _worth(line: OrderLine) -> Decimal:
    if line.price is None:
        return Decimal(0)
    return line.price * line.quantity - (line.discount or Decimal(0))


def _carted(activity: Sequence[Input], today: date, policy: Policy) -> Iterator[int]:
    """How many days ago each session began that left something in the cart."""
    sessions: list[list[Input]] = []
    for event in activity:
        if sessions and event.t - sessions[-1][-1].t <= policy.gap:
            sessions[-1].append(event)
        else:
            sessions.append([event])
    for session in sessions:
        cart: dict[str | None, int] = {}
        for event in session:
            body = event.body
            if not isinstance(body, Cart):
                continue
            if body.action == "clear":
                cart = {}
            elif body.action == "add":
                cart[body.item_id] = cart.get(body.item_id, 0) + body.quantity
            else:
                cart[body.item_id] = body.quantity if body.action == "set" else 0
        if any(cart.values()):
            yield (today - local_date(session[0].t, policy.zone)).days


def _holds(rule: Any, known: Mapping[str, Any], now: int) -> bool:
    if isinstance(rule, str):
        return _condition(rule, known)
    ((key, parts),) = rule.items()
    if key == "not":
        return not _holds(parts, known, now)
    each = [_holds(part, known, now) for part in parts]
    return all(each) if key == "all" else any(each)


def _condition(text: str, known: Mapping[str, Any]) -> bool:
    field, op, wanted = text.split(" ", 2)
    if op == "contains":
        return wanted in known[field]
    rolling = re.fullmatch(r"(\w+)_(\d+)d", field)
    if rolling:
        count = sum(kind == rolling[1] and age < int(rolling[2]) for kind, age in known["counted"])
        return _COMPARE[op](count, int(wanted))
    value = known[field]
    if wanted == "null":
        return (value is None) is (op == "==")
    if value is None:
        return op == "!="
    if field.startswith("since_"):
        return _COMPARE[op](value, int(wanted[:-1]) * _UNITS[wanted[-1]])
    return _COMPARE[op](value, Decimal(wanted))


def _spans(rule: Any) -> Iterator[int]:
    if isinstance(rule, str):
        if rule.startswith("since_"):
            wanted = rule.split(" ")[2]
            yield int(wanted[:-1]) * _UNITS[wanted[-1]]
        return
    ((_, parts),) = rule.items()
    listed: Iterable[Any] = [parts] if isinstance(parts, str | Mapping) else parts
    for part in listed:
        yield from _spans(part)

"""Whose an event is, the slow way: all that is claimed of a guest carries the customer's id.

Written from the definitions, over the complete set of events; it shares no code with the engine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from streams.domain.events import Feedback, Identify, Input, Order
from streams.domain.policy import Policy


def attributed(events: Sequence[Input], identities: Sequence[Input], policy: Policy) -> list[Input]:
    """``events`` with the customer's id where the guest's was claimed; ``identities`` in their log's order.

    No customer that a guest is said to be is a guest here.
    """
    heirs: dict[str, str] = {}
    claims: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for event in identities:
        body: Identify = event.body  # type: ignore[assignment]
        heir = heirs.setdefault(body.customer_id, body.identified_as)
        if heir == body.identified_as:
            claims[body.customer_id].append((event.t, body.shop_id))
    by_shop: dict[tuple[str, str], dict[int, Input]] = defaultdict(dict)
    for event in events:
        by_shop[event.body.customer_id, event.body.shop_id].setdefault(event.id, event)
    moved: set[tuple[str, str, int]] = set()
    for (customer, shop), unique in by_shop.items():
        times = [t for t, of in claims.get(customer, []) if of in (None, shop)]
        if times:
            moved |= {(customer, shop, id_) for id_ in _claimed(list(unique.values()), times, policy)}
    return [
        _as(event, heirs[event.body.customer_id])
        if (event.body.customer_id, event.body.shop_id, event.id) in moved
        else event
        for event in events
    ]


def _as(event: Input, customer: str) -> Input:
    return msgspec.structs.replace(event, body=msgspec.structs.replace(event.body, customer_id=customer))


def _is_amendment(event: Input) -> bool:
    return isinstance(event.body, Order) and event.body.action in ("cancelled", "refunded")


def _claimed(events: Sequence[Input], times: Sequence[int], policy: Policy) -> set[int]:
    """Ids of the events of one guest in one shop that go over."""
    sessions: list[list[Input]] = []
    for event in sorted(events, key=lambda e: (e.t, e.id)):
        if _is_amendment(event) or isinstance(event.body, Feedback):
            continue
        if not sessions or event.t - sessions[-1][-1].t > policy.gap:
            sessions.append([])
        sessions[-1].append(event)
    mentions: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if isinstance(event.body, Order) and not _is_amendment(event):
            mentions[event.body.order_id].append(event.t)

    def tied(number: int, order: str) -> bool:
        start, end = sessions[number][0].t, sessions[number][-1].t
        opens = end + policy.gap
        return any(start <= t <= end or opens < t <= opens + policy.recovery_window for t in mentions[order])

    gone = {n for n, s in enumerate(sessions) if any(s[0].t <= t <= s[-1].t + policy.gap for t in times)}
    orders: set[str] = set()
    while True:
        more_orders = {o for o in mentions if any(tied(n, o) for n in gone)}
        more = gone | {n for n in range(len(sessions)) if any(tied(n, o) for o in more_orders)}
        if (more, more_orders) == (gone, orders):
            break
        gone, orders = more, more_orders
    ids = {event.id for n in gone for event in sessions[n]}
    return ids | {e.id for e in events if _is_amendment(e) and e.body.order_id in orders}  # type: ignore[union-attr]

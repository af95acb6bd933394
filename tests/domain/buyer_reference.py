"""Purchases, stages and profile from the definitions, the slow way, from a complete set of order events.

It looks at every day one by one and asks the model for each; it shares no code with the rules but the model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from streams.domain.outlook import ShopModel
from streams.domain.policy import DAY, Policy


class Said(NamedTuple):
    """One order event: ``what`` is placed, cancelled or refunded; money in ten-thousandths."""

    at: int
    id: int
    order: str
    what: str
    total: int = 0
    currency: str | None = None
    categories: tuple[str, ...] = ()
    discount: int = 0
    amount: int | None = None


def local_date(t: int, zone: str) -> date:
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=t)).astimezone(ZoneInfo(zone)).date()


def begins(day: date, zone: str) -> int:
    """The first millisecond of a local date, found by halving."""
    low = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000 - 2 * DAY
    high = low + 4 * DAY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if local_date(middle, zone) >= day else (middle, high)
    return high


def purchases(events: Sequence[Said], policy: Policy) -> list[dict[str, Any]]:
    """Every order that was placed, by moment: with what stands of it, or None."""
    by_order: dict[str, list[Said]] = defaultdict(list)
    for event in sorted(set(events), key=lambda e: (e.at, e.id)):
        by_order[event.order].append(event)
    found = []
    for said in by_order.values():
        placed = next((e for e in said if e.what == "placed"), None)
        if placed is None:
            continue
        left: int | None = placed.total
        back = 0
        for e in said:
            if e.what != "placed" and abs(e.at - placed.at) <= policy.amendment_window:
                if e.what == "cancelled" or e.amount is None:
                    left = None
                else:
                    back += e.amount
        if left is not None:
            left = None if 0 < placed.total <= back else max(0, placed.total - back)
        found.append({"placed": placed, "net": left, "day": local_date(placed.at, policy.zone)})
    return sorted(found, key=lambda o: (o["placed"].at, o["placed"].id))


def occasions(events: Sequence[Said], now: int, policy: Policy) -> list[tuple[date, int]]:
    """(local date, moment of its first standing order)."""
    days: dict[date, int] = {}
    for order in purchases(events, policy):
        if order["net"] is not None and order["placed"].at <= now:
            days.setdefault(order["day"], order["placed"].at)
    return sorted(days.items())


def stages(
    events: Sequence[Said], model: ShopModel, now: int, policy: Policy
) -> list[tuple[int, int, str, str, str]]:
    """(anchor, at, from, to, cause) of each change of stage, day by day."""
    days = occasions(events, now, policy)
    today = local_date(now, policy.zone)
    limit = policy.lapse_threshold if model.threshold is None else model.threshold
    found: list[tuple[int, int, str, str, str]] = []
    stage = "prospect"

    def go(anchor: int, at: int, to: str, cause: str) -> None:
        nonlocal stage
        if to != stage:
            found.append((anchor, at, stage, to, cause))
        stage = to

    for index, (day, anchor) in enumerate(days):
        after = {"prospect": "new", "lapsed": "won_back"}.get(stage, "active")
        go(anchor, anchor, after, "order")
        end = days[index + 1][0] if index + 1 < len(days) else today
        t_x = (day - days[0][0]).days
        for silent in range(1, (end - day).days + 1):
            at = begins(day + timedelta(days=silent), policy.zone)
            if silent >= policy.lapsed_after // DAY:
                go(anchor, at, "lapsed", "silence")
                break
            # A whole day without an order must have passed.
            if silent >= 2 and stage != "lapsing" and model.lapse.p_alive(index, t_x, t_x + silent) <= limit:
                go(anchor, at, "lapsing", "overdue")
    return found


def profile(events: Sequence[Said], model: ShopModel, now: int, policy: Policy) -> dict[str, Any]:
    """The figures of a profile that orders alone decide."""
    all_orders = [o for o in purchases(events, policy) if o["placed"].at <= now]
    standing = [o for o in all_orders if o["net"] is not None]
    days = occasions(events, now, policy)
    line = stages(events, model, now, policy)
    row: dict[str, Any] = {
        "stage": line[-1][3] if line else "prospect",
        "orders": len(standing),
        "reversed_orders": len(all_orders) - len(standing),
        "purchase_days": len(days),
    }
    if not days:
        return row
    x, t_x = len(days) - 1, (days[-1][0] - days[0][0]).days
    until = (local_date(now, policy.zone) - days[0][0]).days
    named = Counter(o["placed"].currency for o in standing if o["placed"].currency)
    currency = min(named, key=lambda c: (-named[c], c)) if named else None
    mine = [o for o in standing if o["placed"].currency in (None, currency)]
    net = sum(o["net"] for o in mine)
    categories: dict[str, list[int]] = defaultdict(list)
    for o in standing:
        for name in set(o["placed"].categories):
            categories[name].append(o["placed"].at)
    row |= {
        "p_alive": round(model.lapse.p_alive(x, t_x, until), 2),
        "p_return_90d": round(model.lapse.p_returns(x, t_x, until, 90), 2),
        "expected_orders_90d": round(model.lapse.expected(x, t_x, until, 90), 2),
        "first_order_on": days[0][0],
        "last_order_on": days[-1][0],
        "first_order_at": standing[0]["placed"].at,
        "last_order_at": standing[-1]["placed"].at,
        "usual_gap_days": round(t_x / x, 1) if x else None,
        "monetary": f"{net / 10_000:.4f}",
        "average_order_value": f"{net // len(mine) / 10_000:.4f}",
        "currency": currency,
        "mixed_currency": len(mine) < len(standing),
        "discount_affinity": round(sum(o["placed"].discount > 0 for o in standing) / len(standing), 2),
        "preferred_categories": tuple(
            sorted(categories, key=lambda n: (-len(categories[n]), -max(categories[n]), n))[:3]
        ),
        "stage_since": line[-1][1],
    }
    return row

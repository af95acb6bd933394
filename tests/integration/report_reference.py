"""A shop report's figures computed again from stored facts, day by day in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Fact = Mapping[str, Any]
Figures = dict[tuple[str, str | None], int | Decimal | None]


def share(part: Any, whole: Any) -> Decimal | None:
    """To four places, or None of nothing."""
    if not whole:
        return None
    return (Decimal(part) / Decimal(whole)).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _first(days: Iterable[date]) -> date:
    return min(days)


def _known(days: set[date], since: date, until: date, span: int) -> bool:
    """Whether there is a day in the span before the first of these days."""
    first = _first(day for day in days if since <= day <= until)
    return any(first - timedelta(n) in days for n in range(1, span + 1))


def figures(
    facts: Mapping[str, list[dict[str, Any]]],
    shop: str,
    since: date,
    until: date,
    *,
    with_bots: bool = False,
    guests: str = "",
) -> Figures:
    """Every figure of these days, by name and currency; of amounts only currencies that have any."""

    def mine(topic: str) -> list[Fact]:
        return [
            {**fact, "day": date.fromisoformat(fact["day"])}
            for fact in facts.get(topic, [])
            if fact["shop_id"] == shop
            and (with_bots or not fact.get("is_bot"))
            and not (guests and fact["customer_id"].startswith(guests))
        ]

    def here(of: list[Fact]) -> list[Fact]:
        return [fact for fact in of if since <= fact["day"] <= until]

    def days(of: list[Fact]) -> dict[str, set[date]]:
        found: dict[str, set[date]] = {}
        for fact in of:
            found.setdefault(fact["customer_id"], set()).add(fact["day"])
        return found

    def who(of: list[Fact]) -> set[str]:
        return {fact["customer_id"] for fact in of}

    all_sessions, all_orders = mine("sessions"), mine("purchases")
    sessions, orders = here(all_sessions), here(all_orders)
    been, bought = days(all_sessions), days(all_orders)
    visitors, buyers = who(sessions), who(orders)
    new = {name for name in visitors if not _known(been[name], since, until, 6)}
    old = {name for name in buyers if _known(bought[name], since, until, 365)}
    lost = [s for s in sessions if not s.get("orders")]

    def stage(name: str) -> int:
        return sum(s.get("lost_stage", "browsed") == name for s in lost)

    found: Figures = {
        ("visitors", None): len(visitors),
        ("new_visitors", None): len(new),
        ("returning_visitor_share", None): share(len(visitors - new), len(visitors)),
        ("favorites", None): sum(s.get("favorites", 0) for s in sessions),
        ("conversion_to_favorite", None): share(
            len(who([s for s in sessions if s.get("favorites")])), len(visitors)
        ),
        ("conversion_to_cart", None): share(len(who([s for s in sessions if s.get("carts")])), len(visitors)),
        ("conversion_to_order", None): share(len(visitors & buyers), len(visitors)),
        ("paying_buyers", None): len(buyers),
        ("new_buyers", None): len(buyers - old),
        ("old_buyers", None): len(old),
        ("old_buyer_share", None): share(len(old), len(buyers)),
        ("sessions", None): len(sessions),
        ("loss_rate", None): share(len(lost), len(sessions)),
        **{
            (f"{name}_rate", None): share(stage(name), len(sessions))
            for name in ("bounced", "browsed", "favorited", "carted")
        },
        ("recovered", None): sum(bool(s.get("recovered")) for s in sessions),
    }
    amounts = [
        ("paid_amount", orders, "total"),
        ("refunded_amount", orders, "refunded"),
        ("value_at_risk", lost, "cart_value"),
        ("leaked_amount", here(mine("leaks")), "amount"),
    ]
    for name, of, field in amounts:
        for fact in of:
            key = (name, fact["currency"] or "XXX")
            found[key] = (found.get(key) or Decimal()) + Decimal(fact.get(field, "0"))
    for (name, currency), paid in list(found.items()):
        if name == "paid_amount":
            payers = who([fact for fact in orders if (fact["currency"] or "XXX") == currency])
            found["amount_per_buyer", currency] = share(paid, len(payers))
    return {key: value for key, value in found.items() if key[1] is None or value}

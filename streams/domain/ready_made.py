"""The segments that are in force until others are published; ``ebbtide segments list --yaml`` prints them."""

from __future__ import annotations

from typing import Any, Final

from streams.domain.segment_rules import RuleSet, Segment, read
from streams.domain.segments import Rules

_READY_MADE: Final[tuple[tuple[str, str, Any], ...]] = (
    (
        "price-sensitive-one-time",
        "Bought on one day only, at a discount or from the cheapest fifth",
        {"all": ["purchase_days == 1", {"any": ["discount_affinity >= 0.5", "price_band == 1"]}]},
    ),
    (
        "profit-item-loyal",
        "Bought twice or more, mostly without a discount",
        {"all": ["orders >= 2", "discount_affinity <= 0.25"]},
    ),
    (
        "cart-abandoner-today",
        "Left something in the cart today, ordered nothing today, and has been away for an hour",
        {"all": ["carted_1d >= 1", "orders_1d == 0", "since_last_visit >= 1h"]},
    ),
    (
        "fan-without-order",
        "Two favorites or more in 90 days, and never an order that stands",
        {"all": ["favorites_90d >= 2", "orders == 0"]},
    ),
    (
        "sleeping-vip",
        "Of the best buyers by money, or with five orders, and away for 30 days",
        {"all": [{"any": ["m_score >= 4", "orders >= 5"]}, "since_last_visit >= 30d"]},
    ),
)

READY_MADE: Final = Rules(
    RuleSet(0, tuple(Segment(name, says, read(rule)) for name, says, rule in _READY_MADE))
)

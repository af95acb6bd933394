"""Recency, frequency, monetary: quintile scores by published cut points, and the tier they give.

Cut points are computed outside of the stream over all buyers of a shop, and travel with its model. So a score
changes when the customer buys, when a day passes, or when new cut points are published, and every worker
gives the same one.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from msgspec import Struct, field

from streams.domain.facts import Tier

#: The 20, 40, 60 and 80 percent points, ascending; a value equal to one lies below it.
Quintiles = tuple[int, int, int, int]


class Cuts(Struct, frozen=True):
    """Where a shop's buyers are cut into fifths.

    recency: days since the last purchase day. frequency: purchase days.
    monetary: net revenue by currency. unit_price: mean price of one piece by currency. Money is in
    ten-thousandths; a currency without cut points gives no score.
    """

    recency: Quintiles
    frequency: Quintiles
    monetary: dict[str, Quintiles] = field(default_factory=dict)
    unit_price: dict[str, Quintiles] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cuts in (self.recency, self.frequency, *self.monetary.values(), *self.unit_price.values()):
            if list(cuts) != sorted(cuts):
                raise ValueError(f"cut points must ascend: {cuts}")


#: By R (first row: 1) and by FM, the mean of F and M rounded down (first column: 1). After the groups that
#: Shopify documents (CustomerRfmGroup of its GraphQL Admin API); its eleventh, prospects, is a stage here.
TIERS: Final[tuple[tuple[Tier, ...], ...]] = (
    ("dormant", "dormant", "almost_lost", "previously_loyal", "previously_loyal"),
    ("almost_lost", "almost_lost", "at_risk", "at_risk", "previously_loyal"),
    ("promising", "promising", "needs_attention", "loyal", "loyal"),
    ("promising", "promising", "active", "loyal", "loyal"),
    ("new", "new", "active", "champion", "champion"),
)


def score(value: int, cuts: Quintiles) -> int:
    """1 to 5, more being better."""
    return 1 + bisect_left(cuts, value)


def recency_score(days: int, cuts: Quintiles) -> int:
    """1 to 5, fewer days being better."""
    return 5 - bisect_left(cuts, days)


def next_recency_change(days: int, cuts: Quintiles) -> int | None:
    """The recency in days at which the score falls next; None if it is the lowest."""
    at = bisect_left(cuts, days)
    return cuts[at] + 1 if at < len(cuts) else None


def tier(r: int, f: int, m: int | None) -> Tier:
    """The tier of a buyer; where the currency has no cut points, frequency stands in for money."""
    return TIERS[r - 1][(f + (f if m is None else m)) // 2 - 1]

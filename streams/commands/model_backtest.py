"""The model held against a deployment's own orders. Imports scipy: only the command that needs it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from streams.adapters.buyer_statistics import BuyerStatistics
from streams.adapters.clickhouse import StoreError
from streams.domain.backtest import Judged, for_each, lead_at_the_cut, recency_rule, score
from streams.domain.comeback import Comeback
from streams.domain.days import date_of
from streams.domain.shop_fit import Watched, learn, lesson_days

RULE: Final = 90
"""Days of silence of the fixed rule that leads are told over."""

_MOST_CUTS: Final = 3


def backtest(
    statistics: BuyerStatistics,
    only: str | None,
    cuts: Sequence[int],
    within: int,
    threshold: float,
) -> list[dict[str, Any]]:
    """At each cut: fit to what was known by its end, foretell ``within`` days, compare with what came.

    Without ``cuts``, the last days that leave the span to be watched. Raises StoreError.
    """
    reach = statistics.order_days()
    if reach is None:
        raise StoreError("there are no raw orders to test on; store them with EBBTIDE_STORE_EVENTS=1")
    first, last = reach
    if cuts:
        for cut in cuts:
            if cut + within > last or lesson_days(within, cut - first) is None:
                raise StoreError(
                    f"{date_of(cut)} is no day to test at: orders reach from {date_of(first)} to"
                    f" {date_of(last)}, and there must be enough to learn from before it and {within} days"
                    " after it"
                )
    else:
        cuts = [last - within * n for n in range(_MOST_CUTS, 0, -1)]
        cuts = [cut for cut in cuts if lesson_days(within, cut - first) is not None]
        if not cuts:
            raise StoreError(
                f"orders reach from {date_of(first)} to {date_of(last)}, too short to test {within} days"
                " ahead; name a shorter --within"
            )
    return [_at(statistics, only, cut, within, threshold, first) for cut in cuts]


def _at(
    statistics: BuyerStatistics, only: str | None, cut: int, within: int, threshold: float, first: int
) -> dict[str, Any]:
    outcome = statistics.watched(cut, within)
    if only is not None and only not in outcome:
        raise StoreError(f"shop {only!r} had no buyer on {date_of(cut)}")
    days = lesson_days(within, cut - first)
    assert days is not None, "the caller has seen to it"
    lesson = statistics.watched(cut - days, days)
    _, learnt = learn({shop: seen.buyers for shop, seen in outcome.items()}, lesson, within, only=only)
    parts = [
        Judged(found.comeback or Comeback(found.parameters, float(within)), outcome[shop])
        for shop, found in learnt.items()
    ]
    seen = Watched.joined([part.seen for part in parts])
    said = {"ebbtide": np.concatenate([for_each(part.seen.buyers, part.comeback.p) for part in parts])}
    taught = [lesson[shop] for shop in learnt if shop in lesson] or list(lesson.values())
    if taught:
        said["recency rule"] = recency_rule(Watched.joined(taught), seen.buyers, within)
    bases = [found.basis for found in learnt.values()]
    return {
        "cut": date_of(cut).isoformat(),
        "learnt_from": date_of(cut - days).isoformat(),
        "within_days": within,
        "threshold": threshold,
        "shops": {basis: bases.count(basis) for basis in ("own", "pooled", "personal")},
        "buyers": seen.buyers.total,
        "returned": round(float(seen.returned.sum() / seen.buyers.count.sum()), 4),
        "predictors": {name: score(p, seen, [threshold]) for name, p in said.items()},
        "lead": {"rule_days": RULE, **lead_at_the_cut(parts, RULE, threshold)},
    }

"""How much earlier than after a fixed number of days of silence the model flags who is lost.

The model flags as the stream does: overdue by their rhythm, and a return less likely than the threshold. Two
readings. *At the cut*: of the buyers known then; lead is told of the lost whom the rule flags. *Silences*: of
those that begin after the cut each is flagged when it has grown enough, and the flag is right if the buyer
stays away for the span after it. What has begun when the model is fitted is no part of the second, so CDNOW's
one-time buyers, who all came in its first three months, are in the first alone. Each is read at the threshold
whose flags are as precise as the rule's, and at the one the stream has by default.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.backtest import MIN_FLAGS, Judged, lead_at_the_cut, medians, waits
from streams.domain.lapse_fit import Floats
from streams.domain.shop_fit import Watched
from tests.benchmarks.lapse_predictors import Ours, Task

Flags = NDArray[np.bool_]

RULES: Final = (90, 365)  # days of silence
COARSE: Final = np.arange(0.95, 0.0, -0.05)  # thresholds tried for equal precision, then refined
DEFAULT: Final = 0.5  # of the stream's policy


def leads(task: Task, model: Ours, seen: Watched) -> list[dict[str, Any]]:
    """Both readings for every rule."""
    found = []
    for rule in RULES:
        at_the_cut = lead_at_the_cut([Judged(model.comeback, seen)], rule, DEFAULT)
        found.append({"reading": "at the cut", "rule": rule} | at_the_cut)
        found.append({"reading": "silences", "rule": rule} | of_silences(task, model, rule))
    return found


def of_silences(task: Task, model: Ours, rule: int) -> dict[str, Any]:
    """Of the silences that begin after the cut and early enough to see the rule's flag judged."""
    buyer, day = task.purchases.buyer, task.purchases.day
    begins = np.flatnonzero(np.r_[True, buyer[1:] != buyer[:-1]])
    first = np.repeat(begins, np.diff(np.r_[begins, len(buyer)]))
    gap = np.where(np.r_[buyer[1:] == buyer[:-1], False], np.r_[day[1:], 0] - day, np.inf)
    end = task.purchases.last_day - task.within
    ours = (day > task.cut) & (day + rule <= end)
    x, t_x = (np.arange(len(buyer)) - first)[ours].astype(float), (day - day[first])[ours].astype(float)
    gap, left = gap[ours], (end - day)[ours]

    def judged(wait: Floats) -> tuple[Flags, Flags]:
        fires = (gap > wait) & (wait <= left)
        return fires, fires & (gap > wait + task.within)

    def precision(threshold: float) -> float:
        fires, right = judged(waits(model.comeback, x, t_x, threshold))
        return float(right.sum() / fires.sum()) if fires.sum() >= MIN_FLAGS else 0.0

    fires, right = judged(np.full(len(x), float(rule)))
    if fires.sum() < MIN_FLAGS:
        return {"why_not": f"the rule fires {int(fires.sum())} times where its flags can be judged"}
    wanted = float(right.sum() / fires.sum())

    def told(threshold: float) -> dict[str, Any]:
        wait = waits(model.comeback, x, t_x, threshold)
        own, own_right = judged(wait)
        return {
            "threshold": round(threshold, 4),
            "flags": int(own.sum()),
            "precision": round(float(own_right.sum() / own.sum()), 4) if own.any() else None,
        } | medians(rule - wait[right], x[right], np.ones(int(right.sum())))

    equal = next((float(at) for at in COARSE if precision(float(at)) >= wanted), None)
    if equal is not None:
        finer = (float(at) for at in np.arange(equal + 0.045, equal, -0.005) if at < 1)
        equal = next((at for at in finer if precision(at) >= wanted), equal)
    return {
        "rule_flags": int(fires.sum()),
        "rule_precision": round(wanted, 4),
        "one_time_share": round(float((x[right] == 0).mean()), 4),
        "equal_precision": told(equal) if equal is not None else None,
        "default": told(DEFAULT),
    }


def line(lead: dict[str, Any]) -> str:
    """Two lines for the eye."""
    what = f"  {lead['rule']}-day rule, {lead['reading']}"
    if "why_not" in lead:
        return f"{what}: not measured, {lead['why_not']}"
    lines = [f"{what}: precision {lead['rule_precision']:.3f}; {lead['one_time_share']:.0%} one-time buyers"]
    for name in ("equal_precision", "default"):
        told = lead[name]
        if told is None:
            lines.append("    no threshold is as precise as the rule")
        elif told["precision"] is not None:
            lines.append(
                f"    at {told['threshold']:.3f} precision {told['precision']:.3f}: {told['lead']} days"
                f" earlier in the median (one-time {told['lead_one_time']}, repeat {told['lead_repeat']})"
            )
    return "\n".join(lines)

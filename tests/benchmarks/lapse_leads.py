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

from tests.benchmarks.lapse_predictors import Floats, Ours, Task
from tests.domain.purchases import Histories

Flags = NDArray[np.bool_]

RULES: Final = (90, 365)  # days of silence
MIN_FLAGS: Final = 50  # fewer say nothing about precision
COARSE: Final = np.arange(0.95, 0.0, -0.05)  # thresholds tried for equal precision, then refined
DEFAULT: Final = 0.5  # of the stream's policy
NEVER: Final = 1e5  # days


def leads(task: Task, model: Ours, known: Histories, came: Flags) -> list[dict[str, Any]]:
    """Both readings for every rule."""
    found = []
    for rule in RULES:
        found.append({"reading": "at the cut", "rule": rule} | at_the_cut(model, known, came, rule))
        found.append({"reading": "silences", "rule": rule} | of_silences(task, model, rule))
    return found


def at_the_cut(model: Ours, known: Histories, came: Flags, rule: int) -> dict[str, Any]:
    """Of the buyers known at the cut."""
    silence = known.T - known.t_x
    by_rule = silence > rule
    if by_rule.sum() < MIN_FLAGS:
        return {"why_not": f"the rule flags {int(by_rule.sum())} buyers"}
    said = model.calibrated(known)
    overdue = silence >= waits(model, known.x, known.t_x, 1 - 1e-9)
    lost = by_rule & ~came

    def told(threshold: float) -> dict[str, Any]:
        own = overdue & (said <= threshold)
        lead = rule - waits(model, known.x[lost], known.t_x[lost], threshold)
        return {
            "threshold": round(threshold, 4),
            "flags": int(own.sum()),
            "precision": round(float((~came[own]).mean()), 4) if own.any() else None,
            "recall": round(float((own & ~came).sum() / (~came).sum()), 4),
        } | medians(lead, known.x[lost])

    wanted = float((~came[by_rule]).mean())
    order = np.flatnonzero(overdue)[np.argsort(said[overdue], kind="stable")]
    precise = np.cumsum(~came[order]) / np.arange(1, len(order) + 1)
    # Equal answers are flagged together, and a handful of flags is precise by luck.
    whole = np.r_[said[order][1:] != said[order][:-1], True]
    enough = np.flatnonzero(whole & (precise >= wanted) & (np.arange(len(order)) >= MIN_FLAGS))
    return {
        "rule_flags": int(by_rule.sum()),
        "rule_precision": round(wanted, 4),
        "rule_recall": round(float(lost.sum() / (~came).sum()), 4),
        "one_time_share": round(float((known.x[lost] == 0).mean()), 4),
        "equal_precision": told(float(said[order[enough[-1]]])) if len(enough) else None,
        "default": told(DEFAULT),
    }


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
        fires, right = judged(waits(model, x, t_x, threshold))
        return float(right.sum() / fires.sum()) if fires.sum() >= MIN_FLAGS else 0.0

    fires, right = judged(np.full(len(x), float(rule)))
    if fires.sum() < MIN_FLAGS:
        return {"why_not": f"the rule fires {int(fires.sum())} times where its flags can be judged"}
    wanted = float(right.sum() / fires.sum())

    def told(threshold: float) -> dict[str, Any]:
        wait = waits(model, x, t_x, threshold)
        own, own_right = judged(wait)
        return {
            "threshold": round(threshold, 4),
            "flags": int(own.sum()),
            "precision": round(float(own_right.sum() / own.sum()), 4) if own.any() else None,
        } | medians(rule - wait[right], x[right])

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


def medians(lead: Floats, x: Floats) -> dict[str, float | None]:
    """Of all, of one-time and of repeat buyers; None of nobody. Who is never flagged counts as the latest."""
    parts = {"lead": lead, "lead_one_time": lead[x == 0], "lead_repeat": lead[x > 0]}
    return {name: round(float(np.median(days)), 1) if len(days) else None for name, days in parts.items()}


def waits(model: Ours, x: Floats, t_x: Floats, threshold: float) -> Floats:
    """Days of silence after which the model flags each."""
    different, of = np.unique(np.column_stack([x, t_x]), axis=0, return_inverse=True)
    found = np.full(len(different), NEVER)
    for i, (n, last) in enumerate(different.tolist()):
        at = model.comeback.lapsing_at(int(n), last, threshold)
        if at is not None:
            found[i] = min(at - last, NEVER)
    return found[of.ravel()]


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

"""Was it right? Probabilities of a return, told at a day, against who did return after it.

Of ``Watched`` groups of buyers: the same code scores the bench's data sets and a deployment's own orders.
Pure, but with numpy, as ``lapse_fit``: the stream's workers never import it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.comeback import Comeback
from streams.domain.lapse_fit import Buyers, Floats
from streams.domain.shop_fit import Watched

MIN_FLAGS: Final = 50
"""Fewer flags say nothing about precision."""

NEVER: Final = 1e5
"""Days of silence that stand for a buyer who is never flagged: the latest of all."""

_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Buyers with what is said of them: those of one shop, or of several under one model."""

    comeback: Comeback
    seen: Watched


def for_each(buyers: Buyers, question: Callable[[int, float, float], float]) -> Floats:
    """The answer for each group, asked once of each different history."""
    rows = np.column_stack([buyers.x, buyers.t_x, buyers.T])
    different, of = np.unique(rows, axis=0, return_inverse=True)
    answers = np.array([question(int(x), t_x, T) for x, t_x, T in different.tolist()])
    return answers[of.ravel()]


def score(said: Floats, seen: Watched, thresholds: Sequence[float]) -> dict[str, Any]:
    """How good these probabilities of a return, one a group, were; flagged is who is below a threshold."""
    count, came, stayed = seen.buyers.count, seen.returned, seen.stayed
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    of_bin = [bins == i for i in range(_BINS)]
    area = auc(said, seen)
    return {
        "auc": None if area is None else round(area, 4),
        "brier": round(float((came @ (1 - said) ** 2 + stayed @ said**2) / count.sum()), 4),
        "flags": {str(at): flags(said < at, seen) for at in thresholds},
        "reliability": [
            {
                "buyers": int(count[here].sum()),
                "said": round(float(said[here] @ count[here] / count[here].sum()), 4),
                "returned": round(float(came[here].sum() / count[here].sum()), 4),
            }
            for here in of_bin
            if here.any()
        ],
    }


def flags(flagged: NDArray[np.bool_], seen: Watched) -> dict[str, Any]:
    """How many buyers, and which share of them and of all who stayed away stayed away. Shares of nobody are
    None."""
    buyers, right, lost = seen.buyers.count[flagged].sum(), seen.stayed[flagged].sum(), seen.stayed.sum()
    return {
        "flagged": int(buyers),
        "precision": round(float(right / buyers), 4) if buyers else None,
        "recall": round(float(right / lost), 4) if lost else None,
    }


def auc(said: Floats, seen: Watched) -> float | None:
    """P(who returned was said likelier to than who did not); ties count half. None if either is nobody."""
    _, of = np.unique(said, return_inverse=True)
    came, stayed = np.bincount(of, weights=seen.returned), np.bincount(of, weights=seen.stayed)
    pairs = came.sum() * stayed.sum()
    return float(came @ (np.cumsum(stayed) - stayed / 2) / pairs) if pairs else None


def recency_rule(lesson: Watched, known: Buyers, within: int) -> Floats:
    """What to beat: days since the last purchase alone, made a probability by a logistic regression on the
    lesson.

    If less than the span could be watched, the same hazard is assumed of the rest of it.
    """
    then = lesson.buyers
    p = _logistic(np.log1p(then.T - then.t_x), lesson)(np.log1p(known.T - known.t_x))
    return 1 - (1 - p) ** (within / lesson.days)


def _logistic(feature: Floats, lesson: Watched) -> Callable[[Floats], Floats]:
    """Newton's method; two coefficients."""
    columns = np.column_stack([np.ones(len(feature)), feature])
    count, came = lesson.buyers.count, lesson.returned
    w = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-columns @ w))
        curve = (columns * (count * p * (1 - p))[:, None]).T @ columns
        step = np.linalg.solve(curve + 1e-6 * np.eye(2), columns.T @ (came - count * p))
        w += step
        if np.abs(step).max() < 1e-10:
            break
    return lambda other: 1 / (1 + np.exp(-(w[0] + w[1] * other)))


def lead_at_the_cut(parts: Sequence[Judged], rule: int, default: float) -> dict[str, Any]:
    """How much earlier than after ``rule`` days of silence the model flags who is lost.

    Of the buyers known at the cut; it flags who is overdue by their rhythm and less likely to return than
    the threshold. Lead is told of the lost whom the rule flags, at the threshold whose flags are as precise
    as the rule's, and at the ``default`` one.
    """
    seen = Watched.joined([part.seen for part in parts])
    known, count, stayed = seen.buyers, seen.buyers.count, seen.stayed
    silence = known.T - known.t_x
    by_rule = silence > rule
    if count[by_rule].sum() < MIN_FLAGS:
        return {"why_not": f"the rule flags {int(count[by_rule].sum())} buyers"}
    said = np.concatenate([for_each(part.seen.buyers, part.comeback.p) for part in parts])
    overdue = silence >= _waits(parts, np.ones(len(silence), dtype=bool), 1 - 1e-9)
    lost = by_rule & (stayed > 0)

    def told(threshold: float) -> dict[str, Any]:
        own = flags(overdue & (said <= threshold), seen)
        lead = rule - _waits(parts, lost, threshold)
        return {
            "threshold": round(threshold, 4),
            "flags": own["flagged"],
            "precision": own["precision"],
            "recall": own["recall"],
        } | medians(lead, known.x[lost], stayed[lost])

    wanted = float(stayed[by_rule].sum() / count[by_rule].sum())
    order = np.flatnonzero(overdue)[np.argsort(said[overdue], kind="stable")]
    flagged = np.cumsum(count[order])
    precise = np.cumsum(stayed[order]) / flagged
    # Equal answers are flagged together, and a handful of flags is precise by luck.
    whole = np.r_[said[order][1:] != said[order][:-1], True] if len(order) else np.zeros(0, dtype=bool)
    fit = np.flatnonzero(whole & (precise >= wanted) & (flagged > MIN_FLAGS))
    one_time = stayed[lost & (known.x == 0)].sum() / max(stayed[lost].sum(), 1.0)
    return {
        "rule_flags": int(count[by_rule].sum()),
        "rule_precision": round(wanted, 4),
        "rule_recall": round(float(stayed[lost].sum() / max(stayed.sum(), 1.0)), 4),
        "one_time_share": round(float(one_time), 4),
        "equal_precision": told(float(said[order[fit[-1]]])) if len(fit) else None,
        "default": told(default),
    }


def medians(lead: Floats, x: Floats, count: Floats) -> dict[str, float | None]:
    """Of all, of one-time and of repeat buyers; None of nobody. Who is never flagged counts as the latest."""
    each, of = np.repeat(lead, count.astype(int)), np.repeat(x, count.astype(int))
    parts = {"lead": each, "lead_one_time": each[of == 0], "lead_repeat": each[of > 0]}
    return {name: round(float(np.median(days)), 1) if len(days) else None for name, days in parts.items()}


def waits(comeback: Comeback, x: Floats, t_x: Floats, threshold: float) -> Floats:
    """Days of silence after which the model flags each."""
    different, of = np.unique(np.column_stack([x, t_x]), axis=0, return_inverse=True)
    found = np.full(len(different), NEVER)
    for i, (n, last) in enumerate(different.tolist()):
        at = comeback.lapsing_at(int(n), last, threshold)
        if at is not None:
            found[i] = min(at - last, NEVER)
    return found[of.ravel()]


def _waits(parts: Sequence[Judged], which: NDArray[np.bool_], threshold: float) -> Floats:
    found, start = [], 0
    for part in parts:
        buyers = part.seen.buyers
        here = which[start : start + len(buyers.x)]
        found.append(waits(part.comeback, buyers.x[here], buyers.t_x[here], threshold))
        start += len(buyers.x)
    return np.concatenate(found)

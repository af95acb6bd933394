"""A series that somebody has kept, judged as if it were watched: which alerts there would have been.

Each row is a reading at its own minute, whatever the step. Of a series of values alone the value is what was
lost of a number that stays the same, half as much again as the greatest value; how much it wavers, the series
itself shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from statistics import median
from typing import Final, NamedTuple

from streams.domain import spike
from streams.domain.alert_facts import Signal
from streams.domain.policy import MINUTE
from streams.domain.series import slot_of
from streams.domain.spike import Memory, SpikeRule, Standing
from streams.domain.tally import OPEN
from streams.domain.windows import Reading

#: Values are taken to be so large a part of what there is, at the most.
_MOST: Final = 2 / 3
_LEAST_CLOSED: Final = 20
#: Values that are no counts are made ones of this mean: the series itself then says how much it wavers.
_MEAN: Final = 10_000
_DAY: Final = 24 * 60 * MINUTE


class Row(NamedTuple):
    """One reading at ``at`` (ms)."""

    at: int
    closed: int
    lost: int
    carts: int = 0
    orders: int = 0


class Alarm(NamedTuple):
    """An alert there would have been; times in ms. over: None where it stood at the end."""

    signal: Signal
    began: int
    fired: int
    over: int | None
    observed: float
    expected: float


class Score(NamedTuple):
    """Against labels: alerts that touch something labelled, labelled stretches that an alert touches, and
    the median time (ms) from the beginning of one to its first alert; None where there is nothing to
    divide."""

    precision: float | None
    recall: float | None
    delay: float | None


def of_values(values: Sequence[tuple[int, float]]) -> list[Row]:
    """Rows of (ms, value) pairs; ValueError for a value below zero."""
    if any(value < 0 for _, value in values):
        raise ValueError("a value is below zero; only counts and amounts can be judged")
    if not all(float(value).is_integer() for _, value in values):
        mean = sum(value for _, value in values) / len(values)
        values = [(at, round(value * _MEAN / mean)) for at, value in values]
    closed = max(_LEAST_CLOSED, ceil(max((value for _, value in values), default=0) / _MOST))
    return [Row(at, closed, int(value)) for at, value in values]


def backtest(
    rows: Sequence[Row],
    zone: str,
    rule: SpikeRule,
    learn_days: float = 7.0,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Alarm]:
    """What would have fired, by time. ``rows``: by time, a minute at most once; for the first ``learn_days``
    nothing is judged. ``progress`` is told how many rows are done."""
    memory = Memory()
    open_: list[Reading] = []
    slots: list[int] = []
    standings: dict[Signal, Standing] = {}
    standing: dict[Signal, Alarm] = {}
    alarms: list[Alarm] = []
    judged_from = rows[0].at + learn_days * _DAY if rows else 0
    for number, row in enumerate(rows):
        minute = row.at // MINUTE
        open_.append(Reading(minute, row.closed, row.lost, row.carts, row.orders))
        slots.append(slot_of(minute, zone))
        while open_[0].minute <= minute - OPEN:
            spike.remember(memory, open_.pop(0), slots.pop(0), None, rule)
        if row.at < judged_from:
            continue
        found = {each.signal: each for each in spike.judge(memory, open_, slots, None, rule).out}
        for signal in sorted({*standings, *found}):
            excess = found.get(signal)
            now, step = spike.advance(standings.get(signal), excess, minute, rule)
            if now is None:
                standings.pop(signal, None)
                if signal in standing:
                    alarms.append(standing.pop(signal)._replace(over=row.at))
            else:
                standings[signal] = now
                if step.changed and excess is not None:
                    standing[signal] = Alarm(
                        signal, now.began * MINUTE, row.at, None, excess.observed, excess.expected
                    )
        progress(number + 1)
    return sorted([*alarms, *standing.values()], key=lambda alarm: (alarm.fired, alarm.signal))


def score(alarms: Sequence[Alarm], labels: Sequence[tuple[int, bool]], since: int) -> Score:
    """Hold ``alarms`` against what is labelled, (ms, whether it is anomalous) by time, from ``since`` on."""
    stretches: list[tuple[int, int]] = []
    before = False
    for at, is_anomalous in labels:
        if at >= since and is_anomalous:
            stretches = [*stretches[:-1], (stretches[-1][0], at)] if before else [*stretches, (at, at)]
        before = at >= since and is_anomalous
    last = labels[-1][0] if labels else 0
    spans = [(alarm.fired, last if alarm.over is None else alarm.over) for alarm in alarms]
    right = sum(any(_touch(span, stretch) for stretch in stretches) for span in spans)
    firsts = [
        min((max(0, f - a) for f, o in spans if _touch((f, o), (a, b))), default=None) for a, b in stretches
    ]
    found = [first for first in firsts if first is not None]
    return Score(
        right / len(spans) if spans else None,
        len(found) / len(stretches) if stretches else None,
        median(found) if found else None,
    )


def _touch(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]

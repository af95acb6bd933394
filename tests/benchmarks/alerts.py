"""Spikes in loss, found and falsely found, beside what others find them by: ``make bench-alerts``.

Shops learn for three weeks; in the four that follow nothing is planted, and every alert is a false one. Then
in the first of these weeks spikes are planted, each in a copy of what is to come. Found is what fires after
the spike began and no later than ten minutes after the first session of it that is lost has closed; a broken
checkout no later than five. ``best possible`` knows the true rates and the size of what is planted, and is
set to as many false alarms as ours has: what it misses nobody finds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np

from streams.domain.spike import Memory, SpikeRule, judge, remember
from streams.domain.tally import OPEN
from streams.domain.windows import Reading
from tests.benchmarks.alerts_rivals import RIVALS, best_possible, firings
from tests.benchmarks.alerts_traffic import (
    CLOSES,
    DRIFT,
    KINDS,
    PART,
    WEEK,
    Floats,
    Kind,
    Minutes,
    Shop,
    begin,
    planted,
    seen,
    shops,
)
from tests.benchmarks.machine import describe

LEARN: Final = 3
WATCH: Final = 4
RULE: Final = SpikeRule()
#: That of a channel, of which a shop has many: as ``streams.domain.watched`` has it.
NARROW: Final = SpikeRule(false_alarms=RULE.false_alarms / 20, signals=RULE.signals - {"orders_per_cart"})
RESULTS: Final = Path(__file__).parent / "results" / "alerts.json"
#: Minutes after the first closed lost session by which a spike must be found.
WITHIN: Final[dict[Kind, int]] = {kind: 5 if kind == "checkout" else 10 for kind in KINDS}
CLASSES: Final = ((10, 100), (100, 300), (300, 1000), (1000, 10_000))
LIMITS: Final = np.linspace(0.5, 2.5, 81)
_SEED: Final = 20_261_126


class Found(NamedTuple):
    """One planted spike. delay: minutes from the first closed lost session until it fired, None if it was not
    in time to matter; by_limit: of each detector, the highest limit at which it is found in time."""

    kind: Kind
    per_hour: float
    delay: float | None
    in_time: bool
    by_limit: dict[str, float]


class Outcome(NamedTuple):
    """One shop. alarms: false ones in four weeks, of ours at each limit, and of each rival at each of its."""

    per_hour: float
    alarms: list[int]
    rivals: dict[str, list[int]]
    best: list[int]
    found: list[Found]
    judged: int
    seconds: float


class Watcher:
    """A series as the shops agent watches it."""

    def __init__(self, rule: SpikeRule, memory: bytes | None = None) -> None:
        self.rule = rule
        self.memory = Memory() if memory is None else msgspec.msgpack.decode(memory, type=Memory)
        self._open: list[Reading] = []
        self._slots: list[int] = []

    def take(self, minutes: Minutes, at: int, whole: bool = True) -> None:
        """One minute more."""
        counts = (int(minutes.carts[at]), int(minutes.orders[at])) if whole else (0, 0)
        self._open.append(Reading(at, int(minutes.closed[at]), int(minutes.lost[at]), *counts))
        self._slots.append(at % WEEK)
        if len(self._open) > OPEN:
            remember(self.memory, self._open.pop(0), self._slots.pop(0), None, self.rule)

    def score(self) -> float:
        """How far the last minute is out of its band: from 1 on it is."""
        found = judge(self.memory, self._open, self._slots, None, self.rule)
        return max((excess.score for excess in found.out), default=0.0)


BEST_LIMITS: Final = np.linspace(2, 40, 77)


def watch(shop: Shop, spikes: int) -> Outcome:
    """Watch one shop, and plant so many spikes of each kind."""
    rng, begun, rate = begin(shop, LEARN + WATCH)
    usual = seen(rng, begun, rate)
    learnt, end = LEARN * WEEK, (LEARN + WATCH) * WEEK
    watcher = Watcher(RULE)
    for at in range(learnt):
        watcher.take(usual, at)
    memory = msgspec.msgpack.encode(watcher.memory)
    scores = np.zeros(end)
    began = time.process_time()
    for at in range(learnt, end):
        watcher.take(usual, at)
        scores[at] = watcher.score()
    took = time.process_time() - began
    alarms = [len(firings(scores, limit)) for limit in LIMITS]
    rivals = {}
    for name, (score_of, limits, _) in RIVALS.items():
        of = score_of(usual, learnt)
        of[:learnt] = 0
        rivals[name] = [len(firings(of, limit)) for limit in limits]
    best = best_possible(usual, rate, 0.2)
    best[:learnt] = 0
    found = list(_plant(shop, rng, begun, rate, memory, learnt, spikes))
    best_alarms = [len(firings(best, limit)) for limit in BEST_LIMITS]
    return Outcome(shop.per_hour, alarms, rivals, best_alarms, found, end - learnt, took)


def _plant(
    shop: Shop,
    rng: np.random.Generator,
    begun: np.ndarray,
    rate: Floats,
    memory: bytes,
    learnt: int,
    spikes: int,
) -> Iterator[Found]:
    for kind in KINDS:
        lasts = DRIFT + 600 if kind == "drift" else 120
        for _ in range(spikes):
            onset = learnt + int(rng.integers(OPEN + 60, WEEK - lasts - 60))
            if kind == "channel":
                yield _channel(shop, rng, rate, onset)
                continue
            minutes = planted(kind, rng, begun, rate, onset)
            begins, ends = onset - OPEN - 60, onset + lasts
            watcher = Watcher(RULE, memory)
            scores = np.zeros(ends)
            for at in range(begins, ends):
                watcher.take(minutes, at)
                if at >= onset - 30:
                    scores[at] = watcher.score()
            yield _found(kind, minutes, rate, onset, scores, learnt)


def _found(kind: Kind, minutes: Minutes, rate: Floats, onset: int, scores: Floats, learnt: int) -> Found:
    first = onset + CLOSES
    by = first + (DRIFT if kind == "drift" else WITHIN[kind])
    fired = [at for at in firings(scores, 1.0) if at >= onset]
    delay = fired[0] - first if fired else None
    per_hour = float(minutes.closed[first - 60 : first].sum())
    by_limit = {"Ebbtide": _highest(scores, onset, by)}
    if kind in ("loss +20", "checkout"):
        for name, (score_of, _, _) in RIVALS.items():
            by_limit[name] = _highest(score_of(minutes, learnt)[: by + 1], onset, by)
    if kind.startswith("loss"):
        size = int(kind.removeprefix("loss +")) / 100
        by_limit["best possible"] = _highest(best_possible(minutes, rate, size)[: by + 1], onset, by)
    return Found(kind, per_hour, delay, bool(fired) and fired[0] <= by, by_limit)


def _highest(scores: Floats, onset: int, by: int) -> float:
    """The highest limit at which two minutes in a row are out between ``onset`` and ``by``."""
    window = scores[onset : by + 1]
    return float(np.max(np.minimum(window[1:], window[:-1]))) if len(window) > 1 else 0.0


def _channel(shop: Shop, rng: np.random.Generator, rate: Floats, onset: int) -> Found:
    """A channel's own series: a part of the traffic, which loses 40 points more."""
    part = Shop(shop.per_hour * PART, shop.loss, shop.rho, int(rng.integers(2**31)))
    own_rng, begun, own_rate = begin(part, LEARN + 1)
    more = np.zeros(len(begun))
    more[onset : onset + 240] = 0.4
    minutes = seen(own_rng, begun, np.clip(own_rate + more, 0, 0.99))
    watcher = Watcher(
        SpikeRule(false_alarms=RULE.false_alarms / 20, signals=RULE.signals - {"orders_per_cart"})
    )
    ends = onset + 120
    scores = np.zeros(ends)
    for at in range(onset - 2 * WEEK, ends):
        watcher.take(minutes, at, whole=False)
        if at >= onset - 30:
            scores[at] = watcher.score()
    first = onset + CLOSES
    fired = [at for at in firings(scores, 1.0) if at >= onset]
    per_hour = float(minutes.closed[first - 60 : first].sum())
    delay = fired[0] - first if fired else None
    in_time = bool(fired) and fired[0] <= first + WITHIN["channel"]
    return Found("channel", per_hour, delay, in_time, {"Ebbtide": _highest(scores, onset, first + 10)})


def _watch(job: tuple[Shop, int]) -> Outcome:
    return watch(*job)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shops", type=int, default=250, help="each is watched for four weeks")
    parser.add_argument("--spikes", type=int, default=2, help="of each kind and shop")
    parser.add_argument("--seed", type=int, default=_SEED)
    args = parser.parse_args()
    jobs = [(shop, args.spikes) for shop in shops(args.shops, args.seed)]
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for outcome in pool.map(_watch, jobs, chunksize=2):
            outcomes.append(outcome)
            if len(outcomes) % 10 == 0:
                print(
                    f"{len(outcomes)} of {len(jobs)} shops, {time.monotonic() - began:.0f} s", file=sys.stderr
                )
    lines, figures = report(outcomes)
    print("\n".join(lines))
    RESULTS.write_text(
        json.dumps(
            {"machine": describe(("numpy", "scipy", "msgspec")), "seed": args.seed, **figures}, indent=1
        )
        + "\n"
    )
    return 0


def report(outcomes: list[Outcome]) -> tuple[list[str], dict[str, object]]:
    """False alarms, what was found of what was planted, and the areas: to print, and as figures."""
    lines: list[str] = []
    figures: dict[str, object] = {}
    at_default = int(np.argmin(np.abs(LIMITS - 1.0)))
    alarms = np.array([outcome.alarms[at_default] for outcome in outcomes])
    low, high = _interval(alarms)
    worst = int(np.quantile(alarms, 0.95))
    figures["shop_weeks"] = WATCH * len(outcomes)
    figures["false_alarms"] = [round(float(alarms.mean()), 3), low, high]
    lines.append(
        f"{WATCH * len(outcomes):,} shop-weeks: {alarms.mean():.2f} false alarms a shop and four weeks"
        f" (95 % interval {low:.2f} to {high:.2f}; 95 % of shops at most {worst}, the most {alarms.max()})"
    )
    for lowest, highest in CLASSES:
        of = [o.alarms[at_default] for o in outcomes if lowest <= o.per_hour < highest]
        if of:
            lines.append(f"  {lowest}–{highest} sessions an hour: {np.mean(of):.2f} ({len(of)} shops)")
    cost = sum(o.seconds for o in outcomes) / sum(o.judged for o in outcomes)
    lines.append(f"judging and remembering a minute: {cost * 1e6:.0f} µs")
    figures["judge_us"] = round(cost * 1e6, 1)
    budget = float(alarms.mean())
    best_limit = _limit_for(outcomes, budget)
    lines += [
        "",
        f"{'planted':10}{'sessions/h':>14}{'spikes':>8}{'in time':>9}{'median delay':>14}{'possible':>10}",
    ]
    by_kind: dict[str, list[Found]] = defaultdict(list)
    for found in (found for outcome in outcomes for found in outcome.found):
        by_kind[found.kind].append(found)
    shares: dict[str, dict[str, list[float]]] = {}
    for kind, all_found in by_kind.items():
        for lowest, highest in CLASSES:
            some = [f for f in all_found if lowest <= f.per_hour < highest]
            if not some:
                continue
            share = sum(f.in_time for f in some) / len(some)
            delays = [f.delay for f in some if f.delay is not None]
            middle = f"{median(delays):.0f} min" if delays else "–"
            bound = ""
            if "best possible" in some[0].by_limit:
                reach = sum(f.by_limit["best possible"] >= best_limit for f in some) / len(some)
                bound = f"{reach:.0%}"
            shares.setdefault(kind, {})[f"{lowest}-{highest}"] = [round(share, 3), len(some)]
            lines.append(
                f"{kind:10}{f'{lowest}–{highest}':>14}{len(some):8}{share:9.0%}{middle:>14}{bound:>10}"
            )
    figures["found"] = shares
    lines += ["", *_areas(outcomes, by_kind, figures)]
    return lines, figures


def _interval(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    means = [rng.choice(values, len(values)).mean() for _ in range(1000)]
    return round(float(np.quantile(means, 0.025)), 3), round(float(np.quantile(means, 0.975)), 3)


def _limit_for(outcomes: list[Outcome], budget: float) -> float:
    """The limit at which the best possible test has no more false alarms than ours."""
    means = np.mean([outcome.best for outcome in outcomes], axis=0)
    enough = np.flatnonzero(means <= budget)
    return float(BEST_LIMITS[enough[0]]) if len(enough) else float(BEST_LIMITS[-1])


def _areas(
    outcomes: list[Outcome], by_kind: dict[str, list[Found]], figures: dict[str, object]
) -> Iterable[str]:
    """The area under found against false alarms, up to 1 and to 10 a shop and four weeks."""
    areas: dict[str, dict[str, list[float]]] = {}
    for kind in ("loss +20", "checkout"):
        spikes = [f for f in by_kind[kind] if f.per_hour >= 100]
        yield f"{kind}, shops of 100 sessions an hour or more: area under found against false alarms"
        for name in ("Ebbtide", *RIVALS):
            limits = LIMITS if name == "Ebbtide" else RIVALS[name][1]
            counts = np.mean([o.alarms if name == "Ebbtide" else o.rivals[name] for o in outcomes], axis=0)
            share = np.array([np.mean([f.by_limit[name] >= limit for f in spikes]) for limit in limits])
            found = [_area(counts, share, upto) for upto in (1.0, 10.0)]
            areas.setdefault(kind, {})[name] = [round(value, 3) for value in found]
            usual = ""
            if name != "Ebbtide":
                at = int(np.argmin(np.abs(limits - RIVALS[name][2])))
                usual = f"   at its usual limit {RIVALS[name][2]:g}: {share[at]:.0%} for {counts[at]:.1f}"
            yield f"  {name:18}up to 1: {found[0]:.3f}   up to 10: {found[1]:.3f}{usual}"
    figures["areas"] = areas


def _area(alarms: Floats, share: Floats, upto: float) -> float:
    """Mean share found over false alarms from 0 to ``upto``, at the best limit that keeps to each."""
    grid = np.linspace(0, upto, 101)
    best = [max((s for a, s in zip(alarms, share, strict=True) if a <= most), default=0.0) for most in grid]
    return float(np.mean(best))


if __name__ == "__main__":
    sys.exit(main())

"""Spikes in loss: minutes in which more is lost than is usual for that series at that time of the week.

Evidence is in nats, see ``spike_evidence``; spans of several lengths are looked at in each minute, so that
a jump is found by the span that fits it best (a scan over its onset, which is Lorden's and Siegmund's
generalised likelihood ratio up to the grid). By Chernoff's bound nothing usual has more evidence than e
with a chance above exp(-e), so limits stand at

    h = ln(minutes of four weeks / false alarms allowed in them) + a constant of the signal.

The bound is one of independent minutes; spans overlap, so that the constants may be below 0. They are
measured on simulations of stationary, seasonal, overdispersed traffic with campaigns: of 5 to 5,000
sessions an hour, base losses of 0.3 to 0.97, rho of 0.001 to 0.01, so that all signals together stay
below what is allowed in the mean of shops; a shop that wavers most (rho of 0.01) may exceed it. A nat more or
less moves what is found by a few points, and false alarms by a factor of about two.

* ``loss_rate``: the rate of a span of closed sessions, by itself or with the orders of the half hour whose
  sessions have not closed yet.
* ``orders_per_cart``: orders given active carts, below what is usual.
* ``lost_count``: more lost sessions in an hour than both the profile and the traffic explain.
* ``drift``: Page's CUSUM (Biometrika 41, 1954) of hours for a rate that has moved by the least change, less
  what hours in a row are alike. An hour that stands out by itself is a jump's, not a drift's.

Only losses beyond the usual count, never less; and neither a few sessions nor a small change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from streams.domain.alert_facts import SIGNALS, Signal
from streams.domain.spike_evidence import GAP, SPANS, Measure, Span, change, spans_of, surplus
from streams.domain.spike_memory import Block, Memory, Prior, prior_of, rests_on, take, usual
from streams.domain.spike_wavers import RATE, TRAFFIC, rho_of
from streams.domain.windows import Reading

__all__ = ["Excess", "Judgement", "Memory", "Prior", "SpikeRule", "Standing", "Step", "advance", "judge"]
__all__ += ["prior_of", "remember"]

_FOUR_WEEKS: Final = 28 * 24 * 60
#: Added to the limit of each signal.
_MARGIN: Final[dict[Signal, float]] = {
    "loss_rate": -2.2,
    "orders_per_cart": -2.2,
    "lost_count": -2.0,
    "drift": -1.0,
}
#: Added to it where all of the variance is wavering, whose tail is nobody's to know.
_WAVERING: Final = 5.0
#: However many false alarms are allowed.
_LEAST_LIMIT: Final = 1.0
#: Orders are looked at over spans up to this long, for carts lead them.
_LONGEST_LEAD: Final = 45
#: Closed sessions that corroborate missing orders lie this far up at least, in deviations.
_LEAST_OWN: Final = 1.3
#: Evidence of a count beyond its profile, as a part of the limit of its rate.
_COUNT_PART: Final = 0.5
#: Below this part of its limit a signal that fires is over.
_STAYS: Final = 0.5
#: An hour moves the sum for a drift by no more than this; the sum stops at so many times its limit.
_MOST_A_BLOCK: Final = 3.0
_MOST_CUSUM: Final = 1.5
#: An hour with more evidence than this is a jump's.
_JUMP: Final = 6.0
#: Sessions that the baseline rests on before anything is judged.
_LEARNT: Final = 200.0
_LEARNT_WITH_PRIOR: Final = 100.0
#: Sessions of the span that people are shown.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class SpikeRule:
    """What is held to be a spike. min_sessions, min_carts: in the span. min_change: of the rate, or of its
    complement, as a part of the usual. false_alarms: at most so many per shop in four weeks, of all signals.
    for_minutes: out of its band until it fires; resolve_after: minutes back inside until it is over.
    critical_at: relative change from which on it is critical."""

    name: str = "default"
    signals: frozenset[Signal] = frozenset(SIGNALS)
    min_sessions: int = 12
    min_change: float = 0.15
    min_carts: int = 5
    false_alarms: float = 1.0
    for_minutes: int = 2
    resolve_after: int = 10
    critical_at: float = 0.3


class Excess(NamedTuple):
    """A signal that stands out. began: the first minute of its span; score: evidence by its limit: out of its
    band from 1 on, what is lower only keeps it from being over."""

    signal: Signal
    began: int
    observed: float
    expected: float
    band: float
    score: float


class Judgement(NamedTuple):
    """Of the latest reading; rates of the span judged, None where there was nothing to judge by."""

    observed: float | None
    expected: float | None
    band: float | None
    expected_lost: float | None
    orders_per_cart: float | None
    expected_orders_per_cart: float | None
    band_orders_per_cart: float | None
    out: tuple[Excess, ...]
    learning: bool


def judge(
    memory: Memory, open_: Sequence[Reading], slots: Sequence[int], prior: Prior | None, rule: SpikeRule
) -> Judgement:
    """Judge the last of ``open_``: the readings, by minute, that have not been remembered yet; ``slots``: the
    minute of the shop's week of each."""
    measure = Measure(memory, prior, slots[-1])
    spans = spans_of(memory, prior, open_, slots)
    limit = max(_LEAST_LIMIT, log(_FOUR_WEEKS / rule.false_alarms))
    learning = rests_on(memory) < (_LEARNT if prior is None else _LEARNT_WITH_PRIOR)
    shown = next((s for s in spans if s.closed >= max(rule.min_sessions, _SHOWN)), spans[-1])
    observed = expected = band = per_cart = usual_per_cart = band_cart = None
    if shown.closed:
        observed, expected = shown.lost / shown.closed, shown.expected_lost / shown.closed
        band = _band(shown, measure, limit)
    if shown.carts:
        per_cart, usual_per_cart = shown.orders / shown.carts, shown.usual_orders / shown.carts
        band_cart = _band_orders(shown, measure, limit)
    if learning:
        return Judgement(observed, None, None, None, per_cart, None, None, (), True)
    expected_lost = open_[-1].closed * measure.now.loss
    out = _out(memory, prior, spans, measure, limit, rule)
    return Judgement(observed, expected, band, expected_lost, per_cart, usual_per_cart, band_cart, out, False)


def remember(memory: Memory, reading: Reading, slot: int, prior: Prior | None, rule: SpikeRule) -> None:
    """Take in a minute that leaves the open window, in place, in order; gaps are nothing."""
    hour = take(memory, reading, slot, prior)
    if hour is not None:
        _cumulate(memory, hour, prior, rule)


def _limit(signal: Signal, limit: float, wavering: float) -> float:
    """wavering: the part of the variance that is no chance."""
    return max(_LEAST_LIMIT, limit + _MARGIN[signal] + _WAVERING * wavering)


def _band(span: Span, measure: Measure, limit: float) -> float:
    p = span.expected_lost / span.closed
    effect = measure.effect(span.closed, span.length)
    limit = _limit("loss_rate", limit, 1 - 1 / effect)
    return min(1.0, p + sqrt(2 * limit * effect * p * (1 - p) / span.closed))


def _band_orders(span: Span, measure: Measure, limit: float) -> float:
    mean = span.usual_orders
    effect = measure.effect_orders(mean, span.length)
    limit = _limit("orders_per_cart", limit, 1 - measure.chance(span.length) / effect)
    spread = sqrt(2 * limit * mean * effect)
    return max(0.0, (mean - spread) / span.carts)


def _out(
    memory: Memory,
    prior: Prior | None,
    spans: Sequence[Span],
    measure: Measure,
    limit: float,
    rule: SpikeRule,
) -> tuple[Excess, ...]:
    found: list[Excess] = []
    lead = _lead(spans, measure, rule)
    if lead is not None and "orders_per_cart" in rule.signals:
        root, span = lead
        wavering = 1 - measure.chance(span.length) / measure.effect_orders(span.expected_orders, span.length)
        score = root * root / 2 / _limit("orders_per_cart", limit, wavering)
        if score >= _STAYS:
            expected = span.usual_orders / span.carts
            band = _band_orders(span, measure, limit)
            found.append(
                Excess("orders_per_cart", span.began, span.orders / span.carts, expected, band, score)
            )
    rate = _rate(spans, measure, rule)
    if rate is not None:
        root, span, began = rate
        wavering = 1 - 1 / measure.effect(span.closed, span.length)
        score = root * root / 2 / _limit("loss_rate", limit, wavering)
        observed, expected = span.lost / span.closed, span.expected_lost / span.closed
        if score >= _STAYS and "loss_rate" in rule.signals:
            band = min(observed, _band(span, measure, limit))
            found.append(Excess("loss_rate", began, observed, expected, band, score))
        if "lost_count" in rule.signals:
            found += _count(memory, prior, spans[-1], measure, limit, rule)
    if "drift" in rule.signals and memory.cusum > 0:
        found += _drift(memory, prior, spans[-1], limit, rule)
    return tuple(found)


def _lead(spans: Sequence[Span], measure: Measure, rule: SpikeRule) -> tuple[float, Span] | None:
    """The span in which most orders are missing, given the carts."""
    best = None
    for span in spans:
        if (
            span.carts >= rule.min_carts
            and span.length <= _LONGEST_LEAD
            and span.orders < span.expected_orders * (1 - rule.min_change)
        ):
            root = measure.missing(span)
            if best is None or root > best[0]:
                best = root, span
    return best


def _rate(spans: Sequence[Span], measure: Measure, rule: SpikeRule) -> tuple[float, Span, int] | None:
    """The span in which the rate stands out most, by itself or with orders that are missing since; and the
    minute from which on."""
    best = None
    half_hour = next((span for span in spans if span.length == GAP), None)
    missing = weight = 0.0
    if half_hour is not None and half_hour.carts >= rule.min_carts:
        missing, weight = measure.missing(half_hour), measure.missing_weight(half_hour)
    for span in spans:
        if not span.closed or span.lost <= span.expected_lost:
            continue
        if change(span.lost, span.closed, span.expected_lost) < rule.min_change:
            continue
        root = measure.lost(span)
        if span.closed >= rule.min_sessions and (best is None or root > best[0]):
            best = root, span, span.began
        if missing > 0 and root >= _LEAST_OWN and span.length <= GAP and "orders_per_cart" in rule.signals:
            own = measure.lost_weight(span)
            both = (own * root + weight * missing) / sqrt(own * own + weight * weight)
            if best is None or both > best[0]:
                best = both, span, span.began
    return best


def _count(
    memory: Memory, prior: Prior | None, widest: Span, measure: Measure, limit: float, rule: SpikeRule
) -> list[Excess]:
    """The count of an hour against its profile, and at once its rate against what is usual for such
    traffic."""
    many = widest.usually_lost
    if not widest.lost > many > 0 or widest.closed < rule.min_sessions:
        return []
    if change(widest.lost, widest.closed, widest.expected_lost) < rule.min_change:
        return []
    rho = rho_of(memory.wavers, prior.wavers if prior else None, TRAFFIC, SPANS[-1])
    root = measure.lost(widest)
    own = _limit("lost_count", limit, 0.0)
    by_rate = root * root / 2 / own
    by_count = surplus(widest.lost, many, rho) / (_COUNT_PART * own)
    score = min(by_rate, by_count)
    if score < _STAYS:
        return []
    spread = sqrt(2 * _COUNT_PART * limit * many * (1 + many * rho))
    return [Excess("lost_count", widest.began, widest.lost, many, min(many + spread, widest.lost), score)]


def _cumulate(memory: Memory, hour: Block, prior: Prior | None, rule: SpikeRule) -> None:
    """One more hour for or against a drift."""
    if not hour.closed:
        return
    step = _against(memory, prior, hour.slot, hour.closed, hour.lost, hour.expected_lost, rule)
    before = memory.cusum
    most = _MOST_CUSUM * _limit("drift", log(_FOUR_WEEKS / rule.false_alarms), 0.0)
    memory.cusum = min(most, max(0.0, before + step))
    if memory.cusum and not before:
        memory.drifting = hour.start


def _against(
    memory: Memory,
    prior: Prior | None,
    slot: int,
    closed: int,
    lost: int,
    expected: float,
    rule: SpikeRule,
) -> float:
    """The evidence that so many sessions add: a rate that is up by the least change against the usual one."""
    wavers = rho_of(memory.wavers, prior.wavers if prior else None, RATE, SPANS[-1])
    effect = 1 + (closed - 1) * (wavers + 1 / (usual(memory, prior, slot).weight + 1))
    p = min(max(expected / closed, 1e-3), 1 - 1e-3)
    off = (lost - closed * p) ** 2 / (2 * closed * p * (1 - p) * effect)
    if lost > closed * p and off > _JUMP:
        return 0.0
    up = min(p + rule.min_change * min(p, 1 - p), 1 - 1e-4)
    ratio = lost * log(up / p) + (closed - lost) * log((1 - up) / (1 - p))
    step = ratio / (effect * memory.lasting.effect())
    return max(-_MOST_A_BLOCK, min(_MOST_A_BLOCK, step))


def _drift(memory: Memory, prior: Prior | None, widest: Span, limit: float, rule: SpikeRule) -> list[Excess]:
    if not widest.closed:
        return []
    slot = memory.block.slot
    step = _against(memory, prior, slot, widest.closed, widest.lost, widest.expected_lost, rule)
    score = (memory.cusum + step) / _limit("drift", limit, 0.0)
    if score < _STAYS:
        return []
    observed, p = widest.lost / widest.closed, widest.expected_lost / widest.closed
    return [Excess("drift", memory.drifting, observed, p, min(observed, p * (1 + rule.min_change)), score)]


class Standing(Struct, array_like=True):
    """How long a signal has been out of its band, and how long back inside. began: its first minute."""

    began: int
    out: int = 1
    inside: int = 0
    firing: bool = False


class Step(NamedTuple):
    """What has become of a signal; ``changed``: it fires from now on, or is over; ``began``: as it stands."""

    state: Literal["within", "pending", "firing"]
    changed: bool
    began: int


def advance(
    standing: Standing | None, excess: Excess | None, minute: int, rule: SpikeRule
) -> tuple[Standing | None, Step]:
    """One minute of a signal: pending until it has been out for ``for_minutes`` in a row, firing until it has
    been well inside for ``resolve_after``."""
    score = 0.0 if excess is None else excess.score
    if standing is None:
        if excess is None or score < 1:
            return None, Step("within", False, minute)
        standing = Standing(excess.began)
        fires = rule.for_minutes <= 1
        standing.firing = fires
        return standing, Step("firing" if fires else "pending", fires, standing.began)
    if not standing.firing:
        if excess is None or score < 1:
            return None, Step("within", False, standing.began)
        standing.out += 1
        standing.firing = standing.out >= rule.for_minutes
        return standing, Step("firing" if standing.firing else "pending", standing.firing, standing.began)
    standing.inside = standing.inside + 1 if score < _STAYS else 0
    if standing.inside >= rule.resolve_after:
        return None, Step("within", True, standing.began)
    return standing, Step("firing", False, standing.began)

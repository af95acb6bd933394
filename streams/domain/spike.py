"""Spikes in loss: minutes in which more is lost than is usual for that series at that time of the week.

Evidence is a log-likelihood ratio in nats. Over a trailing span of n closed sessions, L of them lost where
p is usual, it is n KL(L/n || p) / (1 + (n - 1) R): that of a binomial, less its design effect under
overdispersion (Rao and Scott, Biometrics 48, 1992), where R adds what the rate wavers by to what the
estimate of p is unsure of. By Chernoff's bound nothing usual has more evidence than e with a chance above
exp(-e); spans of several lengths are looked at in each minute, so that a jump is found by the span that
fits it best (a scan over its onset, which is Lorden's and Siegmund's generalised likelihood ratio up to the
grid). Limits stand at

    h = ln(minutes of four weeks / false alarms allowed in them) + a constant of the signal,

whose constants are measured on simulations of stationary, seasonal, overdispersed traffic (see the
benchmark).

* ``loss_rate``: the rate of the span. Orders that stay away from active carts are evidence of the same thing
  half an hour before, and add to it.
* ``orders_per_cart``: orders given active carts, below what is usual: of a gamma-Poisson, in minutes.
* ``lost_count``: more lost sessions in an hour than both the profile and the traffic explain.
* ``drift``: Page's CUSUM (Biometrika 41, 1954) of hours for a rate that has moved by the least change.

Only losses beyond the usual count, never less; and neither a few sessions nor a small change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from streams.domain.alert_facts import SIGNALS, Signal
from streams.domain.spike_memory import (
    Block,
    Memory,
    Prior,
    is_learning,
    prior_of,
    rho_of,
    rho_orders_of,
    take,
    usual,
)
from streams.domain.windows import Reading

__all__ = ["Excess", "Judgement", "Memory", "Prior", "SpikeRule", "Standing", "Step", "advance", "judge"]
__all__ += ["prior_of", "remember"]

_FOUR_WEEKS: Final = 28 * 24 * 60
#: Lengths of the spans, in minutes.
SPANS: Final = (3, 5, 8, 12, 20, 30, 45, 60)
#: Added to the limit of each signal.
_MARGIN: Final[dict[Signal, float]] = {
    "loss_rate": -2.5,
    "orders_per_cart": -2.5,
    "lost_count": 1.5,
    "drift": -1.0,
}
#: Two kinds of evidence that are independent exceed h together with a chance of (1 + h) exp(-h).
_LEAST_OWN: Final = 2.0
#: Below this part of its limit a signal that fires is over.
_STAYS: Final = 0.5
#: An hour moves the sum for a drift by no more than this.
_MOST_A_BLOCK: Final = 3.0


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


class _Span(NamedTuple):
    """Sums over a trailing span."""

    began: int
    closed: int
    lost: int
    expected_lost: float
    variance: float
    carts: int
    orders: int
    expected_orders: float
    usually_lost: float


def judge(
    memory: Memory, open_: Sequence[Reading], slots: Sequence[int], prior: Prior | None, rule: SpikeRule
) -> Judgement:
    """Judge the last of ``open_``: the readings, by minute, that have not been remembered yet; ``slots``: the
    minute of the shop's week of each."""
    last, now = open_[-1].minute, usual(memory, prior, slots[-1])
    spans = _spans(memory, open_, slots, prior, last)
    learning = is_learning(memory, prior)
    limit = log(_FOUR_WEEKS / rule.false_alarms)
    unsure = 1 / (now.weight + 1)
    wavers = rho_of(memory, prior) + unsure
    wavers_orders = rho_orders_of(memory, prior) + 1 / (now.weight_carts * now.per_cart + 1)
    shown = _shown(spans, rule)
    observed = expected = band = None
    if shown is not None and shown.closed:
        p = shown.expected_lost / shown.closed
        observed, expected = shown.lost / shown.closed, p
        effect = 1 + (shown.closed - 1) * wavers
        band = min(1.0, p + sqrt(2 * limit * effect * p * (1 - p) / shown.closed))
    per_cart = usual_per_cart = band_cart = None
    if shown is not None and shown.carts:
        per_cart, usual_per_cart = shown.orders / shown.carts, shown.expected_orders / shown.carts
        effect = 1 + shown.expected_orders * wavers_orders
        below = shown.expected_orders - sqrt(2 * limit * effect * shown.expected_orders)
        band_cart = max(0.0, below / shown.carts)
    out: tuple[Excess, ...] = ()
    if not learning:
        out = _out(memory, spans, wavers, wavers_orders, limit, rule)
    return Judgement(
        observed,
        None if learning else expected,
        None if learning else band,
        None if learning else open_[-1].closed * now.loss,
        per_cart,
        None if learning else usual_per_cart,
        None if learning else band_cart,
        out,
        learning,
    )


def remember(memory: Memory, reading: Reading, slot: int, prior: Prior | None, rule: SpikeRule) -> None:
    """Take in a minute that leaves the open window, in place, in order; gaps are nothing."""
    hour = take(memory, reading, slot, prior)
    if hour is not None:
        _cumulate(memory, hour, prior, rule)


def _spans(
    memory: Memory, open_: Sequence[Reading], slots: Sequence[int], prior: Prior | None, last: int
) -> list[_Span]:
    found: list[_Span] = []
    closed = lost = carts = orders = 0
    expected = variance = expected_orders = usually = 0.0
    at = len(open_) - 1
    hour, of_hour = -1, None
    for length in SPANS:
        first = last - length + 1
        while at >= 0 and (reading := open_[at]).minute >= first:
            slot = slots[at]
            # Within a quarter of an hour the usual hardly moves.
            if of_hour is None or slot // 15 != hour:
                hour, of_hour = slot // 15, usual(memory, prior, slot - slot % 15 + 7)
            n = reading.closed
            if n:
                p = of_hour.loss
                closed += n
                lost += reading.lost
                expected += n * p
                variance += n * p * (1 - p)
            if reading.carts or reading.orders:
                carts += reading.carts
                orders += reading.orders
                expected_orders += reading.carts * of_hour.per_cart
            usually += of_hour.lost_a_minute
            at -= 1
        found.append(_Span(first, closed, lost, expected, variance, carts, orders, expected_orders, usually))
        if at < 0:
            break
    return found


def _shown(spans: Sequence[_Span], rule: SpikeRule) -> _Span | None:
    """The span that people are shown: the shortest with enough sessions."""
    for span in spans:
        if span.closed >= rule.min_sessions and span.closed >= 30:
            return span
    return spans[-1] if spans else None


def _out(
    memory: Memory,
    spans: Sequence[_Span],
    wavers: float,
    wavers_orders: float,
    limit: float,
    rule: SpikeRule,
) -> tuple[Excess, ...]:
    found: list[Excess] = []
    lead, lead_span = 0.0, None
    for span in spans:
        if span.carts >= rule.min_carts and span.orders < span.expected_orders:
            evidence = _too_few(span.orders, span.expected_orders, wavers_orders)
            if evidence > lead and 1 - span.orders / span.expected_orders >= rule.min_change:
                lead, lead_span = evidence, span
    if "orders_per_cart" in rule.signals and lead_span is not None:
        score = lead / (limit + _MARGIN["orders_per_cart"])
        if score >= _STAYS:
            usual_rate = lead_span.expected_orders / lead_span.carts
            effect = 1 + lead_span.expected_orders * wavers_orders
            spread = sqrt(2 * limit * effect * lead_span.expected_orders)
            band = max(0.0, (lead_span.expected_orders - spread) / lead_span.carts)
            observed = lead_span.orders / lead_span.carts
            found.append(Excess("orders_per_cart", lead_span.began, observed, usual_rate, band, score))
    best, best_span = 0.0, None
    for span in spans:
        if span.closed < rule.min_sessions or span.lost <= span.expected_lost:
            continue
        if _change(span.lost, span.closed, span.expected_lost) < rule.min_change:
            continue
        evidence = _too_many(span.lost, span.closed, span.expected_lost / span.closed, wavers)
        if evidence > best:
            best, best_span = evidence, span
    if best_span is None:
        return (*found, *_drift(memory, spans, wavers, limit, rule))
    p = best_span.expected_lost / best_span.closed
    observed = best_span.lost / best_span.closed
    effect = 1 + (best_span.closed - 1) * wavers
    band = min(1.0, p + sqrt(2 * limit * effect * p * (1 - p) / best_span.closed))
    if "loss_rate" in rule.signals:
        base = limit + _MARGIN["loss_rate"]
        both = (best + lead) / (base + log(1 + base)) if best >= _LEAST_OWN else 0.0
        score = max(best / base, both)
        if score >= _STAYS:
            found.append(Excess("loss_rate", best_span.began, observed, p, min(band, observed), score))
    if "lost_count" in rule.signals:
        widest = spans[-1]
        many = widest.usually_lost
        # Both at once: the count against its profile, the rate against what is usual for such traffic.
        if widest.lost > many > 0 and widest.closed >= rule.min_sessions:
            count = _surplus(widest.lost, many, wavers_orders)
            score = min(count, 2 * best) / (limit + _MARGIN["lost_count"])
            if score >= _STAYS:
                spread = sqrt(2 * limit * many * (1 + many * wavers_orders))
                found.append(
                    Excess(
                        "lost_count", widest.began, widest.lost, many, min(many + spread, widest.lost), score
                    )
                )
    return (*found, *_drift(memory, spans, wavers, limit, rule))


def _change(lost: int, closed: int, expected: float) -> float:
    """How far the rate has moved, as a part of itself or of its complement, whichever is the smaller."""
    rate, p = lost / closed, expected / closed
    return (rate - p) / min(p, 1 - p)


def _too_many(lost: int, closed: int, p: float, wavers: float) -> float:
    rate = lost / closed
    kl = rate * log(rate / p)
    if rate < 1:
        kl += (1 - rate) * log((1 - rate) / (1 - p))
    return closed * kl / (1 + (closed - 1) * wavers)


def _too_few(orders: int, expected: float, wavers: float) -> float:
    kl = expected - orders
    if orders:
        kl += orders * log(orders / expected)
    return kl / (1 + expected * wavers)


def _surplus(count: int, expected: float, wavers: float) -> float:
    return (count * log(count / expected) - count + expected) / (1 + expected * wavers)


def _cumulate(memory: Memory, hour: Block, prior: Prior | None, rule: SpikeRule) -> None:
    """One more hour for or against a drift."""
    if not hour.closed:
        return
    wavers = rho_of(memory, prior) + 1 / (usual(memory, prior, hour.slot).weight + 1)
    step = _against(hour.closed, hour.lost, hour.expected_lost, wavers, rule)
    before = memory.cusum
    memory.cusum = max(0.0, before + step)
    if memory.cusum and not before:
        memory.drifting = hour.number * 60


def _against(closed: int, lost: int, expected: float, wavers: float, rule: SpikeRule) -> float:
    """The evidence that one hour adds: a rate that is up by the least change against the usual one."""
    p = min(max(expected / closed, 1e-3), 1 - 1e-3)
    up = min(p + rule.min_change * min(p, 1 - p), 1 - 1e-4)
    ratio = lost * log(up / p) + (closed - lost) * log((1 - up) / (1 - p))
    return max(-_MOST_A_BLOCK, min(_MOST_A_BLOCK, ratio / (1 + (closed - 1) * wavers)))


def _drift(
    memory: Memory, spans: Sequence[_Span], wavers: float, limit: float, rule: SpikeRule
) -> tuple[Excess, ...]:
    if "drift" not in rule.signals or memory.cusum <= 0:
        return ()
    widest = spans[-1]
    cusum = memory.cusum
    if widest.closed:
        cusum += _against(widest.closed, widest.lost, widest.expected_lost, wavers, rule)
    score = cusum / (limit + _MARGIN["drift"])
    if score < _STAYS or not widest.closed:
        return ()
    observed, p = widest.lost / widest.closed, widest.expected_lost / widest.closed
    return (Excess("drift", memory.drifting, observed, p, min(observed, p * (1 + rule.min_change)), score),)


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

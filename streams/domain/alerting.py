"""Alerts of one shop: from what is out of its band, minute by minute, to what is told of it.

A signal of a series that stands out for long enough fires, and is an alert from then on until it is resolved.
Of several that fire at once for one reason people are told once: a narrower series, or a count beside a rate,
is told of only while nothing wider stands. Where the data is in doubt, an alert is kept as held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain import spike
from streams.domain.alert_facts import AlertFact, Contributor, Scope, Severity, Signal, Status, alert_id
from streams.domain.contributors import Driver
from streams.domain.facts import money
from streams.domain.policy import MINUTE
from streams.domain.spike import Excess, SpikeRule, Standing
from streams.domain.windows import ALL_SHOPS

#: Scope and its value: ("shop", ""), ("channel", "search"), ("stage", "carted").
Series = tuple[Scope, str]
WHOLE: Final[Series] = ("shop", "")
#: A signal that says less than another of the same series.
_SAYS_LESS: Final[Mapping[Signal, Signal]] = {"lost_count": "loss_rate", "drift": "loss_rate"}


class Told(Struct, array_like=True):
    """An alert that stands: as it was told last, and what was counted in minutes of it that have left the
    open window. told: whether anybody heard of it as firing."""

    alert_id: str
    scope: Scope
    value: str
    signal: Signal
    began: int
    status: Status
    severity: Severity
    version: int = 0
    observed: float | None = None
    expected: float | None = None
    band: float | None = None
    sessions: int = 0
    lost: int = 0
    at_risk: dict[str, int] = field(default_factory=dict)


class Live(Struct, array_like=True):
    """What is under way in one shop. standings: by scope, value and signal."""

    standings: dict[str, Standing] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    def is_idle(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.standings and not self.told


class Firing(NamedTuple):
    """A signal that fires now: since when, and by how much."""

    series: Series
    signal: Signal
    began: int
    excess: Excess | None


class Counts(NamedTuple):
    """What an alert is about: of its series, from the minute it began in."""

    sessions: int
    lost: int
    at_risk: Mapping[str, int]


def step(
    live: Live, series: Series, out: Sequence[Excess], minute: int, rule: SpikeRule
) -> tuple[list[Firing], bool]:
    """Take in what of a series is out of its band in ``minute``, in place. Gives what fires now, and whether
    anything is pending."""
    firing: list[Firing] = []
    pending = False
    by_signal = {each.signal: each for each in out}
    prefix = f"{series[0]}\0{series[1]}\0"
    for signal in sorted(rule.signals):
        key = prefix + signal
        had, excess = live.standings.get(key), by_signal.get(signal)
        if had is None and excess is None:
            continue
        standing, now = spike.advance(had, excess, minute, rule)
        if standing is None:
            live.standings.pop(key, None)
        else:
            live.standings[key] = standing
        if now.state == "firing":
            firing.append(Firing(series, signal, now.began, excess))
        pending |= now.state == "pending"
    return firing, pending


def to_be_told(firing: Iterable[Firing]) -> list[Firing]:
    """Those of which people are told: not what the shop as a whole, or another signal of the series, says
    too."""
    found = list(firing)
    by_place = {(each.series, each.signal) for each in found}
    whole = any(each.series == WHOLE for each in found)
    return [
        each
        for each in found
        if not (whole and each.series != WHOLE)
        and (each.series, _SAYS_LESS.get(each.signal, "")) not in by_place
    ]


def bring_up(
    live: Live,
    shop_id: str,
    firing: Sequence[Firing],
    minute: int,
    rule: SpikeRule,
    held_by: Collection[str],
    suspect: bool,
    counts_of: Callable[[Series, int], Counts],
    drivers_of: Callable[[int], Sequence[Driver]],
) -> list[AlertFact]:
    """Bring the alerts of a shop up to what fires at the end of ``minute``, in place; gives what is to be
    told.

    held_by: pipeline troubles that stand and hold alerts back. suspect: one may, so that nothing new is told.
    counts_of, drivers_of: (series,) minute it began in -> what was lost since, and what drives it.
    """
    now = {(each.series, each.signal): each for each in firing}
    tellable = {(each.series, each.signal) for each in to_be_told(firing)}
    facts: list[AlertFact] = []
    kept: list[Told] = []

    def say(told: Told, status: Status, summary: Callable[[Told, Counts], str]) -> None:
        told.status, told.version = status, told.version + 1
        seen = counts_of((told.scope, told.value), told.began)
        at_risk = dict(told.at_risk)
        for currency, amount in seen.at_risk.items():
            at_risk[currency] = at_risk.get(currency, 0) + amount
        counts = Counts(told.sessions + seen.sessions, told.lost + seen.lost, at_risk)
        drivers = drivers_of(told.began) if status != "resolved" else ()
        facts.append(_fact(shop_id, told, counts, drivers, minute, rule, held_by, summary(told, counts)))

    for told in live.told:
        place = (told.scope, told.value), told.signal
        fires = now.get(place)
        if fires is None:
            say(told, "resolved", lambda told, _: f"{_name(shop_id, told)} is back inside its band")
            continue
        kept.append(told)
        if fires.excess is not None:
            told.observed, told.expected = fires.excess.observed, fires.excess.expected
            told.band = fires.excess.band
        severity = _severity(told, rule)
        if told.status == "held" and not held_by and not suspect:
            told.severity = severity
            say(told, "firing", lambda told, counts: _summary(shop_id, told, counts))
        elif told.severity == "warning" and severity == "critical":
            told.severity = severity
            say(
                told, told.status, lambda told, counts: _summary(shop_id, told, counts, _still(told, held_by))
            )
    known = {((told.scope, told.value), told.signal) for told in live.told}
    for place, fires in now.items():
        if place in known or place not in tellable or (suspect and not held_by):
            continue
        (scope, value), signal = place
        name = alert_id(shop_id, signal, scope, value, fires.began * MINUTE)
        told = Told(name, scope, value, signal, fires.began, "held" if held_by else "firing", "warning")
        if fires.excess is not None:
            told.observed, told.expected = fires.excess.observed, fires.excess.expected
            told.band = fires.excess.band
        told.severity = _severity(told, rule)
        kept.append(told)
        say(told, told.status, lambda told, counts: _summary(shop_id, told, counts, held_by))
    live.told = kept
    return facts


def withdraw(live: Live, shop_id: str, minute: int, rule: SpikeRule) -> list[AlertFact]:
    """What has come to stand out while data was broken rests on it: it is forgotten, and what was told of
    it as held is over. What fired before goes on."""
    fired = {f"{told.scope}\0{told.value}\0{told.signal}" for told in live.told if told.status == "firing"}
    live.standings = {key: each for key, each in live.standings.items() if key in fired}
    facts = []
    for told in live.told:
        if told.status == "held":
            told.status, told.version = "resolved", told.version + 1
            said = f"{_name(shop_id, told)}: what it rested on was incomplete"
            counts = Counts(told.sessions, told.lost, told.at_risk)
            facts.append(_fact(shop_id, told, counts, (), minute, rule, (), said))
    live.told = [told for told in live.told if told.status == "firing"]
    return facts


def _still(told: Told, held_by: Collection[str]) -> Collection[str]:
    """What holds the alert back."""
    return held_by if told.status == "held" else ()


def _severity(told: Told, rule: SpikeRule) -> Severity:
    if told.observed is None or not told.expected:
        return told.severity
    change = abs(told.observed - told.expected) / told.expected
    return "critical" if change >= rule.critical_at else told.severity


def _fact(
    shop_id: str,
    told: Told,
    counts: Counts,
    drivers: Sequence[Driver],
    minute: int,
    rule: SpikeRule,
    held_by: Collection[str],
    summary: str,
) -> AlertFact:
    over = told.status == "resolved"
    ends = (minute + 1) * MINUTE
    return AlertFact(
        alert_id=told.alert_id,
        kind="loss",
        shop_id=shop_id,
        scope=told.scope,
        scope_value=told.value,
        signal=told.signal,
        status=told.status,
        severity=told.severity,
        rule=rule.name,
        began_at=told.began * MINUTE,
        at=ends,
        resolved_at=ends if over else None,
        observed=_rounded(told.observed),
        expected=_rounded(told.expected),
        band=_rounded(told.band),
        sessions=counts.sessions,
        lost=counts.lost,
        value_at_risk={currency: money(amount) for currency, amount in sorted(counts.at_risk.items())},
        contributors=tuple(Contributor(*each) for each in drivers),
        held_by=tuple(sorted(held_by)) if told.status == "held" else (),
        summary=summary,
        version=told.version,
        is_deleted=False,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _name(shop_id: str, told: Told) -> str:
    place = shop_id if shop_id != ALL_SHOPS else "all shops together"
    return place if told.scope == "shop" else f"{place}, {told.scope} {told.value or '(none)'}"


def _summary(shop_id: str, told: Told, counts: Counts, held_by: Collection[str] = ()) -> str:
    name, observed, expected = _name(shop_id, told), told.observed or 0.0, told.expected or 0.0
    if told.signal == "orders_per_cart":
        said = f"{name}: {observed:.2f} orders per active cart, usual are {expected:.2f}"
    elif told.signal == "lost_count":
        said = f"{name}: {observed:.0f} sessions lost, usual are {expected:.0f}"
    else:
        slowly = "has come to lose" if told.signal == "drift" else "loses"
        said = f"{name} {slowly} {observed:.1%} of its sessions, usual are {expected:.1%}"
    if counts.sessions and told.signal != "orders_per_cart":
        said += f" ({counts.lost} of {counts.sessions} since it began)"
    return f"{said}; held back: {', '.join(sorted(held_by))}" if held_by else said

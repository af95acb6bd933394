"""Whether the data can be trusted: "data broke" is not "customers left".

The pipeline is looked at minute by minute of event time, all partitions together:

* ``silent_topic``: a topic has had nothing for so long that its own rhythm makes that incredible. Expected is
  the lesser of the recent level and of the level usual at that hour of the week, scaled down where the other
  topics have faded too; with L records expected in the silence, nothing at all has the chance
  (1 + L / k) ** -k of a gamma-Poisson process of shape k, whose rate itself wavers. Topics that are all
  silent at once are told as one, by the rhythm of all.
* ``schema_errors``: far more of a topic's records are refused than usual.
* ``bot_burst``: far more of the sessions that closed are machines' than usual.
* ``lag``: what is read is much older than the wall clock says it should be.

A trouble stands until it has been over for ten minutes. While a silence is on that is not yet incredible but
suspicious, nobody is told of a loss for the first time: either a record comes, or the silence is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain.alert_facts import Trouble
from streams.domain.policy import SECOND

HOURS_A_WEEK: Final = 168
_MINUTE_S: Final = 60
#: Half of the recent level is of the last hour; of what is usual, of the last three weeks.
_RECENT: Final = 0.5 ** (1 / 60)
_USUAL: Final = 0.5 ** (1 / 3)
_DAILY: Final = 0.5 ** (1 / 1440)
#: A topic has a rhythm after so many minutes and records; an hour of the week a level after so many minutes.
_RHYTHM_MINUTES: Final = 60
_RHYTHM_RECORDS: Final = 30
_SLOT_MINUTES: Final = 45.0
#: The shape of the gamma distribution of rates around their level.
_SHAPE: Final = 8.0
#: Others' traffic now: of so many minutes.
_NOW_MINUTES: Final = 15
_OVER_MINUTES: Final = 10
_BURST_MINUTES: Final = 10
#: A share is beyond its usual when it is by so many standard deviations.
_SURE: Final = 6.0


@dataclass(frozen=True, slots=True)
class HealthRule:
    """When the data is in doubt. max_lag_s: seconds behind the wall clock. silence: chance below which a
    silence is incredible. error_share, bot_share: shares below which nothing is a burst; error_count,
    bot_count: in ten minutes, likewise. holds: troubles that hold loss alerts back."""

    max_lag_s: float = 300.0
    silence: float = 1e-5
    error_share: float = 0.05
    error_count: int = 20
    bot_share: float = 0.3
    bot_count: int = 30
    holds: frozenset[str] = frozenset({"lag", "silent_topic", "schema_errors", "bot_burst"})


class Beat(NamedTuple):
    """One minute of event time, all partitions together. received, rejected: records by input topic. bots and
    closed: sessions closed, of machines and of people. lag_s: behind the wall clock; None where nobody
    tells."""

    minute: int
    received: Mapping[str, int]
    rejected: Mapping[str, int]
    bots: int = 0
    closed: int = 0
    lag_s: float | None = None


class TroubleNow(NamedTuple):
    """A trouble that stands. since: the minute it began in; note: one clause for a person."""

    trouble: Trouble
    topic: str
    since: int
    observed: float
    expected: float | None
    band: float | None
    note: str


class Checked(NamedTuple):
    """troubles: that stand. suspects: topics of which nobody knows yet whether they are silent."""

    troubles: tuple[TroubleNow, ...]
    suspects: frozenset[str]


class Rhythm(Struct, array_like=True):
    """Of one topic. minutes, records: seen in all. recent: records a minute of late. slots: by hour of the
    week (minutes, records), decayed. silence: length of the silence that is on, in minutes, and records
    expected in it. last: observed and expected records of each of the last minutes."""

    minutes: int = 0
    records: int = 0
    recent: float = 0.0
    slots: dict[int, tuple[float, float]] = field(default_factory=dict)
    silent: int = 0
    missing: float = 0.0
    last: list[tuple[int, float]] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether there is a rhythm to be silent against."""
        return self.minutes >= _RHYTHM_MINUTES and self.records >= _RHYTHM_RECORDS

    def level(self, hour: int) -> float:
        """Records a minute to expect in that hour of the week."""
        minutes, records = self.slots.get(hour, (0.0, 0.0))
        return min(self.recent, records / minutes) if minutes >= _SLOT_MINUTES else self.recent

    def incredible(self) -> float:
        """The chance of the silence that is on."""
        return float((1 + self.missing / _SHAPE) ** -_SHAPE)

    def take(self, minute: int, records: int, expected: float, told: bool) -> None:
        """One more minute; ``told``: the silence that it may end was told, and is to teach nothing."""
        self.last.append((records, self.level(_hour(minute))))
        del self.last[:-_NOW_MINUTES]
        if not records:
            self.silent += 1
            self.missing += expected
            return
        if not told:
            for ago in range(self.silent, 0, -1):
                self._learn(minute - ago, 0)
        self.silent, self.missing = 0, 0.0
        self._learn(minute, records)

    def _learn(self, minute: int, records: int) -> None:
        self.minutes += 1
        self.records += records
        weight = max(1 - _RECENT, 1 / self.minutes)
        self.recent += weight * (records - self.recent)
        hour = _hour(minute)
        minutes, had = self.slots.get(hour, (0.0, 0.0))
        # An hour of the week comes once a week: it fades as its sixty minutes come again.
        fades = _USUAL ** (1 / 60)
        self.slots[hour] = (minutes * fades + 1, had * fades + records)


class Usual(Struct, array_like=True):
    """A share: of ``of`` so many, decayed over a day, and of the last ten minutes."""

    of: float = 0.0
    hits: float = 0.0
    last: list[tuple[int, int]] = field(default_factory=list)

    def take(self, hits: int, of: int) -> None:
        """One more minute: what leaves the ten becomes part of the usual."""
        self.last.append((hits, of))
        if len(self.last) > _BURST_MINUTES:
            old_hits, old_of = self.last.pop(0)
            self.of = self.of * _DAILY + old_of
            self.hits = self.hits * _DAILY + old_hits

    def burst(self, least_share: float, least: int) -> tuple[float, float, float] | None:
        """(share, usual share, band) of the last ten minutes if they are beyond it."""
        hits, of = sum(h for h, _ in self.last), sum(n for _, n in self.last)
        if hits < least or not of:
            return None
        usual = (self.hits + 1) / (self.of + 1000)
        band = max(least_share, 3 * usual, usual + _SURE * sqrt(usual * (1 - usual) / of))
        share = hits / of
        return (share, usual, band) if share > band else None


class Standing(Struct, array_like=True):
    """A trouble that stands, or stood a moment ago."""

    trouble: Trouble
    topic: str
    since: int
    observed: float
    expected: float | None
    band: float | None
    note: str
    over: int = 0


class Health(Struct, array_like=True):
    """What is known of the pipeline as a whole."""

    rhythms: dict[str, Rhythm] = field(default_factory=dict)
    errors: dict[str, Usual] = field(default_factory=dict)
    bots: Usual = field(default_factory=Usual)
    standing: list[Standing] = field(default_factory=list)


def check(health: Health, beat: Beat, rule: HealthRule) -> Checked:
    """Take in one more minute, in order; gives what stands at its end."""
    found = [*_silent(health, beat, rule), *_errors(health, beat, rule), *_bots(health, beat, rule)]
    if beat.lag_s is not None and beat.lag_s > rule.max_lag_s:
        found.append(_lagging(beat.minute, beat.lag_s, rule))
    return Checked(_stand(health, found), _suspects(health))


def lagging(health: Health, minute: int, wall_ms: int, rule: HealthRule) -> TroubleNow | None:
    """Whether the minute judged last is too far behind the wall clock: for when no minute gets judged."""
    lag_s = wall_ms / SECOND - (minute + 1) * _MINUTE_S
    if lag_s <= rule.max_lag_s or any(each.trouble == "lag" for each in health.standing):
        return None
    found = _lagging(minute, lag_s, rule)
    health.standing.append(Standing(*found))
    return found


def _lagging(minute: int, lag_s: float, rule: HealthRule) -> TroubleNow:
    note = f"what is read is {lag_s / _MINUTE_S:.0f} min old"
    return TroubleNow("lag", "", minute, round(lag_s, 1), None, rule.max_lag_s, note)


def _silent(health: Health, beat: Beat, rule: HealthRule) -> list[TroubleNow]:
    hour = _hour(beat.minute)
    told = {each.topic for each in health.standing if each.trouble == "silent_topic"}
    topics = sorted({*health.rhythms, *beat.received} - {""})
    all_of = health.rhythms.setdefault("", Rhythm())
    everything = sum(beat.received.values())
    for topic in topics:
        rhythm = health.rhythms.setdefault(topic, Rhythm())
        others = [health.rhythms[name] for name in topics if name != topic and name in health.rhythms]
        count = beat.received.get(topic, 0)
        rhythm.take(beat.minute, count, rhythm.level(hour) * _presence(others), topic in told or "" in told)
    all_of.take(beat.minute, everything, all_of.level(hour), "" in told)
    if all_of.is_known and all_of.silent and all_of.incredible() < rule.silence:
        return [_silence(beat.minute, "", all_of, "nothing comes in on any topic")]
    found = []
    for topic in topics:
        rhythm = health.rhythms[topic]
        if rhythm.is_known and rhythm.silent and rhythm.incredible() < rule.silence:
            note = (
                f"{topic} have been silent for {rhythm.silent} min, {rhythm.missing:.0f} were to be expected"
            )
            found.append(_silence(beat.minute, topic, rhythm, note))
    return found


def _silence(minute: int, topic: str, rhythm: Rhythm, note: str) -> TroubleNow:
    since = minute - rhythm.silent + 1
    return TroubleNow("silent_topic", topic, since, 0.0, round(rhythm.missing, 1), None, note)


def _presence(others: list[Rhythm]) -> float:
    """How much of their usual the other topics have of late, at most all of it."""
    observed = sum(count for each in others for count, _ in each.last)
    expected = sum(level for each in others for _, level in each.last)
    return min(1.0, (observed + 1) / (expected + 1))


def _suspects(health: Health) -> frozenset[str]:
    # With three expected, nothing comes once in twenty times.
    return frozenset(
        topic for topic, each in health.rhythms.items() if each.is_known and each.silent and each.missing > 3
    )


def _errors(health: Health, beat: Beat, rule: HealthRule) -> list[TroubleNow]:
    found = []
    for topic in sorted({*health.errors, *beat.received, *beat.rejected}):
        usual = health.errors.setdefault(topic, Usual())
        usual.take(beat.rejected.get(topic, 0), beat.received.get(topic, 0))
        if (burst := usual.burst(rule.error_share, rule.error_count)) is not None:
            note = f"{burst[0]:.0%} of {topic} are refused, usual are {burst[1]:.1%}"
            found.append(TroubleNow("schema_errors", topic, beat.minute, *burst, note))
    return found


def _bots(health: Health, beat: Beat, rule: HealthRule) -> list[TroubleNow]:
    health.bots.take(beat.bots, beat.bots + beat.closed)
    burst = health.bots.burst(rule.bot_share, rule.bot_count)
    if burst is None:
        return []
    note = f"{burst[0]:.0%} of the sessions are machines', usual are {burst[1]:.1%}"
    return [TroubleNow("bot_burst", "", beat.minute, *burst, note)]


def _stand(health: Health, found: list[TroubleNow]) -> tuple[TroubleNow, ...]:
    """Bring what stands up to ``found``: what is not found any more stands for ten minutes yet."""
    now = {(each.trouble, each.topic): each for each in found}
    kept: deque[Standing] = deque()
    for had in health.standing:
        again = now.pop((had.trouble, had.topic), None)
        had.over = 0 if again is not None else had.over + 1
        if again is not None:
            had.observed, had.expected, had.band, had.note = again[3:]
        if had.over < _OVER_MINUTES:
            kept.append(had)
    kept.extend(Standing(*each) for each in now.values())
    health.standing = list(kept)
    return tuple(
        TroubleNow(each.trouble, each.topic, each.since, each.observed, each.expected, each.band, each.note)
        for each in health.standing
    )


def _hour(minute: int) -> int:
    return minute // 60 % HOURS_A_WEEK

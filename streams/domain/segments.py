"""Segments: who belongs to one, and the turns of it that are told: entered, and left.

Rules are asked when an event may have changed an answer, or when time has; ``segment_standing`` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from streams.domain.activity import Activity, Day, by_day
from streams.domain.buyer import Buyer, Turn
from streams.domain.days import day_of, start_of
from streams.domain.loss_facts import SegmentCause, SegmentFact
from streams.domain.policy import SECOND, Policy
from streams.domain.segment_rules import RuleSet, Segment
from streams.domain.segment_standing import (
    ENDLESS,
    NEVER,
    NOBODY,
    SETTLED_FALSE,
    SETTLED_TRUE,
    Asker,
    Person,
    Standing,
    asker,
    standing_of,
)

_NOBODYS: Final = NOBODY.profile.digests()[1]
#: Instants at which one look asks the rules, at most; after that it asks once more, as of now.
_MOST_MOMENTS: Final = 400


class Asking(Struct, frozen=True, gc=False):
    """The rules in force, and what the state knows that a profile does not show.

    opened: the sessions that are not closed yet. stirred: the time (ms) of the first event since the last
    look that may have changed an answer, 0 if there is none. asked: the version of the rules asked last.
    watched: whether events have been counted against what the last answers hang on.
    """

    rules: Rules
    opened: Sequence[Activity]
    stirred: int
    asked: int
    watched: bool = False

    def still_holds(
        self, buyer: Buyer, shop_id: str, likeness: int, activity: Sequence[Day], now: int, policy: Policy
    ) -> bool:
        """Whether every answer stands: the profile is as it was to any rule, no event has come that may
        change one, nor the instant at which time does. ``activity`` is that of closed sessions."""
        if not self.watched or self.stirred or self.asked != self.rules.version:
            return False
        if buyer.likeness:
            return buyer.likeness == likeness and (not buyer.flips_at or buyer.flips_at > now)
        if likeness != _NOBODYS:
            return False
        visits, favorites, carts = self.rules.after_first_session(shop_id, policy.gap)
        for day in activity:
            visits, favorites, carts = visits - day.visits, favorites - day.favorites, carts - day.carts
        for stay in self.opened:
            visits, favorites, carts = visits - stay.visits, favorites - stay.favorited, carts - stay.carts
        return visits > 0 and favorites > 0 and carts > 0


class Look(NamedTuple):
    """What a look has come to: the members' segments, their changes, until when nothing but an event changes
    them (ms), and how many visits, favorites and carts may: the last of them is the first that can."""

    segments: list[str]
    turns: list[Turn]
    until: int
    left: tuple[int, int, int]


class Rules:
    """A rule set in force, sorted by shop."""

    __slots__ = ("_after_first", "_asked", "_common", "_initial", "_named", "rule_set", "version")

    def __init__(self, rule_set: RuleSet) -> None:
        self.rule_set = rule_set
        self.version = rule_set.version
        named = {shop for segment in rule_set.segments for shop in segment.shops or ()}
        self._common = tuple(s for s in rule_set.segments if s.shops is None)
        self._named = {
            shop: tuple(s for s in rule_set.segments if s.shops is None or shop in s.shops) for shop in named
        }
        askers = {segment.name: asker(segment.rule) for segment in rule_set.segments}
        self._asked = {
            shop: tuple((s.name, askers[s.name]) for s in segments)
            for shop, segments in (*self._named.items(), ("", self._common))
        }
        self._initial: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._after_first: dict[tuple[str, int], tuple[int, int, int]] = {}

    def of(self, shop_id: str) -> tuple[Segment, ...]:
        """The segments of a shop."""
        return self._named.get(shop_id, self._common)

    def askers(self, shop_id: str) -> tuple[tuple[str, Asker], ...]:
        """The names and rules of a shop's segments."""
        return self._asked[shop_id if shop_id in self._named else ""]

    def initial(self, shop_id: str, gap: int) -> tuple[int, int, int]:
        """What is to be watched of somebody of whom nothing is known yet."""
        key = (shop_id if shop_id in self._named else "", gap)
        left = self._initial.get(key)
        if left is None:
            left = (ENDLESS, ENDLESS, ENDLESS)
            for segment in self.of(shop_id):
                # With the first event that they are there at all, who is not may be a member.
                each = standing_of(segment.rule, NOBODY, 0, 0, "UTC", gap)
                left = (1, 1, 1) if each.holds else _least(left, each)
            self._initial[key] = left
        return left

    def after_first_session(self, shop_id: str, gap: int) -> tuple[int, int, int]:
        """With how many visits, favorites and carts somebody whose first session has closed is to be looked
        at; (0, 0, 0) if an answer hangs on the clock then, or is yes, whatever they did."""
        key = (shop_id if shop_id in self._named else "", gap)
        left = self._after_first.get(key)
        if left is None:
            now = gap + 2
            seen = Person(NOBODY.profile, (), (), last_visit=1, last_order=0)
            left = (ENDLESS, ENDLESS, ENDLESS)
            for segment in self.of(shop_id):
                each = standing_of(segment.rule, seen, now, 0, "UTC", gap)
                left = (0, 0, 0) if each.holds or each.until != NEVER else _least(left, each)
            self._after_first[key] = left
        return left


def look(
    asking: Asking,
    shop_id: str,
    person: Person,
    told: Sequence[str],
    due: int,
    since: int,
    now: int,
    policy: Policy,
    version: int,
) -> Look:
    """What has become of the memberships ``told``, as of the watermark ``now`` (ms), told under ``version``.

    since: the watermark of the last look; due: until when it said that time changes nothing. The rules are
    asked then, at events since, and at each instant that an answer names, so that what came about between
    two looks has its own time.
    """
    rules, other_rules = asking.rules, asking.asked != asking.rules.version
    askers = rules.askers(shop_id)
    zone, gap = policy.zone, policy.gap
    changed: dict[str, tuple[int, SegmentCause]] = {}
    members = tuple(told)
    answers: list[Standing] | None = None
    if not other_rules:
        events = _events(asking, person, since, now, policy)
        event = next(events, NEVER)
        for _ in range(_MOST_MOMENTS):
            at = min(due, event)
            if at > now:
                break
            today = day_of(at, zone)
            cause: SegmentCause = "time"
            if at == event:
                cause, event, answers = "event", next(events, NEVER), None
            if answers is None:
                answers = [ask(person, at, today, zone, gap) for _, ask in askers]
            else:
                # Without an event, an answer holds until its time has come.
                for index, (_, ask) in enumerate(askers):
                    if answers[index].until <= at:
                        answers[index] = ask(person, at, today, zone, gap)
            due = min([each.until for each in answers], default=NEVER)
            members = _note(changed, members, askers, answers, at, cause)
        else:
            answers = None
    if answers is None:
        today = day_of(now, zone)
        answers = [ask(person, now, today, zone, gap) for _, ask in askers]
        # What time does to a profile begins with a day.
        at, cause = (now, "rules") if other_rules else (start_of(today, zone), "time")
        members = _note(changed, members, askers, answers, at, cause)
    turns = []
    for name, (when, why) in changed.items():
        member = name in members
        if member is not (name in told):
            gone = not member and all(other != name for other, _ in askers)
            turns.append(Turn(name, member, when, why, rules.version, version, gone))
    until, left = NEVER, (ENDLESS, ENDLESS, ENDLESS)
    for each in answers:
        if each is not SETTLED_FALSE and each is not SETTLED_TRUE:
            until, left = min(until, each.until), _least(left, each)
    return Look(list(members), turns, until, left)


def tell(
    buyer: Buyer, asking: Asking, shop_id: str, person: Person, now: int, policy: Policy, version: int
) -> Look:
    """Bring the buyer's memberships up to ``now``; what is new is among ``buyer.turns`` under ``version``."""
    due = buyer.flips_at or NEVER
    found = look(asking, shop_id, person, buyer.segments, due, buyer.checked, now, policy, version)
    buyer.segments = found.segments
    buyer.flips_at = 0 if found.until == NEVER else found.until
    if found.turns:
        newer = {turn.segment for turn in found.turns}
        buyer.turns = [turn for turn in buyer.turns if turn.segment not in newer] + found.turns
    return found


def withdrawn(told: Sequence[str], at: int, version: int) -> list[Turn]:
    """The tombstones of somebody who is forgotten."""
    return [Turn(name, False, at, "time", 0, version, True) for name in told]


def fact(customer_id: str, shop_id: str, turn: Turn) -> SegmentFact:
    """The turn as a fact."""
    return SegmentFact(
        segment=turn.segment,
        shop_id=shop_id,
        customer_id=customer_id,
        is_member=turn.member,
        at=turn.at,
        cause=turn.cause,
        rules_version=turn.rules,
        version=turn.version,
        is_deleted=turn.gone,
    )


def seen_by_day(activity: list[Day], opened: Sequence[Activity], zone: str) -> list[Day]:
    """``activity`` and that of open sessions."""
    return by_day(activity, opened, zone) if opened else activity


def _events(asking: Asking, person: Person, since: int, now: int, policy: Policy) -> Iterator[int]:
    """The times of events up to ``now`` that answers may have changed at, or begun to hang on the clock."""
    times = set()
    if 0 < asking.stirred <= now:
        times.add(asking.stirred)
    if since < person.last_order <= now:
        times.add(person.last_order)
    if since < person.last_visit < now - policy.gap - SECOND:
        # The look is long overdue: the silence since may have been told of by then.
        times.add(person.last_visit)
    return iter(sorted(times))


def _note(
    changed: dict[str, tuple[int, SegmentCause]],
    before: tuple[str, ...],
    askers: Sequence[tuple[str, Asker]],
    answers: Sequence[Standing],
    at: int,
    cause: SegmentCause,
) -> tuple[str, ...]:
    """The members' segments by ``answers``; what differs from ``before`` has changed at ``at``."""
    members = tuple([name for (name, _), each in zip(askers, answers, strict=True) if each.holds])
    if members != before:
        for name in sorted({*before} ^ {*members}):
            changed[name] = (at, cause)
    return members


def _least(left: tuple[int, int, int], each: Standing) -> tuple[int, int, int]:
    return (min(left[0], each.visits), min(left[1], each.favorites), min(left[2], each.carts))

"""What one rule says of one customer: whether it holds, and what that hangs on.

A rule is not asked again at every event. When it is asked, it says what its answer hangs on: of an ``all``
that is false, one false part is enough, for until that part turns true nothing else matters; of one that is
true, every part is. So each answer comes with a deadline, and with how many visits, favorites and carts may
come before it can be another. Orders are not counted: each has its customer looked at anyway.

    all: carts_1d >= 1             false: hangs on the next cart   ◄── the one that is watched
         orders == 0               true
         since_last_visit >= 1h    false: hangs on the clock
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from streams.domain.activity import Day
from streams.domain.days import start_of
from streams.domain.policy import HOUR
from streams.domain.profile import Profile, of_prospect
from streams.domain.segment_rules import AnyOf, Compare, Count, Not, Rule, Silence

NEVER: Final = (1 << 63) - 1
#: More events than anybody has.
ENDLESS: Final = 1 << 30
#: The index of what is counted in ``Standing.left``, and in ``Day`` less one; that of its input topic, too.
KINDS: Final = ("visits", "favorites", "carts")
#: How often a thing happens, for choosing what to watch: in a session, and per look at the clock.
_RATES: Final = (4.0, 0.2, 0.3)
_LOOK: Final = 1.0

_HOLDS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, among: value in among,
    "contains": lambda values, value: value in values,
}


#: Of a profile: the fact's field, and its own.
_ATTRIBUTES: Final = {
    "r_score": "r",
    "f_score": "f",
    "m_score": "m",
    "p_alive": "alive",
    "p_return_90d": "returns",
    "expected_orders_90d": "expected",
    "usual_gap_days": "gap",
    "purchase_days": "days",
    "reversed_orders": "reversed",
    "average_order_value": "average",
    "mixed_currency": "mixed",
    "preferred_categories": "categories",
    "discount_affinity": "discounts",
}
#: These move with the day by themselves, unlike the rest even where no daily check-up sees to it.
_DRIFTING: Final = frozenset({"p_return_90d", "expected_orders_90d"})
#: These are of the day that is asked about.
_DAILY: Final = frozenset({"recency_days", "overdue_days"})


class Standing(NamedTuple):
    """Whether a rule holds; the instant (ms) from which time alone may change that; and how many visits,
    favorites and carts may: the last of them is the first that can."""

    holds: bool
    until: int
    visits: int
    favorites: int
    carts: int


#: Of what hangs on nothing but the profile.
SETTLED_TRUE: Final = Standing(True, NEVER, ENDLESS, ENDLESS, ENDLESS)
SETTLED_FALSE: Final = Standing(False, NEVER, ENDLESS, ENDLESS, ENDLESS)


class Person(Struct, frozen=True, gc=False):
    """What rules are asked about: one customer in one shop. Times in ms, 0 for never.

    profile: as of the last look; activity: by local day, of open sessions too; orders: standing ones, (local
    day, how many); last_visit: the end of the latest session, open or not; last_order: the last standing one.
    """

    profile: Profile
    activity: Sequence[Day]
    orders: Sequence[tuple[int, int]]
    last_visit: int
    last_order: int


#: What a rule says: (person, instant in ms, its local day, zone, the policy's gap in ms).
Asker = Callable[["Person", int, int, str, int], Standing]


def standing_of(rule: Rule, person: Person, at: int, today: int, zone: str, gap: int) -> Standing:
    """What ``rule`` says of ``person`` at the instant ``at`` (ms), on the day ``today`` of the zone; ``gap``
    (ms) is the policy's."""
    return asker(rule)(person, at, today, zone, gap)


def asker(rule: Rule) -> Asker:
    """``rule``, made ready to be asked often."""
    if isinstance(rule, Compare):
        if _is_settled(rule):
            return _settled(rule)
        return lambda person, _at, today, zone, _gap: _compare(rule, person, today, zone)
    if isinstance(rule, Count):
        return _counted(rule)
    if isinstance(rule, Silence):
        return _silent(rule)
    if isinstance(rule, Not):
        return _opposite(asker(rule.of))
    # What hangs on nothing is asked first: it may decide alone.
    parts = sorted(rule.of, key=lambda part: not (isinstance(part, Compare) and _is_settled(part)))
    return _together([asker(part) for part in parts], isinstance(rule, AnyOf))


def _opposite(of: Asker) -> Asker:
    def ask(person: Person, at: int, today: int, zone: str, gap: int) -> Standing:
        found = of(person, at, today, zone, gap)
        if found is SETTLED_TRUE or found is SETTLED_FALSE:
            return SETTLED_FALSE if found.holds else SETTLED_TRUE
        return found._replace(holds=not found.holds)

    return ask


def _together(parts: Sequence[Asker], decisive: bool) -> Asker:
    """Of all parts (``decisive`` is False), or of any: one part that is ``decisive`` decides."""
    settled = SETTLED_FALSE if decisive else SETTLED_TRUE

    def ask(person: Person, at: int, today: int, zone: str, gap: int) -> Standing:
        decisives: list[Standing] = []
        others: list[Standing] = []
        for part in parts:
            each = part(person, at, today, zone, gap)
            if each is SETTLED_TRUE or each is SETTLED_FALSE:
                if each.holds is decisive:
                    return each
            elif each.holds is decisive:
                decisives.append(each)
            else:
                others.append(each)
        if decisives:
            # The first of those that are watched at the least cost.
            return decisives[0] if len(decisives) == 1 else min(decisives, key=lambda each: _cost(each, at))
        if len(others) < 2:
            return others[0] if others else settled
        until, visits, favorites, carts = (min(of) for of in list(zip(*others, strict=True))[1:])
        return Standing(not decisive, until, visits, favorites, carts)

    return ask


def _is_settled(rule: Compare) -> bool:
    """Whether nothing but another profile changes the answer."""
    return rule.field not in _DRIFTING and rule.field not in _DAILY


def _settled(rule: Compare) -> Asker:
    field_of = operator.attrgetter(_ATTRIBUTES.get(rule.field, rule.field))
    holds, op, wanted = _HOLDS[rule.op], rule.op, rule.value

    def ask(person: Person, _at: int, _today: int, _zone: str, _gap: int) -> Standing:
        value = field_of(person.profile)
        if value is None or wanted is None:
            found = (value is wanted) is (op == "==") if op in ("==", "!=") else False
        else:
            found = holds(value, wanted)
        return SETTLED_TRUE if found else SETTLED_FALSE

    return ask


def _cost(each: Standing, at: int) -> float:
    """About how often watching it has somebody looked at; 0 if never."""
    cost = 0.0 if each.until == NEVER else _LOOK * HOUR / (HOUR + max(0, each.until - at))
    for left, rate in zip(each[2:], _RATES, strict=True):
        if left < ENDLESS:
            cost += rate / left
    return cost


def _compare(rule: Compare, person: Person, today: int, zone: str) -> Standing:
    field, op, wanted = rule.field, rule.op, rule.value
    profile = person.profile
    until = NEVER
    value: Any
    if field in _DAILY:
        since = profile.last_day if field == "recency_days" else profile.due
        value = None if since is None else today - since
        if value is not None:
            until = _grows(rule, value, today, zone)
            value = max(0, value)
    else:
        value = getattr(profile, _ATTRIBUTES.get(field, field))
        if field in _DRIFTING and value is not None:
            until = start_of(today + 1, zone)
    if value is None or wanted is None:
        holds = (value is wanted) is (op == "==") if op in ("==", "!=") else False
    else:
        holds = _HOLDS[op](value, wanted)
    return Standing(holds, until, ENDLESS, ENDLESS, ENDLESS)


def _grows(rule: Compare, value: int, today: int, zone: str) -> int:
    """The start of the day on which a number of days that grows with each compares otherwise."""
    wanted, holds = rule.value, _HOLDS[rule.op]
    if wanted is None:
        return NEVER
    now = holds(max(0, value), wanted)
    edges = wanted if isinstance(wanted, tuple) else (wanted,)
    for number in sorted({int(edge or 0) + more for edge in edges for more in (0, 1)}):
        if number > value and holds(max(0, number), wanted) is not now:
            return start_of(today + number - value, zone)
    return NEVER


def _counted(rule: Count) -> Asker:
    holds, op, wanted, days = _HOLDS[rule.op], rule.op, rule.value, rule.days
    of_orders, of_sessions = rule.of == "orders", rule.of == "carted"
    kind = KINDS.index("carts" if of_sessions else rule.of) if not of_orders else -1
    of_day = operator.attrgetter("day" if of_orders else rule.of)

    def left(value: int) -> tuple[int, int, int]:
        """How many more may change what it says of ``value``."""
        found = [ENDLESS, ENDLESS, ENDLESS]
        if of_sessions:
            found[kind] = 1  # what was put in the cart may be taken out of it again
        elif not of_orders:
            now = holds(value, wanted)
            for more in (wanted - value, wanted - value + 1):
                if more > 0 and holds(value + more, wanted) is not now:
                    found[kind] = more
                    break
            else:
                if value > wanted > 0 and op in ("==", "!="):
                    # What comes now may make it exact on the day on which the rest has left.
                    found[kind] = 1
        return found[0], found[1], found[2]

    nothing = Standing(holds(0, wanted), NEVER, *left(0))
    # Time only takes away: at last it says what it says of nothing.
    for_good = op not in ("==", "!=")

    def ask(person: Person, _at: int, today: int, zone: str, _gap: int) -> Standing:
        after = today - days
        if of_orders:
            found = [each for each in person.orders if each[0] > after]
        else:
            found = [(each.day, n) for each in person.activity if each.day > after and (n := of_day(each))]
        if not found:
            return nothing
        value = 0
        for _, n in found:
            value += n
        now = holds(value, wanted)
        until = NEVER
        if not (for_good and now is nothing.holds):
            rest = value
            for number, n in found:
                rest -= n
                if holds(rest, wanted) is not now:
                    until = start_of(number + days, zone)
                    break
        return Standing(now, until, *left(value))

    return ask


def _silent(rule: Silence) -> Asker:
    holds, wanted, of_visits = _HOLDS[rule.op], rule.value, rule.of == "visit"
    at_once = holds(0, wanted)
    flips = wanted + (rule.op in (">", "<="))
    watched = (1, 1, 1) if of_visits else (ENDLESS, ENDLESS, ENDLESS)

    def ask(person: Person, at: int, _today: int, _zone: str, gap: int) -> Standing:
        last = person.last_visit if of_visits else person.last_order
        if not last:
            # A silence that is longer than the gap begins to count when the session closes.
            return Standing(False, NEVER, *watched) if at_once or wanted <= gap else SETTLED_FALSE
        now = holds(at - last, wanted)
        until = last + flips
        if at >= until:
            until = NEVER
        if now is at_once:
            return Standing(now, until, ENDLESS, ENDLESS, ENDLESS)
        return Standing(now, until, *watched)

    return ask


NOBODY: Final = Person(of_prospect(0, [], 0, 0, 0), (), (), 0, 0)

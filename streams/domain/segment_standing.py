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
_RATES: Final = (4.0, 0.4, 0.6)
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


class Standing(NamedTuple):
    """Whether a rule holds; the instant (ms) from which time alone may change that; and how many visits,
    favorites and carts may: the last of them is the first that can."""

    holds: bool
    until: int
    visits: int
    favorites: int
    carts: int


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


def standing_of(rule: Rule, person: Person, at: int, today: int, zone: str, gap: int) -> Standing:
    """What ``rule`` says of ``person`` at the instant ``at`` (ms), on the day ``today`` of the zone; ``gap``
    (ms) is the policy's."""
    if isinstance(rule, Compare):
        return _compare(rule, person, today, zone)
    if isinstance(rule, Count):
        return _count(rule, person, today, zone)
    if isinstance(rule, Silence):
        return _silence(rule, person, at, gap)
    if isinstance(rule, Not):
        found = standing_of(rule.of, person, at, today, zone, gap)
        return found._replace(holds=not found.holds)
    # What decides an ``any`` that is true, or an ``all`` that is false, is any one part that is so.
    decisive = isinstance(rule, AnyOf)
    best: Standing | None = None
    cheapest = 0.0
    until, visits, favorites, carts = NEVER, ENDLESS, ENDLESS, ENDLESS
    for part in rule.of:
        each = standing_of(part, person, at, today, zone, gap)
        if each.holds is decisive:
            cost = _cost(each, at)
            if best is None or cost < cheapest:
                best, cheapest = each, cost
            if not cost:
                break
        elif best is None:
            until = min(until, each.until)
            visits = min(visits, each.visits)
            favorites = min(favorites, each.favorites)
            carts = min(carts, each.carts)
    return best or Standing(not decisive, until, visits, favorites, carts)


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
    if field == "recency_days" or field == "overdue_days":
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


def _count(rule: Count, person: Person, today: int, zone: str) -> Standing:
    holds, wanted, days = _HOLDS[rule.op], rule.value, rule.days
    if rule.of == "orders":
        kind = -1
        found = [(day, n) for day, n in person.orders if n and day > today - days]
    else:
        kind = KINDS.index(rule.of)
        found = []
        for day in person.activity:
            if day.day > today - days:
                n = day.visits if not kind else day.favorites if kind == 1 else day.carts
                if n:
                    found.append((day.day, n))
    value = 0
    for _, n in found:
        value += n
    now = holds(value, wanted)
    until, rest = NEVER, value
    for number, n in found:
        rest -= n
        if holds(rest, wanted) is not now:
            until = start_of(number + days, zone)
            break
    left = [ENDLESS, ENDLESS, ENDLESS]
    if kind >= 0:
        for more in (wanted - value, wanted - value + 1):
            if more > 0 and holds(value + more, wanted) is not now:
                left[kind] = more
                break
        else:
            if value > wanted > 0 and rule.op in ("==", "!="):
                # What comes now may make it exact on the day on which the rest has left.
                left[kind] = 1
    return Standing(now, until, *left)


def _silence(rule: Silence, person: Person, at: int, gap: int) -> Standing:
    holds, wanted = _HOLDS[rule.op], rule.value
    of_visits = rule.of == "visit"
    last = person.last_visit if of_visits else person.last_order
    at_once = holds(0, wanted)
    until, watched = NEVER, False
    if not last:
        now = False
        # A silence that is longer than the gap begins to count when the session closes.
        watched = of_visits and (at_once or wanted <= gap)
    else:
        now = holds(at - last, wanted)
        edge = last + wanted + (rule.op in (">", "<="))
        if at < edge:
            until = edge
        watched = of_visits and now is not at_once
    left = 1 if watched else ENDLESS
    return Standing(now, until, left, left, left)


NOBODY: Final = Person(of_prospect(0, [], 0, 0, 0), (), (), 0, 0)

"""A customer's activity in one shop by local day: the last 30 and 90 days of visits, favorites and carts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

from streams.domain.days import day_of

SHORT_SPAN: Final = 30
LONG_SPAN: Final = 90

_NONE: Final = (0, 0, 0, 0, 0, 0)


class Day(Struct, array_like=True, frozen=True, gc=False):
    """Activity of the sessions that began on one local day; carted: how many left something in the cart."""

    day: int
    visits: int
    favorites: int
    carts: int
    carted: int = 0


class Activity(Protocol):
    """What a session shows of a customer; times in ms."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def visits(self) -> int: ...
    @property
    def favorited(self) -> int: ...
    @property
    def carts(self) -> int: ...
    @property
    def carted(self) -> int: ...


def by_day(kept: list[Day], sessions: Iterable[Activity], zone: str) -> list[Day]:
    """``kept`` and the sessions' activity, a day at most once, in order."""
    days = kept[:]
    for session in sessions:
        visits, favorites, carts, carted = session.visits, session.favorited, session.carts, session.carted
        if not (visits or favorites or carts):
            continue
        number = day_of(session.start, zone)
        at = len(days)
        while at and days[at - 1].day > number:
            at -= 1
        if at and (had := days[at - 1]).day == number:
            days[at - 1] = Day(
                number,
                visits + had.visits,
                favorites + had.favorites,
                carts + had.carts,
                carted + had.carted,
            )
        else:
            days.insert(at, Day(number, visits, favorites, carts, carted))
    return days


def recent(activity: list[Day], today: int) -> list[Day]:
    """Of the last ``LONG_SPAN`` days, today among them."""
    if activity and activity[0].day <= today - LONG_SPAN:
        return [day for day in activity if day.day > today - LONG_SPAN]
    return activity


def activity_changes_on(activity: list[Day], today: int) -> int | None:
    """The next day on which some of it leaves one of the two spans; None if there is none."""
    soonest = None
    for day in activity:
        leaves = day.day + SHORT_SPAN
        if leaves <= today:
            leaves = day.day + LONG_SPAN
        if leaves > today and (soonest is None or leaves < soonest):
            soonest = leaves
    return soonest


def spans(activity: list[Day], today: int) -> tuple[int, int, int, int, int, int]:
    """Visits, favorites and carts of the last 30 days, then of all of ``activity``."""
    if not activity:
        return _NONE
    v30 = f30 = c30 = v90 = f90 = c90 = 0
    since = today - SHORT_SPAN
    for day in activity:
        v90 += day.visits
        f90 += day.favorites
        c90 += day.carts
        if day.day > since:
            v30 += day.visits
            f30 += day.favorites
            c30 += day.carts
    return v30, f30, c30, v90, f90, c90

"""Days of a shop's calendar: which day an instant lies in, and when a day begins there.

A day is a number, counted from 1970-01-01 (day 0) in the IANA zone that is given; differences are whole days
however long daylight saving makes them. A day begins at its first instant: at 01:00 where clocks are put
forward at midnight, and together with the next one where a calendar skips it.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from streams.domain.policy import DAY, SECOND

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=65_536)
def start_of(day: int, zone: str) -> int:
    """The first instant of ``day``, in ms since 1970 UTC."""
    if zone == "UTC":
        return day * DAY
    midnight = datetime.combine(date_of(day), datetime.min.time(), ZoneInfo(zone))
    # A midnight that does not exist is taken at the offset before: the instant at which clocks move.
    return int(midnight.timestamp()) * SECOND


def day_of(t: int, zone: str) -> int:
    """The day that the instant ``t`` (ms since 1970 UTC) lies in."""
    day = t // DAY
    if zone == "UTC":
        return day
    # No zone is a whole day from UTC, but one may skip a day.
    if start_of(day + 1, zone) <= t:
        return day + 2 if start_of(day + 2, zone) <= t else day + 1
    return day if start_of(day, zone) <= t else day - 1


@lru_cache(maxsize=65_536)
def date_of(day: int) -> date:
    """``day`` as a date."""
    return date.fromordinal(_EPOCH_ORDINAL + day)

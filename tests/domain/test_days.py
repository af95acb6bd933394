"""Local days against the calendar itself: every zone rule that moves a midnight."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.days import date_of, day_of, start_of
from streams.domain.policy import HOUR, Policy

ZONES = [
    "UTC",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Nuuk",
    "Asia/Shanghai",
    "Asia/Kolkata",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
]


@given(st.integers(631_152_000_000, 2_145_916_800_000), st.sampled_from(ZONES))
def test_an_instant_lies_in_the_day_that_clocks_show(t: int, zone: str) -> None:
    """Unless clocks were put back over midnight just then, that is the date of the local time."""
    day = day_of(t, zone)
    assert start_of(day, zone) <= t < start_of(day + 1, zone)
    shown = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=t)).astimezone(ZoneInfo(zone)).date()
    assert date_of(day) == shown


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/London", date(2024, 3, 31), 23),
        ("Europe/London", date(2024, 10, 27), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # begins at 01:00
        ("America/Havana", date(2024, 11, 3), 25),  # midnight twice
        ("Pacific/Apia", date(2011, 12, 30), 0),  # was skipped
        ("Australia/Lord_Howe", date(2024, 4, 7), 24.5),
    ],
)
def test_a_day_is_as_long_as_clocks_make_it(zone: str, day: date, hours: float) -> None:
    """23, 25, or none at all."""
    number = day.toordinal() - date(1970, 1, 1).toordinal()
    assert start_of(number + 1, zone) - start_of(number, zone) == hours * HOUR


def test_a_zone_that_is_none_is_refused() -> None:
    """Before any event is judged by it."""
    with pytest.raises(ValueError, match="no IANA zone"):
        Policy(zone="Europe/Atlantis")

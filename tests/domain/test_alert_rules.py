"""Who watches which shop, who is told, and when it is too late at night to tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.alert_rules import AlertRules, Quiet, Route, Watch
from streams.domain.policy import DAY, HOUR
from streams.domain.spike import SpikeRule


@dataclass(frozen=True)
class Alert:
    shop_id: str
    signal: str = "loss_rate"
    severity: str = "warning"


def ms(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def until(text: str, *quiet: Quiet, zone: str = "Europe/Paris") -> str | None:
    """The end of the quiet hours that the local time ``text`` lies in, local too."""
    rules = AlertRules(watches=(Watch(quiet=quiet),))
    end = rules.quiet_until("s1", zone, ms(text, zone))
    return None if end is None else datetime.fromtimestamp(end / 1000, ZoneInfo(zone)).strftime("%d %H:%M")


NIGHT = Quiet(22 * 60, 7 * 60)


def test_without_a_file_every_shop_is_watched_and_nobody_is_told() -> None:
    rules = AlertRules()
    assert rules.watch_of("any") == rules.watch_of("") == Watch()
    assert not rules.reads("alerts")
    assert rules.endpoints_for("alerts", Alert("any")) == ()
    assert rules.quiet_until("any", "UTC", 0) is None


def test_the_first_watch_that_matches_is_the_shops() -> None:
    first, second = Watch(("a-*", "b?"), SpikeRule("first")), Watch(("*",), SpikeRule("second"))
    rules = AlertRules(watches=(first, second))
    assert [rules.watch_of(shop) for shop in ("a-1", "b1", "b12", "A-1")] == [first, first, second, second]
    assert rules.watch_of("") is None, "all shops together are named"
    assert AlertRules(watches=(Watch(("(all)",)),)).watch_of("") is not None


def test_every_route_that_matches_tells_and_nobody_twice() -> None:
    rules = AlertRules(
        routes=(
            Route("alerts", ("a", "b")),
            Route("alerts", ("b", "c"), shops=("x*",)),
            Route("alerts", ("d",), only=frozenset({"drift"})),
            Route("alerts", ("e",), severities=frozenset({"critical"})),
            Route("segments", ("f",)),
        )
    )
    assert rules.endpoints_for("alerts", Alert("y")) == ("a", "b")
    assert rules.endpoints_for("alerts", Alert("x1", "drift", "critical")) == ("a", "b", "c", "d", "e")
    assert rules.endpoints_for("transitions", Alert("x1")) == ()
    assert (rules.reads("segments"), rules.reads("actions")) == (True, False)


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-03-02 21:59", None),
        ("2026-03-02 22:00", "03 07:00"),
        ("2026-03-03 06:59", "03 07:00"),
        ("2026-03-03 07:00", None),
    ],
)
def test_quiet_hours_over_midnight(at: str, end: str | None) -> None:
    assert until(at, NIGHT) == end


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    friday = Quiet(22 * 60, 7 * 60, frozenset({4}))
    assert until("2026-03-06 23:00", friday) == "07 07:00"
    assert until("2026-03-07 06:00", friday) == "07 07:00"
    assert until("2026-03-07 23:00", friday) is None
    assert until("2026-03-06 06:00", friday) is None


def test_hours_that_meet_are_one() -> None:
    assert until("2026-03-02 22:30", NIGHT, Quiet(7 * 60, 9 * 60)) == "03 09:00"


def test_the_night_in_which_clocks_are_put_forward_ends_by_the_clock_on_the_wall() -> None:
    assert until("2026-03-28 23:00", NIGHT) == "29 07:00"
    assert until("2026-10-24 23:00", NIGHT) == "25 07:00"
    begins, ends = ms("2026-03-28 22:00", "Europe/Paris"), ms("2026-03-29 07:00", "Europe/Paris")
    assert ends - begins == 8 * HOUR


@given(
    begins=st.integers(0, 24 * 60 - 1),
    ends=st.integers(0, 24 * 60),
    days=st.frozensets(st.integers(0, 6)),
    at=st.integers(1_770_000_000_000, 1_770_000_000_000 + 400 * DAY),
    zone=st.sampled_from(("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")),
)
def test_quiet_hours_end_later_and_within_a_week_and_then_they_are_over(
    begins: int, ends: int, days: frozenset[int], at: int, zone: str
) -> None:
    rules = AlertRules(watches=(Watch(quiet=(Quiet(begins, ends, days),)),))
    end = rules.quiet_until("s1", zone, at)
    if end is None:
        return
    assert at < end <= at + 15 * DAY
    if end - at < 13 * DAY and begins != ends:
        assert rules.quiet_until("s1", zone, end) is None

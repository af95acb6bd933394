"""Days of a shop's calendar when clocks change, from events through the whole pipeline to the report."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import pytest

from schemas.topics import VISITS
from streams.adapters.clickhouse import connect
from streams.adapters.shop_report import Cycle, read_shop_report, shop_card
from streams.commands.demo import run_demo
from streams.commands.kept import clickhouse_url
from streams.domain.policy import HOUR
from streams.settings import Settings
from streams.sources.record import SourceRecord, event

pytestmark = pytest.mark.replay

#: The Fridays before clocks change, in spring and in autumn.
FRIDAYS: Final = {
    "America/New_York": (date(2026, 3, 6), date(2026, 10, 30)),
    "Europe/London": (date(2026, 3, 27), date(2026, 10, 23)),
}


def hourly(*starts: date) -> list[SourceRecord]:
    """From each day on, for five days of UTC, a visitor at the half of every hour, each another one."""
    found = []
    for start in starts:
        begin = int(datetime.combine(start, time(0, 30), UTC).timestamp() * 1000)
        for at in range(begin, begin + 5 * 24 * HOUR, HOUR):
            body = {"event_id": f"e{at}", "occurred_at": at, "customer_id": f"c{at}", "shop_id": "s1"}
            found.append(event(VISITS, at, body))
    return found


@pytest.mark.parametrize("zone", FRIDAYS)
def test_a_day_has_the_visitors_of_its_23_24_or_25_hours(tmp_path: Path, zone: str) -> None:
    settings = Settings(partitions=2).with_policy(zone=zone)
    outcome = run_demo(hourly(*FRIDAYS[zone]), settings, tmp_path)
    sessions = outcome.verified.tables["sessions"]
    assert (sessions.missing, sessions.extra, sessions.different) == (0, 0, 0)
    with clickhouse_url(settings, tmp_path) as url, closing(connect(url)) as client:
        for hours, friday in zip((23, 25), FRIDAYS[zone], strict=True):
            # The Saturday, the Sunday on which clocks change, and the Monday.
            cycle = Cycle.ending(friday + timedelta(3), 3)
            report = read_shop_report(client, shop_card(client, "s1", zone), cycle, cycle.until)
            visitors = report.figure("visitors")
            assert visitors is not None
            assert visitors.daily[3:] == (24, hours, 24)
            assert visitors.value == 48 + hours

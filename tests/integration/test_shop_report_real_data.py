"""The shop report on real data sets, through the whole pipeline: each figure is what its raw events say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import connect
from streams.adapters.shop_report import Cycle, Figure, read_shop_report, shop_card
from streams.commands.demo import run_demo
from streams.commands.kept import clickhouse_url
from streams.settings import Settings
from streams.sources.registry import FileSource
from tests.integration.report_reference import share
from tests.sources.real_data import real_file

pytestmark = pytest.mark.replay

#: Small, so that a busy machine does not keep a worker from its group.
BATCH: Final = 1_000
ORDERS, STAYS, FIGURES = (Path(__file__).parent / "report_from_events.sql").read_text().split(";\n")


@contextmanager
def played(name: str, format_name: str, settings: Settings, folder: Path) -> Iterator[Client]:
    """What the pipeline has made of a real file."""
    outcome = run_demo(FileSource(real_file(name), format_name), settings, folder)
    for name in ("sessions", "purchases", "item_days", "leaks"):
        table = outcome.verified.tables[name]
        assert (table.missing, table.extra, table.different) == (0, 0, 0), name
    with clickhouse_url(settings, folder) as url, closing(connect(url)) as client:
        yield client


def gather(client: Client, settings: Settings, shop: str, guests: str = "") -> None:
    """Make orders and sessions of the raw events, to be asked of many days."""
    policy = settings.policy
    given = {"shop": shop, "zone": policy.zone, "guests": guests, "amendment_ms": policy.amendment_window}
    client.command(ORDERS, given)
    client.command(STAYS, {**given, "gap_ms": policy.gap, "recovery_ms": policy.recovery_window})


def from_events(client: Client, span: Cycle, with_bots: bool) -> dict[str, int | Decimal | None]:
    """All figures of these days, by name, of what was gathered."""
    given = {"since": span.since, "until": span.until, "with_bots": with_bots}
    row: dict[str, Any] = next(iter(client.query(FIGURES, given).named_results()))
    visitors, sessions, lost, buyers = (row[name] for name in ("visitors", "sessions", "lost", "buyers"))
    browsed = lost - row["carted"] - row["favorited"] - row["bounced"]
    return {
        "visitors": visitors,
        "new_visitors": row["new_visitors"],
        "returning_visitor_share": share(row["returning"], visitors),
        "favorites": row["favorites"],
        "conversion_to_favorite": share(row["favoriting"], visitors),
        "conversion_to_cart": share(row["carting"], visitors),
        "conversion_to_order": share(row["ordering"], visitors),
        "paying_buyers": buyers,
        "new_buyers": buyers - row["old_buyers"],
        "old_buyers": row["old_buyers"],
        "old_buyer_share": share(row["old_buyers"], buyers),
        "paid_amount": row["paid"],
        "amount_per_buyer": share(row["paid"], buyers),
        "refunded_amount": row["refunded"],
        "sessions": sessions,
        "loss_rate": share(lost, sessions),
        "bounced_rate": share(row["bounced"], sessions),
        "browsed_rate": share(browsed, sessions),
        "favorited_rate": share(row["favorited"], sessions),
        "carted_rate": share(row["carted"], sessions),
        "recovered": row["recovered"],
        "value_at_risk": row["value_at_risk"],
        # With one shop nothing can have been bought elsewhere.
        "leaked_amount": Decimal(0),
    }


def compare(
    client: Client, settings: Settings, shop: str, until: date, days: int, guests: str = ""
) -> dict[str, Figure]:
    """The report's figures, each found to be that of the raw events: of both cycles, and day by day."""
    card = shop_card(client, shop, settings.policy.zone)
    cycle = Cycle.ending(until, days)
    report = read_shop_report(client, card, cycle, until, guests)
    both = [cycle, report.before]
    each = [Cycle(day, day) for day in (*report.before.days, *cycle.days)] if days <= 7 else []
    plain = [from_events(client, span, False) for span in (*both, *each)]
    bots = [from_events(client, span, True) for span in both]
    found = {}
    for figure in report.figures:
        said = [figure.value, figure.before, *(figure.daily if each else ())]
        assert said == [told[figure.name] for told in plain], figure.name
        if figure.with_bots is not None:
            assert list(figure.with_bots) == [told[figure.name] for told in bots], figure.name
        found[figure.name] = figure
    return found


def test_the_report_of_the_taobao_data_is_what_its_events_say(tmp_path: Path) -> None:
    """The data is of 09:00 to 10:55 on one day in Shanghai."""
    settings = Settings(partitions=4, batch_records=BATCH).with_policy(zone="Asia/Shanghai")
    with played("userbehavior.csv", "userbehavior", settings, tmp_path) as client:
        that_day = date(2017, 11, 26)
        gather(client, settings, "taobao")
        for until, days in [(that_day, 1), (that_day, 7), (that_day + timedelta(3), 2)]:
            found = compare(client, settings, "taobao", until, days)
        assert found["visitors"].value == 0
        found = compare(client, settings, "taobao", that_day, 7)
    assert found["paying_buyers"].value == 2_071
    assert found["favorites"].value == 2_959
    assert (found["sessions"].value, found["visitors"].value) == (62_116, 58_732)
    assert "paid_amount" not in found, "the data has no prices"


def test_the_report_of_online_retail_is_what_its_events_say(tmp_path: Path) -> None:
    """A year in London: weeks with a day of 23 and of 25 hours, a month, a quarter, and all of it."""
    settings = Settings(partitions=4, batch_records=BATCH).with_policy(zone="Europe/London")
    with played("online_retail.parquet", "online-retail", settings, tmp_path) as client:
        found = {}
        for guests in ("", "guest-"):
            gather(client, settings, "online-retail", guests)
            for until, days in [
                (date(2011, 3, 27), 7),
                (date(2011, 10, 30), 7),
                (date(2011, 11, 30), 30),
                (date(2011, 12, 9), 90),
                (date(2011, 12, 9), 374),
            ]:
                found[guests, days] = compare(client, settings, "online-retail", until, days, guests)
    for name in ("paying_buyers", "paid_amount"):
        assert found["", 90][name].value > found["guest-", 90][name].value > 0, name  # type: ignore[operator]
    # A guest never comes again, and so is no old buyer.
    assert found["", 90]["old_buyers"].value == found["guest-", 90]["old_buyers"].value
    whole = found["guest-", 374]
    # All of the data, before which nobody has bought.
    assert (whole["paying_buyers"].value, whole["old_buyers"].value) == (4_339, 0)

"""The demo on a real data set: published figures, and the same rows whatever the order of delivery."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from streams.adapters.clickhouse import connect
from streams.commands.demo import Outcome, run_demo
from streams.commands.kept import clickhouse_url
from streams.settings import Settings
from streams.sources.delivery import Redelivered, Shuffled
from streams.sources.registry import FileSource
from streams.sources.replayer import Source
from tests.sources.real_data import real_file

pytestmark = pytest.mark.replay

#: Each tenth of 96,169 records once more.
AGAIN = 9_616


def play(source: Source, settings: Settings, folder: Path) -> tuple[Outcome, list[str]]:
    """The demo's outcome, and every row of its sessions with all columns."""
    outcome = run_demo(source, settings, folder)
    with clickhouse_url(settings, folder) as url, closing(connect(url)) as client:
        rows = client.query("SELECT toString(tuple(*)) FROM sessions FINAL ORDER BY session_id").result_rows
    return outcome, [row[0] for row in rows]


def source() -> FileSource:
    return FileSource(real_file("userbehavior.csv"), "userbehavior")


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[str]]:
    return play(source(), Settings(partitions=4), tmp_path_factory.mktemp("in-order"))


def test_the_demo_gives_the_published_figures_of_the_taobao_data(in_order: tuple[Outcome, list[str]]) -> None:
    outcome, rows = in_order
    report = outcome.report
    assert report.sessions == {
        "total": 62_116,
        "converted": 2_077,
        "bounced": 37_528,
        "browsed": 15_057,
        "favorited": 2_581,
        "carted": 4_873,
    }
    assert report.buyers == 2_071
    assert report.events == {"in": 96_169, "applied": 96_168, "duplicate": 0, "late": 0, "rejected": 1}
    assert outcome.verified.exact
    assert len(rows) == 62_116


def test_shuffled_and_partly_told_twice_it_ends_in_the_same_rows(
    in_order: tuple[Outcome, list[str]], tmp_path: Path
) -> None:
    settings = Settings(partitions=4).with_policy(horizon=12 * 86_400_000)
    outcome, rows = play(Shuffled(Redelivered(source(), 10), seed=4), settings, tmp_path)
    events = outcome.report.events
    assert events["in"] == 96_169 + AGAIN
    assert events["in"] == events["applied"] + events["duplicate"] + events["late"] + events["rejected"]
    assert (events["applied"], events["late"]) == (96_168, 0)
    assert outcome.verified.exact
    assert rows == in_order[1]


def test_the_demo_gives_the_published_figures_of_online_retail(tmp_path: Path) -> None:
    """A year of purchases and of silence in one run; guests, who never return, are no buyers."""
    retail = FileSource(real_file("online_retail.parquet"), "online-retail")
    outcome = run_demo(retail, Settings(partitions=4), tmp_path)
    report = outcome.report
    assert outcome.verified.exact, outcome.verified.samples
    assert outcome.verified.tables["transitions"].rows > 10_000
    assert report.rfm == {
        "buyers": 4_339,
        "repeat_purchases": 12_427,
        "repeaters": 2_790,
        "recency_sum_days": 567_287,
        "age_sum_days": 966_655,
        "over_90_days": 1_449,
        "over_180_days": 858,
        "net_revenue": {"GBP": "8300065.8140"},
        "net_revenue_with_guests": {"GBP": "9747747.9340"},
        "churn_rate": report.rfm["churn_rate"],
    }
    stages = report.lifecycle
    bought = sum(stages.values()) - stages["prospect"]
    # Who has had all taken back again is a prospect, or forgotten.
    assert 4_300 < bought <= 4_339
    assert report.rfm["churn_rate"] == round(stages["lapsed"] / bought, 4) > 0

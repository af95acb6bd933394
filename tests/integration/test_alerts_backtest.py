"""``ebbtide alerts backtest`` on files as people keep them, right and wrong."""

from __future__ import annotations

import csv
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from streams.cli import main

MONDAY = 1_772_409_600
MINUTES = 4 * 1440
SPIKE = range(3 * 1440 + 600, 3 * 1440 + 660)


def rows() -> list[dict[str, object]]:
    """Four days of ten sessions a minute, half of them lost; in one hour nine of ten are."""
    chance = random.Random(3)
    found: list[dict[str, object]] = []
    for number in range(MINUTES):
        loss = 0.9 if number in SPIKE else 0.5
        lost = sum(chance.random() < loss for _ in range(10))
        stamp = datetime.fromtimestamp(MONDAY + 60 * number, UTC).isoformat()
        found.append({"timestamp": stamp, "closed": 10, "lost": lost, "label": int(number in SPIKE)})
    return found


ROWS = rows()


def write(path: Path, some: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(some[0]) if some else ["timestamp", "closed", "lost"])
            writer.writeheader()
            writer.writerows(some)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(some), path)
    else:
        path.write_text("\n".join(map(json.dumps, some)))
    return path


def run(path: Path, *args: str) -> Result:
    asked = ["alerts", "backtest", str(path), "--learn-days", "3", "--format", "json", *args]
    return CliRunner().invoke(main, asked, catch_exceptions=False)


def told(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_spike_is_found_and_scored_in_every_kind_of_file(name: str, tmp_path: Path) -> None:
    *alarms, found = told(run(write(tmp_path / name, ROWS), "--label", "label"))
    assert {alarm["signal"] for alarm in alarms} >= {"loss_rate"}
    assert (found["precision"], found["recall"]) == (1.0, 1.0)
    assert isinstance(found["delay_min"], float)
    assert found["delay_min"] <= 15


def test_order_does_not_matter_and_missing_minutes_are_nothing(tmp_path: Path) -> None:
    some = [row for number, row in enumerate(ROWS) if number % 7]
    shuffled = random.Random(1).sample(some, len(some))
    assert told(run(write(tmp_path / "a.csv", some))) == told(run(write(tmp_path / "b.csv", shuffled))) != []


def test_a_series_of_values_has_its_own_wavering(tmp_path: Path) -> None:
    chance = random.Random(5)
    some: list[dict[str, object]] = [
        {"timestamp": MONDAY + 300 * n, "value": chance.gauss(50, 4) + (60 if 1600 <= n < 1612 else 0)}
        for n in range(2016)
    ]
    alarms = told(run(write(tmp_path / "a.csv", some), "--value", "value"))
    assert alarms
    begins = datetime.fromtimestamp(MONDAY + 300 * 1600, UTC).isoformat().replace("+00:00", "Z")
    assert all(str(alarm["fired"]) >= begins for alarm in alarms)


def test_local_times_are_of_the_zone_and_the_hour_that_comes_twice_is_said(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Paris")
    local = [
        {**row, "timestamp": datetime.fromtimestamp(MONDAY + 60 * n, zone).replace(tzinfo=None).isoformat()}
        for n, row in enumerate(ROWS)
    ]
    by_offset = told(run(write(tmp_path / "a.csv", ROWS), "--zone", "Europe/Paris"))
    assert told(run(write(tmp_path / "b.csv", local), "--zone", "Europe/Paris")) == by_offset
    twice = [{"timestamp": f"2026-10-25T02:30:0{n}", "closed": 1, "lost": 0} for n in range(2)]
    found = run(write(tmp_path / "c.csv", twice), "--zone", "Europe/Paris")
    assert "is there twice" in found.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lost": 11}, "11 lost of 10 closed"),
        ({"lost": "NaN"}, "row 3: lost is 'NaN'; leave out rows without a number"),
        ({"lost": ""}, "row 3: lost is ''; leave out"),
        ({"lost": "many"}, "row 3: lost is 'many', no number"),
        ({"lost": 1.5}, "counts must be whole"),
        ({"timestamp": "soon"}, "row 3: 'soon' is no time"),
        ({"timestamp": ROWS[0]["timestamp"]}, "is there twice; a minute has one row"),
        ({"label": "maybe"}, "row 3: the label 'maybe' is neither 0 nor 1"),
    ],
)
def test_a_row_that_is_wrong_is_named(change: dict[str, object], said: str, tmp_path: Path) -> None:
    some = [*ROWS[:2], {**ROWS[2], **change}, *ROWS[3:5]]
    found = run(write(tmp_path / "a.csv", some), "--label", "label")
    assert found.exit_code == 1
    assert said in found.output
    assert "Traceback" not in found.output


def test_an_empty_file_a_missing_column_and_a_zone_that_is_none_are_said(tmp_path: Path) -> None:
    assert "has no rows" in run(write(tmp_path / "a.csv", [])).output
    found = run(write(tmp_path / "b.csv", ROWS[:3]), "--value", "price")
    assert "row 1 has no 'price'; it has timestamp, closed, lost, label" in found.output
    assert "'Mars' is no time zone" in run(write(tmp_path / "c.csv", ROWS[:3]), "--zone", "Mars").output
    (tmp_path / "d.jsonl").write_text("{")
    assert "cannot be read" in run(tmp_path / "d.jsonl").output

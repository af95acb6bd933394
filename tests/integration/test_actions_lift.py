"""``ebbtide actions lift``: a lift that was planted in stored facts is found, and no other is."""

from __future__ import annotations

import json
import os
import random
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.adapters.clickhouse import Store, migrate
from streams.cli import main
from streams.domain.actions import is_holdout
from streams.domain.policy import DAY, Policy
from tests.builders import NOON
from tests.integration.stored import store


def run(*args: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, ["actions", "lift", *args], env=clean, catch_exceptions=False)


def lifts(*args: str) -> dict[tuple[str, str], Any]:
    rows = [json.loads(line) for line in run("--json", *args).output.splitlines()]
    return {(row["shop_id"], row["kind"]): row for row in rows}


@pytest.fixture
def planted(database: str) -> str:
    """Two thousand customers, a fifth left alone: winning back triples 6 %, coupon care does nothing to 10 %;
    in a second shop there is nobody in the holdout."""
    migrate(database)
    chance = random.Random(11)
    policy = Policy(holdout_percent=20.0)
    actions, sessions = [], []
    for number in range(2000):
        kind = ("win_back", "coupon_care")[number % 2]
        name = f"c{number}"
        holdout = is_holdout(name, "s1", kind, policy)  # type: ignore[arg-type]
        at = NOON + chance.randrange(40) * DAY
        actions.append({"customer_id": name, "kind": kind, "at": at, "holdout": holdout})
        rate = 0.10 if kind == "coupon_care" else 0.06 if holdout else 0.18
        if chance.random() < rate:
            later = at + 1 + chance.randrange(30 * DAY)
            sessions.append({"customer_id": name, "started_at": later, "orders": 1})
    actions.append({"customer_id": "c1", "shop_id": "s2", "kind": "win_back", "at": NOON})
    ingest = [{"topic": "orders", "partition": 0, "watermark": NOON + 65 * DAY}]
    with closing(Store(database)) as into:
        store(into, {"actions": actions, "sessions": sessions, "ingest": ingest})
    return database


def test_a_planted_lift_is_found_and_one_that_is_not_there_is_not(planted: str) -> None:
    found = lifts("--clickhouse", planted)
    won = found["s1", "win_back"]
    assert won["lift"]["low"] <= 0.12 <= won["lift"]["high"]
    assert won["lift"]["low"] > 0
    assert won["lift"]["p_value"] < 0.001
    care = found["s1", "coupon_care"]
    assert care["lift"]["low"] < 0 < care["lift"]["high"]
    assert care["lift"]["p_value"] > 0.05
    assert (
        0.15
        < care["holdout"]["customers"] / (care["holdout"]["customers"] + care["treated"]["customers"])
        < 0.25
    )


def test_who_is_not_over_yet_is_waited_for_and_a_shorter_span_judges_more(planted: str) -> None:
    after_30 = lifts("--clickhouse", planted, "--shop", "s1", "--kind", "win_back")["s1", "win_back"]
    after_10 = lifts("--clickhouse", planted, "--kind", "win_back", "--within", "10d")["s1", "win_back"]
    judged = [row["treated"]["customers"] + row["holdout"]["customers"] for row in (after_30, after_10)]
    assert judged[0] + after_30["waiting"] == 1000
    # Due in the first 40 days, watermark at 65: the last four days wait for 30 days to be over.
    assert 60 < after_30["waiting"] < 140
    assert (judged[1], after_10["waiting"]) == (1000, 0)


def test_without_a_holdout_nothing_is_claimed(planted: str) -> None:
    row = lifts("--clickhouse", planted, "--shop", "s2")["s2", "win_back"]
    assert (row["lift"], row["holdout"]) == (None, {"customers": 0, "bought": 0, "rate": None})
    told = run("--clickhouse", planted, "--shop", "s2").output
    assert "pp" not in told


def test_a_person_reads_percentage_points_and_an_interval(planted: str) -> None:
    row = next(
        line for line in run("--clickhouse", planted).output.splitlines() if "s1" in line and "win" in line
    )
    assert "pp" in row
    assert " to +" in row
    assert "<0.0001" in row


def test_actions_before_the_day_asked_about_are_left_out(planted: str) -> None:
    found = lifts("--clickhouse", planted, "--since", "2026-05-01")
    assert found == {}
    assert run("--clickhouse", planted, "--since", "2026-05-01").output == "no action has been due\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--within", "soon"], "is not a duration"),
        (["--within", "0s"], "at least a second"),
        (["--kind", "spam"], "win_back"),
        (["--since", "May"], "May"),
        (["--clickhouse", "http://127.0.0.1:1/db"], "cannot be reached"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output

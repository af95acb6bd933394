"""Segments by file: what is wrong is said; what is published reaches everyone, and ClickHouse."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from clickhouse_connect.driver.client import Client

from schemas.topics import SEGMENT_RULES
from streams.adapters.kafka.everywhere import publish_everywhere
from streams.adapters.kafka.rules import publish_rules, published_rules
from streams.adapters.segments import RULES_RECORD, SegmentsError, read_text, write_text
from streams.cli import main
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import RuleSet
from streams.settings import Settings
from streams.workers import Workers
from tests.builders import body, order, visit
from tests.integration.pipelines import deployed, send, wait_until

GOOD: Final = """
segments:
  - name: regulars
    description: Ordered twice in 90 days
    shops: [s1, s2]
    rule: orders_90d >= 2
  - name: away
    rule:
      all:
        - since_last_visit >= 14d
        - not: {any: [stage == prospect, "orders < 2"]}
"""


def run(*args: str, settings: Settings | None = None) -> Result:
    return ebbtide("segments", *args, settings=settings)


def ebbtide(*args: str, settings: Settings | None = None) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    env = clean | (settings.to_env() if settings is not None else {})
    return CliRunner().invoke(main, list(args), env=env, catch_exceptions=False)


def test_a_file_is_read_and_comes_back_from_its_own_text() -> None:
    rules = read_text(GOOD.encode(), "segments.yaml", 3)
    assert [(s.name, s.shops) for s in rules.segments] == [("regulars", ("s1", "s2")), ("away", None)]
    assert read_text(write_text(rules).encode(), "again", 3) == rules
    assert read_text(write_text(READY_MADE.rule_set).encode(), "again", 0) == READY_MADE.rule_set


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ("{name: a, rule: visit_7d > 2}", "segment 'a': rule: 'visit_7d > 2': there is no field 'visit_7d'"),
        ("{name: a, rule: {all: [orders > 1, tiers == vip]}}", "rule.all[1]: 'tiers == vip'"),
        ("{name: a}", "segment 'a': has no rule"),
        ("{rule: orders > 1}", "segment 1: must have a name"),
        ("{name: Big Spenders, rule: orders > 1}", "small letters, digits and hyphens, not 'Big Spenders'"),
        ("{name: a, rules: orders > 1}", "there is no field 'rules'; the nearest is 'rule'"),
        ("{name: a, shops: s1, rule: orders > 1}", "shops must be a list of shop ids"),
        ("{name: a, description: 7, rule: orders > 1}", "description must be text"),
        ("a name", "segment 1: must have the fields"),
        ("{name: a, rule: orders > 1}\n  - {name: a, rule: orders > 2}", "there are two of this name"),
        ("{name: a, rule: orders > 1, rule: orders > 2}", "'rule' is there twice"),
        ("{name: a, rule: [}", "is no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_segment(segment: str, said: str) -> None:
    with pytest.raises(SegmentsError) as found:
        read_text(f"segments:\n  - {segment}\n".encode(), "my.yaml", 1)
    assert said in str(found.value)
    assert str(found.value).startswith("my.yaml: ")


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "segments.yaml"
    path.write_text("segments:\n  - {name: a, rule: order > 1}\n  - {name: b, rule: visits_0d > 1}\n")
    found = run("check", str(path))
    assert found.exit_code == 1
    assert "'order'; the nearest is 'orders'" in found.output
    assert "segment 'b'" in found.output


def test_the_ready_made_segments_are_listed_without_a_broker(tmp_path: Path) -> None:
    shown = run("list", "--ready-made")
    assert shown.exit_code == 0
    assert "(m_score >= 4 or orders >= 5) and since_last_visit >= 30d" in shown.output
    path = tmp_path / "segments.yaml"
    path.write_text(run("list", "--ready-made", "--yaml").output)
    checked = run("check", str(path))
    assert (checked.exit_code, checked.output) == (0, f"{path}: 5 segment(s), nothing is wrong\n")


@pytest.fixture(scope="module")
def live(kafka: str, clickhouse: str) -> Iterator[tuple[Settings, Client]]:
    with deployed(kafka, clickhouse, partitions=2, tick_interval_s=0.1, sink_max_wait_s=0.2) as deployment:
        yield deployment


def members(client: Client) -> set[tuple[str, str]]:
    rows = client.query("SELECT segment, customer_id FROM segment_members").result_rows
    return {(segment, customer) for segment, customer in rows}


def applied(client: Client) -> int:
    return int(client.query("SELECT sum(applied) FROM ingest FINAL").result_rows[0][0])


def status(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("status", "--json", settings=settings).stdout)
    return found


@pytest.mark.replay
def test_an_edit_reaches_everyone_and_events_go_on_by_it(
    live: tuple[Settings, Client], tmp_path: Path
) -> None:
    """Ready-made first; then a file with --wait; then one without a segment, whose members are gone."""
    settings, client = live
    now = int(time.time() * 1000)
    who = [(f"c{n}", n % 2) for n in range(10)]
    first = [visit(now, customer_id=customer, event_id=f"v-{customer}") for customer, _ in who]
    bought = order(now, customer_id="c1", event_id="o-c1")
    path = tmp_path / "segments.yaml"
    with Workers(settings, ("customers", "sink"), tmp_path) as workers:

        def until(what: str, wanted: set[tuple[str, str]]) -> None:
            wait_until(what, lambda: (workers.check(), members(client) == wanted)[1])

        visits = [("visits", c.encode(), body(event), p) for (c, p), event in zip(who, first, strict=True)]
        asyncio.run(send(settings, [*visits, ("orders", b"c1", body(bought), 1)]))
        wait_until("everyone is there", lambda: (workers.check(), applied(client) == 11)[1])
        assert members(client) == set()
        path.write_text(
            "segments:\n  - {name: here, rule: visits_1d >= 1}\n  - {name: none, rule: orders == 0}\n"
        )
        published = run("publish", str(path), "--wait", "--timeout", "60", settings=settings)
        assert published.exit_code == 0, published.output
        assert "2 segment(s) published to all 2 partitions" in published.output
        assert "10 of 10 customers looked at" in published.output
        everyone = {customer for customer, _ in who}
        here = {("here", customer) for customer in everyone}
        until("everyone is in", here | {("none", c) for c in everyone - {"c1"}})
        newcomer = visit(int(time.time() * 1000), customer_id="new", event_id="v-new")
        asyncio.run(send(settings, [("visits", b"new", body(newcomer), 0)]))
        here.add(("here", "new"))
        until("so is who comes later", here | {("none", c) for c in (everyone | {"new"}) - {"c1"}})
        told = status(settings)
        assert told["is_finished"]
        assert told["members"] == {"here": 11, "none": 10}
        path.write_text("segments:\n  - {name: none, rule: orders == 0}\n")
        assert run("publish", str(path), "--wait", settings=settings).exit_code == 0
        until("the segment is gone", {("none", c) for c in (everyone | {"new"}) - {"c1"}})
    gone = "SELECT count() FROM segments FINAL WHERE segment = 'here'"
    assert client.query(gone).result_rows == [(0,)]
    shown = run("status", settings=settings)
    assert shown.exit_code == 0
    assert "2 of 2 partitions have ended" in shown.output
    # Judged by the rules that were published last.
    assert "10 segments, 0 missing, 0 extra, 0 different" in ebbtide("verify", settings=settings).output


def test_a_publication_that_was_cut_is_found_and_mended(kafka: str, clickhouse: str) -> None:
    with deployed(kafka, clickhouse, partitions=2) as (settings, _):
        assert run("list", settings=settings).output.endswith("ready-made; none has been published\n")
        publish_rules(settings, RuleSet(5, READY_MADE.rule_set.segments))
        assert published_rules(settings).newest == 5
        publish_everywhere(settings, SEGMENT_RULES, [(RULES_RECORD, b"{")])
        shown = run("list", settings=settings)
        assert shown.exit_code == 1
        assert "holds no rules" in shown.output
        again = run("publish", "--ready-made", settings=settings)
        assert again.exit_code == 0
        assert published_rules(settings).newest > 5

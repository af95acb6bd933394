"""Other rules while the batch loop is cut at any record it writes: everyone is looked at all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.losses import SegmentFact, SegmentRun
from streams.adapters.segments import RULES_RECORD, encode_rules_record
from streams.agents.customers import Bundle, Customers
from streams.agents.partition import DEADLINE_GRANULE_MS
from streams.agents.rule_run import RuleRun
from streams.domain.events import Input, Visit
from streams.domain.progress import RULES_KEY, RUN_KEY, Run, decode_run
from streams.domain.state import decode
from streams.settings import Settings
from tests.agents import test_batch_loop_laws as loop
from tests.agents.test_batch_loop_laws import (
    Feed,
    Log,
    Record,
    States,
    batches,
    feed_of,
    live,
    shifted,
    turns,
)
from tests.domain.stories import POLICY, make, story
from tests.domain.test_laws import end_of, laws
from tests.domain.test_segments import SEGMENTS, Floor, Member, compiled

SETTINGS = Settings(policy=POLICY, ticks="off", partitions=1, segments_per_batch=1)


@pytest.fixture(autouse=True)
def _one_customer_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SETTINGS", SETTINGS)


def rules_record(segments: dict[str, Any], version: int) -> Record:
    rules = compiled(segments, version).rule_set
    return Record(version - 1, RULES_RECORD, encode_rules_record(rules), 10**12)


def members(log: Log) -> set[Member]:
    """Who belongs to what, by the highest versions in the log."""
    latest: dict[Member, SegmentFact] = {}
    for topic, _, value in log.sent:
        if topic == topics.SEGMENTS.name:
            fact = SegmentFact.model_validate_json(value or b"")
            key = (fact.customer_id, fact.shop_id, fact.segment)
            before = latest.get(key)
            if before is not None and before.version == fact.version:
                assert fact == before, "a version is said once"
            if before is None or fact.version > before.version:
                latest[key] = fact
    return {key for key, fact in latest.items() if fact.is_member and not fact.is_deleted}


def runs(log: Log) -> list[SegmentRun]:
    return [
        SegmentRun.model_validate_json(value or b"")
        for topic, _, value in log.sent
        if topic == topics.SEGMENT_RUNS.name
    ]


# A fixture of the whole module is what it is for every example.
@laws
@given(story(10), SEGMENTS, SEGMENTS, st.lists(st.integers(0, 60), max_size=4), batches, turns)
def test_a_crash_at_any_record_leaves_everyone_where_the_last_rules_put_them(
    events: list[Input],
    first: dict[str, Any],
    last: dict[str, Any],
    crashes: list[int],
    sizes: list[int],
    order: list[int],
) -> None:
    """Two rule sets published at any point between the events; only the second one's members remain."""
    told = shifted(events)
    end = end_of(told) + DEADLINE_GRANULE_MS
    feed = feed_of(told, [], [end - 1, end])
    feed.records[topics.SEGMENT_RULES.name] = [
        rules_record({f"old-{name}": rule for name, rule in first.items()}, 1),
        rules_record(last, 2),
    ]
    log = Log()
    live(log, feed, crashes, sizes, order)
    # Ticks go on until everyone has been looked at.
    live(log, feed_of([], [], [end]), [], [], [])
    whole = Floor(compiled(last, 2), POLICY)
    whole.take(told, -1)
    whole.pass_to(end)
    assert members(log) == whole.members()
    ended = [run for run in runs(log) if run.rules_version == 2 and run.is_finished]
    assert ended
    assert all(run.done == run.total for run in ended)


def test_rules_that_nobody_can_read_are_dead_letters_and_change_nothing() -> None:
    log = Log()
    feed = feed_of([], [], [])
    good = rules_record({"here": "visits_1d >= 1"}, 1)
    feed.records[topics.SEGMENT_RULES.name] = [
        Record(0, b"rules", b"{", 10**12),
        Record(1, b"other", good.value, 10**12),
        Record(2, b"rules", good.value.replace(b">=", b"=~"), 10**12),
    ]
    live(log, feed, [], [3], [])
    assert [where for where in log.letters if where[0] == "segment-rules"] == [
        ("segment-rules", "0"),
        ("segment-rules", "1"),
        ("segment-rules", "2"),
    ]
    assert all(key != RULES_KEY for key, _ in log.changelog)


def test_a_batch_looks_at_so_many_and_a_restart_goes_on() -> None:
    """Twenty customers, one a batch; a worker that takes over passes over those that were looked at."""
    told = shifted([make(10**9 + n, f"e{n}", Visit, customer_id=f"c{n}") for n in range(20)])
    log = Log()
    live(log, feed_of(told, [], []), [], [20], [])
    states = States(log)
    worker = Customers(SETTINGS, states, log.send, lambda *_: True)
    worker.assign(0)
    rules = rules_record({"here": "visits_90d >= 1"}, 1)
    _handle(worker, topics.SEGMENT_RULES.name, rules)
    tick = Record(0, None, json.dumps({"at": told[-1].t}).encode(), 10**12)
    for _ in range(9):
        _handle(worker, topics.TICKS.name, tick)
    assert len(members(log)) == 10
    again = Customers(SETTINGS, States(log), log.send, lambda *_: True)
    again.assign(0)
    for _ in range(20):
        _handle(again, topics.TICKS.name, tick)
    assert len(members(log)) == 20
    assert decode_run(States(log).store[RUN_KEY]).finished
    last = runs(log)[-1]
    assert (last.rules_version, last.done, last.total, last.is_finished) == (1, 20, 20, True)
    facts = {value for topic, _, value in log.sent if topic == topics.SEGMENTS.name}
    assert len(facts) == 20, "nobody is told anything else by the second worker"


def test_a_run_that_ended_before_it_was_told_is_told_by_the_next_worker() -> None:
    run = RuleRun.start(3, [b"a", b"b"], Run(3, 2, 0, True))
    assert len(run) == 0
    told = run.report(5)
    assert told is not None
    assert (told["done"], told["total"], told["is_finished"]) == (2, 2, True)


def _handle(worker: Customers, topic: str, record: Record) -> None:
    loop._run(worker.handle(0, [Bundle(topic, [record], 0.0)]))


def test_states_of_an_earlier_release_are_looked_at_once() -> None:
    """They have never been asked: the ready-made rules go through them like any others."""
    golden = (Path(__file__).parents[1] / "domain" / "state_v2.hex").read_text()
    log = Log()
    log.changelog.append((b"c", bytes.fromhex(golden)))
    end = 10**12 + POLICY.gap + 20
    for _ in range(3):
        live(log, feed_of([], [], [end]), [], [], [])
    assert {shop.asked for shop in decode(States(log).store[b"c"]).shops.values()} == {0}
    (*_, last) = runs(log)
    assert (last.rules_version, last.done, last.total, last.is_finished) == (0, 1, 1, True)


def test_the_feed_of_this_module_is_that_of_the_batch_loop() -> None:
    """What is published comes like any topic: acked, and again after a crash."""
    feed = Feed({topics.SEGMENT_RULES.name: [rules_record({"here": "orders == 0"}, 1)]})
    assert feed.left() == [topics.SEGMENT_RULES.name]

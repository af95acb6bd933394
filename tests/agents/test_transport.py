"""The bundled transport with real worker processes on the Kafka in use: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.transport_harness import Bench, Worker, bench_on, wait_for


@pytest.fixture
def bench(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    with bench_on(kafka, topic_prefix, tmp_path) as bench:
        yield bench


def test_graceful_restarts_deliver_every_record_exactly_once(bench: Bench) -> None:
    """The seek race, and acks dropped before the commit, made duplicates at each restart."""
    for _ in range(3):
        bench.send(1_000)
        worker = bench.worker(slow_s=0.02)
        worker.wait("bundle", 4)  # in the middle of it
        assert worker.stop() == 0, worker.said()
    bench.worker()
    bench.wait_drained()
    assert bench.handed_over() == dict.fromkeys(bench.everything(), 1)
    assert bench.counts() == bench.expected_counts()


def test_kill_9_delivers_again_only_what_was_not_committed_and_state_counts_it_once(bench: Bench) -> None:
    chance = random.Random(1)
    committed: dict[tuple[str, int], int] = {}
    for _ in range(4):
        bench.send(700)
        worker = bench.worker(slow_s=0.01, session_s=6.0)
        worker.wait("bundle", chance.randint(1, 8))
        time.sleep(chance.random() * 1.5)
        worker.kill()
        _begins_at(worker, committed)
        committed = bench.committed()
    last = bench.worker(session_s=6.0)
    bench.wait_drained(120)
    _begins_at(last, committed)
    assert set(bench.handed_over()) == bench.everything()
    assert bench.counts() == bench.expected_counts()


def _begins_at(worker: Worker, committed: dict[tuple[str, int], int]) -> None:
    """Each partition's first bundle begins exactly where the group had committed before."""
    firsts: dict[tuple[str, int], int] = {}
    for line in worker.of("bundle"):
        firsts.setdefault((line["topic"], line["partition"]), line["first"])
    assert firsts == {tp: committed.get(tp, 0) for tp in firsts}


def test_workers_that_join_and_leave_share_the_records_exactly_once(bench: Bench) -> None:
    bench.send(1_500)
    first = bench.worker(slow_s=0.05)
    first.wait("bundle", 3)
    second = bench.worker(slow_s=0.05)
    second.wait("assigned")
    bench.send(1_000)
    second.wait("bundle", 2)
    assert first.stop() == 0, first.said()
    third = bench.worker(slow_s=0.05)
    third.wait("assigned")
    bench.send(500)
    bench.wait_drained(90)
    assert second.stop() == 0, second.said()
    assert third.stop() == 0, third.said()
    assert bench.handed_over() == dict.fromkeys(bench.everything(), 1)
    assert bench.counts() == bench.expected_counts()


def test_a_worker_killed_beside_another_leaves_its_partitions_with_all_their_state(bench: Bench) -> None:
    bench.send(500)
    first, second = bench.worker(session_s=6.0), bench.worker(session_s=6.0)
    wait_for(
        lambda: any(0 < len(line["partitions"]) < 3 for w in (first, second) for line in w.of("assigned")),
        "both to have partitions",
        60,
        bench,
    )
    bench.send(800)
    wait_for(lambda: bench.lag() < 3_000, "some of it to be done", 60, bench)
    first.kill()
    bench.send(300)
    bench.wait_drained(90)
    assert set(bench.handed_over()) == bench.everything()
    assert bench.counts() == bench.expected_counts()
    last = second.of("assigned")[-1]
    assert last["partitions"] == [0, 1, 2]
    assert last["keys"] == len(bench.expected_counts())


def test_a_slow_agent_holds_back_reading_and_gets_all_in_order(bench: Bench) -> None:
    bench.send(3_000)
    worker = bench.worker(slow_s=0.03, batch_records=100)
    bench.wait_drained(90)
    assert max(line["queued"] for line in worker.of("bundle")) <= 8
    for topic, partition in bench.sent:
        spans = [
            (line["first"], line["last"])
            for line in worker.of("bundle")
            if (line["topic"], line["partition"]) == (topic, partition)
        ]
        assert [first for first, _ in spans] == [0, *(last + 1 for _, last in spans[:-1])]
    assert bench.handed_over() == dict.fromkeys(bench.everything(), 1)


def test_bundles_of_all_topics_are_worked_on_one_after_the_other(bench: Bench) -> None:
    bench.send(1_000)
    worker = bench.worker(slow_s=0.01)
    bench.wait_drained()
    events = [line["event"] for line in worker.lines() if line["event"] in {"bundle", "done"}]
    assert events == ["bundle", "done"] * (len(events) // 2)
    assert {line["topic"] for line in worker.of("bundle")} == {"visits", "carts"}
    assert max(line["n"] for line in worker.of("bundle")) <= 500


def test_records_that_no_one_may_read_do_not_hold_up_the_commit(bench: Bench) -> None:
    bench.send(10)
    bench.worker()
    bench.wait_drained()
    bench.send(5)
    bench.wait_drained()
    assert bench.handed_over() == dict.fromkeys(bench.everything(), 1)


def test_an_agent_that_fails_ends_the_process_and_its_bundle_comes_again(bench: Bench) -> None:
    bench.send(100)
    worker = bench.worker(fail_at=99)
    assert worker.ended() == 1
    assert "ebbtide: told to fail" in worker.said()
    assert bench.lag() == 600
    bench.worker()
    bench.wait_drained()
    assert bench.counts() == bench.expected_counts()


def test_a_commit_that_fails_ends_the_process(bench: Bench) -> None:
    bench.send(100)
    worker = bench.worker(break_commits=True)
    assert worker.ended() == 1
    assert "told to fail" in worker.said()


def test_no_progress_although_there_are_records_ends_the_process(bench: Bench) -> None:
    bench.send(100)
    worker = bench.worker(never_ack=True, watchdog_s=3.0)
    assert worker.ended() == 1
    assert "ebbtide: no record was finished for 3 s" in worker.said()


def test_a_worker_stopped_past_half_its_session_ends_before_it_writes_again(bench: Bench) -> None:
    bench.send(2_000)
    worker = bench.worker(slow_s=0.05, session_s=6.0)
    worker.wait("bundle", 2)
    worker.process.send_signal(signal.SIGSTOP)
    done = len(worker.of("done"))
    time.sleep(5.0)  # the very thing tested: longer than the four seconds of these six that it may
    worker.process.send_signal(signal.SIGCONT)
    assert worker.ended(10) == 1
    assert "stood still for" in worker.said()
    assert len(worker.of("done")) <= done + 1
    bench.worker(session_s=6.0)
    bench.wait_drained(90)
    assert bench.counts() == bench.expected_counts()


def test_caught_up_is_said_of_an_idle_partition_and_not_of_one_with_work(bench: Bench) -> None:
    worker = bench.worker(watch=True, slow_s=1.0)
    wait_for(
        lambda: bool(worker.of("caught_up")) and bool(worker.of("caught_up")[-1]["now"]), "idle", 40, bench
    )
    bench.send(10)
    bench.wait_drained()
    wait_for(lambda: bool(worker.of("caught_up")[-1]["now"]), "idle again", 20, bench)
    mine = [line for line in worker.lines() if line.get("topic") == "visits" and line["partition"] == 0]
    began = next(line["at"] for line in mine if line["event"] == "bundle")
    done = next(line["at"] for line in mine if line["event"] == "done")
    said = worker.of("caught_up")
    between = [line for line in said if began < line["at"] < done]
    before = [line for line in said if line["at"] < began]
    assert all(not line["now"] for line in between)
    assert not (between or before)[-1]["now"], "said caught up while a bundle was in work"

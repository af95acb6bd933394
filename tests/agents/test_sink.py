"""The sink's own promises: when it inserts, what it acknowledges, how it waits, what it gives up on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from streams.adapters.clickhouse import StoreError, StoreUnavailable
from streams.adapters.columns import UndecodableFact
from streams.agents import sink as sink_module
from streams.agents.gauges import why_sink_is_unready
from streams.agents.sink import Bundle, Sink
from streams.settings import Settings
from tests.builders import record
from tests.fakes import FakeStore

COUNTS = {"received": 1, "applied": 1, "duplicate": 0, "late": 0, "rejected": 0, "watermark": 5}
LATE = {
    "event_id": "e",
    "customer_id": "c",
    "shop_id": "s",
    "occurred_at": 1,
    "arrived_at": 2,
    "watermark": 3,
    "body": "{}",
}


def nothing() -> None:
    """For bundles whose acknowledgement is of no interest."""


def bundle_of(topic: str, offsets: range, values: list[dict[str, Any]], done: Callable[[], object]) -> Bundle:
    pairs = zip(offsets, values, strict=True)
    return Bundle(topic, [record(topic, value, offset=offset) for offset, value in pairs], done)


def ingest(offsets: range, done: Callable[[], object] = nothing) -> Bundle:
    values = [{"topic": "visits", "partition": 0, "next_offset": offset, **COUNTS} for offset in offsets]
    return bundle_of("ingest", offsets, values, done)


def late(offsets: range, done: Callable[[], object] = nothing) -> Bundle:
    values = [{"topic": "visits", "partition": 0, "offset": offset, **LATE} for offset in offsets]
    return bundle_of("late-events", offsets, values, done)


@asynccontextmanager
async def running(store: FakeStore, **settings: Any) -> AsyncIterator[Sink]:
    """A sink that runs until the block ends; its failure is the block's failure."""
    sink = Sink(store, Settings(**settings))
    task = asyncio.create_task(sink.run())
    try:
        yield sink
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def end_of(sink: Sink, bundle: Bundle) -> None:
    """What ``run`` ends with once it is handed ``bundle``."""
    await sink.put(bundle)
    await asyncio.wait_for(sink.run(), 30)


async def until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.002)


def test_enough_rows_are_inserted_at_once_without_waiting_for_the_time() -> None:
    async def story() -> None:
        store = FakeStore()
        async with running(store, sink_max_rows=10, sink_max_wait_s=60) as sink:
            for start in range(0, 10, 2):
                await sink.put(ingest(range(start, start + 2)))
            await until(lambda: bool(store.inserts))
        assert [rows.num_rows for _, rows in store.inserts] == [10]

    asyncio.run(story())


def test_few_rows_are_inserted_once_their_time_has_come() -> None:
    async def story() -> None:
        store = FakeStore()
        async with running(store, sink_max_rows=1_000, sink_max_wait_s=0.05) as sink:
            await sink.put(ingest(range(3)))
            assert not store.inserts
            await until(lambda: bool(store.inserts))
        assert [rows.num_rows for _, rows in store.inserts] == [3]

    asyncio.run(story())


def test_tables_ripen_apart() -> None:
    async def story() -> None:
        store = FakeStore()
        async with running(store, sink_max_rows=4, sink_max_wait_s=60) as sink:
            await sink.put(ingest(range(3)))
            await sink.put(late(range(4)))
            await until(lambda: sink.waiting == 3)
            assert [(name, rows.num_rows) for name, rows in store.inserts] == [("late_events", 4)]

    asyncio.run(story())


def test_a_bundle_is_acknowledged_only_after_its_rows_are_in_and_in_order() -> None:
    async def story() -> None:
        store = FakeStore()
        store.gate.clear()
        acked: list[str] = []
        async with running(store, sink_max_rows=4, sink_max_wait_s=60) as sink:
            await sink.put(ingest(range(2), lambda: acked.append("first")))
            await sink.put(ingest(range(2, 4), lambda: acked.append("second")))
            await until(lambda: store.attempts == 1)
            assert acked == []
            store.gate.set()
            await until(lambda: len(acked) == 2)
        assert acked == ["first", "second"]

    asyncio.run(story())


def test_the_event_loop_lives_while_an_insert_hangs() -> None:
    async def story() -> None:
        store = FakeStore()
        store.gate.clear()
        async with running(store, sink_max_rows=1) as sink:
            await sink.put(ingest(range(1)))
            await until(lambda: store.attempts == 1)
            beats = 0
            for _ in range(5):
                await asyncio.sleep(0)
                beats += 1
            assert beats == 5
            store.gate.set()
            await until(lambda: sink.waiting == 0)

    asyncio.run(story())


def test_an_outage_is_waited_out_and_nothing_is_lost_or_acknowledged_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sink_module, "_FIRST_DELAY_S", 0.001)

    async def story() -> None:
        store = FakeStore([StoreUnavailable("ClickHouse is away")] * 6)
        acked: list[int] = []
        async with running(store, sink_max_rows=2, sink_max_wait_s=0.01) as sink:
            for start in range(0, 10, 2):
                await sink.put(ingest(range(start, start + 2), lambda start=start: acked.append(start)))
            await until(lambda: sink.retries >= 2)
            assert acked == []
            assert sink.away_since is not None
            await until(lambda: len(acked) == 5)
            assert sink.retries == 6
            assert sink.away_since is None
        assert [row["next_offset"] for row in store.rows("ingest")] == list(range(10))

    asyncio.run(story())


def test_an_outage_is_seen_while_there_is_nothing_to_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_FIRST_DELAY_S", 0.001)

    async def story() -> None:
        store = FakeStore([StoreUnavailable("ClickHouse is away")] * 4)
        sink = Sink(store, Settings(), look_s=0.001)
        task = asyncio.create_task(sink.run())
        await until(lambda: sink.away_since is not None)
        assert why_sink_is_unready(sink).startswith("ClickHouse is away, for ")
        await until(lambda: sink.away_since is None and store.pings > 5)
        assert why_sink_is_unready(sink) == ""
        task.cancel()

    asyncio.run(story())


def test_to_look_whether_clickhouse_is_there_is_no_reason_for_the_watchdog_to_wait() -> None:
    async def story() -> None:
        store, waits = FakeStore(), []
        sink = Sink(store, Settings(), waits_knowingly=lambda: waits.append(1), look_s=0.001)
        task = asyncio.create_task(sink.run())
        await until(lambda: store.pings > 5)
        assert waits == []
        task.cancel()

    asyncio.run(story())


def test_memory_is_bounded_while_clickhouse_is_away() -> None:
    async def story() -> None:
        store = FakeStore()
        store.gate.clear()
        async with running(store, sink_max_rows=2, sink_buffer_rows=6) as sink:
            taken = 0

            async def feed() -> None:
                nonlocal taken
                for start in range(0, 20, 2):
                    await sink.put(ingest(range(start, start + 2)))
                    taken += 2

            feeding = asyncio.create_task(feed())
            await until(lambda: taken == 6)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (taken, sink.waiting) == (6, 6)
            store.gate.set()
            await feeding
            await until(lambda: sink.waiting == 0)
        assert [row["next_offset"] for row in store.rows("ingest")] == list(range(20))

    asyncio.run(story())


def test_big_values_are_bounded_by_bytes_not_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "BUFFER_BYTES", 1_000)
    monkeypatch.setattr(sink_module, "INSERT_BYTES", 500)

    async def story() -> None:
        store = FakeStore()
        async with running(store, sink_max_rows=1_000, sink_max_wait_s=60) as sink:
            for start in range(20):
                await sink.put(ingest(range(start, start + 1)))
            await until(lambda: len(store.inserts) >= 2)
        assert all(rows.num_rows < 6 for _, rows in store.inserts)

    asyncio.run(story())


def test_a_full_buffer_is_stored_without_waiting_even_below_the_size_of_an_insert() -> None:
    async def story() -> None:
        store = FakeStore()
        async with running(store, sink_max_rows=100, sink_buffer_rows=4, sink_max_wait_s=60) as sink:
            await sink.put(ingest(range(2)))
            await sink.put(late(range(2)))
            await asyncio.wait_for(sink.put(ingest(range(2, 4))), 30)

    asyncio.run(story())


@pytest.mark.parametrize("failure", [StoreError("no such column"), RuntimeError("a bug")])
def test_what_trying_again_cannot_mend_ends_the_sink_unacknowledged(failure: Exception) -> None:
    async def story() -> None:
        acked: list[int] = []
        bundle = ingest(range(1), lambda: acked.append(1))
        with pytest.raises(type(failure), match=str(failure)):
            await end_of(Sink(FakeStore([failure]), Settings(sink_max_rows=1)), bundle)
        assert acked == []

    asyncio.run(story())


def test_a_fact_that_is_none_of_ours_ends_the_sink_and_names_its_place() -> None:
    async def story() -> None:
        bundle = Bundle(
            "ingest", [record("ingest", {"topic": "visits"}, partition=2, offset=7)], lambda: None
        )
        with pytest.raises(UndecodableFact, match=r"Record 7 of ingest\[2\] is no IngestCount of ours"):
            await end_of(Sink(FakeStore(), Settings(sink_max_rows=1)), bundle)

    asyncio.run(story())

"""The state table: batched changelog writes, and recovery that is complete, on the Kafka in use."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.table import ENTRY_OVERHEAD, StateTable, TableError
from streams.adapters.kafka.watchdog import StalledError
from streams.adapters.kafka.worker import make_faust_app
from streams.settings import Settings
from tests.agents.transport_harness import CHANGELOG, Bench, bench_on, wait_for


@pytest.fixture
def bench(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    with bench_on(kafka, topic_prefix, tmp_path) as bench:
        yield bench


@asynccontextmanager
async def producing(kafka: str, batch_bytes: int = 10_000) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_batch_size=batch_bytes)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def read(kafka: str, topic: str, partition: int, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition)])
        records: list[ConsumerRecord[bytes, bytes]] = []
        async with asyncio.timeout(20):
            while len(records) < count:
                for some in (await consumer.getmany(timeout_ms=200)).values():
                    records += some
        return records
    finally:
        await consumer.stop()


def row(offset: int, key: bytes, value: bytes | None) -> ConsumerRecord[Any, Any]:
    return ConsumerRecord("t", 0, offset, 0, 0, key, value, None, len(key), len(value or b""), ())


def lone_table(**options: Any) -> StateTable:
    app = make_faust_app(Settings(), "table-test")
    return StateTable(app, name="t", changelog="t-state", **options)


def own(table: StateTable, *partitions: int) -> None:
    asyncio.run(table.on_recovery_completed({TopicPartition("t-state", p) for p in partitions}, set()))


# -- sending


def test_records_are_split_into_batches_and_keep_their_order(bench: Bench) -> None:
    rows = [(f"k{i}".encode(), b"x" * 100) for i in range(500)]

    async def run() -> None:
        async with producing(bench.kafka) as producer:
            sent = await send_records(producer, bench.prefix + "visits", 1, rows)
        assert len(sent) > 1
        assert [each.base_offset for each in sent] == [
            sum(before.records for before in sent[:at]) for at in range(len(sent))
        ]
        found = await read(bench.kafka, bench.prefix + "visits", 1, 500)
        assert [(record.key, record.value) for record in found] == rows

    asyncio.run(run())


def test_a_record_larger_than_a_batch_is_sent_alone_and_headers_arrive(bench: Bench) -> None:
    big = (b"big", b"y" * 50_000, [("why", b"big")])

    async def run() -> None:
        async with producing(bench.kafka) as producer:
            sent = await send_records(producer, bench.prefix + "visits", 0, [(b"a", b"1"), big, (b"c", b"3")])
            assert sum(each.records for each in sent) == 3
            await send_records(producer, bench.prefix + "visits", 0, [])
        found = await read(bench.kafka, bench.prefix + "visits", 0, 3)
        assert [record.key for record in found] == [b"a", b"big", b"c"]
        assert found[1].headers == (("why", b"big"),)

    asyncio.run(run())


def test_nothing_follows_a_batch_that_was_refused(bench: Bench) -> None:
    """The last row of a write says that the others are there; so it must not overtake one that failed."""

    async def run() -> None:
        async with producing(bench.kafka, batch_bytes=3_000_000) as producer:
            rows = [(b"small", b"1"), (b"too big", b"z" * 2_900_000), (b"marker", b"!")]
            with pytest.raises(KafkaError):
                await send_records(producer, bench.prefix + "visits", 2, rows)
            await send_records(producer, bench.prefix + "visits", 2, [(b"after", b"2")])
        found = await read(bench.kafka, bench.prefix + "visits", 2, 1)
        assert b"marker" not in [record.key for record in found]

    if not _refuses_large_batches(bench):
        pytest.skip("this broker takes batches of any size")
    asyncio.run(run())


def _refuses_large_batches(bench: Bench) -> bool:
    async def probe() -> bool:
        async with producing(bench.kafka, batch_bytes=3_000_000) as producer:
            try:
                await send_records(producer, bench.prefix + "carts", 0, [(b"k", b"z" * 2_900_000)])
            except KafkaError:
                return True
            return False

    return asyncio.run(probe())


# -- the table by itself


def test_replayed_rows_are_the_last_of_each_key_and_tombstones_delete() -> None:
    table = lone_table()
    table.replay(0, [row(0, b"a", b"1"), row(1, b"b", b"2"), row(2, b"a", b"33"), row(5, b"b", None)], 9)
    own(table, 0)
    assert dict(table.items(0)) == {b"a": b"33"}
    assert table.get(0, b"b") is None
    assert table.next_offset(0) == 9
    assert table.approx_bytes() == 3 + ENTRY_OVERHEAD


def test_a_row_that_goes_back_behind_one_before_it_is_left_out() -> None:
    """A worker that lost its partition without knowing writes older state after newer."""
    version = struct.Struct("<q")
    table = lone_table(is_stale=lambda old, new: version.unpack(new)[0] < version.unpack(old)[0])
    rows = [row(at, b"k", version.pack(v)) for at, v in enumerate([1, 5, 3, 5, 6])]
    table.replay(0, rows[:3], 3)
    own(table, 0)
    assert table.get(0, b"k") == version.pack(5)
    table.replay(0, rows[3:], 5)
    assert table.get(0, b"k") == version.pack(6)
    assert table.stale_rows == 1


def test_a_changelog_that_goes_back_in_offsets_is_refused() -> None:
    table = lone_table()
    table.replay(0, [row(7, b"a", b"1")], 8)
    with pytest.raises(TableError, match="went back before offset 8"):
        table.replay(0, [row(2, b"a", b"0")], 3)


def test_partitions_that_are_not_ours_are_neither_read_nor_written() -> None:
    table = lone_table()
    own(table, 0)
    for ask in (lambda: table.get(1, b"k"), lambda: table.items(1)):
        with pytest.raises(TableError, match="partition 1 of table t is not assigned"):
            ask()
    with pytest.raises(TableError):
        asyncio.run(table.write(1, {b"k": b"v"}))
    table.suspend()
    with pytest.raises(TableError):
        table.get(0, b"k")


def test_hooks_hear_of_what_is_complete_and_of_what_is_taken_away() -> None:
    heard: list[tuple[str, frozenset[int]]] = []
    table = lone_table(
        on_assigned=lambda owned: heard.append(("assigned", owned)),
        on_revoked=lambda owned: heard.append(("revoked", owned)),
    )
    table.suspend()
    own(table, 0, 2)
    table.suspend()
    table.suspend()
    assert heard == [("assigned", frozenset({0, 2})), ("revoked", frozenset({0, 2}))]


def test_nothing_is_written_once_the_loop_has_stood_still_too_long() -> None:
    table = lone_table()
    own(table, 0)
    clock = iter([0.0, 100.0, 100.0, 100.0, 101.0])
    table.app.guard._clock = lambda: next(clock)
    table.app.guard.tick()
    with pytest.raises(StalledError, match="stood still for 100"):
        asyncio.run(table.write(0, {b"k": b"v"}))


# -- recovery


@pytest.mark.parametrize("keys", [0, 1, 5_000])
def test_recovery_is_complete_and_before_the_first_bundle(bench: Bench, keys: int) -> None:
    async def fill() -> None:
        async with producing(bench.kafka, 100_000) as producer:
            for partition in range(bench.partitions):
                rows = [(f"{partition}/{i}".encode(), b"\0" * 24) for i in range(keys)]
                await send_records(producer, bench.prefix + CHANGELOG, partition, rows)

    asyncio.run(fill())
    bench.send(1)
    worker = bench.worker()
    bench.wait_drained()
    events = [line["event"] for line in worker.lines()]
    assert worker.of("assigned")[0]["keys"] == keys * bench.partitions
    assert events.index("assigned") < events.index("bundle")


def test_state_that_moved_away_and_came_back_is_all_of_the_changelog(bench: Bench) -> None:
    bench.send(600)
    first = bench.worker()
    bench.wait_drained()
    second = bench.worker()
    second.wait("assigned")
    bench.send(600)
    bench.wait_drained()
    assert second.stop() == 0
    wait_for(lambda: first.of("assigned")[-1]["partitions"] == [0, 1, 2], "all of it back", 40, bench)
    assert first.of("assigned")[-1]["keys"] == len(bench.expected_counts())
    bench.send(200)
    bench.wait_drained()
    assert bench.counts() == bench.expected_counts()


def test_a_recovery_past_its_deadline_ends_the_process(bench: Bench) -> None:
    bench.send(100)
    worker = bench.worker(recovery_s=0.001)
    assert worker.ended() == 1
    assert "ebbtide: the tables were not restored within 0.001 s" in worker.said()

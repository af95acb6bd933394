"""The sink as a process: Kafka on one side, ClickHouse that goes away and comes back on the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiokafka
import msgspec
import pytest

from schemas.topics import ALL, FACTS, INPUTS, SESSIONS, VISITS
from streams.adapters.clickhouse import StoreError, connect, migrate
from streams.adapters.kafka.admin import create_topics, lag
from streams.domain.facts import tombstone
from streams.embedded.clickhouse import ClickHouse
from streams.settings import Settings
from streams.workers import Workers
from tests.builders import NOON, body, visit

#: A shared machine may be slow; nothing here waits this long unless something is wrong.
DEADLINE_S = 120.0
PARTITIONS = 2


@pytest.fixture
def database_that_dies(tmp_path: Path) -> Iterator[ClickHouse]:
    """A ClickHouse of this test's own: one that is shared is not ours to kill."""
    with ClickHouse(tmp_path / "data", tmp_path) as server:
        yield server


def test_an_outage_of_clickhouse_loses_nothing_and_repeats_nothing(
    kafka: str, topic_prefix: str, database_that_dies: ClickHouse, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        clickhouse=database_that_dies.url,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        sink_max_wait_s=0.2,
        # Less than is sent during the outage: the rest has to wait in Kafka.
        sink_buffer_rows=300,
        batch_records=100,
    )
    migrate(settings.clickhouse)
    create_topics(settings, ALL)
    with Workers(settings, ["sink"], tmp_path) as workers:
        send(settings, range(500))
        wait_for(lambda: stored(settings) == (500, 500), workers)
        database_that_dies.kill()
        send(settings, range(500, 1_500))
        # Time for the sink to find out and to fill its buffer; what it does with it is asserted below.
        wait_for(lambda: b"cannot be reached" in (tmp_path / "sink.log").read_bytes(), workers)
        workers.check()
        database_that_dies.restart()
        wait_for(lambda: stored(settings) == (1_500, 1_500), workers)
        wait_for(lambda: behind(settings) == 0, workers)
    with closing(connect(settings.clickhouse)) as client:
        raw = client.query("SELECT count(), uniqExact(topic, partition, offset) FROM events").result_rows
    # A bundle whose insert was cut off may have been stored twice; read with FINAL it is there once.
    assert raw[0][1] == 1_500
    assert raw[0][0] >= 1_500


def test_a_sink_without_a_schema_stops_and_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, partitions=PARTITIONS, sink_max_wait_s=0.2)
    create_topics(settings, ALL)
    send(settings, range(10))
    with Workers(settings, ["sink"], tmp_path) as workers:
        wait_for(lambda: not alive(workers), None)
    assert "run `ebbtide migrate`" in (tmp_path / "sink.log").read_text()


def send(settings: Settings, numbers: range) -> None:
    """One visit and one session for each number, spread over the partitions."""

    async def all_of_them() -> None:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
            for number in numbers:
                customer = f"c{number}"
                fact = msgspec.structs.replace(tombstone(customer, "s1", NOON, 1), is_deleted=False)
                event = visit(customer_id=customer, event_id=customer)
                for topic, value in ((VISITS, body(event)), (SESSIONS, msgspec.json.encode(fact))):
                    await producer.send(
                        settings.topic(topic.name),
                        value,
                        key=customer.encode(),
                        partition=number % PARTITIONS,
                        timestamp_ms=NOON,
                    )
            await producer.flush()

    asyncio.run(all_of_them())


def stored(settings: Settings) -> tuple[int, int]:
    """Events and sessions."""
    try:
        with closing(connect(settings.clickhouse)) as client:
            query = "SELECT (SELECT count() FROM events FINAL), (SELECT count() FROM sessions FINAL)"
            events, sessions = client.query(query).result_rows[0]
    except StoreError:
        return -1, -1
    return events, sessions


def behind(settings: Settings) -> int:
    """Records that the sink has not acknowledged."""
    names = [settings.topic(topic.name) for topic in (*FACTS, *INPUTS)]
    return sum(part.records for part in lag(settings, settings.group("sink"), names))


def alive(workers: Workers) -> bool:
    try:
        workers.check()
    except RuntimeError:
        return False
    return True


def wait_for(condition: Callable[[], bool], workers: Workers | None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        if workers is not None:
            workers.check()
        time.sleep(0.1)

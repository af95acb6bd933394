"""What the pipeline relies on in a Kafka broker, asked of whichever broker is in use."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

from schemas import topics
from tests.integration.kafka_server import KafkaCluster
from tests.integration.providers import Server

DEADLINE_S: Final = 40.0
MIB: Final = 1024 * 1024
#: In 2017: replays stamp records with the time they first arrived.
LONG_AGO: Final = 1_511_544_070_000


@pytest.fixture
def admin(kafka: str) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=kafka)) as client:
        yield client


@pytest.fixture
def make_topic(admin: KafkaAdminClient, topic_prefix: str) -> Callable[..., str]:
    """Makes a topic of this test's own and returns its name."""

    def make(name: str = "topic", partitions: int = 1, **config: str) -> str:
        full = f"{topic_prefix}{name}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(full, partitions, 1, topic_configs=settings)])
        admin.wait_for_topics([full])
        return full

    return make


@asynccontextmanager
async def producing(kafka: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, **{"acks": "all", **options})
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def consuming(kafka: str, *names: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 100}
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=kafka, **{**defaults, **options})
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    """The next ``count`` records, in the order they came."""
    records: list[ConsumerRecord] = []
    ends = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < ends, f"{len(records)} of {count} records within {DEADLINE_S} s"
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            records.extend(batch)
    return records


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < ends, f"{what}: not within {DEADLINE_S} s"


def only_real(server: Server, gap: str) -> None:
    if not server.real:
        pytest.skip(f"the embedded broker: {gap}")


def make_pipeline_topics(admin: KafkaAdminClient, prefix: str) -> dict[str, dict[str, str]]:
    """Makes every declared topic, three partitions each; what was asked for, by name on the broker."""
    wanted = {f"{prefix}{topic.name}": topic.config() for topic in topics.ALL}
    admin.create_topics([NewTopic(name, 3, 1, topic_configs=config) for name, config in wanted.items()])
    admin.wait_for_topics(list(wanted))
    return wanted


def test_every_topic_of_the_pipeline_can_be_made(admin: KafkaAdminClient, topic_prefix: str) -> None:
    """With its settings: compaction and batches of 4 MiB included."""
    wanted = make_pipeline_topics(admin, topic_prefix)
    there = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(wanted))}
    assert there == dict.fromkeys(wanted, 3)


def test_topic_settings_can_be_read_back(admin: KafkaAdminClient, topic_prefix: str) -> None:
    for name, config in make_pipeline_topics(admin, topic_prefix).items():
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        said = admin.describe_configs([resource], config_filter="all")["topic"][name]
        assert {key: said[key]["value"] for key in config} == config


def test_a_topic_that_exists_is_said_to_exist(
    admin: KafkaAdminClient, make_topic: Callable[..., str]
) -> None:
    name = make_topic()
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(name, 1, 1)])


def test_partitions_can_be_added(
    admin: KafkaAdminClient, make_topic: Callable[..., str], kafka_server: Server
) -> None:
    only_real(kafka_server, "cannot add partitions")
    name = make_topic(partitions=2)
    admin.create_partitions({name: NewPartitions(5)})
    assert len(admin.describe_topics([name])[0]["partitions"]) == 5


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_round_trips(kafka: str, make_topic: Callable[..., str], codec: str | None) -> None:
    name = make_topic()
    sent = [f"{i} ".encode() * 50 for i in range(500)]

    async def exchange() -> list[bytes | None]:
        async with producing(kafka, compression_type=codec, linger_ms=5) as producer:
            await asyncio.gather(*[await producer.send(name, value) for value in sent])
        async with consuming(kafka, name) as consumer:
            return [record.value for record in await read(consumer, len(sent))]

    assert asyncio.run(exchange()) == sent


def test_a_record_keeps_key_headers_timestamp_and_a_null_value(
    kafka: str, make_topic: Callable[..., str]
) -> None:
    """Arrival is the record's timestamp, a dead letter's reason a header, a null value a removal."""
    name = make_topic()
    headers = [("ebbtide-reason", b"not_json"), ("ebbtide-detail", "…".encode())]

    async def exchange() -> list[ConsumerRecord]:
        async with producing(kafka) as producer:
            await producer.send_and_wait(name, b"\xff\x00", b"key", timestamp_ms=LONG_AGO, headers=headers)
            await producer.send_and_wait(name, None, b"key")
        async with consuming(kafka, name) as consumer:
            return await read(consumer, 2)

    first, second = asyncio.run(exchange())
    assert (first.key, first.value, first.timestamp) == (b"key", b"\xff\x00", LONG_AGO)
    assert list(first.headers) == headers
    assert (second.key, second.value) == (b"key", None)


def test_a_batch_of_four_mib_is_accepted_where_the_topic_says_so(
    kafka: str, make_topic: Callable[..., str]
) -> None:
    name = make_topic(max_message_bytes=str(4 * MIB))
    value = bytes(4 * MIB - 1024)

    async def exchange() -> list[bytes | None]:
        async with producing(kafka, max_request_size=5 * MIB) as producer:
            await producer.send_and_wait(name, value)
        async with consuming(kafka, name, max_partition_fetch_bytes=64 * 1024) as consumer:
            return [record.value for record in await read(consumer, 1)]

    assert asyncio.run(exchange()) == [value]


def test_a_larger_batch_than_the_topic_allows_is_refused(
    kafka: str, make_topic: Callable[..., str], kafka_server: Server
) -> None:
    only_real(kafka_server, "does not hold max.message.bytes")
    name = make_topic(max_message_bytes=str(MIB))

    async def send() -> None:
        async with producing(kafka, max_request_size=5 * MIB) as producer:
            await producer.send_and_wait(name, bytes(2 * MIB))

    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(send())


def test_batches_of_our_own_making_keep_their_order(kafka: str, make_topic: Callable[..., str]) -> None:
    """The changelog is written with create_batch and send_batch, several batches in flight."""
    name = make_topic(partitions=2, cleanup_policy="compact")

    async def exchange() -> list[ConsumerRecord]:
        async with producing(kafka) as producer:
            pending = []
            for start in range(0, 5_000, 100):
                batch = producer.create_batch()
                for i in range(start, start + 100):
                    assert batch.append(key=b"%d" % i, value=b"%d" % i, timestamp=None) is not None
                batch.close()
                pending.append(await producer.send_batch(batch, name, partition=1))
            await asyncio.gather(*pending)
        async with consuming(kafka, name) as consumer:
            return await read(consumer, 5_000)

    records = asyncio.run(exchange())
    assert {record.partition for record in records} == {1}
    assert [record.offset for record in records] == list(range(5_000))
    assert [record.value for record in records] == [b"%d" % i for i in range(5_000)]


def test_an_idempotent_producer_is_served(
    kafka: str, make_topic: Callable[..., str], kafka_server: Server
) -> None:
    only_real(kafka_server, "does not serve aiokafka's idempotent producer")
    name = make_topic()

    async def exchange() -> int:
        async with producing(kafka, enable_idempotence=True) as producer:
            await asyncio.gather(*[await producer.send(name, b"%d" % i) for i in range(1_000)])
        async with consuming(kafka, name) as consumer:
            return len({record.value for record in await read(consumer, 1_000)})

    assert asyncio.run(exchange()) == 1_000


def test_the_fetch_high_watermark_is_the_true_end(kafka: str, make_topic: Callable[..., str]) -> None:
    """Recovery and idleness ask it: it counts the records of the last batch too."""
    name = make_topic()
    partition = TopicPartition(name, 0)

    async def watermark() -> int | None:
        async with producing(kafka, linger_ms=50) as producer:
            await asyncio.gather(*[await producer.send(name, b"x") for _ in range(250)])
        async with consuming(kafka, name) as consumer:
            await read(consumer, 250)
            end: int | None = consumer.highwater(partition)
            return end

    assert asyncio.run(watermark()) == 250


def test_list_offsets_gives_the_true_end(
    kafka: str, make_topic: Callable[..., str], kafka_server: Server
) -> None:
    only_real(kafka_server, "ListOffsets(latest) is the base offset of the last batch, plus one")
    name = make_topic()
    partition = TopicPartition(name, 0)

    async def ends() -> tuple[int, int]:
        async with producing(kafka, linger_ms=50) as producer:
            await asyncio.gather(*[await producer.send(name, b"x") for _ in range(250)])
        async with consuming(kafka) as consumer:
            first = await consumer.beginning_offsets([partition])
            last = await consumer.end_offsets([partition])
            return first[partition], last[partition]

    assert asyncio.run(ends()) == (0, 250)


def test_committed_offsets_are_there_for_the_next_member(kafka: str, make_topic: Callable[..., str]) -> None:
    name = make_topic(partitions=2)
    done, untouched = TopicPartition(name, 0), TopicPartition(name, 1)

    async def commit() -> None:
        async with producing(kafka) as producer:
            for i in range(10):
                await producer.send_and_wait(name, b"%d" % i, partition=0)
        async with consuming(kafka, name, group_id=name) as consumer:
            await read(consumer, 10)
            await consumer.commit({done: 7})

    async def resume() -> tuple[int | None, int | None, bytes | None]:
        async with consuming(kafka, name, group_id=name) as consumer:
            records = await read(consumer, 3)
            return await consumer.committed(done), await consumer.committed(untouched), records[0].value

    asyncio.run(commit())
    assert asyncio.run(resume()) == (7, None, b"7")


def test_members_share_the_partitions_and_take_over_from_one_that_leaves(
    kafka: str, make_topic: Callable[..., str]
) -> None:
    name = make_topic(partitions=4)

    async def rebalance() -> None:
        async with consuming(kafka, name, group_id=name) as stays:
            async with consuming(kafka, name, group_id=name) as leaves:

                async def shared() -> bool:
                    await asyncio.gather(stays.getmany(timeout_ms=100), leaves.getmany(timeout_ms=100))
                    return len(stays.assignment()) == len(leaves.assignment()) == 2

                await until(shared, "two members with two partitions each")
                assert not stays.assignment() & leaves.assignment()

            async def alone() -> bool:
                await stays.getmany(timeout_ms=100)
                return len(stays.assignment()) == 4

            await until(alone, "one member with all four partitions")

    asyncio.run(rebalance())


_MEMBER: Final = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer

async def main(kafka, name):
    consumer = AIOKafkaConsumer(name, bootstrap_servers=kafka, group_id=name, session_timeout_ms=6000)
    await consumer.start()
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=100)
    print("joined", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_killed_member_is_evicted_after_its_session_timeout(
    kafka: str, make_topic: Callable[..., str]
) -> None:
    name = make_topic(partitions=2)

    async def survive(killed_at: float) -> float:
        async with consuming(kafka, name, group_id=name, session_timeout_ms=6_000) as survivor:

            async def took_over() -> bool:
                await survivor.getmany(timeout_ms=100)
                return len(survivor.assignment()) == 2

            await until(took_over, "the survivor with both partitions")
        return time.monotonic() - killed_at

    with subprocess.Popen([sys.executable, "-c", _MEMBER, kafka, name], stdout=subprocess.PIPE) as member:
        try:
            assert member.stdout is not None
            assert member.stdout.readline() == b"joined\n"
        finally:
            member.kill()
    assert asyncio.run(survive(time.monotonic())) < DEADLINE_S


@pytest.mark.replay
def test_what_was_acked_outlives_the_kill_of_its_leader(kafka_cluster: KafkaCluster) -> None:
    """Three replicas, two in sync: a producer that waits for all of them goes on, and loses nothing."""
    name = f"kill-{time.monotonic_ns()}"
    with closing(KafkaAdminClient(bootstrap_servers=kafka_cluster.bootstrap)) as admin:
        admin.create_topics([NewTopic(name, 1, 3, topic_configs={"min.insync.replicas": "2"})])
        kafka_cluster.wait_whole()
        leader = admin.describe_topics([name])[0]["partitions"][0]["leader_id"] - 1
    acked: list[bytes] = []

    async def produce(producer: AIOKafkaProducer, count: int) -> None:
        for _ in range(count):
            value = b"%d" % len(acked)
            await producer.send_and_wait(name, value)
            acked.append(value)

    async def lose_the_leader() -> list[bytes | None]:
        async with producing(kafka_cluster.bootstrap) as producer:
            await produce(producer, 100)
            await asyncio.to_thread(kafka_cluster.kill, leader)
            await produce(producer, 100)
            await asyncio.to_thread(kafka_cluster.restart, leader)
            await produce(producer, 100)
        async with consuming(kafka_cluster.bootstrap, name) as consumer:
            return [record.value for record in await read(consumer, len(acked))]

    # Sent again after a lost reply, a record can be there twice: at least once, in order, is the promise.
    assert list(dict.fromkeys(asyncio.run(lose_the_leader()))) == acked

"""Topics as declared, and where groups stand, on the Kafka in use."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaAdminClient

from schemas import topics
from streams.adapters.kafka import admin
from streams.adapters.kafka.producing import send_records
from streams.settings import Settings


@pytest.fixture
def here(kafka: str, topic_prefix: str) -> Settings:
    return Settings(kafka=kafka, topic_prefix=topic_prefix, partitions=3)


def test_topics_are_created_once_as_declared_and_found_right(here: Settings) -> None:
    assert sorted(admin.create_topics(here)) == sorted(here.topic(topic.name) for topic in topics.ALL)
    assert admin.create_topics(here) == []
    assert admin.check_topics(here) == []


def test_every_missing_or_differing_topic_is_named_with_what_is_wrong(here: Settings) -> None:
    kafka = KafkaAdminClient(bootstrap_servers=here.kafka)
    kafka.create_topics(
        {
            here.topic("visits"): {"num_partitions": 2, "replication_factor": 1},
            here.topic("customers-state"): {
                "num_partitions": 3,
                "replication_factor": 1,
                "configs": {"cleanup.policy": "delete", "max.message.bytes": "1000000"},
            },
            here.topic("carts"): {
                "num_partitions": 3,
                "replication_factor": 1,
                "configs": {"cleanup.policy": "compact"},
            },
        },
        wait_for_metadata=True,
    )
    kafka.close()
    wanted = (topics.VISITS, topics.CARTS, topics.ORDERS, topics.CUSTOMERS_CHANGELOG)
    problems = admin.check_topics(here, wanted)
    prefix = here.topic_prefix
    assert problems == [
        f"topic {prefix}visits has 2 partitions, EBBTIDE_PARTITIONS=3; all topics need the same count",
        f"topic {prefix}carts has cleanup.policy=compact; it needs delete, or records would be lost",
        f"topic {prefix}orders is missing; create it with: ebbtide topics create",
        f"topic {prefix}customers-state has cleanup.policy=delete; it needs compact alone,"
        " or state would be deleted",
        f"topic {prefix}customers-state has max.message.bytes=1000000, it needs 4194304",
    ]


def test_the_end_is_after_the_last_record_even_inside_a_batch_and_lag_counts_from_the_commit(
    here: Settings,
) -> None:
    admin.create_topics(here, (topics.VISITS,))
    visits, group = here.topic("visits"), here.group("test")

    async def fill_and_commit() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=here.kafka)
        await producer.start()
        await send_records(producer, visits, 1, [(b"k", b"v")] * 250)
        await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=here.kafka, group_id=group, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition(visits, 1)])
        await consumer.commit({TopicPartition(visits, 1): 240})
        await consumer.stop()

    assert admin.committed_offsets(here, group) == {}
    asyncio.run(fill_and_commit())
    assert admin.end_offsets(here, [visits]) == {(visits, 0): 0, (visits, 1): 250, (visits, 2): 0}
    assert admin.committed_offsets(here, group) == {(visits, 1): 240}
    lag = admin.lag(here, group, [visits])
    assert [(each.partition, each.committed, each.records) for each in lag] == [
        (0, None, 0),
        (1, 240, 10),
        (2, None, 0),
    ]


def test_a_broker_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_BOOTSTRAP_S", 1.0)
    nowhere = replace(Settings(), kafka="127.0.0.1:1")
    with pytest.raises(admin.AdminError, match=r"^Kafka at 127\.0\.0\.1:1 cannot be used: "):
        admin.check_topics(nowhere)

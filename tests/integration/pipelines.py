"""A deployment for tests: topics and tables of its own on the servers in use, and what waits for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.adapters.clickhouse import connect, migrate
from streams.adapters.kafka.admin import create_topics
from streams.settings import Settings

DEADLINE_S = 120.0

#: topic, key, value, partition
Raw = tuple[str, bytes | None, bytes | None, int]
#: topic, partition, offset
Place = tuple[str, int, int]


@contextmanager
def deployed(kafka: str, clickhouse: str, **given: Any) -> Iterator[tuple[Settings, Client]]:
    """Settings with topics and an empty schema behind them, both gone afterwards, and a client."""
    name = f"t{uuid.uuid4().hex[:10]}"
    url = urlunsplit(urlsplit(clickhouse)._replace(path=f"/{name}"))
    settings = replace(Settings(**given), kafka=kafka, clickhouse=url, topic_prefix=f"{name}-")
    migrate(url)
    create_topics(settings)
    with closing(connect(url)) as client:
        yield settings, client
        client.command(f"DROP DATABASE {name}")
    with closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:
        try:
            admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(f"{name}-")])
        except KafkaError:
            pass  # what a test proved does not hang on how its broker tidies up


def wait_until(what: str, true: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once ``true`` is; AssertionError naming ``what`` after the deadline."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.1)


async def send(settings: Settings, records: list[Raw]) -> list[Place]:
    """Send each record as it is; gives where each stands, by the topics' own names."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, max_request_size=4 * 1024 * 1024)
    await producer.start()
    try:
        sent = [
            await producer.send(settings.topic(topic), value, key, partition=partition)
            for topic, key, value, partition in records
        ]
        found = [await each for each in sent]
        return [(raw[0], raw[3], at.offset) for raw, at in zip(records, found, strict=True)]
    finally:
        await producer.stop()

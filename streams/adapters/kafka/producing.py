"""Sending records in batches, each acknowledged by the broker before the next one leaves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, Headers]


class Sent(NamedTuple):
    """One acknowledged batch: the offset of its first record and how many it had."""

    base_offset: int
    records: int


def partition_of(key: bytes, partitions: int) -> int:
    """Where every Kafka client puts a record with this key."""
    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found


async def send_records(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
) -> list[Sent]:
    """Send ``(key, value)`` or ``(key, value, headers)`` to one partition; return when all are acknowledged.

    A batch is sent only after the one before it was acknowledged, so if a record is visible, all before it
    are. Raises aiokafka's KafkaError when the broker did not acknowledge; what was sent is unknown then,
    and is a prefix of ``records``.
    """
    now = int(time.time() * 1000)
    sent: list[Sent] = []
    batch = producer.create_batch()
    for record in records:
        key, value = record[0], record[1]
        headers = list(record[2]) if len(record) == 3 else []
        if batch.append(timestamp=now, key=key, value=value, headers=headers) is None:
            sent.append(await _send(producer, batch, topic, partition))
            batch = producer.create_batch()
            batch.append(timestamp=now, key=key, value=value, headers=headers)
    if batch.record_count():
        sent.append(await _send(producer, batch, topic, partition))
    return sent


async def _send(producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> Sent:
    count = batch.record_count()
    metadata = await (await producer.send_batch(batch, topic, partition=partition))
    return Sent(metadata.offset, count)

"""What every worker must know, on compacted topics: sent to every partition, and read back.

A worker reads only the partitions that are its own, so each record goes to all of them, under the same key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import Topic
from streams.adapters.kafka.admin import AdminError, end_offsets
from streams.adapters.kafka.producing import Record, send_records
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.settings import Settings

_TIMEOUT_S: Final = 60.0


class Versioned(Protocol):
    """Of two with one key the higher version counts."""

    @property
    def version(self) -> int: ...


T = TypeVar("T", bound=Versioned)
#: What a record holds; ValueError if it is none of its topic's.
Decode = Callable[[bytes, bytes], T]


@dataclass(frozen=True)  # without slots: those of a frozen class keep a generic one from being called
class InForce(Generic[T]):
    """What a topic says.

    in_force: by key, the value of the highest version that any partition has. behind: by key, the
    partitions that have another one or none, because a publication was cut. unreadable: records that are
    none of the topic's, as ``partition:offset``.
    """

    in_force: Mapping[str, T]
    behind: Mapping[str, tuple[int, ...]]
    unreadable: tuple[str, ...]

    @property
    def newest(self) -> int:
        """The highest version of all; 0 if there is none."""
        return max((value.version for value in self.in_force.values()), default=0)


def publish_everywhere(settings: Settings, topic: Topic, records: Sequence[Record]) -> int:
    """Send every record to every partition; returns how many those are, once the broker has all of it.

    Raises AdminError, one sentence; then some partitions may have records that others lack, which
    publishing again mends.
    """
    return asyncio.run(_publish(settings, topic.name, records))


def read_everywhere(settings: Settings, topic: Topic, decode: Decode[T]) -> InForce[T]:
    """All that the topic holds. Raises AdminError."""
    name = settings.topic(topic.name)
    ends = end_offsets(settings, [name])
    return asyncio.run(
        _read(settings, topic.name, {partition: end for (_, partition), end in ends.items()}, decode)
    )


async def _publish(settings: Settings, topic: str, records: Sequence[Record]) -> int:
    producer = AIOKafkaProducer(**aiokafka_kwargs(settings), client_id=f"ebbtide-{topic}", acks="all")
    name = settings.topic(topic)
    try:
        await producer.start()
        # Asking for all topics, not for this one, keeps a broker from making it up on the spot.
        cluster = await producer.client.fetch_all_metadata()
        partitions = sorted(cluster.partitions_for_topic(name) or ())
        if not partitions:
            raise AdminError(f"topic {name} is missing; create it with: ebbtide topics create")
        if len(partitions) != settings.partitions:
            raise AdminError(
                f"topic {name} has {len(partitions)} partitions, EBBTIDE_PARTITIONS={settings.partitions};"
                " all topics need the same count"
            )
        for partition in partitions:
            await send_records(producer, name, partition, records)
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} did not take the {topic}: {said}") from exc
    finally:
        await producer.stop()
    return len(partitions)


async def _read(settings: Settings, topic: str, ends: Mapping[int, int], decode: Decode[T]) -> InForce[T]:
    name = settings.topic(topic)
    here: dict[int, dict[str, T]] = {partition: {} for partition in ends}
    unreadable: list[str] = []
    waiting = {TopicPartition(name, partition): end for partition, end in ends.items() if end > 0}
    if not waiting:
        return InForce({}, {}, ())
    consumer = AIOKafkaConsumer(
        **aiokafka_kwargs(settings),
        client_id=f"ebbtide-{topic}",
        group_id=None,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    try:
        await consumer.start()
        consumer.assign(list(waiting))
        for tp in waiting:
            consumer.seek(tp, 0)
        deadline = time.monotonic() + _TIMEOUT_S
        while waiting:
            if time.monotonic() > deadline:
                raise AdminError(f"the broker did not give all of topic {name} within {_TIMEOUT_S:.0f} s")
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                for record in records:
                    if not _take(here[tp.partition], record.key, record.value, decode):
                        unreadable.append(f"{tp.partition}:{record.offset}")
            for tp in [tp for tp, end in waiting.items() if await consumer.position(tp) >= end]:
                del waiting[tp]
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} cannot be used: {said}") from exc
    finally:
        await consumer.stop()
    return _compared(here, tuple(unreadable))


def _take(values: dict[str, T], key: bytes | None, body: bytes | None, decode: Decode[T]) -> bool:
    """Take in a record as a worker does: a version that is not higher changes nothing. Whether it is one."""
    if key is None:
        return False
    name = key.decode(errors="replace")
    if body is None:
        values.pop(name, None)
        return True
    try:
        value = decode(key, body)
    except ValueError:
        return False
    had = values.get(name)
    if had is None or value.version > had.version:
        values[name] = value
    return True


def _compared(here: Mapping[int, Mapping[str, T]], unreadable: tuple[str, ...]) -> InForce[T]:
    in_force: dict[str, T] = {}
    for values in here.values():
        for name, value in values.items():
            if name not in in_force or value.version > in_force[name].version:
                in_force[name] = value
    behind = {
        name: missing
        for name, value in in_force.items()
        if (missing := tuple(p for p in sorted(here) if here[p].get(name) != value))
    }
    return InForce(dict(sorted(in_force.items())), behind, unreadable)

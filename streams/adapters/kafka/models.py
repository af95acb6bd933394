"""Shops' models on their compacted topic: publishing them, and reading back what is in force.

Every worker reads only the partitions that are its own, so each model goes to every partition, under the same
key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import MODELS
from streams.adapters.codec import decode_model_record
from streams.adapters.kafka.admin import AdminError, end_offsets
from streams.adapters.kafka.producing import Record, send_records
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.domain.outlook import ShopModel
from streams.settings import Settings

_TIMEOUT_S: Final = 60.0

encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Published:
    """What the topic says.

    in_force: by shop, the model of the highest version that any partition has. behind: by shop, the
    partitions that have another one or none, because a publication was cut. unreadable: records that are
    no model, as ``partition:offset``.
    """

    in_force: Mapping[str, ShopModel]
    behind: Mapping[str, tuple[int, ...]]
    unreadable: tuple[str, ...]

    @property
    def newest(self) -> int:
        """The highest version of all; 0 if there is none."""
        return max((model.version for model in self.in_force.values()), default=0)


def publish(settings: Settings, models: Iterable[ShopModel]) -> int:
    """Send every model to every partition; returns how many those are, once the broker has all of it.

    Raises AdminError, one sentence; then some partitions may have models that others lack, which publishing
    again mends.
    """
    records: list[Record] = [(model.shop_id.encode(), encode(model)) for model in models]
    return asyncio.run(_publish(settings, records))


def published(settings: Settings) -> Published:
    """All that the topic holds. Raises AdminError."""
    name = settings.topic(MODELS.name)
    ends = end_offsets(settings, [name])
    return asyncio.run(_read(settings, name, {partition: end for (_, partition), end in ends.items()}))


async def _publish(settings: Settings, records: Sequence[Record]) -> int:
    producer = AIOKafkaProducer(**aiokafka_kwargs(settings), client_id="ebbtide-models", acks="all")
    name = settings.topic(MODELS.name)
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
        raise AdminError(f"Kafka at {settings.kafka} did not take the models: {said}") from exc
    finally:
        await producer.stop()
    return len(partitions)


async def _read(settings: Settings, name: str, ends: Mapping[int, int]) -> Published:
    here: dict[int, dict[str, ShopModel]] = {partition: {} for partition in ends}
    unreadable: list[str] = []
    waiting = {TopicPartition(name, partition): end for partition, end in ends.items() if end > 0}
    if not waiting:
        return Published({}, {}, ())
    consumer = AIOKafkaConsumer(
        **aiokafka_kwargs(settings),
        client_id="ebbtide-models",
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
                    if not _take(here[tp.partition], record.key, record.value):
                        unreadable.append(f"{tp.partition}:{record.offset}")
            for tp in [tp for tp, end in waiting.items() if await consumer.position(tp) >= end]:
                del waiting[tp]
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} cannot be used: {said}") from exc
    finally:
        await consumer.stop()
    return _compared(here, tuple(unreadable))


def _take(models: dict[str, ShopModel], key: bytes | None, value: bytes | None) -> bool:
    """Take in a record as a worker does: a version that is not higher changes nothing. Whether it is one."""
    if key is None:
        return False
    shop = key.decode(errors="replace")
    if value is None:
        models.pop(shop, None)
        return True
    try:
        model = decode_model_record(key, value)
    except ValueError:
        return False
    had = models.get(shop)
    if had is None or model.version > had.version:
        models[shop] = model
    return True


def _compared(here: Mapping[int, Mapping[str, ShopModel]], unreadable: tuple[str, ...]) -> Published:
    in_force: dict[str, ShopModel] = {}
    for models in here.values():
        for shop, model in models.items():
            if shop not in in_force or model.version > in_force[shop].version:
                in_force[shop] = model
    behind = {
        shop: missing
        for shop, model in in_force.items()
        if (missing := tuple(p for p in sorted(here) if here[p].get(shop) != model))
    }
    return Published(dict(sorted(in_force.items())), behind, unreadable)

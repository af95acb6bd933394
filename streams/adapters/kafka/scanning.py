"""Reading topics from what is left of their beginning to their end, once, for the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.adapters.kafka.admin import AdminError, Partition, end_offsets
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.settings import Settings

#: The broker is given up when it gives nothing for this long.
_STALL_S: Final = 60.0

Take = Callable[[ConsumerRecord], object]


def scan(settings: Settings, names: Sequence[str], take: Take, partition: int | None = None) -> None:
    """Call ``take`` with every record that is there when this is called, of one partition or of all.

    ``names`` are the topics' full names. Raises AdminError.
    """
    ends = {
        tp: end for tp, end in end_offsets(settings, names).items() if partition is None or tp[1] == partition
    }
    asyncio.run(_scan(settings, ends, take))


async def _scan(settings: Settings, ends: Mapping[Partition, int], take: Take) -> None:
    waiting = {TopicPartition(*tp): end for tp, end in ends.items() if end > 0}
    if not waiting:
        return
    consumer = AIOKafkaConsumer(
        **aiokafka_kwargs(settings),
        client_id="ebbtide-scan",
        group_id=None,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    try:
        await consumer.start()
        consumer.assign(list(waiting))
        for tp in waiting:
            consumer.seek(tp, 0)  # or where the log begins now, if it has been cut
        heard = time.monotonic()
        while waiting:
            if time.monotonic() - heard > _STALL_S:
                raise AdminError(f"the broker has given nothing more for {_STALL_S:.0f} s")
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                heard = time.monotonic()
                for record in records:
                    if record.offset < ends[tp.topic, tp.partition]:
                        take(record)
            # Compaction and markers leave gaps: the position says where the reading is.
            for tp in [tp for tp, end in waiting.items() if await consumer.position(tp) >= end]:
                del waiting[tp]
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} cannot be used: {said}") from exc
    finally:
        await consumer.stop()

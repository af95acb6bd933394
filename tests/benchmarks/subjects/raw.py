"""The raw read: aiokafka's getmany over the four topics, nothing done with the records."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.benchmarks.subjects.telling import Options, Teller

#: One read of the topics is too short to measure.
PASSES = 2
_FETCH_BYTES = 4 * 1024 * 1024  # as the customers worker fetches


async def run(options: Options) -> None:
    tell = Teller()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=options.kafka,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(t, p) for t in options.inputs for p in range(options.partitions)])
        count = passes = 0
        while count < options.events:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                count += len(records)
            if count // (options.events // PASSES) > passes:
                passes += 1
                await consumer.seek_to_beginning()
            tell(count, last=count >= options.events)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(run(Options.from_argv()))

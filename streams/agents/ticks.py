"""Ticks: the wall clock as messages, so that silence reaches the rules the way events do.

Each worker ticks for the partitions that it owns; a tick says only that time has passed, so one more or
fewer is of no consequence.
"""

from __future__ import annotations

import time

from schemas import topics
from streams.adapters.codec import encode_tick
from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.worker import WorkerApp
from streams.agents.customers import Customers
from streams.settings import Settings


def register(app: WorkerApp, settings: Settings, customers: Customers) -> None:
    """Tick every ``settings.tick_interval_s`` for the partitions that ``customers`` owns."""
    topic = settings.topic(topics.TICKS.name)

    @app.timer(interval=settings.tick_interval_s, name="ticks")
    async def tick() -> None:
        value = encode_tick(time.time_ns() // 1_000_000)
        for partition in sorted(customers.partitions):
            await send_records(app.producer.raw, topic, partition, [(None, value)])

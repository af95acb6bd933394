"""The events that every subject reads: seeded, in the contract's canonical form, about 300 bytes each.

Customers come in sessions whose events interleave with those of others. A record's timestamp is its event
time, so a subject that orders by record timestamps sees what one that orders by event time does. Every
customer belongs to one shop: the session of a customer is that of a (customer, shop), and the Kafka key is
the only key a subject needs.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.topics import INPUTS
from streams.adapters.codec import encode_tick

GAP_MS: Final = 30 * 60_000
BASE_MS: Final = 1_767_225_600_000  # 2026-01-01
_BATCH_BYTES: Final = 256 * 1024
_AGENT: Final = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36"
_CHANNELS: Final = ("search", "email", "ads", "direct", "social")
_NAMES: Final = tuple(topic.name for topic in INPUTS)
#: The first event of a session is a visit, the others are drawn: visit, favorite, cart, order.
_WEIGHTS: Final = (0.76, 0.08, 0.12, 0.04)

#: Topic index, partition, key, value, timestamp in ms.
Record = tuple[int, int, bytes, bytes, int]
Event = tuple[int, int, int, int]  # event time in ms, index in INPUTS, customer, number


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameters of a workload: ``events`` in all, of ``customers``, over ``span_h`` hours of event time."""

    name: str
    events: int
    customers: int
    span_h: float
    session_events: float = 8.0
    between_s: float = 150.0
    partitions: int = 4
    shops: int = 50
    seed: int = 1


@dataclass(slots=True)
class Workload:
    """What was made: bytes, and what a correct sessionization finds."""

    shape: Shape
    bytes: int = 0
    sessions: int = 0
    converted: int = 0
    last_ms: int = 0
    by_topic: dict[str, int] = field(default_factory=dict)
    #: Customers in offset order, by (index in INPUTS, partition).
    keys: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def mean_bytes(self) -> float:
        return self.bytes / self.shape.events

    def per_customer_and_batch(self, batches: Sequence[tuple[int, int, int, int]]) -> float:
        """Mean events of a customer in a batch; batches are (topic index, partition, first, end offset)."""
        events = customers = 0
        for topic, partition, first, end in batches:
            events += end - first
            customers += len(set(self.keys[topic, partition][first:end]))
        return events / customers if customers else 0.0


def customer_key(customer: int) -> bytes:
    return b"customer-%07d" % customer


def partition_of(key: bytes, partitions: int) -> int:
    """As every Kafka client does it."""
    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found


def events_of(shape: Shape) -> list[Event]:
    """All events by event time."""
    rng = random.Random(shape.seed)
    span = int(shape.span_h * 3_600_000)
    found: list[Event] = []
    while len(found) < shape.events:
        customer = rng.randrange(shape.customers)
        t = BASE_MS + rng.randrange(span)
        count = 1 + int(rng.expovariate(1 / (shape.session_events - 0.5)))
        for i in range(count):
            topic = 0 if i == 0 else rng.choices(range(4), _WEIGHTS)[0]
            found.append((t, topic, customer, len(found)))
            t += 1 + min(int(rng.expovariate(1 / shape.between_s) * 1000), GAP_MS - 60_000)
    del found[shape.events :]
    found.sort()
    return found


def body_of(event: Event, shape: Shape) -> bytes:
    """One event's JSON."""
    t, topic, customer, number = event
    at = datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    item = f"item-{number * 7919 % 50_000:05d}"
    head = (
        f'{{"event_id":"{_NAMES[topic][0]}-{number:012d}","occurred_at":"{at}",'
        f'"customer_id":"customer-{customer:07d}","shop_id":"shop-{customer % shape.shops:03d}",'
        f'"channel":"{_CHANNELS[number % 5]}"'
    )
    if topic == 0:
        tail = (
            f',"user_agent":"{_AGENT}","item_id":"{item}","category":"shoes/running",'
            f'"url":"https://shop.example/p/{item}"}}'
        )
    elif topic == 1:
        tail = f',"user_agent":"{_AGENT}","action":"add","item_id":"{item}","category":"shoes/running"}}'
    elif topic == 2:
        tail = (
            f',"user_agent":"{_AGENT}","action":"add","item_id":"{item}","quantity":{1 + number % 3},'
            f'"price":"{10 + number % 90}.50","currency":"EUR","cart_id":"cart-{customer:07d}"}}'
        )
    else:
        tail = (
            f',"action":"placed","order_id":"order-{number:012d}","lines":[{{"item_id":"{item}","quantity":1,'
            f'"price":"{10 + number % 90}.50"}}],"total":"{10 + number % 90}.50","currency":"EUR"}}'
        )
    return (head + tail).encode()


def make(shape: Shape) -> tuple[Workload, Iterator[Record]]:
    """The workload's figures, and its records."""
    workload = Workload(shape)
    events = events_of(shape)
    last: dict[int, list[int]] = {}
    for t, topic, customer, _ in events:
        open_ = last.get(customer)
        if open_ is None or t - open_[0] > GAP_MS:
            workload.sessions += 1
            open_ = last[customer] = [t, 0]
        open_[0] = t
        if topic == 3 and not open_[1]:
            open_[1] = 1
            workload.converted += 1
    workload.last_ms = events[-1][0]
    counts = [0] * len(_NAMES)

    def records() -> Iterator[Record]:
        partitions: dict[int, int] = {}
        for event in events:
            t, topic, customer, _ = event
            key = customer_key(customer)
            partition = partitions.get(customer)
            if partition is None:
                partition = partitions[customer] = partition_of(key, shape.partitions)
            value = body_of(event, shape)
            workload.bytes += len(value)
            counts[topic] += 1
            workload.keys[topic, partition].append(customer)
            yield topic, partition, key, value, t
        workload.by_topic = dict(zip(_NAMES, counts, strict=True))

    return workload, records()


async def _load(kafka: str, names: Sequence[str], records: Iterator[Record]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=_BATCH_BYTES, acks="all")
    await producer.start()
    try:
        open_: dict[tuple[int, int], object] = {}
        waiting: set[asyncio.Future[object]] = set()

        async def hand_over(lane: tuple[int, int]) -> None:
            nonlocal waiting
            batch = open_.pop(lane)
            waiting.add(await producer.send_batch(batch, names[lane[0]], partition=lane[1]))
            if len(waiting) > 32:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()

        for topic, partition, key, value, t in records:
            lane = topic, partition
            batch = open_.get(lane)
            if batch is None:
                batch = open_[lane] = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=t) is None:
                await hand_over(lane)
                batch = open_[lane] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=t)
        for lane in list(open_):
            await hand_over(lane)
        for each in waiting:
            await each
    finally:
        await producer.stop()


def tick(kafka: str, name: str, partitions: int, at: int) -> None:
    """Say in each partition of the topic ``name`` that it is ``at`` ms."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
        await producer.start()
        try:
            for partition in range(partitions):
                await producer.send_and_wait(name, encode_tick(at), partition=partition)
        finally:
            await producer.stop()

    asyncio.run(send())


def load(kafka: str, names: Sequence[str], shape: Shape) -> Workload:
    """Make the workload and put it into the topics ``names`` (one for each of INPUTS), which exist."""
    workload, records = make(shape)
    asyncio.run(_load(kafka, names, records))
    return workload

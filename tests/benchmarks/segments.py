"""Segments: how soon people are told to enter and leave, and how fast other rules go through everyone.

    python -m tests.benchmarks.segments
    python -m tests.benchmarks.segments --only edit --customers 100000

latency: a worker behind the embedded broker, by the wall clock. Each customer looks twice and then orders, so
that two segments turn by events and two by silence alone; from a turn's own instant to its fact being read.
edit: the batch loop with that many profiles in memory, and batches of events in between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import topics
from schemas.losses import SegmentFact
from streams.adapters.codec import encode_tick
from streams.adapters.kafka.admin import create_topics
from streams.adapters.kafka.rules import publish_rules
from streams.adapters.segments import RULES_RECORD, encode_rules_record
from streams.agents.customers import Bundle, Customers
from streams.domain.progress import NOT_A_CUSTOMER
from streams.domain.segment_rules import RuleSet, Segment, read
from streams.embedded.broker import Broker
from streams.settings import Settings
from streams.workers import Workers
from tests.benchmarks import machine, workload
from tests.benchmarks.figures import IDLE, MemoryStates, record, state_size

PARTITIONS: Final = 4
_QUIET_S: Final = 4
_TALK_S: Final = 10.0
_DEADLINE_S: Final = 90.0
#: Segment, and whether it is entered: what makes it so.
TURNS: Final = {
    ("looked-twice", True): "entered by an event",
    ("not-bought", False): "left by an event",
    ("quiet", True): "entered by silence",
    ("lately", False): "left by silence",
}
_RULES: Final = {
    "looked-twice": "visits_1d >= 2",
    "not-bought": {"all": ["visits_90d >= 1", "orders_1d == 0"]},
    "quiet": f"since_last_visit >= {_QUIET_S}s",
    "lately": f"since_last_visit < {_QUIET_S - 1}s",
}


def rule_set(version: int, rules: Mapping[str, Any]) -> RuleSet:
    return RuleSet(version, tuple(Segment(name, "", read(rule)) for name, rule in rules.items()))


# -- latency


async def _talk(settings: Settings, customers: int) -> None:
    """Everyone looks, looks again a second later, and orders after another: spread over ``_TALK_S``."""
    plan = [
        (_TALK_S * number / customers + after, step, number)
        for number in range(customers)
        for step, after in enumerate((0.0, 1.0, 2.0))
    ]
    await _say(settings, sorted(plan))


async def _say(settings: Settings, plan: Sequence[tuple[float, int, int]]) -> None:
    """Send (seconds from now, which step, customer), each when it is due."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5)
    await producer.start()
    began = time.time()
    try:
        sends = []
        for due, step, number in plan:
            if began + due > time.time():
                await asyncio.sleep(began + due - time.time())
            key = workload.customer_key(number)
            t = int(time.time() * 1000)
            event: dict[str, Any] = {
                "event_id": f"e{number}-{step}",
                "occurred_at": t,
                "customer_id": key.decode(),
                "shop_id": "s",
            }
            topic = topics.VISITS
            if step == 2:
                topic = topics.ORDERS
                event |= {"action": "placed", "order_id": f"o{number}", "lines": [{"item_id": "i"}]}
            partition = workload.partition_of(key, PARTITIONS)
            name, value = settings.topic(topic.name), json.dumps(event).encode()
            sends.append(await producer.send(name, value, key, partition=partition, timestamp_ms=t))
        await asyncio.gather(*sends)
    finally:
        await producer.stop()


async def _hear(settings: Settings, customers: int, workers: Workers) -> dict[tuple[str, bool], list[float]]:
    """Seconds from each turn's instant to its fact being read, until everyone has turned in every way."""
    name = settings.topic(topics.SEGMENTS.name)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=None, fetch_max_wait_ms=10)
    await consumer.start()
    found: dict[tuple[str, bool], dict[str, float]] = {turn: {} for turn in TURNS}
    try:
        consumer.assign([TopicPartition(name, partition) for partition in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        # Nobody talks before the worker listens: it would find all of it past.
        first = workload.customer_key(customers).decode()
        await _say(settings, [(0.0, 0, customers)])
        began = time.monotonic()
        while not await consumer.getmany(timeout_ms=100):
            workers.check()
            if time.monotonic() > began + _DEADLINE_S:
                raise SystemExit("the worker does not answer")
        talk = asyncio.create_task(_talk(settings, customers))
        deadline = time.monotonic() + _DEADLINE_S
        while any(len(each) < customers for each in found.values()):
            if time.monotonic() > deadline:
                raise SystemExit(f"heard only of {[len(each) for each in found.values()]} turns")
            workers.check()
            for records in (await consumer.getmany(timeout_ms=20)).values():
                now = time.time()
                for each in records:
                    fact = SegmentFact.model_validate_json(each.value)
                    turn = found.get((fact.segment, fact.is_member))
                    if turn is not None and fact.customer_id != first:
                        turn.setdefault(fact.customer_id, now - fact.at / 1000)
        await talk
    finally:
        await consumer.stop()
    return {turn: sorted(each.values()) for turn, each in found.items()}


def latency(customers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as name, Broker(Path(name)) as broker:
        settings = Settings(kafka=broker.address, partitions=PARTITIONS)
        create_topics(settings)
        publish_rules(settings, rule_set(1, _RULES))
        with Workers(settings, ["customers"], Path(name)) as workers:
            found = asyncio.run(_hear(settings, customers, workers))
    for turn, seconds in found.items():
        n = len(seconds)
        print(
            f"latency, {TURNS[turn]}: p50 {seconds[n // 2]:.3f} s, p99 {seconds[n * 99 // 100]:.3f} s,"
            f" most {seconds[-1]:.3f} s ({n:,} turns)",
            flush=True,
        )


# -- an edit


class Turns:
    """Takes the facts; counts those of segments, and keeps the last word on the run."""

    def __init__(self) -> None:
        self.count = 0
        self.run: dict[str, Any] = {}

    async def __call__(self, _partition: int, records: Mapping[str, Sequence[Any]]) -> None:
        self.count += len(records.get(topics.SEGMENTS.name, ()))
        for _, value, _ in records.get(topics.SEGMENT_RUNS.name, ()):
            self.run = json.loads(value)


async def _edit(rows: dict[bytes, bytes], customers: int, at: int) -> None:
    states, turns = MemoryStates(), Turns()
    known = [(key, value) for key, value in rows.items() if not key.startswith(NOT_A_CUSTOMER)]
    states.rows = {key: value for key, value in rows.items() if key.startswith(NOT_A_CUSTOMER)}
    states.rows |= dict(_copies(known, customers))
    settings = replace(Settings(ticks="off"))
    worker = Customers(settings, states, turns, lambda *_: True)
    worker.assign(0)
    alone = [await _batch(worker, at, number) for number in range(20)]
    rules = encode_rules_record(
        rule_set(
            1,
            {
                "lookers": {"all": ["visits_30d >= 5", "orders_30d == 0"]},
                "buyers": "orders_90d >= 1",
                "carts": {"all": ["carts_7d >= 1", {"not": "orders_7d >= 1"}]},
                "quiet": "since_last_visit >= 14d",
                "fans": {"any": ["favorites_30d >= 2", "stage in [lapsing, lapsed]"]},
            },
        )
    )
    began, used = time.monotonic(), time.process_time()
    published = record(topics.SEGMENT_RULES.name, 0, 0, at, RULES_RECORD, rules)
    await worker.handle(0, [Bundle(topics.SEGMENT_RULES.name, [published], began)])
    beside: list[float] = []
    batches = events_s = 0.0
    while not turns.run.get("is_finished"):
        batches += 1
        if batches % 200 == 0:
            took = time.process_time()
            beside.append(await _batch(worker, at, 1000 + int(batches)))
            events_s += time.process_time() - took
        else:
            await _tick(worker, at)
    took, cpu = time.monotonic() - began, time.process_time() - used - events_s
    print(
        f"edit: {turns.run['done']:,} of {turns.run['total']:,} profiles looked at in {took:.1f} s"
        f" ({cpu:.1f} s of processor time): {turns.run['total'] / cpu:,.0f} a second of one core,"
        f" {turns.count:,} turns told; {batches:,.0f} batches of at most {settings.segments_per_batch}"
    )
    alone.sort()
    beside.sort()
    print(
        f"edit: a batch of {_EVENTS} events takes {1000 * alone[len(alone) // 2]:.1f} ms before, and"
        f" {1000 * beside[len(beside) // 2]:.1f} ms beside the run (medians of processor time)"
    )
    partitions = Settings().partitions
    bound = settings.segments_per_batch / settings.tick_interval_s * partitions
    print(f"edit: by default ticks alone take {partitions} partitions through {bound:,.0f} a second")


_EVENTS: Final = 500


async def _batch(worker: Customers, at: int, number: int) -> float:
    """Handle a batch of visits; gives its processor time."""
    made = []
    for n in range(_EVENTS):
        key = f"new-{number % 20}-{n}".encode()
        visit = {
            "event_id": f"b{number}-{n}",
            "occurred_at": at,
            "customer_id": key.decode(),
            "shop_id": "shop-1",
        }
        made.append(record("visits", 0, 10**9 + number * _EVENTS + n, at, key, json.dumps(visit).encode()))
    began = time.process_time()
    await worker.handle(0, [Bundle("visits", made, time.monotonic())])
    return time.process_time() - began


async def _tick(worker: Customers, at: int) -> None:
    tick = record(topics.TICKS.name, 0, 0, at, None, encode_tick(at))
    await worker.handle(0, [Bundle(topics.TICKS.name, [tick], time.monotonic())])


def _copies(known: Sequence[tuple[bytes, bytes]], customers: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(customers):
        key, value = known[number % len(known)]
        yield b"%s-%d" % (key, number // len(known)), value


def edit(customers: int) -> None:
    shape = replace(IDLE, events=min(IDLE.events, 4 * customers), customers=min(IDLE.customers, customers))
    rows, size = state_size(shape)
    print(f"edit: states of {size['state_bytes_mean']:.0f} bytes in the mean")
    last = workload.make(shape)[0].last_ms
    asyncio.run(_edit(rows, customers, last + workload.GAP_MS + 60_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["latency", "edit"])
    parser.add_argument("--talkers", type=int, default=800)
    parser.add_argument("--customers", type=int, default=1_000_000)
    args = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    if args.only != "edit":
        latency(args.talkers)
    if args.only != "latency":
        edit(args.customers)


if __name__ == "__main__":
    main()

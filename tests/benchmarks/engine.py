"""Processor time of the customers agent's batch loop alone: no broker, no Faust, states in memory.

    python -m tests.benchmarks.engine --events 200000
    EBBTIDE_BUYERS=0 EBBTIDE_LOSSES=0 python -m tests.benchmarks.engine

Hardly disturbed by what else runs on the machine: for judging a change to the decoder or the rules.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from typing import Any

from schemas import topics
from streams.adapters.codec import encode_tick
from streams.agents.customers import Bundle, Customers
from streams.settings import Settings
from tests.benchmarks import workload
from tests.benchmarks.figures import MemoryStates, Sessions, record
from tests.benchmarks.throughput import INPUT_NAMES, SHAPES


class SizedStates(MemoryStates):
    """Counts what would have gone to the changelog."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = self.bytes = 0

    async def write(self, partition: int, changes: Any) -> None:
        await super().write(partition, changes)
        self.writes += len(changes)
        self.bytes += sum(len(key) + len(value or b"") for key, value in changes.items())


async def run(shape: workload.Shape, batch: int) -> None:
    of_all, made = workload.make(shape)
    lanes: dict[tuple[int, int], list[Any]] = {}
    batches: list[tuple[int, int, list[Any]]] = []
    offsets: dict[tuple[int, int], int] = {}
    for topic, partition, key, value, t in made:
        lane = topic, partition
        offset = offsets.get(lane, 0)
        offsets[lane] = offset + 1
        waiting = lanes.setdefault(lane, [])
        waiting.append(record(INPUT_NAMES[topic], partition, offset, t, key, value))
        if len(waiting) == batch:
            batches.append((topic, partition, lanes.pop(lane)))
    batches += [(*lane, waiting) for lane, waiting in lanes.items()]
    states = {partition: SizedStates() for partition in range(shape.partitions)}
    sessions = Sessions()
    customers = {
        partition: Customers(
            Settings.from_env(ticks="off"),
            states[partition],
            sessions,
            # Topics without events are at their ends; of the others time goes by the events.
            lambda _, topic, __: topic >= topics.ALWAYS,
        )
        for partition in states
    }
    for partition, each in customers.items():
        each.assign(partition)
        told = record(topics.TICKS.name, partition, 0, of_all.last_ms, None, encode_tick(of_all.last_ms))
        await each.handle(partition, [Bundle(topics.TICKS.name, [told], time.monotonic())])
    began = time.process_time()
    for topic, partition, records in batches:
        await customers[partition].handle(partition, [Bundle(INPUT_NAMES[topic], records, time.monotonic())])
    took = time.process_time() - began
    writes = sum(each.writes for each in states.values())
    size = sum(each.bytes for each in states.values())
    print(
        f"{shape.name}: {took / shape.events * 1e6:.2f} µs an event ({shape.events:,} events in"
        f" {len(batches)} batches, {shape.events / writes:.2f} events a state written,"
        f" {size / writes:.0f} bytes each, {sessions.count:,} sessions sent)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--shape", default="interleaved", choices=list(SHAPES))
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    share = args.events / shape.events
    asyncio.run(run(replace(shape, events=args.events, span_h=shape.span_h * share), args.batch))


if __name__ == "__main__":
    main()

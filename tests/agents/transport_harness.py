"""What the transport's tests share: topics with known records, worker processes, and what they wrote down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaAdminClient

from streams.adapters.kafka import admin
from streams.adapters.kafka.producing import send_records
from streams.settings import Settings
from tests.agents.transport_worker import guard_of

INPUTS = ("visits", "carts")
CHANGELOG = "customers-state"
KEYS = 97


@dataclass
class Bench:
    """Topics of one test on the Kafka in use, and the workers on them."""

    kafka: str
    prefix: str
    folder: Path
    partitions: int = 3
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    workers: list[Worker] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(kafka=self.kafka, topic_prefix=self.prefix, partitions=self.partitions)

    def create(self, *names: str) -> None:
        client = KafkaAdminClient(bootstrap_servers=self.kafka)
        try:
            client.create_topics(
                {
                    self.prefix + name: {
                        "num_partitions": self.partitions,
                        "replication_factor": 1,
                        "configs": {"cleanup.policy": "compact" if name == CHANGELOG else "delete"},
                    }
                    for name in names
                },
                wait_for_metadata=True,
            )
        finally:
            client.close()

    def send(self, count: int, names: tuple[str, ...] = INPUTS, keys: int = KEYS, size: int = 40) -> None:
        """``count`` more records to each partition of each topic; keys go round, so counts are known."""

        async def run() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka, max_batch_size=100_000)
            await producer.start()
            try:
                for name in names:
                    for partition in range(self.partitions):
                        at = self.sent[name, partition]
                        rows = [
                            (f"{partition}-{offset % keys}".encode(), b"x" * size)
                            for offset in range(at, at + count)
                        ]
                        await send_records(producer, self.prefix + name, partition, rows)
                        self.sent[name, partition] += count
            finally:
                await producer.stop()

        asyncio.run(run())

    def worker(self, **options: Any) -> Worker:
        number = len(self.workers)
        worker = Worker(
            {
                "kafka": self.kafka,
                "prefix": self.prefix,
                "topics": list(INPUTS),
                "log": str(self.folder / f"worker-{number}.log"),
                **options,
            },
            self.folder / f"worker-{number}.out",
        )
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    # -- what happened

    def bundles(self) -> list[dict[str, Any]]:
        """Every bundle any worker was given, in the order of time."""
        found = [line for worker in self.workers for line in worker.lines() if line["event"] == "bundle"]
        return sorted(found, key=lambda line: float(line["at"]))

    def handed_over(self) -> Counter[tuple[str, int, int]]:
        """How often each (topic, partition, offset) was given to a worker."""
        times: Counter[tuple[str, int, int]] = Counter()
        for line in self.bundles():
            for offset in range(line["first"], line["last"] + 1):
                times[line["topic"], line["partition"], offset] += 1
        return times

    def everything(self) -> set[tuple[str, int, int]]:
        return {(*tp, offset) for tp, count in self.sent.items() for offset in range(count)}

    def lag(self) -> int:
        names = [self.prefix + name for name in sorted({name for name, _ in self.sent})]
        return sum(each.records for each in admin.lag(self.settings, self.settings.group("probe"), names))

    def committed(self) -> dict[tuple[str, int], int]:
        """Committed offsets of the workers' group, by topic without its prefix."""
        found = admin.committed_offsets(self.settings, self.settings.group("probe"))
        return {(name.removeprefix(self.prefix), partition): at for (name, partition), at in found.items()}

    def wait_drained(self, deadline_s: float = 60.0) -> None:
        """Until all that was sent is committed."""
        wait_for(lambda: self.lag() == 0, "everything to be committed", deadline_s, self)

    def counts(self) -> dict[bytes, int]:
        """Events counted by key, by reading the changelog from its start to its true end."""
        changelog = self.prefix + CHANGELOG

        async def run() -> dict[bytes, int]:
            ends = await asyncio.to_thread(admin.end_offsets, self.settings, [changelog])
            consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, auto_offset_reset="earliest")
            await consumer.start()
            state: dict[bytes, int] = {}
            try:
                tps = [TopicPartition(*tp) for tp in ends]
                consumer.assign(tps)
                while any([await consumer.position(tp) < ends[tp.topic, tp.partition] for tp in tps]):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        for record in records:
                            state[record.key] = guard_of(record.value)[0]
            finally:
                await consumer.stop()
            return state

        return asyncio.run(run())

    def expected_counts(self, keys: int = KEYS) -> dict[bytes, int]:
        counts: dict[bytes, int] = defaultdict(int)
        for (_, partition), count in self.sent.items():
            for offset in range(count):
                counts[f"{partition}-{offset % keys}".encode()] += 1
        return dict(counts)


class Worker:
    """One worker process; ``lines`` is what it wrote down so far."""

    def __init__(self, options: dict[str, Any], output: Path) -> None:
        self.log = Path(options["log"])
        self.output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.agents.transport_worker", json.dumps(options)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def lines(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def wait(self, event: str, count: int = 1, deadline_s: float = 60.0) -> None:
        """Until it has written down ``count`` such events, or AssertionError."""

        def seen() -> bool:
            if len(self.of(event)) >= count:
                return True
            assert self.process.poll() is None, f"the worker ended: {self.said()}"
            return False

        wait_for(seen, f"{count} × {event}", deadline_s)

    def stop(self, deadline_s: float = 40.0) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self, deadline_s: float = 60.0) -> int:
        """Wait until it ends by itself; gives the exit code."""
        return self.process.wait(deadline_s)

    def said(self) -> str:
        return self.output.read_text(errors="replace")[-3000:]


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float, bench: Bench | None = None) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > ends:
            said = "\n---\n".join(worker.said() for worker in bench.workers) if bench else ""
            raise AssertionError(f"waited {deadline_s:g} s in vain for {what}\n{said}")
        time.sleep(0.1)


@contextmanager
def bench_on(kafka: str, prefix: str, folder: Path, *names: str) -> Iterator[Bench]:
    bench = Bench(kafka, prefix, folder)
    bench.create(*(names or (*INPUTS, CHANGELOG)))
    try:
        yield bench
    finally:
        bench.stop()

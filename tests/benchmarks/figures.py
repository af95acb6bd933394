"""What throughput does not say: the size of an idle customer, how fast a worker recovers, how soon it speaks.

python -m tests.benchmarks.figures --broker embedded
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord

from schemas import topics
from streams.adapters.codec import encode_tick
from streams.adapters.kafka.producing import send_records
from streams.agents.customers import Bundle, Customers
from streams.domain.policy import Policy
from streams.domain.progress import MARKER_KEY
from streams.settings import Settings
from tests.benchmarks import machine, workload
from tests.benchmarks.measure import Process, Reader, RunFailed, reading
from tests.benchmarks.subjects.telling import Options
from tests.benchmarks.throughput import brokers, create_own_topics

PARTITIONS: Final = 4
#: Customers with about one session of eight events each; what recovers is several times as many.
IDLE: Final = workload.Shape("idle", events=200_000, customers=50_000, span_h=4.0, shops=50, seed=3)
COPIES: Final = 15
GAP_S: Final = 5.0
TALKERS: Final = 800
_TALK_S: Final = 3.0
_INPUTS: Final = [topic.name for topic in topics.INPUTS]


# -- the state of an idle customer


class MemoryStates:
    """The states of one partition, in memory; the changelog is left out."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, _partition: int, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def items(self, _partition: int) -> Iterable[tuple[bytes, bytes]]:
        return list(self.rows.items())

    async def write(self, _partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class Sessions:
    """Takes the facts; counts the sessions."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, _partition: int, records: Mapping[str, Sequence[Any]]) -> None:
        self.count += len(records.get(topics.SESSIONS.name, ()))


async def idle_states(shape: workload.Shape, alone: bool) -> tuple[dict[bytes, bytes], int, int]:
    """States of all customers of one partition after all their sessions have closed, by the real engine: the
    rows (the marker among them), how many customers, how many sessions."""
    states, sessions = MemoryStates(), Sessions()
    settings = Settings(ticks="off", policy=Policy(buyers=not alone, losses=not alone))
    customers = Customers(settings, states, sessions, lambda *_: True)
    customers.assign(0)
    made, records = workload.make(shape)
    offsets, waiting = [0] * len(_INPUTS), [[] for _ in _INPUTS]  # type: list[int], list[list[Any]]

    async def handle(topic: int) -> None:
        await customers.handle(0, [Bundle(_INPUTS[topic], waiting[topic], time.monotonic())])
        waiting[topic] = []

    for topic, _, key, value, t in records:
        waiting[topic].append(record(_INPUTS[topic], 0, offsets[topic], t, key, value))
        offsets[topic] += 1
        if len(waiting[topic]) >= 5_000:
            await handle(topic)
    for topic in range(len(_INPUTS)):
        if waiting[topic]:
            await handle(topic)
    tick = encode_tick(made.last_ms + workload.GAP_MS + 60_000)
    while sessions.count < made.sessions:
        before = sessions.count
        tick_record = record(topics.TICKS.name, 0, 0, made.last_ms, None, tick)
        await customers.handle(0, [Bundle(topics.TICKS.name, [tick_record], time.monotonic())])
        if sessions.count == before:
            raise RuntimeError(f"{sessions.count} of {made.sessions} sessions closed")
    return states.rows, len(states.rows) - 1, sessions.count


def record(topic: str, partition: int, offset: int, t: int, key: bytes | None, value: bytes) -> Any:
    """A record as the consumer would have it."""
    sizes = (len(key or b""), len(value))
    return ConsumerRecord(topic, partition, offset, t, 0, key, value, None, *sizes, ())


def state_size(shape: workload.Shape, alone: bool = False) -> tuple[dict[bytes, bytes], dict[str, Any]]:
    rows, customers, sessions = asyncio.run(idle_states(shape, alone))
    values = [len(value) for key, value in rows.items() if key != MARKER_KEY]
    values.sort()
    return rows, {
        "customers": customers,
        "sessions_per_customer": round(sessions / customers, 2),
        "events_per_customer": round(shape.events / customers, 2),
        "state_bytes_mean": round(sum(values) / customers, 1),
        "state_bytes_median": values[len(values) // 2],
        "state_bytes_p99": values[len(values) * 99 // 100],
    }


# -- recovery


async def _fill(kafka: str, changelog: str, rows: Mapping[bytes, bytes]) -> int:
    """``COPIES`` times the rows into each partition of the changelog, the marker last; how many customers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", compression_type="lz4", max_batch_size=1_000_000
    )
    await producer.start()
    count = 0
    try:
        for partition in range(PARTITIONS):
            copies = [
                (b"%d-%d-%b" % (partition, copy, key), value)
                for key, value in rows.items()
                if key != MARKER_KEY
                for copy in range(COPIES * partition // PARTITIONS, COPIES * (partition + 1) // PARTITIONS)
            ]
            count += len(copies)
            copies.append((MARKER_KEY, rows[MARKER_KEY]))
            await send_records(producer, changelog, partition, copies)
    finally:
        await producer.stop()
    return count


def recovery(
    server: machine.Server, rows: Mapping[bytes, bytes], folder: Path, number: int
) -> dict[str, Any]:
    """One worker's start on a changelog, and on an empty one, to compare the memory."""
    memory: dict[str, int] = {}
    found: dict[str, Any] = {}
    for name in ("empty", "full"):
        options = _options(server, folder, f"recovery{number}-{name}", 0)
        _create(server, options)
        customers = 0
        if name == "full":
            changelog = f"{options.run}-{topics.CUSTOMERS_CHANGELOG.name}"
            customers = asyncio.run(_fill(server.address, changelog, rows))
        with Process("ebbtide", options, {"BENCH_LOG_LEVEL": "INFO"}) as process:
            ready_at = wait_ready(process)
            restored_at, took_s = _restored(process)
            settled = time.monotonic() + 1.0  # buffers of the fetches go; the sampler looks again
            process.wait(lambda until=settled: time.monotonic() > until, 5, options.run)
            memory[name] = process.rss_kb
        seconds = ready_at - (restored_at - took_s)
        if customers:
            found = {
                "customers": customers,
                "replay_s": round(took_s, 2),
                "seconds": round(seconds, 2),
                "customers_per_s": round(customers / seconds),
                "cpu_us_per_customer": round(
                    (process.cpu_at(ready_at) - process.cpu_at(restored_at - took_s)) / customers * 1e6, 2
                ),
                "resident_bytes_per_customer": round((memory["full"] - memory["empty"]) * 1024 / customers),
            }
    return found


def _options(server: machine.Server, folder: Path, run: str, events: int) -> Options:
    inputs = tuple(f"{run}-{name}" for name in _INPUTS)
    return Options(server.address, inputs, run, PARTITIONS, events, str(folder))


def _create(server: machine.Server, options: Options) -> None:
    machine.create_topics(server.address, {name: {} for name in options.inputs}, PARTITIONS)
    create_own_topics(server.address, options.run, PARTITIONS)


def wait_ready(process: Process) -> float:
    """Wait until the worker says that it is ready; when that was."""
    process.wait(lambda: "Worker ready" in process.last_words(100_000), 90, "a worker's start")
    return _said_at(process, "Worker ready")[0]


def _restored(process: Process) -> tuple[float, float]:
    at, line = _said_at(process, "Restored ")
    found = re.search(r"in ([\d.]+) s", line)
    assert found is not None
    return at, float(found[1])


def _said_at(process: Process, what: str) -> tuple[float, str]:
    """When (epoch seconds) the worker last logged a line with ``what``, and the line."""
    lines = [line for line in process.last_words(100_000).splitlines() if what in line]
    stamp = re.search(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3})", lines[-1])
    assert stamp is not None
    return time.mktime(time.strptime(stamp[1], "%Y-%m-%d %H:%M:%S")) + int(stamp[2]) / 1000, lines[-1]


# -- verdict latency


async def _talk(kafka: str, inputs: Sequence[str], customers: int) -> dict[str, float]:
    """Visits of that many customers, spread over ``_TALK_S``; when each was there (epoch seconds)."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    last: dict[str, float] = {}
    began = time.time()
    try:
        sends = []
        for number in range(customers):
            due = began + _TALK_S * number / customers
            if due > time.time():
                await asyncio.sleep(due - time.time())
            key = workload.customer_key(number)
            partition = workload.partition_of(key, PARTITIONS)
            t = int(time.time() * 1000)
            at = datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="milliseconds")
            visit = {"event_id": f"v{number}", "occurred_at": at, "customer_id": key.decode(), "shop_id": "s"}
            value = msgspec.json.encode(visit)
            sends.append(await producer.send(inputs[0], value, key, partition=partition, timestamp_ms=t))
            last[key.decode()] = t / 1000
        await asyncio.gather(*sends)
    finally:
        await producer.stop()
    return last


def _verdicts(reader: Reader, process: Process, wanted: set[str]) -> dict[str, float]:
    """When each customer's session was there to be read."""
    seen: dict[str, float] = {}

    def all_there() -> bool:
        for record in reader.poll(20):
            seen.setdefault(record.key.decode(), time.time())
        return wanted <= set(seen)

    process.wait(all_there, 60, "verdicts")
    return seen


def latency(server: machine.Server, folder: Path, number: int) -> dict[str, Any]:
    """Verdict latencies of one live worker, then of a worker that was away while the deadlines passed."""
    env = {"BENCH_LOG_LEVEL": "INFO", "EBBTIDE_TICKS": "wall", "EBBTIDE_GAP": f"{GAP_S:g}s"}
    live = _options(server, folder, f"latency{number}-live", 0)
    _create(server, live)
    with reading(server.address, [f"{live.run}-sessions"], PARTITIONS) as reader:
        with Process("ebbtide", live, env) as process:
            wait_ready(process)
            last = asyncio.run(_talk(server.address, live.inputs, TALKERS))
            seen = _verdicts(reader, process, set(last))
        quiet = sorted(seen[customer] - (t + GAP_S) for customer, t in last.items())
    again = _options(server, folder, f"latency{number}-again", 0)
    _create(server, again)
    with reading(server.address, [f"{again.run}-sessions"], PARTITIONS) as reader:
        with Process("ebbtide", again, env) as process:
            wait_ready(process)
            last = asyncio.run(_talk(server.address, again.inputs, TALKERS))
            process.stop()
        while time.time() < max(last.values()) + GAP_S + 0.5:
            time.sleep(0.05)
        early = sum(1 for _ in reader.poll())
        with Process("ebbtide", again, env) as process:
            ready_at = wait_ready(process)
            seen = _verdicts(reader, process, set(last))
        since_ready = sorted(seen[customer] - ready_at for customer in last)
        since_due = sorted(seen[customer] - (t + GAP_S) for customer, t in last.items())
    return {
        "gap_s": GAP_S,
        "sessions": TALKERS,
        "quiet": _percentiles(quiet),
        "after_restart": {
            "verdicts_before_the_restart": early,
            "restart_to_ready_s": round(ready_at - process.began, 3),
            "since_ready": _percentiles(since_ready),
            "since_due": _percentiles(since_due),
        },
    }


def _percentiles(ordered: Sequence[float]) -> dict[str, float]:
    n = len(ordered)
    return {
        "p50_s": round(ordered[n // 2], 3),
        "p99_s": round(ordered[n * 99 // 100], 3),
        "max_s": round(ordered[-1], 3),
    }


def measure(
    server: machine.Server, rows: Mapping[bytes, bytes], folder: Path, runs: int, only: str | None = None
) -> dict[str, Any]:
    """Recovery and latency on one broker, ``runs`` times each."""
    found: dict[str, Any] = {"broker": server.what, "recovery": [], "latency": []}
    for kind in ("recovery", "latency"):
        for number in range(runs if only in (None, kind) else 0):
            try:
                if kind == "recovery":
                    found[kind].append(recovery(server, rows, folder, number))
                else:
                    found[kind].append(latency(server, folder, number))
            except RunFailed as exc:
                print(f"  {kind} {number + 1}: FAILED: {exc}", flush=True)
            else:
                print(f"  {kind} {number + 1}: {found[kind][-1]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="State size, recovery and verdict latency.")
    parser.add_argument("--broker", default="both", choices=["embedded", "kafka", "both"])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=["recovery", "latency"])
    args = parser.parse_args()
    machine.stay_off_the_subject_core()
    rows: dict[bytes, bytes] = {}
    if args.only != "latency":
        rows, size = state_size(IDLE)
        print(f"state: {size}", flush=True)
    for name in brokers(args.broker):
        with machine.broker(name) as server, tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as folder:
            print(server.what)
            measure(server, rows, Path(folder), args.runs, args.only)


if __name__ == "__main__":
    main()

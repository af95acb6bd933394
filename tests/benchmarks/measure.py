"""One run of one subject: its process on its own core, watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from tests.benchmarks.machine import to_subject_core
from tests.benchmarks.subjects.telling import Options

_SAMPLE_S: Final = 0.05
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STOP_S: Final = 20.0


class RunFailed(RuntimeError):
    """A subject ended or stood still before it was done; the text has its last words."""


@dataclass(slots=True)
class Run:
    """What one run measured. Between the first and the last moment at which the subject stated a progress:
    ``events`` processed, wall ``seconds``, ``cpu_s`` (user and system) of its process."""

    subject: str
    events: int
    seconds: float
    cpu_s: float
    peak_mb: float
    batches: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time an event."""
        return self.cpu_s / self.events * 1e6


class Process:
    """A subject's process: its progress lines and samples of its processor time."""

    def __init__(self, module: str, options: Options, env: dict[str, str] | None = None) -> None:
        self.errors = Path(options.folder) / f"{options.run}.log"
        self.progress: list[tuple[float, int]] = []
        self.samples: list[tuple[float, float]] = []
        self.peak_kb = self.rss_kb = 0
        self.began = time.time()
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tests.benchmarks.subjects.{module}", options.to_argument()],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(env or {})},
                preexec_fn=to_subject_core,
            )
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._sample)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b'{"t"'):
                told = msgspec.json.decode(line)
                self.progress.append((told["t"], told["n"]))

    def _sample(self) -> None:
        folder = Path(f"/proc/{self.process.pid}")
        while self.process.poll() is None:
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                self.samples.append((time.time(), (int(fields[11]) + int(fields[12])) / _TICKS))
                for line in (folder / "status").read_text().splitlines():
                    if line.startswith("VmHWM"):
                        self.peak_kb = int(line.split()[1])
                    elif line.startswith("VmRSS"):
                        self.rss_kb = int(line.split()[1])
            except (OSError, IndexError):
                return
            time.sleep(_SAMPLE_S)

    def cpu_at(self, t: float) -> float:
        """Processor seconds used until ``t``, between samples by line."""
        at = bisect_left(self.samples, (t, 0.0))
        if at == 0 or at == len(self.samples):
            return self.samples[min(at, len(self.samples) - 1)][1]
        (t0, c0), (t1, c1) = self.samples[at - 1], self.samples[at]
        return c0 + (c1 - c0) * (t - t0) / (t1 - t0)

    def wait(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Until ``done``; RunFailed when the process has ended before, or after ``deadline_s``."""
        ends = time.monotonic() + deadline_s
        while not done():
            ended = self.process.poll() is not None
            if ended and not done():
                time.sleep(0.3)  # the last lines may still be in the pipe
                if done():
                    return
                raise RunFailed(f"{what}: ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > ends:
                raise RunFailed(f"{what}: not done after {deadline_s:.0f} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self, characters: int = 1_500) -> str:
        """The end of its log."""
        return self.errors.read_text(errors="replace")[-characters:]

    def stop(self, *, kill: bool = False) -> None:
        """End it: asked, then killed; or killed at once."""
        if self.process.poll() is None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(2)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(kill=True)


class Reader:
    """Reads topics from their beginning, in this process, as they grow."""

    def __init__(self, kafka: str, names: list[str], partitions: int) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=100
        )
        tps = [TopicPartition(name, partition) for name in names for partition in range(partitions)]
        self._consumer.assign(tps)
        self._consumer.seek_to_beginning(*tps)

    def poll(self, timeout_ms: int = 50) -> Iterator[Any]:
        for records in self._consumer.poll(timeout_ms=timeout_ms, max_records=50_000).values():
            yield from records

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def reading(kafka: str, names: list[str], partitions: int) -> Iterator[Reader]:
    with closing(Reader(kafka, names, partitions)) as reader:
        yield reader


class Ingest:
    """How far a customers worker is, by the counts it sends with each batch; the timestamps are its own."""

    def __init__(self, reader: Reader, order: list[str]) -> None:
        self._reader = reader
        self._order = order
        self._next: dict[tuple[int, int], int] = {}
        self.progress: list[tuple[float, int]] = []
        self.batches: list[tuple[int, int, int, int]] = []
        self.counts: dict[tuple[str, int], dict[str, int]] = {}

    def read(self) -> int:
        """Take in what is new; gives the events processed so far."""
        for record in sorted(self._reader.poll(), key=lambda r: (r.timestamp, r.offset)):
            value = msgspec.json.decode(record.value)
            lane = self._order.index(value["topic"]), value["partition"]
            self.counts[value["topic"], value["partition"]] = value
            before, end = self._next.get(lane, 0), value["next_offset"]
            if end > before:
                self._next[lane] = end
                self.batches.append((*lane, before, end))
                self.progress.append((record.timestamp / 1000, sum(self._next.values())))
        return sum(self._next.values())


def figure(subject: str, process: Process, progress: list[tuple[float, int]]) -> Run:
    """A run's figures between its first and its last progress."""
    progress = sorted(progress)
    (t0, n0), (t1, n1) = progress[0], progress[-1]
    if n1 <= n0 or t1 <= t0:
        raise RunFailed(f"{subject} told too little of its progress")
    cpu = process.cpu_at(t1) - process.cpu_at(t0)
    return Run(subject, n1 - n0, t1 - t0, cpu, process.peak_kb / 1024)

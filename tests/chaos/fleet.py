"""Worker processes under a supervisor: whoever ends is started again at once, as in production."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from streams.settings import Settings
from tests.chaos.nursery import Child, Nursery

_POLL_S = 0.02
_STOP_S = 40.0
_KILL_S = 20.0


@dataclass
class Worker:
    """One place in the fleet: a role, and the process that fills it now."""

    role: str
    name: str
    log: Path
    process: Child | None = None
    wanted: bool = True
    killed: bool = False
    starts: int = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Fleet:
    """The workers of one deployment.

    Each start picks its batch size from ``batch_records`` by chance, so that what is delivered again is cut
    otherwise. ``failures`` tells of the workers that
    ended without being told to: fail-stop is allowed, and is what a supervisor is for.
    """

    nursery: Nursery
    settings: Settings
    folder: Path
    seed: int
    batch_records: tuple[int, ...] = (20, 200, 5_000)
    workers: list[Worker] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"fleet:{self.seed}")
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    # -- who works

    def add(self, role: str, count: int = 1) -> list[Worker]:
        """``count`` more workers of ``role``, started."""
        added = []
        with self._lock:
            for _ in range(count):
                name = f"{role}-{sum(w.role == role for w in self.workers)}"
                worker = Worker(role, name, self.folder / f"{name}.log")
                self.workers.append(worker)
                self._start(worker)
                added.append(worker)
        return added

    def of(self, role: str) -> list[Worker]:
        return [worker for worker in self.workers if worker.role == role and worker.wanted]

    # -- what happens to them

    def kill(self, workers: Iterable[Worker], meanwhile: Callable[[], None] = lambda: None) -> int:
        """``kill -9`` of all of them at one moment; ``meanwhile`` runs before the supervisor sees it.

        Gives how many were alive.
        """
        with self._lock:
            victims = [w for w in workers if w.running]
            for worker in victims:
                assert worker.process is not None
                worker.killed = True
                worker.process.send_signal(signal.SIGKILL)
            for worker in victims:
                assert worker.process is not None
                worker.process.wait(_KILL_S)
            meanwhile()
        return len(victims)

    def signal(self, worker: Worker, number: int) -> None:
        """SIGSTOP or SIGCONT."""
        if worker.process is not None:
            worker.process.send_signal(number)

    def crash(self, worker: Worker) -> None:
        """``kill -9``, and nobody starts it again until it joins."""
        with self._lock:
            worker.wanted = False
            self.kill([worker])

    def leave(self, worker: Worker) -> int:
        """Ask the worker to stop, for good; gives its exit code."""
        with self._lock:
            worker.wanted = False
        assert worker.process is not None
        worker.process.send_signal(signal.SIGTERM)
        try:
            return worker.process.wait(_STOP_S)
        except TimeoutError:
            raise AssertionError(f"{worker.name} did not stop within {_STOP_S:g} s of SIGTERM") from None

    def join(self, worker: Worker) -> None:
        """Start a worker that has left."""
        with self._lock:
            worker.wanted = True
            self._start(worker)

    def stop(self) -> None:
        """End every process, whatever state it is in."""
        self._stopped.set()
        self._thread.join()
        with self._lock:
            for worker in self.workers:
                worker.wanted = False
                if worker.process is not None:
                    worker.process.send_signal(signal.SIGKILL)
                    worker.process.wait(_KILL_S)

    # -- the supervisor

    def _supervise(self) -> None:
        while not self._stopped.wait(_POLL_S):
            with self._lock:
                for worker in self.workers:
                    if worker.wanted and not worker.running:
                        self._note(worker)
                        self._start(worker)

    def _note(self, worker: Worker) -> None:
        if not worker.killed and worker.process is not None:
            said = [line for line in worker.log.read_text(errors="replace").splitlines() if line.strip()]
            last = next(
                (line for line in reversed(said) if line.startswith("ebbtide:")), said[-1] if said else ""
            )
            self.failures.append(
                f"{worker.name} ended with code {worker.process.poll()} after start {worker.starts}: {last}"
            )

    def _start(self, worker: Worker) -> None:
        settings = replace(self.settings, batch_records=self._chance.choice(self.batch_records))
        worker.starts += 1
        worker.killed = False
        with worker.log.open("a") as log:
            stamp = time.strftime("%H:%M:%S")
            log.write(f"--- start {worker.starts} at {stamp}, batches of {settings.batch_records}\n")
        args = ["worker", "--agents", worker.role]
        env = {**settings.to_env(), "TMPDIR": str(self.folder)}
        worker.process = self.nursery.start(args, env, worker.log)

"""Worker processes: one role a process, several under one parent that ends them all when one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.settings import Settings

#: Said to a child by its parent: when its standard input ends, the parent is gone, and it must go too.
PARENT_FLAG = "--with-parent"
_STOP_S = 30.0
_POLL_S = 0.1


class WorkerError(RuntimeError):
    """A worker process ended by itself; the text is one sentence."""


class Workers:
    """Worker processes of some roles, as a context manager.

    settings: given to them as environment. log_dir: one log file a role there, or None for our own output.
    """

    def __init__(self, settings: Settings, roles: Sequence[str], log_dir: Path | None = None) -> None:
        self._env = {**os.environ, **settings.to_env()}
        self._roles = roles
        self._log_dir = log_dir
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for role in self._roles:
            self._start(role)
        return self

    def _start(self, role: str) -> None:
        command = [sys.executable, "-m", "streams.cli", "worker", "--agents", role, PARENT_FLAG]
        log = None if self._log_dir is None else (self._log_dir / f"{role}.log").open("ab")
        self._processes[role] = subprocess.Popen(
            command, env=self._env, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        if log is not None:
            log.close()

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """WorkerError if one has ended."""
        for role, process in self._processes.items():
            code = process.poll()
            if code is not None:
                where = "" if self._log_dir is None else f"; its log is {self._log_dir / f'{role}.log'}"
                raise WorkerError(f"the {role} worker ended with exit code {code}{where}")

    def pid(self, role: str) -> int:
        """The process id of the worker of that role."""
        return self._processes[role].pid

    def ended(self) -> dict[str, int]:
        """Exit codes of those that have ended, by role; below zero: the signal that ended it."""
        codes = {role: process.poll() for role, process in self._processes.items()}
        return {role: code for role, code in codes.items() if code is not None}

    def start_again(self, role: str) -> None:
        """Start the worker of that role anew, after it has ended."""
        if (pipe := self._processes[role].stdin) is not None:
            pipe.close()
        self._start(role)

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Return when ``stopped`` says so; WorkerError when a worker ends before."""
        while not stopped():
            self.check()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End all of them: asked first, killed if they do not go."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def end_with_parent() -> None:
    """Have this process stop, as if asked to, when the parent that holds its standard input is gone."""

    def watch() -> None:
        # Not by way of sys.stdin: its lock, held by this thread, would abort the interpreter at its end.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

"""One child process that serves a port on 127.0.0.1: started, waited for, stopped by its process id."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOST = "127.0.0.1"
_PORT_ATTEMPTS = 5
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1

# Linux ends a child when the *thread* that forked it ends, so all children are forked by one thread
# that lives as long as this process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-spawner")


class StackError(RuntimeError):
    """A part of the embedded stack cannot run; its text is one sentence for the person who started it."""


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on now; somebody may by the time it is used."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def how_ended(code: int) -> str:
    """A process's exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _die_with_parent() -> Callable[[], None] | None:
    """What a Linux child runs before exec so that it is killed when this process dies, however it dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return before_exec


class ServerProcess:
    """A server program on a port of 127.0.0.1.

    ``command(port)`` gives its argument list, ``healthy(port, pid)`` does one exchange with it in its own
    protocol and says whether it is ready. Its output goes to ``log``, appended over restarts.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        healthy: Callable[[int, int], bool],
        log: Path,
        deadline_s: float = 30.0,
    ) -> None:
        self.name = name
        self.port = 0
        self._command = command
        self._healthy = healthy
        self._log = log
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id, None when it is not running."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> str | None:
        """How it ended by itself, in words; None while it runs, or when it was stopped."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else how_ended(code)

    def spawn(self, port: int | None = None) -> None:
        """Starts the process without waiting for it, on ``port`` or a free one."""
        if self.running:
            raise StackError(f"{self.name} is already running")
        self.port = port or free_port()
        arguments = list(self._command(self.port))
        before_exec = _die_with_parent()

        def start() -> subprocess.Popen[bytes]:
            with self._log.open("ab") as out:
                self._log_start = out.seek(0, os.SEEK_END)
                return subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, not the server's
                    preexec_fn=before_exec,
                )

        try:
            self._process = _spawner.submit(start).result()
        except OSError as exc:
            raise StackError(f"{self.name} cannot be started: {exc}") from exc

    def wait_ready(self, *, keep_port: bool = False) -> None:
        """Returns once the server answers; another port is taken if its own was lost to somebody else.

        StackError when the process ends by itself or does not answer within the deadline.
        """
        deadline = time.monotonic() + self._deadline_s
        attempts = 1
        while True:
            process = self._process
            if process is None:
                raise StackError(f"{self.name} was not started")
            if self._healthy(self.port, process.pid) and process.poll() is None:
                return
            # A server that lost its port may say so and go on living (Tansu does).
            if not keep_port and attempts < _PORT_ATTEMPTS and "in use" in self._output().lower():
                attempts += 1
                self.kill()
                self.spawn()
            elif process.poll() is not None:
                raise StackError(
                    f"{self.name} ended with code {process.returncode} while starting: {self._last_words()}"
                )
            elif time.monotonic() > deadline:
                self.kill()
                raise StackError(
                    f"{self.name} did not answer on {HOST}:{self.port} within {self._deadline_s:.0f} s:"
                    f" {self._last_words()}"
                )
            else:
                time.sleep(_POLL_S)

    def stop(self, grace_s: float = 10.0) -> None:
        """Asks the process to end, waits ``grace_s``, then kills it; nothing if it has ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as an outage does it; nothing if the process has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stops the process if it runs, starts it again on the same port and waits until it answers."""
        port = self.port
        self.stop()
        self.spawn(port)
        self.wait_ready(keep_port=True)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        return f"{lines[-1]} (log: {self._log})" if lines else f"it said nothing (log: {self._log})"

    def _output(self) -> str:
        """The end of what this run of the process wrote."""
        with self._log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 4096))
            return log.read().decode(errors="replace")

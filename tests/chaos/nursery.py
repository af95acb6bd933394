"""Starts worker processes in a moment: a process that has done the imports forks them.

What runs is the ``ebbtide worker`` command in a process of its own; only the seconds of importing, which are
not what is tested and would be most of the work of the machine, are done once. ``python -m
tests.chaos.nursery`` is that process: it takes a JSON object a line, and says what it forked and what ended.
It ends with whoever started it, and its workers with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_START_S = 120.0


class Child:
    """A forked worker, by its process id; ended ones keep their exit code (negative: the signal)."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery

    def poll(self) -> int | None:
        return self._nursery.ended.get(self.pid)

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        with self._nursery.news:
            if self.poll() is None:
                try:
                    os.kill(self.pid, number)
                except ProcessLookupError:
                    pass

    def wait(self, timeout_s: float) -> int:
        """The exit code; TimeoutError."""
        with self._nursery.news:
            if not self._nursery.news.wait_for(lambda: self.poll() is not None, timeout_s):
                raise TimeoutError(f"process {self.pid} did not end within {timeout_s:g} s")
        code = self.poll()
        assert code is not None
        return code


class Nursery:
    """The forking process for one source ``tree``; use it as a context manager."""

    def __init__(self, tree: Path) -> None:
        self.news = threading.Condition()
        self.ended: dict[int, int] = {}
        self._forked: list[int] = []
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline() or "{}")
        if found.get("tree") != str(tree):
            self.close()
            raise RuntimeError(f"workers would run the code of {found.get('tree')}, not of {tree}")
        self._reader = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._reader.start()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, args: list[str], env: dict[str, str], log: Path) -> Child:
        """Run ``ebbtide ARGS`` with ``env`` laid over ours; its output is appended to ``log``."""
        with self._lock, self.news:
            before = len(self._forked)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"args": args, "env": env, "log": str(log)}) + "\n")
            self._process.stdin.flush()
            if not self.news.wait_for(lambda: len(self._forked) > before, _START_S):
                raise RuntimeError("no worker could be forked")
            return Child(self, self._forked[-1])

    def close(self) -> None:
        """End the forking process, and with it all that it forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self.news:
                if "forked" in said:
                    self._forked.append(said["forked"])
                else:
                    self.ended[said["ended"]] = said["code"]
                self.news.notify_all()


def main() -> None:
    """Import what a worker needs, then fork one for each line of standard input."""
    import streams.cli
    from streams.agents import customers, hooks, sink, ticks

    del customers, hooks, sink, ticks  # imported by their roles, after the fork
    _say({"tree": str(Path(streams.cli.__file__).resolve().parents[1])})
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_write)
    alive: set[int] = set()
    unread = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(alive)
        if 0 in ready:
            data = os.read(0, 65_536)
            if not data:
                break
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                alive.add(_fork(json.loads(line)))
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    while alive:
        _reap(alive)
        time.sleep(0.01)


def _reap(alive: set[int]) -> None:
    for pid in list(alive):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            alive.discard(pid)
            _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _fork(order: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        _say({"forked": pid})
        return pid
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["env"])
        tempfile.tempdir = None  # chosen anew, from the new environment
        code = _run(order["args"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(args: list[str]) -> int:
    from streams.cli import main as ebbtide

    try:
        ebbtide(args, prog_name="ebbtide")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return 0


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()

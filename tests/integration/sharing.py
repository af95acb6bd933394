"""One server for all processes of a test run: whoever needs it first starts it, and stops it when all end.

A session's fixtures are of one process, and pytest-xdist makes several. What they share is a folder: the
server's description and three locks on it, of which the kernel lets go when a process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from tests.integration.providers import Server

#: Longer than the tests of the others can take; it only ends what would wait for ever.
OTHERS_DEADLINE_S: Final = 1_800.0


@contextmanager
def shared(folder: Path, name: str, start: Callable[[], AbstractContextManager[Server]]) -> Iterator[Server]:
    """The server called ``name`` in ``folder``, started with ``start`` unless another process runs it.

    The process that started it waits for all others to be done with it before it stops it. What ``start``
    raises is raised, and the next process that asks tries again.
    """
    described = folder / f"{name}.json"
    with ExitStack() as files, ExitStack() as own:
        turn, owner, users = (
            files.enter_context((folder / f"{name}.{lock}").open("w")) for lock in ("turn", "owner", "users")
        )
        fcntl.flock(turn, fcntl.LOCK_EX)
        mine = _taken(owner)
        if mine:
            server = own.enter_context(start())
            described.write_text(json.dumps(asdict(server)))
        else:
            server = _read(described)
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            yield server
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if mine:
                # Who comes after this finds no owner, and starts another one.
                _wait_for_others(turn, users)
                fcntl.flock(owner, fcntl.LOCK_UN)
                fcntl.flock(turn, fcntl.LOCK_UN)


def _wait_for_others(turn: IO[str], users: IO[str]) -> None:
    """Until nobody uses the server; it is this process's turn then, so that nobody can begin to."""
    ends = time.monotonic() + OTHERS_DEADLINE_S
    while True:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _taken(users) or time.monotonic() > ends:
            return
        fcntl.flock(turn, fcntl.LOCK_UN)
        time.sleep(0.1)


def _taken(lock: IO[str]) -> bool:
    """Takes the lock for this process alone, unless another holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(described: Path) -> Server:
    fields: dict[str, Any] = json.loads(described.read_text())
    return Server(**{**fields, "passed_over": tuple(fields["passed_over"])})

"""How a subject's process is told what to do, and tells how far it is: one line of JSON a step on stdout."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass

import msgspec

#: Of every consumer group: the embedded broker lets a group start after half of it.
SESSION_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Options:
    """``inputs``: names on the broker of visits, favorites, carts, orders. ``events``: how many to process.

    ``run``: a name that no other run has, for groups and topics.
    """

    kafka: str
    inputs: tuple[str, ...]
    run: str
    partitions: int
    events: int
    folder: str

    def to_argument(self) -> str:
        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def from_argv(cls) -> Options:
        return msgspec.convert(msgspec.json.decode(sys.argv[1]), cls)


class Teller:
    """Call it with the number of events processed so far; it tells no more often than every 20 ms."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, events: int, *, last: bool = False) -> None:
        now = time.time()
        if last or now >= self._next:
            self._next = now + 0.02
            sys.stdout.write(f'{{"t":{now:.6f},"n":{events}}}\n')
            sys.stdout.flush()

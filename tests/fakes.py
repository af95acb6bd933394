"""Stand-ins for the parts outside: they keep the contract of the real thing and can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pyarrow as pa


class FakeStore:
    """Keeps inserted Arrow tables; raises ``failures`` first, one an attempt; ``gate`` holds inserts back."""

    def __init__(self, failures: Iterable[Exception] = ()) -> None:
        self.failures = list(failures)
        self.inserts: list[tuple[str, pa.Table]] = []
        self.attempts = self.pings = 0
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def insert(self, table: str, rows: pa.Table) -> None:
        """Keep ``rows``, or raise the next failure."""
        self.attempts += 1
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.inserts.append((table, rows))

    def ping(self) -> None:
        """Raise the next failure, if there is one."""
        self.pings += 1
        if self.failures:
            raise self.failures.pop(0)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of ``table``, in the order of insertion."""
        return [row for name, rows in self.inserts if name == table for row in rows.to_pylist()]

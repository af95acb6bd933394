"""Stand-ins for the parts outside: they keep the contract of the real thing and can be told to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from aiokafka import ConsumerRecord


class FakeStore:
    """Keeps inserted Arrow tables; raises ``failures`` first, one an attempt; ``gate`` holds inserts back."""

    def __init__(self, failures: Iterable[Exception] = ()) -> None:
        self.failures = list(failures)
        self.inserts: list[tuple[str, pa.Table]] = []
        self.attempts = 0
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

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of ``table``, in the order of insertion."""
        return [row for name, rows in self.inserts if name == table for row in rows.to_pylist()]


def record(
    topic: str,
    value: Mapping[str, Any] | bytes | None,
    *,
    partition: int = 0,
    offset: int = 0,
    key: bytes | None = b"c",
    timestamp: int = 0,
    headers: Iterable[tuple[str, bytes]] = (),
) -> ConsumerRecord:
    """A record as the Kafka client hands it out; a mapping becomes its JSON."""
    body = json.dumps(value).encode() if isinstance(value, Mapping) else value
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=key,
        value=body,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(body or b""),
        headers=tuple(headers),
    )

"""Reading small files written on the spot, and asking the worker's decoder what it takes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.topics import INPUTS
from streams.adapters.codec import decode_batch
from streams.sources.record import SourceRecord
from streams.sources.registry import FileSource
from tests.builders import record

#: 2027-01-15T08:00:00Z: after everything in the data sets.
ARRIVED = 1_800_000_000_000


def read(path: Path, format_name: str, content: bytes, shop: str | None = None) -> list[SourceRecord]:
    path.write_bytes(content)
    source = FileSource(path, format_name, shop=shop)
    records = list(source)
    assert source.fraction == 1.0
    return records


def bodies(records: Iterable[SourceRecord]) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in records]


def refusals(records: Iterable[SourceRecord], arrived: int = ARRIVED) -> Counter[str]:
    """What the worker would refuse of the records, by reason."""
    refused: Counter[str] = Counter()
    by_topic = [[r for r in records if r.topic is topic] for topic in INPUTS]
    for index, part in enumerate(by_topic):
        consumed = [
            record(r.topic.name, r.value, offset=n, key=r.key, arrived=arrived) for n, r in enumerate(part)
        ]
        _, rejected = decode_batch(index, consumed, 300_000)
        refused.update(each.reason for each in rejected)
    return refused

"""What each agent can tell of itself when somebody asks for metrics; looked up, never counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from schemas import topics
from streams.adapters.telemetry import Sample
from streams.domain.clock import UNKNOWN
from streams.domain.visitor import APPLIED, DUPLICATE, LATE, REFUSED

if TYPE_CHECKING:
    from streams.agents.hook_loop import Hooks
    from streams.agents.partition import Partition
    from streams.agents.shop_partition import Partition as ShopPartition
    from streams.agents.sink import Sink

_FATES: Final = {APPLIED: "applied", DUPLICATE: "duplicate", LATE: "late", REFUSED: "rejected"}


def of_customers(partitions: Mapping[int, Partition]) -> Iterator[Sample]:
    """Records by fate, watermarks, and who waits for time to pass."""
    counts: dict[tuple[str, str], int] = {}
    for partition in partitions.values():
        for topic, counted in zip(topics.INPUTS, partition.progress.counts, strict=False):
            for fate, name in _FATES.items():
                counts[topic.name, name] = counts.get((topic.name, name), 0) + counted[fate]
    for (topic_name, name), count in counts.items():
        yield Sample("ebbtide_records", count, (topic_name, name))
    now = time.time()
    for number, partition in sorted(partitions.items()):
        if partition.clock.watermark != UNKNOWN:
            watermark = partition.clock.watermark / 1000
            yield Sample("ebbtide_watermark_seconds", watermark, (str(number),))
            yield Sample("ebbtide_watermark_delay_seconds", now - watermark, (str(number),))
    yield Sample("ebbtide_deadlines", sum(len(partition.deadlines) for partition in partitions.values()))


def of_sink(sink: Sink) -> Iterator[Sample]:
    """What waits to be stored, and whether ClickHouse is there."""
    now = time.monotonic()
    yield Sample("ebbtide_sink_waiting_rows", sink.waiting)
    oldest = sink.oldest_at
    yield Sample("ebbtide_sink_delay_seconds", 0.0 if oldest is None else now - oldest)
    yield Sample("ebbtide_clickhouse_away_seconds", 0.0 if sink.away_since is None else now - sink.away_since)


def why_sink_is_unready(sink: Sink) -> str:
    """A sentence; empty if rows can be stored."""
    if sink.away_since is None:
        return ""
    return f"ClickHouse is away, for {time.monotonic() - sink.away_since:.0f} s"


def of_shops(partitions: Iterable[ShopPartition]) -> Iterator[Sample]:
    """How far the judging of minutes is behind."""
    watches = [partition.watch for partition in partitions]
    behind = [watch.ready - watch.state.judged for watch in watches if watch.state.judged >= 0]
    yield Sample("ebbtide_minutes_behind", max((0, *behind)))


def of_hooks(hooks: Hooks) -> Iterator[Sample]:
    """Deliveries that wait, by endpoint."""
    for endpoint, waiting in sorted(hooks.waiting().items()):
        yield Sample("ebbtide_hooks_waiting", waiting, (endpoint,))

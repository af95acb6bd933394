"""What each agent can tell of itself when somebody asks for metrics; looked up, never counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from streams.adapters.telemetry import Sample
from streams.domain.clock import UNKNOWN

if TYPE_CHECKING:
    from streams.agents.hook_loop import Hooks
    from streams.agents.partition import Partition
    from streams.agents.shop_partition import Partition as ShopPartition
    from streams.agents.sink import Sink

#: Told of when there are none, too: an alert that is over must be seen to be.
_ALERTS: Final = (("loss", "firing"), ("loss", "held"), ("pipeline", "firing"))


def of_customers(partitions: Mapping[int, Partition]) -> Iterator[Sample]:
    """Watermarks, and who waits for time to pass."""
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
    """How far the judging of minutes is behind, and what stands."""
    watches = [partition.watch for partition in partitions]
    behind = [watch.ready - watch.state.judged for watch in watches if watch.state.judged >= 0]
    yield Sample("ebbtide_minutes_behind", max((0, *behind)))
    stand = Counter(each for watch in watches for each in watch.alerts_open())
    for alert in _ALERTS:
        yield Sample("ebbtide_alerts_open", stand[alert], alert)


def of_hooks(hooks: Hooks) -> Iterator[Sample]:
    """Of each endpoint, deliveries that wait, and whether it is disabled."""
    for endpoint, waiting in sorted(hooks.waiting().items()):
        yield Sample("ebbtide_hooks_waiting", waiting, (endpoint,))
        disabled = any(each.disabled_since(endpoint) is not None for each in hooks.partitions.values())
        yield Sample("ebbtide_hooks_disabled", disabled, (endpoint,))

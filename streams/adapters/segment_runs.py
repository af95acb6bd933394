"""How far all partitions have come with looking at everyone by new rules, read from ClickHouse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from clickhouse_connect.driver.client import Client

_RUN = """
SELECT count(), countIf(is_finished), sum(done), sum(total), min(started_at), max(at)
FROM segment_runs FINAL WHERE rules_version = {version:UInt64}
"""
_MEMBERS = "SELECT segment, uniqExact(shop_id), count() FROM segment_members GROUP BY segment"


@dataclass(frozen=True, slots=True)
class RunState:
    """A run over all ``partitions`` there are; ``heard``: those that have begun, ``ended``: have ended."""

    version: int
    partitions: int
    heard: int
    ended: int
    done: int
    total: int
    started_at: datetime | None
    at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether everyone has been looked at."""
        return self.ended >= self.partitions

    @property
    def rate(self) -> float | None:
        """Customers a second so far; None while that cannot be said."""
        if self.started_at is None or self.at is None:
            return None
        seconds = (self.at - self.started_at).total_seconds()
        return self.done / seconds if seconds > 0 else None


def run_state(client: Client, version: int, partitions: int) -> RunState:
    """The run of ``version``. Raises the client's errors."""
    (row,) = client.query(_RUN, parameters={"version": version}).result_rows
    heard, ended, done, total, started_at, at = row
    if not heard:
        return RunState(version, partitions, 0, 0, 0, 0, None, None)
    return RunState(version, partitions, heard, ended, done, total, started_at, at)


def member_counts(client: Client) -> dict[str, tuple[int, int]]:
    """(shops, members) by segment. Raises the client's errors."""
    return {segment: (shops, members) for segment, shops, members in client.query(_MEMBERS).result_rows}

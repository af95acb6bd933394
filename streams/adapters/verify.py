"""Is what the stream said true? Batch SQL over the raw events against the sessions that were published.

The SQL is in ``sql/verify`` and shares nothing with the engine. It runs inside of ClickHouse, one slice
of the customers after the other, so that its memory is bounded however many events there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, sql_dir
from streams.domain.policy import Policy

#: Partitions of the table `events`.
_PARTS: Final = 8
#: Raw events judged in one query, about.
_SLICE_EVENTS: Final = 500_000
_SAMPLES: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One session that is not as it must be.

    kind: missing, extra or different; started_at: ms since 1970 UTC; differences: (column, must be, is).
    """

    kind: str
    customer_id: str
    shop_id: str
    started_at: int
    differences: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        session = f"session of {self.customer_id} in {self.shop_id} from {self.started_at}"
        cells = "; ".join(
            f"{column} must be {must} and is {found}" for column, must, found in self.differences
        )
        return f"{self.kind} {session}" + (f": {cells}" if cells else "")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` found.

    rows: sessions judged; open: sessions that had not closed by the watermark, so not judged;
    samples: some of the findings; conservation: the sums over all input topics of received, applied,
    duplicate, late and rejected; leaks: one sentence for each count that does not agree with another.
    """

    rows: int
    missing: int
    extra: int
    different: int
    open: int
    samples: tuple[Finding, ...]
    conservation: Mapping[str, int]
    leaks: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Nothing missing, nothing extra, nothing different, nothing unaccounted for."""
        return not (self.missing or self.extra or self.different or self.leaks)


def verify(
    client: Client,
    policy: Policy,
    *,
    watermark: int | None = None,
    broker_counts: Mapping[tuple[str, int], int] | None = None,
) -> VerifyReport:
    """Compare ``sessions`` and the counts with the raw events, once everything that was sent has been stored.

    Judges the sessions that had closed by their partition's watermark, or by ``watermark`` (ms) if given.
    ``broker_counts``: records ever written to each (input topic, partition); compared with `received`.
    Raises StoreError if raw events are not stored.
    """
    conservation, leaks = _conservation(client, broker_counts)
    stored = int(client.query("SELECT count() FROM events").result_rows[0][0])
    if conservation["applied"] and not stored:
        raise StoreError("there are no raw events to verify against; store them with EBBTIDE_STORE_EVENTS=1")
    folder = sql_dir() / "verify"
    query = (
        (folder / "compare.sql")
        .read_text()
        .replace("/* sessions.sql */", (folder / "sessions.sql").read_text())
    )
    subs = max(1, stored // (_PARTS * _SLICE_EVENTS))
    step = _PARTS if stored <= _SLICE_EVENTS else 1
    totals = {"same": 0, "missing": 0, "extra": 0, "different": 0, "open": 0}
    samples: list[Finding] = []
    for part in range(0, _PARTS, step):
        for sub in range(subs):
            row: dict[str, Any] = next(
                iter(
                    client.query(
                        query,
                        parameters={
                            "gap_ms": policy.gap,
                            "recovery_ms": policy.recovery_window,
                            "amendment_ms": policy.amendment_window,
                            "watermark_ms": -1 if watermark is None else watermark,
                            "parts": list(range(part, part + step)),
                            "sub": sub,
                            "subs": subs,
                        },
                    ).named_results()
                )
            )
            for name in totals:
                totals[name] += row[name]
            samples += (_finding(sample) for sample in row["samples"])
    return VerifyReport(
        rows=totals["same"] + totals["missing"] + totals["extra"] + totals["different"],
        missing=totals["missing"],
        extra=totals["extra"],
        different=totals["different"],
        open=totals["open"],
        samples=tuple(samples[:_SAMPLES]),
        conservation=conservation,
        leaks=tuple(leaks),
    )


def _finding(sample: tuple[str, str, str, int, list[tuple[str, str, str]]]) -> Finding:
    kind, customer_id, shop_id, started_at, differences = sample
    return Finding(kind, customer_id, shop_id, started_at, tuple(differences))


def _conservation(
    client: Client, broker_counts: Mapping[tuple[str, int], int] | None
) -> tuple[dict[str, int], list[str]]:
    sums = dict.fromkeys(("received", "applied", "duplicate", "late", "rejected"), 0)
    leaks = []
    received = dict.fromkeys(broker_counts or (), 0)
    for row in client.query((sql_dir() / "verify" / "conservation.sql").read_text()).named_results():
        place = f"{row['topic']}[{row['partition']}]"
        received[row["topic"], row["partition"]] = row["received"]
        for name in sums:
            sums[name] += row[name]
        if row["unaccounted"]:
            leaks.append(f"{place}: {row['unaccounted']} of {row['received']} records have no fate")
        for name in ("applied", "late", "rejected"):
            if row[name] != row[f"stored_{name}"]:
                leaks.append(f"{place}: {row[name]} records were {name}, {row[f'stored_{name}']} are stored")
    for (topic, partition), count in (broker_counts or {}).items():
        if received[topic, partition] != count:
            leaks.append(
                f"{topic}[{partition}]: {received[topic, partition]} records of {count} were received"
            )
    return sums, leaks

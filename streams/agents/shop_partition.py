"""What the shops agent holds of one partition, and how it is kept.

Each row of the table begins with the number of the batch that wrote it, so that a worker which had lost the
partition already is found out. What a batch has to send is kept with it: a crash sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from schemas import topics
from streams.domain.alert_rules import AlertRules
from streams.domain.clock import UNKNOWN, PartitionClock
from streams.domain.policy import MINUTE
from streams.domain.tally import KEYS as TALLY_KEYS
from streams.domain.tally import Tally
from streams.domain.watch import SESSIONS, Pulse, Watch
from streams.settings import Settings

#: (topic without prefix, partition, key, value)
Outgoing = tuple[str, int, bytes, bytes]

MARKER_KEY: Final = b"\x00marker"
ZONE_KEY: Final = b"\x00zone"
OUTBOX_KEY: Final = b"\x00out"
_BATCH_BYTES: Final = 8
#: Of what is to be sent so much is kept in one row.
_ROW_BYTES: Final = 512 * 1024


class Marker(Struct, array_like=True):
    """The last row of a batch. complete: the first minute that is not; counts: (received, rejected) by minute
    and topic of those that no pulse has told yet; outbox: rows of what is to be sent."""

    batch: int = 0
    complete: int = UNKNOWN
    watermark: int = UNKNOWN
    counts: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)
    outbox: int = 0


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_marker: Final = msgspec.msgpack.Decoder(Marker).decode
_unpack_outbox: Final = msgspec.msgpack.Decoder(list[Outgoing]).decode


def is_stale(old: bytes, new: bytes) -> bool:
    """Whether ``new``, later in the changelog, comes from a worker that had lost the partition already."""
    return new[:_BATCH_BYTES] < old[:_BATCH_BYTES]


class Partition:
    """One partition while it is ours; all of it comes from the changelog."""

    def __init__(
        self,
        number: int,
        stored: Iterable[tuple[bytes, bytes]],
        settings: Settings,
        rules: AlertRules,
        clocked: int,
    ) -> None:
        rows = {key: value[_BATCH_BYTES:] for key, value in stored}
        marker = rows.get(MARKER_KEY)
        self.marker = Marker() if marker is None else _unpack_marker(marker)
        self.clock = PartitionClock(clocked)
        self.clock.watermark = self.marker.watermark
        self.zones = {
            key.removeprefix(ZONE_KEY).decode(): value.decode()
            for key, value in rows.items()
            if key.startswith(ZONE_KEY)
        }
        self.tally = Tally(
            ((key, value) for key, value in rows.items() if key[:1] in TALLY_KEYS), self.marker.complete
        )
        self.watch = Watch(number, settings.partitions, rules, settings.policy.zone, self.zones, rows.items())
        #: What the last batch had to send, and may not have sent.
        self.owed: list[Outgoing] = []
        for key in sorted(key for key in rows if key.startswith(OUTBOX_KEY)):
            # One that a batch cut short has not got to yet tells again what has been told.
            self.owed += _unpack_outbox(rows[key])

    @property
    def next_batch(self) -> int:
        """The number of the batch in hand."""
        return self.marker.batch + 1

    def count(self, topic: str, minute: int, received: int, rejected: int) -> None:
        """Note records of an input topic: of the minute they are of or, refused ones, came in."""
        if minute < self.tally.floor:
            return
        of_minute = self.marker.counts.setdefault(minute, {})
        had = of_minute.get(topic, (0, 0))
        of_minute[topic] = had[0] + received, had[1] + rejected

    def complete(self, watermark: int) -> Pulse | None:
        """Minutes that end by ``watermark`` (ms) are complete; gives the pulse that says so, if new."""
        complete = watermark // MINUTE
        if watermark == UNKNOWN or complete <= self.tally.complete:
            return None
        before = self.tally.complete
        self.tally.advance(complete)
        counts = self.marker.counts
        told = {minute: counts.pop(minute) for minute in sorted(counts) if minute < complete}
        for minute, closed, bots in self.tally.sessions(before):
            told.setdefault(minute, {})[SESSIONS] = closed + bots, bots
        return Pulse(self.next_batch, complete, told)

    def rows(
        self, changes: Mapping[bytes, bytes | None], outgoing: list[Outgoing]
    ) -> dict[bytes, bytes | None]:
        """The rows of a batch, in their order: what is to be sent, what has changed, the marker."""
        marker = self.marker
        batch = self.next_batch.to_bytes(_BATCH_BYTES, "big")
        rows: dict[bytes, bytes | None] = {}
        parts = _parts(outgoing)
        for index, part in enumerate(parts):
            rows[_outbox(index)] = batch + _pack(part)
        for key, value in changes.items():
            rows[key] = None if value is None else batch + value
        for index in range(len(parts), marker.outbox):
            rows[_outbox(index)] = None
        marker.batch += 1
        marker.outbox = len(parts)
        marker.complete, marker.watermark = self.tally.complete, self.clock.watermark
        rows[MARKER_KEY] = batch + _pack(marker)
        return rows


def _outbox(index: int) -> bytes:
    return OUTBOX_KEY + b"%06d" % index


def _parts(outgoing: list[Outgoing]) -> list[list[Outgoing]]:
    parts: list[list[Outgoing]] = []
    size = _ROW_BYTES
    for each in outgoing:
        if size >= _ROW_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(each)
        size += len(each[3]) + 64
    return parts


#: The inputs that are counted, by index into INPUTS.
COUNTED: Final = tuple(range(topics.ALWAYS))

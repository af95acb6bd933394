"""What the hooks agent keeps, as rows of its table: deliveries under their ids, and beside them what decides
whether there are to be any.

A row begins with a byte that says what it is. Each kind has something that only grows, so that a row which a
worker without the partition wrote after its successor is known.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from streams.domain.deliveries import Delivery
from streams.domain.notices import Notice
from streams.domain.progress import Calendar

#: No delivery has such a key: ids are hexadecimal.
MARKER_KEY: Final = b"\x00marker"
ENDPOINT_KEY: Final = b"\x00endpoint:"
NOTICE_KEY: Final = b"\x00alert:"
ERASED_KEY: Final = b"\x00erased:"
CALENDAR_KEY: Final = b"\x00shop:"


class Marker(Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Offsets below these have been taken in, by topic (without prefix)."""

    next_offsets: dict[str, int]


class Switch(Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Whether an endpoint is disabled, and since when (ms): it answered 410, or somebody enabled it again."""

    disabled: bool
    at: int


class ErasedRow(Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Facts of this customer that were sent until ``at`` (ms) are told to nobody."""

    at: int


class NoticeRow(Struct, array_like=True, frozen=True, gc=False, tag=4):
    notice: Notice


class CalendarRow(Struct, array_like=True, frozen=True, gc=False, tag=5):
    calendar: Calendar


class DeliveryRow(Struct, array_like=True, frozen=True, gc=False, tag=6):
    delivery: Delivery


Row = Marker | Switch | ErasedRow | NoticeRow | CalendarRow | DeliveryRow

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Row).decode


def encode(row: Row) -> bytes:
    """The row as it is kept."""
    return _encode(row)


def decode(stored: bytes) -> Row:
    """The row in ``stored``."""
    found: Row = _decode(stored)
    return found


def is_stale(old: bytes, new: bytes) -> bool:
    """Whether ``new``, later in the changelog, comes from a worker that had lost the partition already."""
    had, row = decode(old), decode(new)
    if isinstance(row, Marker) and isinstance(had, Marker):
        return any(row.next_offsets.get(topic, 0) < offset for topic, offset in had.next_offsets.items())
    if isinstance(row, DeliveryRow) and isinstance(had, DeliveryRow):
        return row.delivery.version < had.delivery.version
    if isinstance(row, NoticeRow) and isinstance(had, NoticeRow):
        return (row.notice.revision, row.notice.at) < (had.notice.revision, had.notice.at)
    if isinstance(row, CalendarRow) and isinstance(had, CalendarRow):
        return row.calendar.version < had.calendar.version
    if isinstance(row, Switch | ErasedRow) and isinstance(had, Switch | ErasedRow):
        return row.at < had.at
    return False

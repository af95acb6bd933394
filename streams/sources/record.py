"""What every source yields: one Kafka record to be, and how its value is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from schemas.topics import VISITS, Topic

#: A broker takes records of up to 1 MiB with their framing by default. A longer piece of input is cut
#: here; what is left of it cannot be read as an event, so it is refused and can be seen there.
MAX_VALUE_BYTES: Final = 1_000_000
#: The contract's bound on a customer's id, in the bytes it may take.
_MAX_KEY_BYTES: Final = 512

_encode = msgspec.json.Encoder().encode


class SourceError(Exception):
    """A source that cannot be read; its text is one sentence for the person who named it."""


class SourceRecord(NamedTuple):
    """One record: its topic, its key and value as bytes, and its event time where the reader knows it.

    ``at`` is in ms since 1970-01-01 UTC and as the source states it, possible or not; None for input that
    is no event.
    """

    topic: Topic
    key: bytes | None
    value: bytes
    at: int | None = None


def event(topic: Topic, at: int, body: Mapping[str, Any]) -> SourceRecord:
    """A record of one event; ``body`` holds its fields under the contract's canonical names."""
    return SourceRecord(topic, body["customer_id"].encode(), _encode(body), at)


def unreadable(raw: bytes, customer: bytes | None) -> SourceRecord:
    """Input that no event can be made of, as it came: the pipeline refuses it and keeps it."""
    if customer is not None and not 0 < len(customer) <= _MAX_KEY_BYTES:
        customer = None
    return SourceRecord(VISITS, customer, raw[:MAX_VALUE_BYTES])


def content_id(*parts: bytes) -> str:
    """An event id that depends on the content alone: the same wherever, and however often, it is read.

    So a line that is in a file twice is one event delivered twice. Parts are told apart by a zero byte.
    """
    return xxhash.xxh3_128_hexdigest(b"\x00".join(parts))

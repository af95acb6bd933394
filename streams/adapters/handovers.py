"""Records of the handovers topic: what is written to it and read from it, by workers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import msgspec
import xxhash
from aiokafka import ConsumerRecord

from schemas import topics
from schemas.facts import RejectReason
from streams.adapters.codec import Rejected
from streams.domain.events import ArrivalTime, Body, EventTime, Handover, Input
from streams.domain.identity import orders_of, session_of

_INDEX: Final = topics.READ.index(topics.HANDOVERS)
_decode: Final = msgspec.json.Decoder(Handover).decode
_encode: Final = msgspec.json.Encoder().encode


def encode_handover(handover: Handover) -> bytes:
    """The value of a record that hands over: the same bytes whenever it is told again."""
    return _encode(handover)


def decode_handovers(records: Sequence[ConsumerRecord]) -> tuple[list[Input], list[Rejected]]:
    """What the records hand over, and those that are none of ours. ``Input.id`` is as ``decode_batch`` has
    it."""
    inputs: list[Input] = []
    rejected: list[Rejected] = []
    for record in records:
        try:
            body = _decode(record.value or b"")
            session_of(body), orders_of(body)
        except (msgspec.MsgspecError, ValueError) as exc:
            rejected.append(_rejected(record, RejectReason.INVALID_FIELD, f"not a handover: {exc}"))
            continue
        if body.customer_id.encode() != record.key:
            detail = f"a handover to {body.customer_id!r}"
            rejected.append(_rejected(record, RejectReason.KEY_MISMATCH, detail))
            continue
        digest = xxhash.xxh3_64_intdigest((chr(_INDEX) + body.event_id).encode())
        t, arrived = EventTime(body.occurred_at), ArrivalTime(record.timestamp)
        inputs.append(Input(_INDEX, record.offset, digest, t, arrived, cast("Body", body), record.value))
    return inputs, rejected


def _rejected(record: ConsumerRecord, reason: RejectReason, detail: str) -> Rejected:
    return Rejected(record.offset, record.timestamp, reason, detail, record.key, record.value)

"""What the customers agent tells beside the facts of its rules: counts, late events, refusals."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas import topics
from schemas.facts import RejectReason
from streams.adapters.codec import Rejected
from streams.agents.partition import Partition
from streams.domain.events import Input
from streams.domain.policy import Policy

_encode: Final = msgspec.json.Encoder().encode


def counted(number: int, partition: Partition, index: int) -> tuple[bytes, bytes]:
    """Key and value that say what became of the records of the input topic ``index`` so far."""
    topic, progress = topics.INPUTS[index].name, partition.progress
    applied, duplicate, late, rejected = progress.counts[index]
    value = {
        "topic": topic,
        "partition": number,
        "next_offset": progress.done[index] + 1,
        "received": progress.received[index],
        "applied": applied,
        "duplicate": duplicate,
        "late": late,
        "rejected": rejected,
        "watermark": partition.settled,
    }
    return f"{topic}:{number}".encode(), _encode(value)


def late_event(event: Input, number: int, watermark: int) -> bytes:
    """The value that tells of an event behind the horizon."""
    body = event.body
    return _encode(
        {
            "topic": topics.READ[event.topic].name,
            "partition": number,
            "offset": event.offset,
            "event_id": body.event_id,
            "customer_id": body.customer_id,
            "shop_id": body.shop_id or "",
            "occurred_at": event.t,
            "arrived_at": event.arrived,
            "watermark": watermark,
            "body": event.raw.decode(),
        }
    )


def too_many(event: Input, policy: Policy) -> Rejected:
    """The refusal of an event beyond a customer's bound."""
    detail = f"the customer has {policy.max_events} events inside the horizon already"
    return _refused(event, RejectReason.TOO_MANY_EVENTS, detail)


def no_guest(event: Input) -> Rejected:
    """The refusal of an identify event that is of no guest."""
    detail = "the id is a known customer's, or was said to be somebody else before"
    return _refused(event, RejectReason.NOT_A_GUEST, detail)


def _refused(event: Input, reason: RejectReason, detail: str) -> Rejected:
    key = event.body.customer_id.encode()
    return Rejected(event.offset, event.arrived, reason, detail, key, event.raw)

"""Valid events, and the records and inputs that carry them, with only what a test cares about said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import EllipsisType
from typing import Any, Final

from aiokafka import ConsumerRecord

from schemas import topics
from streams.adapters.codec import decode_batch
from streams.domain.events import Input
from streams.domain.policy import DAY

Event = dict[str, Any]

#: 2026-03-02T12:00:00Z, a Monday: the noon that built events happen at unless they say otherwise.
NOON: Final = 1_772_452_800_000

TOPIC_INDEX: Final = {topic.name: index for index, topic in enumerate(topics.INPUTS)}


def _event(at: int, fields: Mapping[str, Any], more: Mapping[str, Any]) -> Event:
    envelope = {"event_id": f"e-{at}", "occurred_at": at, "customer_id": "c1", "shop_id": "s1"}
    return {**envelope, **fields, **more}


def visit(at: int = NOON, **fields: Any) -> Event:
    """A visit at ``at`` (ms) of c1 in s1; name ``event_id`` where two events share a moment."""
    return _event(at, {}, fields)


def favorite(at: int = NOON, action: str = "add", **fields: Any) -> Event:
    """A favorite of item i1, or of the shop with ``target="shop"``."""
    item = {} if fields.get("target") == "shop" else {"item_id": "i1"}
    return _event(at, {"action": action, **item}, fields)


def cart(at: int = NOON, action: str = "add", **fields: Any) -> Event:
    """A cart event of one piece of item i1 at 10.00 CNY; ``clear`` and ``remove`` name no price."""
    item = {} if action == "clear" else {"item_id": "i1"}
    price = {"quantity": 1, "price": "10.00", "currency": "CNY"} if action in {"add", "set"} else {}
    return _event(at, {"action": action, **item, **price}, fields)


def line(item_id: str = "i1", **fields: Any) -> Event:
    """An order line of one piece at 10.00."""
    return {"item_id": item_id, "quantity": 1, "price": "10.00", **fields}


def order(at: int = NOON, action: str = "placed", order_id: str = "o1", **fields: Any) -> Event:
    """An order event; ``placed`` carries one line of i1 at 10.00 CNY and the total."""
    content = {"lines": [line()], "total": "10.00", "currency": "CNY"} if action in {"placed", "paid"} else {}
    return _event(at, {"action": action, "order_id": order_id, **content}, fields)


def feedback(at: int = NOON, action: str = "review", **fields: Any) -> Event:
    """What a customer says of s1: a review of one star, a complaint, or a reply after a minute."""
    content = {"review": {"rating": 1}, "reply": {"reply_ms": 60_000}}.get(action, {})
    return _event(at, {"action": action, **content}, fields)


def identify(at: int = NOON, guest: str = "g1", heir: str = "c1", **fields: Any) -> Event:
    """That g1 is c1, in all shops."""
    event = _event(at, {"customer_id": guest, "identified_as": heir}, fields)
    return event if "shop_id" in fields else {name: event[name] for name in event if name != "shop_id"}


def body(event: Mapping[str, Any]) -> bytes:
    """The event as a record's value."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def record(
    topic: str,
    event: Mapping[str, Any] | bytes | None,
    *,
    offset: int = 0,
    partition: int = 0,
    arrived: int | None = None,
    key: bytes | EllipsisType | None = ...,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> ConsumerRecord[bytes, bytes]:
    """A consumed record of an event, or of raw bytes; its key is the event's customer unless given.

    ``arrived`` is the record's timestamp (ms): the event's own time if that is a number, else NOON.
    """
    value = body(event) if isinstance(event, Mapping) else event
    if key is ...:
        customer = event.get("customer_id") if isinstance(event, Mapping) else "c1"
        key = str(customer).encode()
    if arrived is None:
        at = event.get("occurred_at") if isinstance(event, Mapping) else None
        arrived = at if isinstance(at, int) else NOON
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=arrived,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key) if key else -1,
        serialized_value_size=len(value) if value else -1,
        headers=headers,
    )


def inputs(topic: str, *events: Mapping[str, Any], first_offset: int = 0) -> list[Input]:
    """The events as the rules get them, at consecutive offsets; AssertionError if one is refused."""
    records = [record(topic, event, offset=first_offset + n) for n, event in enumerate(events)]
    accepted, rejected = decode_batch(TOPIC_INDEX[topic], records, DAY)
    assert not rejected, rejected
    return accepted

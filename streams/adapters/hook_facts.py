"""Records that the hooks agent reads and writes: facts to be told, requests of people, deliveries."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from pydantic import ValidationError
from xxhash import xxh3_128_hexdigest

from schemas.alerts import AlertFact
from schemas.facts import ActionFact, TransitionFact
from schemas.losses import SegmentFact
from schemas.topics import ACTIONS, ALERTS, SEGMENTS, TRANSITIONS
from streams.domain.deliveries import Delivery
from streams.domain.erasure import digest

Fact = AlertFact | TransitionFact | ActionFact | SegmentFact

#: What hooks can be sent of, by topic without prefix.
TOLD: Final[dict[str, type[Fact]]] = {
    ALERTS.name: AlertFact,
    TRANSITIONS.name: TransitionFact,
    ACTIONS.name: ActionFact,
    SEGMENTS.name: SegmentFact,
}


class Told(NamedTuple):
    """A fact to be told. subject_id: its identity, of 32 hexadecimal digits; customer: the hexadecimal digest
    of whom it is about, empty of an alert; value: its JSON as it came; sent_at: in ms, by the record."""

    topic: str
    subject_id: str
    customer: str
    fact: Fact
    value: bytes
    sent_at: int = 0


def decode_told(topic: str, value: bytes | None, sent_at: int = 0) -> Told:
    """What a record of ``topic`` says; ValueError, one sentence, if it is none of its facts."""
    try:
        fact = TOLD[topic].model_validate_json(value or b"")
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        raise ValueError(f"not of {topic}: {where}: {first['msg']}") from None
    customer = "" if isinstance(fact, AlertFact) else digest(fact.customer_id.encode()).hex()
    return Told(topic, _subject(fact), customer, fact, value or b"", sent_at)


def _subject(fact: Fact) -> str:
    if isinstance(fact, AlertFact):
        return fact.alert_id
    if isinstance(fact, TransitionFact):
        return fact.transition_id
    if isinstance(fact, ActionFact):
        return fact.action_id
    # Whoever lists deliveries is not to learn the customer's id.
    return xxh3_128_hexdigest("\0".join((fact.segment, fact.shop_id, fact.customer_id)).encode())


# -- requests


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of all partitions at ``at`` (wall clock, ms).

    retry: send again what is dead or waiting, of one delivery, of one endpoint, or without either all that
    is dead. enable and disable: an endpoint, from then on.
    """

    do: Literal["retry", "enable", "disable"]
    at: Annotated[int, msgspec.Meta(ge=0)]
    delivery_id: str = ""
    endpoint: str = ""


_decode_request: Final = msgspec.json.Decoder(Request).decode
_encode: Final = msgspec.json.Encoder().encode


def encode_request(request: Request) -> tuple[bytes, bytes]:
    """Key and value of the record, the same for every partition."""
    return (request.delivery_id or request.endpoint or "all").encode(), _encode(request)


def decode_request(value: bytes | None) -> Request:
    """What a record of hook-requests asks for; ValueError, one sentence."""
    try:
        found = _decode_request(value or b"")
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not a request: {exc}") from None
    if found.do != "retry" and not found.endpoint:
        raise ValueError(f"not a request: {found.do} without an endpoint")
    return found


# -- deliveries


def delivery_fact(delivery: Delivery) -> tuple[bytes, bytes]:
    """Key and value of the record of ``deliveries`` that tells of it (``schemas.alerts.DeliveryFact``)."""
    value = {
        "delivery_id": delivery.delivery_id,
        "endpoint": delivery.endpoint,
        "topic": delivery.topic,
        "subject_id": delivery.subject_id,
        "revision": delivery.revision,
        "webhook_id": delivery.webhook_id,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "at": delivery.at,
        "next_at": delivery.next_at,
        "http_status": delivery.http_status,
        "error": delivery.error,
        "version": delivery.version,
        "is_deleted": False,
    }
    return delivery.delivery_id.encode(), _encode(value)

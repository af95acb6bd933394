"""Records as the pipeline takes them in: decoded and, if a key is set, with pseudonyms for customers' ids.

A pseudonym stands for an id everywhere behind this door: in states, facts and tables. What came before it,
the input topics, hold ids until their retention. Only ``customer_id`` is replaced, and whom a guest is said
to be; what else an event says of itself is taken as it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, cast

import msgspec
from aiokafka import ConsumerRecord
from msgspec.structs import asdict

from schemas.facts import RejectReason
from schemas.topics import HANDOVERS, IDENTITIES, INPUTS, READ
from streams.adapters.codec import Rejected, decode_batch
from streams.adapters.handovers import decode_handovers
from streams.adapters.kafka.producing import partition_of
from streams.domain.events import Body, Identify, Input, Introduction
from streams.settings import Settings

_REMEMBERED: Final = 100_000
_encode: Final = msgspec.json.Encoder().encode
_HANDOVERS: Final = READ.index(HANDOVERS)
_IDENTITIES: Final = INPUTS.index(IDENTITIES)


def take_in(
    topic: int, records: Sequence[ConsumerRecord], settings: Settings
) -> tuple[list[Input], list[Rejected]]:
    """What ``decode_batch`` makes of the records, of pseudonyms if ``settings`` have a key; ``topic`` indexes
    ``schemas.topics.READ``.

    Then ``Input.raw`` is the event written anew, and of a refused record the key is a pseudonym and the value
    is left out: it may name anybody. The record itself is found in the input topic by its place.
    """
    if topic == _HANDOVERS:
        # What it holds has come through the door with the guest's events.
        return decode_handovers(records)
    found, rejected = decode_batch(topic, records, settings.policy.ahead_tolerance)
    heirs: Sequence[int] = ()
    if topic == _IDENTITIES:
        # The id says where the customer's records are, the pseudonym does not.
        heirs = [partition_of(_identify(e).identified_as.encode(), settings.partitions) for e in found]
    if key := settings.customer_key:
        for event in found:
            event.body.customer_id = pseudonym(key, event.body.customer_id)
            if heirs:
                _identify(event).identified_as = pseudonym(key, _identify(event).identified_as)
            event.raw = _encode(event.body)
        rejected = [_veiled(each, key) for each in rejected]
    for event, partition in zip(found, heirs, strict=False):
        event.body = cast("Body", Introduction(**asdict(_identify(event)), partition=partition))
    return found, rejected


def _identify(event: Input) -> Identify:
    return cast("Identify", event.body)


@lru_cache(_REMEMBERED)
def pseudonym(key: str, customer_id: str) -> str:
    """HMAC-SHA-256 of a customer's id under ``key``, its first 128 bits in hexadecimal."""
    return hmac.digest(key.encode(), customer_id.encode(), "sha256")[:16].hex()


def known_as(settings: Settings, customer_id: str) -> str:
    """What a customer's id is behind the door."""
    return pseudonym(settings.customer_key, customer_id) if settings.customer_key else customer_id


def _veiled(letter: Rejected, key: str) -> Rejected:
    name = None if letter.key is None else pseudonym(key, letter.key.decode(errors="replace")).encode()
    mismatch = letter.reason is RejectReason.KEY_MISMATCH
    detail = "the key is not the customer_id" if mismatch else letter.detail
    return replace(letter, key=name, value=None, detail=detail)

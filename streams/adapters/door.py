"""Records as the pipeline takes them in: decoded and, if a key is set, with pseudonyms for customers' ids.

A pseudonym stands for an id everywhere behind this door: in states, facts and tables. What came before it,
the input topics, hold ids until their retention. Only ``customer_id`` is replaced; what else an event says
of itself is taken as it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import msgspec
from aiokafka import ConsumerRecord

from schemas.facts import RejectReason
from streams.adapters.codec import Rejected, decode_batch
from streams.domain.events import Input
from streams.settings import Settings

_REMEMBERED: Final = 100_000
_encode: Final = msgspec.json.Encoder().encode


def take_in(
    topic: int, records: Sequence[ConsumerRecord], settings: Settings
) -> tuple[list[Input], list[Rejected]]:
    """What ``decode_batch`` makes of the records, of pseudonyms if ``settings`` have a key.

    Then ``Input.raw`` is the event written anew, and of a refused record the key is a pseudonym and the value
    is left out: it may name anybody. The record itself is found in the input topic by its place.
    """
    found, rejected = decode_batch(topic, records, settings.policy.ahead_tolerance)
    if not settings.customer_key:
        return found, rejected
    key = settings.customer_key
    for event in found:
        event.body.customer_id = pseudonym(key, event.body.customer_id)
        event.raw = _encode(event.body)
    return found, [_veiled(each, key) for each in rejected]


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

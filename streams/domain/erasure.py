"""Erasure: a customer is forgotten, and only a digest says who must not come back.

What happened up to the moment of erasure, told again however late, is of nobody. What happens after it is
of a customer as new as any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from streams.domain.events import Input

#: Of nobody who was erased: before every event.
NEVER: Final = -1
#: Bytes of a refused record that are searched for names.
_SEARCHED: Final = 8 * 1024
_NAMED: Final = re.compile(
    rb'"(?:customer_id|identified_as|user_?[Ii]d|anonymous_?[Ii]d)"'
    rb'\s*:\s*"((?:[^"\\]|\\.)*)"'
)
_BETWEEN: Final = re.compile(rb"[\s,;\"':{}\[\]]+")

#: When, in ms, those were erased that are known by these digests.
Erased = Mapping[bytes, int]


def digest(customer_id: bytes) -> bytes:
    """SHA-256 of a customer's id in UTF-8: 32 bytes. ClickHouse: ``SHA256(customer_id)``."""
    return sha256(customer_id).digest()


def told_apart(events: Iterable[Input], erased: Erased) -> tuple[list[Input], list[Input]]:
    """The events that count, and those of erased customers up to their erasure; each in the order given."""
    counting: list[Input] = []
    gone: list[Input] = []
    until: dict[str, int] = {}
    for event in events:
        customer = event.body.customer_id
        end = until.get(customer)
        if end is None:
            end = until[customer] = erased.get(digest(customer.encode()), NEVER)
        (gone if event.t <= end else counting).append(event)
    return counting, gone


def names(key: bytes | None, value: bytes | None) -> Iterator[bytes]:
    """Whom a refused record may be of: its key, what it names as a customer, and each word of it."""
    if key:
        yield key
    if value:
        for named in _NAMED.findall(value):
            yield named
            yield _unescaped(named)
        yield from _BETWEEN.split(value[:_SEARCHED])


def _unescaped(text: bytes) -> bytes:
    """What JSON means by the inside of a string; as it is if it means nothing."""
    try:
        found: str = json.loads(b'"' + text + b'"')
        return found.encode()
    except ValueError:  # of a text that cannot be encoded too
        return text


def names_erased(key: bytes | None, value: bytes | None, erased: Collection[bytes]) -> bool:
    """Whether a refused record names anybody who was erased, whenever that was."""
    return bool(erased) and any(digest(name) in erased for name in set(names(key, value)))

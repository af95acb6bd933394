"""One customer's state and its kept form: bytes, of which the header says when to look again.

So deadlines are rebuilt without decoding, and what nobody asks for is not decoded at all.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

import msgspec
from msgspec import Struct, field

from streams.domain.checkup import AT_ONCE
from streams.domain.identity import Identity
from streams.domain.order import Orders
from streams.domain.session import Session
from streams.domain.shop import Shop

_VERSION: Final = 2
#: version, wake_at, batch, whether facts were owed when it was written
_HEADER: Final = Layout(">Bqq?")
_BODY: Final = _HEADER.size


class Owed(Struct, array_like=True, frozen=True, gc=False):
    """A fact to send: the session of ``shop`` that starts at ``start`` or, with a version, its tombstone."""

    shop: str
    start: int
    version: int = 0


class Visitor(Struct, array_like=True, gc=False):
    """``applied``: highest offset seen of each input topic. ``odd``: (topic, offset, class) of events that
    were not applied and that no marker covers yet. ``owed``: facts that the last batch had to send.
    ``identity``: of whom an identify event has spoken."""

    applied: list[int]
    shops: dict[str, Shop] = field(default_factory=dict)
    odd: list[tuple[int, int, int]] = field(default_factory=list)
    owed: list[Owed] = field(default_factory=list)
    trail: bytes = b""
    trail_at: int = 0
    trail_owes: bool = False
    identity: Identity | None = None


class _Shop1(Struct, array_like=True, gc=False):
    sessions: list[Session]
    orders: Orders | None


class _Visitor1(Struct, array_like=True, gc=False):
    """What version 1 kept: all sessions and orders unpacked."""

    applied: list[int]
    shops: dict[str, _Shop1]
    odd: list[tuple[int, int, int]]
    owed: list[Owed]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Visitor).decode
_decode_1 = msgspec.msgpack.Decoder(_Visitor1).decode


def decode(stored: bytes) -> Visitor:
    """The state in ``stored``, of any version so far; ValueError if a newer release wrote it."""
    if stored[0] == _VERSION:
        return _decode(stored[_BODY:])
    if stored[0] > _VERSION:
        raise ValueError(
            f"customer state of version {stored[0]} is newer than this release, which knows {_VERSION}"
        )
    old = _decode_1(stored[_BODY:])
    visitor = Visitor(old.applied, {}, old.odd, old.owed)
    for shop_id, each in old.shops.items():
        # Nobody has been drawn up yet: the next step does.
        shop = visitor.shops[shop_id] = Shop(each.sessions, check_at=1)
        shop.keep_orders(each.orders or {}, AT_ONCE)
    return visitor


def encode(visitor: Visitor, wake_at: int, batch: int) -> bytes:
    """``visitor`` as it is kept."""
    owes = bool(visitor.owed) or visitor.trail_owes or any(shop.owes for shop in visitor.shops.values())
    owes |= visitor.identity is not None and bool(visitor.identity.owed)
    return _HEADER.pack(_VERSION, wake_at, batch, owes) + _encode(visitor)


def header(stored: bytes) -> tuple[int, int, bool]:
    """(wake_at, batch, owes) without decoding the body."""
    _, wake_at, batch, owes = _HEADER.unpack_from(stored)
    return wake_at, batch, owes

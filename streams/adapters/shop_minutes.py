"""Records of the topic shop-minutes: what is told to the partition that watches a shop, by workers alone."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from streams.domain.watch import Pulse
from streams.domain.windows import Cell


class CellTold(Struct, array_like=True, tag="cell", frozen=True):
    """What one partition has of a shop's minute, as of its ``version``."""

    source: int
    shop_id: str
    version: int
    cell: Cell


class PulseTold(Struct, array_like=True, tag="pulse", frozen=True):
    """How far one partition is complete."""

    source: int
    pulse: Pulse


class LevelTold(Struct, array_like=True, tag="level", frozen=True):
    """What is usual for all shops together, packed."""

    memory: bytes


class TickTold(Struct, array_like=True, tag="tick", frozen=True):
    """What the wall clock says, in ms."""

    wall: int


class GoOn(Struct, array_like=True, tag="go", frozen=True):
    """There are minutes left to judge."""


Told = CellTold | PulseTold | LevelTold | TickTold | GoOn

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Told).decode


def encode_told(told: Told) -> bytes:
    """The record's value."""
    return _encode(told)


def decode_told(value: bytes | None) -> Told:
    """What a record tells; ValueError, one sentence, if it is none of ours."""
    try:
        told: Told = _decode(value or b"")
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not of shop-minutes: {exc}") from None
    return told

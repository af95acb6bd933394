"""Erasing customers: their states go, a digest stays, and the records that name them are refused unseen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from schemas.facts import RejectReason
from streams.adapters.codec import Rejected, decode_erasure
from streams.agents.partition import Partition
from streams.agents.rule_run import customers
from streams.domain.erasure import digest, names_erased, told_apart
from streams.domain.events import Input
from streams.domain.progress import ERASED_KEY, encode_erased

_encode = msgspec.json.Encoder().encode


class Sifted(NamedTuple):
    """A bundle without the erased. refused: what it counts as refused; letters: what is told of these."""

    found: list[Input]
    refused: list[Rejected]
    letters: list[Rejected]


class Erasing(NamedTuple):
    """changes: to be written to the changelog. facts: to be sent then, by key."""

    changes: dict[bytes, bytes | None]
    facts: list[tuple[bytes, bytes]]
    refused: list[Rejected]


def begin(partition: Partition, keys: Callable[[], Iterable[bytes]], records: Sequence[Any]) -> Erasing:
    """What erasing those whom ``records`` name comes to; ``keys``: of the partition's states.

    All of the partition's customers are gone through: their names are only known by their digests.
    """
    wanted: dict[bytes, int] = {}
    refused = []
    for record in records:
        try:
            named, at = decode_erasure(record.key, record.value)
        except ValueError as exc:
            reason = RejectReason.INVALID_FIELD
            refused.append(
                Rejected(record.offset, record.timestamp, reason, str(exc), record.key, record.value)
            )
        else:
            wanted[named] = max(at, wanted.get(named, at), partition.erased.get(named, at))
    changes: dict[bytes, bytes | None] = {}
    if wanted:
        for key in customers(keys()):
            if digest(key) in wanted:
                changes[key] = None
    for named, at in wanted.items():
        changes[ERASED_KEY + named] = encode_erased(at, partition.next_batch)
    if wanted:
        partition.erased |= wanted
        partition.next_batch += 1
    now = time.time_ns() // 1_000_000
    facts = [
        (
            named.hex().encode(),
            _encode({"customer_digest": named.hex(), "erased_at": at, "at": now}),
        )
        for named, at in wanted.items()
    ]
    return Erasing(changes, facts, refused)


def sifted(partition: Partition, index: int, found: list[Input], rejected: list[Rejected]) -> Sifted:
    """What is left of a bundle of the input topic ``index``.

    An event of the erased that was counted before, as whatever it was then, is told nothing of.
    """
    erased = partition.erased
    counting, gone = told_apart(found, erased)
    unseen = [
        Rejected(event.offset, event.arrived, RejectReason.ERASED, "the customer was erased", None, None)
        for event in gone
    ]
    blank = [_blanked(each) if names_erased(each.key, each.value, erased) else each for each in rejected]
    done = partition.progress.done[index]
    return Sifted(counting, [*unseen, *blank], [*(each for each in unseen if each.offset > done), *blank])


def _blanked(letter: Rejected) -> Rejected:
    return replace(letter, detail="names a customer who was erased", key=None, value=None)

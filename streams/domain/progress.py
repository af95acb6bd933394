"""How far one partition has come: the marker that closes each batch in the changelog.

The marker is the last record of a batch's changelog write, in the same partition: where it is seen, every
state of that batch is. What lies beyond it belongs to a batch that a crash has cut, and will come again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, field

from streams.domain.clock import UNKNOWN
from streams.domain.outlook import ShopModel
from streams.domain.segment_rules import RuleSet
from streams.domain.state import decode, header
from streams.domain.visitor import CLASSES

#: The marker's key in the changelog. No customer has it: ids hold no control characters.
MARKER_KEY: Final = b"\x00marker"
#: Before the shop's id: the key under which a published model is kept.
MODEL_KEY: Final = b"\x00model:"
#: The keys of the segments' rules in force, and of how far they have been applied to everyone.
RULES_KEY: Final = b"\x00segment-rules"
RUN_KEY: Final = b"\x00segment-run"
#: Before the shop's id: the key under which its calendar is kept.
CALENDAR_KEY: Final = b"\x00shop:"
#: Before the digest of a customer who was erased.
ERASED_KEY: Final = b"\x00erased:"
#: What the key of no customer begins with.
NOT_A_CUSTOMER: Final = b"\x00"
#: First bytes that no state has: of a marker, a model, rules, a run, a calendar, and an erasure.
_TAG: Final = b"\x80"
_MODEL_TAG: Final = b"\x81"
_RULES_TAG: Final = b"\x82"
_RUN_TAG: Final = b"\x83"
_CALENDAR_TAG: Final = b"\x84"
_ERASED_TAG: Final = b"\x85"


class Progress(Struct, array_like=True, gc=False):
    """State of one partition as of batch number ``batch``, which is the last that is complete.

    done: highest offset handled, per input topic; times: event time in ms of each that time is told by;
    counts: per input topic, how many records ever became applied, duplicate, late and refused. Offsets start
    at -1.
    """

    done: list[int]
    times: list[int]
    counts: list[list[int]]
    batch: int = 0
    watermark: int = UNKNOWN
    received: list[int] = field(default_factory=list)

    def widen(self, topics: int, timed: int) -> None:
        """Take in input topics that an earlier release did not read; the first ``timed`` tell the time."""
        self.times += [UNKNOWN] * (timed - len(self.times))
        for _ in range(topics - len(self.done)):
            self.done.append(-1)
            self.counts.append([0] * CLASSES)
            self.received.append(0)

    @classmethod
    def start(cls, topics: int, timed: int) -> Progress:
        """A partition that nothing has been read from; the first ``timed`` of its topics tell the time."""
        return cls(
            [-1] * topics, [UNKNOWN] * timed, [[0] * CLASSES for _ in range(topics)], received=[0] * topics
        )


class Calendar(Struct, array_like=True, frozen=True, gc=False):
    """The zone of a shop's days, as it was published under ``version``."""

    shop_id: str
    zone: str
    version: int


class Run(Struct, array_like=True, frozen=True, gc=False):
    """How far everyone has been looked at by the rules of ``version``: not at all yet, or finished.

    total: customers there were when it began. started_at: wall clock, in ms.
    """

    version: int
    total: int
    started_at: int
    finished: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Progress).decode
_decode_erased = msgspec.msgpack.Decoder(tuple[int, int]).decode
_decode_model = msgspec.msgpack.Decoder(ShopModel).decode
_decode_rules = msgspec.msgpack.Decoder(RuleSet).decode
_decode_run = msgspec.msgpack.Decoder(Run).decode
_decode_calendar = msgspec.msgpack.Decoder(Calendar).decode


def encode_marker(progress: Progress) -> bytes:
    """``progress`` as it is kept."""
    return _TAG + _encode(progress)


def decode_marker(stored: bytes) -> Progress:
    """The progress in ``stored``; ValueError if it is no marker of this release."""
    if stored[:1] != _TAG:
        raise ValueError("the changelog's marker is not of a version that this release knows")
    return _decode(memoryview(stored)[1:])


def encode_model(model: ShopModel) -> bytes:
    """``model`` as it is kept with the states."""
    return _MODEL_TAG + _encode(model)


def decode_model(stored: bytes) -> ShopModel:
    """The model in ``stored``."""
    return _decode_model(stored[1:])


def encode_rules(rules: RuleSet) -> bytes:
    """``rules`` as they are kept with the states."""
    return _RULES_TAG + _encode(rules)


def decode_rules(stored: bytes) -> RuleSet:
    """The rules in ``stored``."""
    return _decode_rules(stored[1:])


def encode_run(run: Run) -> bytes:
    """``run`` as it is kept with the states."""
    return _RUN_TAG + _encode(run)


def decode_run(stored: bytes) -> Run:
    """The run in ``stored``."""
    return _decode_run(stored[1:])


def encode_calendar(calendar: Calendar) -> bytes:
    """``calendar`` as it is kept with the states."""
    return _CALENDAR_TAG + _encode(calendar)


def decode_calendar(stored: bytes) -> Calendar:
    """The calendar in ``stored``."""
    return _decode_calendar(stored[1:])


def encode_erased(erased_at: int, batch: int) -> bytes:
    """When a customer was erased, in ms, and by which batch, as it is kept under the digest."""
    return _ERASED_TAG + _encode((erased_at, batch))


def decode_erased(stored: bytes) -> tuple[int, int]:
    """When the customer was erased, in ms, and by which batch: a state of that one or before must be gone."""
    return _decode_erased(stored[1:])


def is_stale(old: bytes, new: bytes) -> bool:
    """Whether ``new``, later in the changelog, comes from a worker that had lost the partition already.

    Batch numbers of a partition only grow, and so do the offsets that a state has seen: a row for which
    they go back was written by such a worker, and must not replace what its successor wrote.
    """
    if new[:1] == _TAG:
        if old[:1] != _TAG:
            return False
        a, b = decode_marker(old), decode_marker(new)
        return (b.batch, b.done) < (a.batch, a.done)
    if old[:1] == _TAG:
        return False
    if new[:1] == _MODEL_TAG:
        return decode_model(new).version < decode_model(old).version
    if new[:1] == _RULES_TAG:
        return decode_rules(new).version < decode_rules(old).version
    if new[:1] == _RUN_TAG:
        had, run = decode_run(old), decode_run(new)
        return (run.version, run.finished) < (had.version, had.finished)
    if new[:1] == _CALENDAR_TAG:
        return decode_calendar(new).version < decode_calendar(old).version
    if new[:1] == _ERASED_TAG:
        return decode_erased(new) < decode_erased(old)
    old_batch, new_batch = header(old)[1], header(new)[1]
    if new_batch != old_batch:
        return new_batch < old_batch
    return any(b > a for b, a in zip(decode(old).applied, decode(new).applied, strict=False))

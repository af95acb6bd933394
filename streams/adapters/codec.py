"""Records to events, fast, and back: what is read from the input topics, ticks and dead letters.

``decode_batch`` reads canonical records with msgspec, in chunks that stay in the processor's cache, and
takes a chunk only if every record of it is beyond doubt. A chunk with a doubtful record is read again in
halves, and a doubtful record is decided by the contract (``contract.read``). So the fast reading never
has to say why, and accepts nothing that the contract refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import repeat
from typing import Annotated, Any, Final, cast
from zoneinfo import ZoneInfo

import msgspec
import xxhash
from aiokafka import ConsumerRecord

from schemas import topics
from schemas.events import EARLIEST_MS, LATEST_MS, MAX_BODY_BYTES
from schemas.facts import DeadLetter, RejectReason
from streams.adapters.contract import STRUCTS, RefusedError, read
from streams.domain.events import (
    ArrivalTime,
    Body,
    Cart,
    EventTime,
    Favorite,
    Feedback,
    Identify,
    Input,
    Order,
    Visit,
)
from streams.domain.outlook import ShopModel

_CHUNK: Final = 128
_FEW: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_DECODERS: Final[tuple[Callable[[bytes], Any], ...]] = tuple(
    msgspec.json.Decoder(STRUCTS[topic.name]).decode for topic in topics.INPUTS
)
#: Put before an event id: equal ids in two topics have different digests.
_TOPIC_MARKS: Final = tuple(chr(index) for index in range(len(topics.INPUTS)))

#: Quantizing raises for more than four decimals and more than fifteen digits: whether sixteen were meant
#: depends on how they were written, which only the contract sees.
_QUANTUM: Final = Decimal("0.0001")
_ZERO: Final = Decimal(0)
_quantize: Final = Context(prec=15, traps=[Inexact, InvalidOperation]).quantize


#: Currency codes met so far: three letters each, so 17,576 at most.
_currencies: set[str] = set()


class _DoubtError(Exception):
    """Something the fast reading does not take; the slow one decides."""


#: What the decoder and the checks raise: bad JSON and types, bad UTF-8, a null, an odd number, deep nesting.
_DOUBTS: Final = (_DoubtError, ValueError, TypeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One refused record: where it stood, when it arrived (ms), why, and its bytes as they came."""

    offset: int
    arrived: int
    reason: RejectReason
    detail: str
    key: bytes | None
    value: bytes | None


def decode_batch(
    topic: int, records: Sequence[ConsumerRecord], ahead_tolerance: int
) -> tuple[list[Input], list[Rejected]]:
    """The events of one topic's records and the records refused, each in the order given.

    ``topic`` indexes ``schemas.topics.INPUTS``; ``ahead_tolerance`` is in ms. Never raises for what a
    record holds. ``Input.id`` is the XXH3 64 of the topic's index as one byte and the event id in UTF-8
    (ClickHouse: ``xxh3(concat(char(topic), event_id))``); the body's ``occurred_at`` is ``Input.t``.
    """
    inputs: list[Input] = []
    rejected: list[Rejected] = []
    for start in range(0, len(records), _CHUNK):
        _read_all(topic, records[start : start + _CHUNK], ahead_tolerance, inputs, rejected)
    return inputs, rejected


def _read_all(
    topic: int,
    records: Sequence[ConsumerRecord],
    ahead_tolerance: int,
    inputs: list[Input],
    rejected: list[Rejected],
) -> None:
    """Reads one record or more; on doubt halves, and few one by one, so a bad record slows few good ones."""
    try:
        inputs += _read_chunk(topic, records, ahead_tolerance)
        return
    except _DOUBTS:
        if len(records) == 1:
            try:
                inputs.append(_read_slowly(topic, records[0], ahead_tolerance))
            except RefusedError as refused:
                rejected.append(_rejected(records[0], refused))
            return
    step = len(records) // 2 if len(records) > _FEW else 1
    for start in range(0, len(records), step):
        _read_all(topic, records[start : start + step], ahead_tolerance, inputs, rejected)


def _read_chunk(topic: int, records: Sequence[ConsumerRecord], ahead_tolerance: int) -> list[Input]:
    """The events of records that are all beyond doubt; raises one of ``_DOUBTS`` otherwise."""
    values = [record.value for record in records]
    joined = b"".join(values)
    if len(joined) > MAX_BODY_BYTES and max(map(len, values)) > MAX_BODY_BYTES:
        raise _DoubtError
    bodies: list[Body] = list(map(_DECODERS[topic], values))
    # One comparison for all keys: the ids have no newline (checked below), so keys with one make it differ.
    customers = "\n".join([body.customer_id for body in bodies])
    if customers.encode() != b"\n".join([record.key for record in records]):
        raise _DoubtError
    times = _milliseconds(bodies)
    latest = max(times)
    if min(times) < EARLIEST_MS or latest >= LATEST_MS:
        raise _DoubtError
    arrivals = [record.timestamp for record in records]
    if latest > min(arrivals) + ahead_tolerance:
        for t, arrived in zip(times, arrivals, strict=True):
            if t > arrived + ahead_tolerance:
                raise _DoubtError
    # A control character is an escape, a DEL or beyond ASCII: most chunks have none of these anywhere.
    if not joined.isascii() or b"\\" in joined or b"\x7f" in joined:
        for body in bodies:
            _check_ids(body)
    check = _CHECKS[topic]
    # Most visits name no price; two attributes cost a twentieth of a call, or of a search of the bytes.
    for body in bodies if topic else _priced(cast("list[Visit]", bodies)):
        check(body)
    mark = _TOPIC_MARKS[topic]
    # One encoding for all, as ids have no newline.
    marked = mark + f"\n{mark}".join([body.event_id for body in bodies])
    ids = list(map(xxhash.xxh3_64_intdigest, marked.encode().split(b"\n")))
    offsets = [record.offset for record in records]
    for body, t in zip(bodies, times, strict=True):
        body.occurred_at = t
    return list(map(Input, repeat(topic), offsets, ids, times, arrivals, bodies, values))


def _milliseconds(bodies: Sequence[Body]) -> list[EventTime]:
    """Event times as epoch ms, floored. A difference's parts are exact, and cost half of a float."""
    epoch = _EPOCH
    day = _DAY_MS
    try:
        since = [body.occurred_at - epoch for body in cast("Sequence[Any]", bodies)]
    except TypeError:
        # Some are numbers already; a call of EventTime for each would cost more than all else here.
        mixed = [at if type(at := body.occurred_at) is int else _milliseconds((body,))[0] for body in bodies]
        return cast("list[EventTime]", mixed)
    times = [d.days * day + d.seconds * 1_000 + d.microseconds // 1_000 for d in since]
    return cast("list[EventTime]", times)


def _check_ids(body: Body | Identify) -> None:
    """Doubts an id with anything unprintable in it, of which control characters are a part."""
    ids = body.event_id + body.customer_id + (body.shop_id or "")
    if isinstance(body, Identify):
        ids += body.identified_as
    elif isinstance(body, Order):
        ids += body.order_id + "".join([line.item_id for line in body.lines])
    else:
        ids += body.item_id or ""
        if isinstance(body, Cart):
            ids += body.cart_id or ""
        elif isinstance(body, Feedback):
            ids += body.order_id or ""
    if not ids.isprintable():
        raise _DoubtError


def _priced(visits: list[Visit]) -> list[Visit]:
    return [visit for visit in visits if visit.price is not None or visit.currency is not None]


def _check_favorite(body: Favorite) -> None:
    if body.item_id is None and body.target == "item":
        raise _DoubtError
    _check_price(body)


def _check_cart(body: Cart) -> None:
    if body.item_id is None and body.action != "clear":
        raise _DoubtError
    _check_price(body)


def _check_feedback(body: Feedback) -> None:
    if (body.action == "review" and body.rating is None) or (
        body.action == "reply" and body.reply_ms is None
    ):
        raise _DoubtError


def _check_price(body: Visit | Favorite | Cart) -> None:
    if body.price is not None:
        body.price = _money(body.price)
    if body.currency is not None and body.currency not in _currencies:
        _check_currency(body.currency)


def _check_order(body: Order) -> None:
    if body.total is not None:
        body.total = _money(body.total)
    if body.refund_amount is not None:
        body.refund_amount = _money(body.refund_amount)
    if body.currency is not None and body.currency not in _currencies:
        _check_currency(body.currency)
    for line in body.lines:
        if line.price is not None:
            line.price = _money(line.price)
        if line.discount is not None:
            line.discount = _money(line.discount)


def _money(amount: Decimal) -> Decimal:
    """The amount with exactly four decimals; a negative one, NaN or an infinity is doubted."""
    exact = _quantize(amount, _QUANTUM)
    if exact >= _ZERO:
        return exact
    raise _DoubtError


def _check_currency(code: str) -> None:
    if not (code.isascii() and code.isalpha() and code.isupper()):
        raise _DoubtError
    _currencies.add(code)


_CHECKS: Final = cast(
    "tuple[Callable[[Body], None], ...]",
    # Of an identity its ids are all there is.
    (_check_price, _check_favorite, _check_cart, _check_order, _check_feedback, lambda _: None),
)


def _read_slowly(topic: int, record: ConsumerRecord, ahead_tolerance: int) -> Input:
    """One record as the contract reads it; RefusedError if it is refused."""
    key, value, arrived = record.key, record.value, record.timestamp
    if key is None:
        raise RefusedError(RejectReason.NULL_KEY, "the record has no key; send customer_id as its key")
    if value is None:
        raise RefusedError(RejectReason.NULL_VALUE, "the record has no value")
    # An identify event among them, which only those ask for who read its topic.
    body = cast("Body", read(topic, value))
    if body.customer_id.encode() != key:
        found = key[:64].decode(errors="replace")
        raise RefusedError(RejectReason.KEY_MISMATCH, f"key {found!r}, customer_id {body.customer_id!r}")
    t = body.occurred_at = _milliseconds((body,))[0]
    if t > arrived + ahead_tolerance:
        raise RefusedError(RejectReason.TIMESTAMP_AHEAD, f"occurred_at is {t - arrived} ms after its arrival")
    digest = xxhash.xxh3_64_intdigest((_TOPIC_MARKS[topic] + body.event_id).encode())
    return Input(topic, record.offset, digest, t, ArrivalTime(arrived), body, value)


def _rejected(record: ConsumerRecord, refused: RefusedError) -> Rejected:
    return Rejected(
        record.offset,
        record.timestamp,
        refused.reason,
        refused.detail,
        record.key,
        record.value,
    )


_decode_model: Final = msgspec.json.Decoder(ShopModel).decode


class _Tick(msgspec.Struct):
    at: int


_decode_tick: Final = msgspec.json.Decoder(_Tick).decode


def decode_tick(value: bytes | None) -> EventTime:
    """The time, in ms, that a record of the ticks topic says it is; ValueError if it says none."""
    try:
        at = _decode_tick(value or b"").at
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not a tick: {exc}") from None
    if not EARLIEST_MS <= at < LATEST_MS:
        raise ValueError(f"not a tick: {at} is not from 1990-01-01 and before 2100-01-01")
    return EventTime(at)


def decode_model_record(key: bytes | None, value: bytes) -> ShopModel:
    """A shop's published parameters; ValueError, one sentence, if it holds none, or another shop's."""
    try:
        model = _decode_model(value)
    except (msgspec.MsgspecError, ValueError) as exc:  # the latter: parameters that no model can have
        raise ValueError(f"not a model: {exc}") from None
    if key != model.shop_id.encode():
        raise ValueError(f"the model of shop {model.shop_id!r} under the key {key!r}")
    return model


class _Shop(msgspec.Struct):
    shop_id: str
    zone: str
    version: int


_decode_shop: Final = msgspec.json.Decoder(_Shop).decode


def decode_shop_record(key: bytes | None, value: bytes) -> _Shop:
    """What a record of the shops topic says of a shop's calendar; ValueError, one sentence, if nothing."""
    try:
        shop = _decode_shop(value)
        ZoneInfo(shop.zone)
    except (msgspec.MsgspecError, ValueError, OSError, KeyError) as exc:
        raise ValueError(f"not a shop: {exc}") from None
    if key != shop.shop_id.encode():
        raise ValueError(f"the shop {shop.shop_id!r} under the key {key!r}")
    return shop


class _Erasure(msgspec.Struct):
    erased_at: Annotated[int, msgspec.Meta(ge=0)]


_decode_erasure: Final = msgspec.json.Decoder(_Erasure).decode


def encode_erasure(digest: bytes, erased_at: int) -> tuple[bytes, bytes]:
    """Key and value of a record that asks for the erasure of who has this digest; ``erased_at`` in ms."""
    return digest.hex().encode(), b'{"erased_at":%d}' % erased_at


def decode_erasure(key: bytes | None, value: bytes | None) -> tuple[bytes, int]:
    """The digest of who is to be erased, and when that was asked for; ValueError if it says neither."""
    try:
        digest = bytes.fromhex((key or b"").decode("ascii"))
        if len(digest) != 32:
            raise ValueError("its key is no SHA-256 in hexadecimal")
        return digest, _decode_erasure(value or b"").erased_at
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not an erasure: {exc}") from None


def encode_tick(at: int) -> bytes:
    """The value of a record that says it is ``at``, in ms."""
    return b'{"at":%d}' % at


def dead_letter_headers(rejected: Rejected, topic_name: str, partition: int) -> list[tuple[str, bytes]]:
    """The headers of a dead letter; its key and value are the refused record's own.

    ``topic_name`` is the input topic's name without the deployment's prefix, ``partition`` the record's.
    """
    return [
        ("ebbtide-reason", rejected.reason.value.encode()),
        ("ebbtide-detail", rejected.detail.encode(errors="replace")),
        ("ebbtide-topic", topic_name.encode()),
        ("ebbtide-partition", b"%d" % partition),
        ("ebbtide-offset", b"%d" % rejected.offset),
        ("ebbtide-arrived-at", b"%d" % rejected.arrived),
    ]


def dead_letter_from_record(record: ConsumerRecord) -> DeadLetter:
    """The dead letter a record of the dead-letters topic is; ValueError if its headers do not say so."""
    headers = {name: value for name, value in record.headers if value is not None}
    try:
        return DeadLetter(
            reason=RejectReason(headers["ebbtide-reason"].decode()),
            detail=headers["ebbtide-detail"].decode(),
            topic=headers["ebbtide-topic"].decode(),
            partition=int(headers["ebbtide-partition"]),
            offset=int(headers["ebbtide-offset"]),
            arrived_at=int(headers["ebbtide-arrived-at"]),
            key=record.key,
            value=record.value,
        )
    except KeyError as exc:
        raise ValueError(f"not a dead letter: it has no header {exc.args[0]}") from None
    except ValueError as exc:
        raise ValueError(f"not a dead letter: {str(exc).splitlines()[0]}") from None

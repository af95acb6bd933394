"""Kafka records to the rows of our ClickHouse tables, column-wise as Arrow.

One function a table; each takes the records of any number of bundles and gives one Arrow table whose columns
are named as in ``sql/migrations``. A time outside of what ClickHouse can hold becomes the nearest it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import ConsumerRecord
from msgspec.structs import astuple

from schemas.topics import DEAD_LETTERS, INGEST, INPUTS, LATE_EVENTS, SESSIONS
from streams.adapters.codec import dead_letter_from_record, decode_batch
from streams.domain.events import Cart, Favorite, Input, Order, OrderLine, Visit
from streams.domain.facts import SessionFact
from streams.settings import Settings

_MS: Final = pa.timestamp("ms", tz="UTC")
_MONEY: Final = pa.decimal128(18, 4)
#: Of sums: a million pieces at a price of twelve digits are more than _MONEY holds.
_SUM: Final = pa.decimal128(38, 4)
_TEXT: Final = pa.string()
#: 1900-01-01 and the last millisecond of 2299: the range of DateTime64.
_FIRST_MS: Final = -2_208_988_800_000
_LAST_MS: Final = 10_413_791_999_999

_LINE: Final = pa.struct(
    [
        ("item_id", _TEXT),
        ("category", _TEXT),
        ("quantity", pa.uint32()),
        ("price", _MONEY),
        ("discount", _MONEY),
    ]
)

SESSIONS_SCHEMA: Final = pa.schema(
    [
        ("session_id", pa.binary(32)),
        ("shop_id", _TEXT),
        ("customer_id", _TEXT),
        ("started_at", _MS),
        ("ended_at", _MS),
        ("outcome", _TEXT),
        ("lost_stage", _TEXT),
        ("events", pa.uint32()),
        ("visits", pa.uint32()),
        ("favorites", pa.uint32()),
        ("carts", pa.uint32()),
        ("cart_value", _SUM),
        ("currency", _TEXT),
        ("mixed_currency", pa.bool_()),
        ("orders", pa.uint32()),
        ("revenue", _SUM),
        ("recovered", pa.bool_()),
        ("recovered_at", _MS),
        ("recovered_by", _TEXT),
        ("landing_item", _TEXT),
        ("channel", _TEXT),
        ("campaign", _TEXT),
        ("is_bot", pa.bool_()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
LATE_EVENTS_SCHEMA: Final = pa.schema(
    [
        ("topic", _TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("event_id", _TEXT),
        ("customer_id", _TEXT),
        ("shop_id", _TEXT),
        ("occurred_at", _MS),
        ("arrived_at", _MS),
        ("watermark", _MS),
        ("body", _TEXT),
    ]
)
DEAD_LETTERS_SCHEMA: Final = pa.schema(
    [
        ("topic", _TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("reason", _TEXT),
        ("detail", _TEXT),
        ("arrived_at", _MS),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
INGEST_SCHEMA: Final = pa.schema(
    [
        ("topic", _TEXT),
        ("partition", pa.uint32()),
        ("next_offset", pa.uint64()),
        ("received", pa.uint64()),
        ("applied", pa.uint64()),
        ("duplicate", pa.uint64()),
        ("late", pa.uint64()),
        ("rejected", pa.uint64()),
        ("watermark", _MS),
    ]
)
EVENTS_SCHEMA: Final = pa.schema(
    [
        ("topic", _TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("event_id", _TEXT),
        ("id", pa.uint64()),
        ("action", _TEXT),
        ("occurred_at", _MS),
        ("arrived_at", _MS),
        ("customer_id", _TEXT),
        ("shop_id", _TEXT),
        ("target", _TEXT),
        ("item_id", _TEXT),
        ("category", _TEXT),
        ("quantity", pa.uint32()),
        ("price", _MONEY),
        ("currency", _TEXT),
        ("order_id", _TEXT),
        ("total", _MONEY),
        ("refund_amount", _MONEY),
        ("lines", pa.list_(_LINE)),
        ("url", _TEXT),
        ("channel", _TEXT),
        ("referrer", _TEXT),
        ("campaign", _TEXT),
        ("user_agent", _TEXT),
        ("is_bot", pa.bool_()),
        ("cart_id", _TEXT),
    ]
)

#: The fields of an event's body that are columns of their own, by the body's type.
_BODY_COLUMNS: Final = {
    kind: frozenset(kind.__struct_fields__) & frozenset(EVENTS_SCHEMA.names) - {"occurred_at", "lines"}
    for kind in (Visit, Favorite, Cart, Order)
}
#: By index into INPUTS.
_BODIES: Final = (Visit, Favorite, Cart, Order)
_INPUT_INDEX: Final = {topic.name: index for index, topic in enumerate(INPUTS)}


class UndecodableFact(ValueError):
    """A record of a fact topic is not what our own agents write there; one sentence for the operator."""


class _LateEvent(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int
    event_id: str
    customer_id: str
    shop_id: str
    occurred_at: int
    arrived_at: int
    watermark: int
    body: str


class _IngestCount(msgspec.Struct, gc=False):
    topic: str
    partition: int
    next_offset: int
    received: int
    applied: int
    duplicate: int
    late: int
    rejected: int
    watermark: int


_DECODERS: Final = {kind: msgspec.json.Decoder(kind) for kind in (SessionFact, _LateEvent, _IngestCount)}


def session_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``sessions``."""
    columns = _decoded(SessionFact, records)
    columns.append([record.partition for record in records])
    return _table(SESSIONS_SCHEMA, columns)


def late_event_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``late_events``."""
    return _table(LATE_EVENTS_SCHEMA, _decoded(_LateEvent, records))


def ingest_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``ingest``."""
    return _table(INGEST_SCHEMA, _decoded(_IngestCount, records))


def dead_letter_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``dead_letters``; what is known of the refused record stands in the headers."""
    letters = []
    for record in records:
        try:
            letters.append(dead_letter_from_record(record))
        except ValueError as exc:
            raise UndecodableFact(f"{_place(record)} is {exc}") from exc
    names = DEAD_LETTERS_SCHEMA.names
    return _table(DEAD_LETTERS_SCHEMA, [[getattr(letter, name) for letter in letters] for name in names])


def event_rows(records: Sequence[ConsumerRecord], settings: Settings) -> pa.Table:
    """Rows of ``events``: the valid ones among the records of the input topics; refused ones are left out.

    ``records`` of one topic-partition must stand together.
    """
    parts = []
    for (topic, partition), group in groupby(records, key=attrgetter("topic", "partition")):
        index = _INPUT_INDEX[topic.removeprefix(settings.topic_prefix)]
        inputs, _ = decode_batch(index, list(group), settings.policy.ahead_tolerance)
        if inputs:
            parts.append(input_rows(index, partition, inputs))
    return pa.concat_tables(parts) if parts else EVENTS_SCHEMA.empty_table()


#: What becomes of the records of each topic (without prefix): the table, and how its rows are made.
RowMaker = Callable[[Sequence[ConsumerRecord], Settings], pa.Table]
TABLES: Final[dict[str, tuple[str, RowMaker]]] = {
    SESSIONS.name: ("sessions", session_rows),
    LATE_EVENTS.name: ("late_events", late_event_rows),
    INGEST.name: ("ingest", ingest_rows),
    DEAD_LETTERS.name: ("dead_letters", dead_letter_rows),
    **{topic.name: ("events", event_rows) for topic in INPUTS},
}


def input_rows(index: int, partition: int, inputs: Sequence[Input]) -> pa.Table:
    """Rows of ``events`` for decoded events of one partition of the input topic ``index``."""
    count = len(inputs)
    bodies = [event.body for event in inputs]
    own = _BODY_COLUMNS[_BODIES[index]]
    arrays = []
    for field in EVENTS_SCHEMA:
        name = field.name
        if name in own:
            arrays.append(_array([getattr(body, name) for body in bodies], field.type))
        elif name == "topic":
            arrays.append(pa.repeat(pa.scalar(INPUTS[index].name, _TEXT), count))
        elif name == "partition":
            arrays.append(pa.repeat(pa.scalar(partition, pa.uint32()), count))
        elif name == "offset":
            arrays.append(_array([event.offset for event in inputs], field.type))
        elif name == "id":
            arrays.append(_array([event.id for event in inputs], field.type))
        elif name == "occurred_at":
            arrays.append(_array([event.t for event in inputs], field.type))
        elif name == "arrived_at":
            arrays.append(_array([event.arrived for event in inputs], field.type))
        elif name == "action":
            arrays.append(pa.repeat(pa.scalar("visit", _TEXT), count))
        elif name == "lines":
            arrays.append(_lines([body.lines if isinstance(body, Order) else () for body in bodies]))
        else:
            arrays.append(pa.nulls(count, field.type))
    return pa.Table.from_arrays(arrays, schema=EVENTS_SCHEMA)


def _lines(of_orders: Sequence[Sequence[OrderLine]]) -> pa.Array:
    offsets = [0]
    lines: list[OrderLine] = []
    for order in of_orders:
        lines.extend(order)
        offsets.append(len(lines))
    children = [_array([getattr(line, field.name) for line in lines], field.type) for field in _LINE]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.StructArray.from_arrays(children, fields=list(_LINE)),
        type=pa.list_(_LINE),
    )


def _decoded(kind: type[Any], records: Sequence[ConsumerRecord]) -> list[Iterable[Any]]:
    """The fields of the records' JSON, column by column in the order of ``kind``."""
    decode = _DECODERS[kind].decode
    facts = []
    for record in records:
        try:
            facts.append(astuple(decode(record.value)))
        except (msgspec.MsgspecError, TypeError) as exc:
            raise UndecodableFact(
                f"{_place(record)} is no {kind.__name__.lstrip('_')} of ours: {exc}"
            ) from exc
    return list(zip(*facts, strict=True))


def _table(schema: pa.Schema, columns: Sequence[Iterable[Any]]) -> pa.Table:
    arrays = [_array(column, field.type) for field, column in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    if kind == _MS:
        stamps = pa.array(values, pa.int64())
        stamps = pc.min_element_wise(
            pc.max_element_wise(stamps, _FIRST_MS, skip_nulls=False), _LAST_MS, skip_nulls=False
        )
        return stamps.cast(_MS)
    if kind == _SUM:
        return pa.array(values, _TEXT).cast(_SUM)
    if kind == pa.uint8():
        return pa.array(values, pa.bool_()).cast(kind)
    return pa.array(values, kind)


def _place(record: ConsumerRecord) -> str:
    return f"Record {record.offset} of {record.topic}[{record.partition}]"

"""Kafka records to the rows of our ClickHouse tables, column-wise as Arrow.

One function a table; each takes the records of any number of bundles and gives one Arrow table whose columns
are named as in ``sql/migrations``. Those of buyers are in ``buyer_rows``, those of losses in
``loss_rows``, those of what is watched in ``alert_rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec
import pyarrow as pa
from aiokafka import ConsumerRecord

from schemas.topics import (
    ACTIONS,
    ALERTS,
    CUSTOMERS,
    DEAD_LETTERS,
    DELIVERIES,
    ERASED,
    INGEST,
    INPUTS,
    ITEM_DAYS,
    LATE_EVENTS,
    LEAKS,
    LOSS_WINDOWS,
    PURCHASES,
    REASONS,
    SEGMENT_RUNS,
    SEGMENTS,
    SESSIONS,
    SHOPS,
    TRANSITIONS,
)
from streams.adapters.alert_rows import alert_rows, delivery_rows, loss_window_rows
from streams.adapters.buyer_rows import action_rows, customer_rows, transition_rows
from streams.adapters.codec import dead_letter_from_record
from streams.adapters.columns import (
    DAY,
    MONEY,
    MS,
    SUM,
    TEXT,
    UndecodableFact,
    array,
    decoded,
    partitions,
    place,
    structs,
    table,
)
from streams.adapters.door import take_in
from streams.adapters.erasing import erased_rows
from streams.adapters.loss_rows import (
    item_day_rows,
    leak_rows,
    purchase_rows,
    reason_rows,
    segment_rows,
    segment_run_rows,
    shop_rows,
)
from streams.domain.events import Cart, Favorite, Feedback, Identify, Input, Order, Visit
from streams.domain.facts import SessionFact
from streams.settings import Settings

_LINE: Final = pa.struct(
    [
        ("item_id", TEXT),
        ("category", TEXT),
        ("quantity", pa.uint32()),
        ("price", MONEY),
        ("discount", MONEY),
    ]
)

SESSIONS_SCHEMA: Final = pa.schema(
    [
        ("session_id", pa.binary(32)),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("started_at", MS),
        ("ended_at", MS),
        ("outcome", TEXT),
        ("lost_stage", TEXT),
        ("events", pa.uint32()),
        ("visits", pa.uint32()),
        ("favorites", pa.uint32()),
        ("carts", pa.uint32()),
        ("cart_value", SUM),
        ("currency", TEXT),
        ("mixed_currency", pa.bool_()),
        ("orders", pa.uint32()),
        ("revenue", SUM),
        ("recovered", pa.bool_()),
        ("recovered_at", MS),
        ("recovered_by", TEXT),
        ("landing_item", TEXT),
        ("channel", TEXT),
        ("campaign", TEXT),
        ("is_bot", pa.bool_()),
        ("day", DAY),
        ("bot_by", TEXT),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
LATE_EVENTS_SCHEMA: Final = pa.schema(
    [
        ("topic", TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("event_id", TEXT),
        ("customer_id", TEXT),
        ("shop_id", TEXT),
        ("occurred_at", MS),
        ("arrived_at", MS),
        ("watermark", MS),
        ("body", TEXT),
    ]
)
DEAD_LETTERS_SCHEMA: Final = pa.schema(
    [
        ("topic", TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("reason", TEXT),
        ("detail", TEXT),
        ("arrived_at", MS),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
INGEST_SCHEMA: Final = pa.schema(
    [
        ("topic", TEXT),
        ("partition", pa.uint32()),
        ("next_offset", pa.uint64()),
        ("received", pa.uint64()),
        ("applied", pa.uint64()),
        ("duplicate", pa.uint64()),
        ("late", pa.uint64()),
        ("rejected", pa.uint64()),
        ("watermark", MS),
    ]
)
EVENTS_SCHEMA: Final = pa.schema(
    [
        ("topic", TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("event_id", TEXT),
        ("id", pa.uint64()),
        ("action", TEXT),
        ("occurred_at", MS),
        ("arrived_at", MS),
        ("customer_id", TEXT),
        ("shop_id", TEXT),
        ("target", TEXT),
        ("item_id", TEXT),
        ("category", TEXT),
        ("quantity", pa.uint32()),
        ("price", MONEY),
        ("currency", TEXT),
        ("order_id", TEXT),
        ("total", MONEY),
        ("refund_amount", MONEY),
        ("lines", pa.list_(_LINE)),
        ("url", TEXT),
        ("channel", TEXT),
        ("referrer", TEXT),
        ("campaign", TEXT),
        ("user_agent", TEXT),
        ("is_bot", pa.bool_()),
        ("cart_id", TEXT),
        ("rating", pa.uint8()),
        ("reply_ms", pa.uint64()),
        ("identified_as", TEXT),
    ]
)

#: The fields of an event's body that are columns of their own, by the body's type.
_BODY_COLUMNS: Final = {
    kind: frozenset(kind.__struct_fields__) & frozenset(EVENTS_SCHEMA.names) - {"occurred_at", "lines"}
    for kind in (Visit, Favorite, Cart, Order, Feedback, Identify)
}
#: By index into INPUTS.
_BODIES: Final = (Visit, Favorite, Cart, Order, Feedback, Identify)
_INPUT_INDEX: Final = {topic.name: index for index, topic in enumerate(INPUTS)}


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


_SESSION: Final = msgspec.json.Decoder(SessionFact)
_LATE_EVENT: Final = msgspec.json.Decoder(_LateEvent)
_INGEST_COUNT: Final = msgspec.json.Decoder(_IngestCount)


def session_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``sessions``."""
    return table(SESSIONS_SCHEMA, [*decoded(_SESSION, records), partitions(records)])


def late_event_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``late_events``."""
    return table(LATE_EVENTS_SCHEMA, decoded(_LATE_EVENT, records))


def ingest_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``ingest``."""
    return table(INGEST_SCHEMA, decoded(_INGEST_COUNT, records))


def dead_letter_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``dead_letters``; what is known of the refused record stands in the headers."""
    letters = []
    for record in records:
        try:
            letters.append(dead_letter_from_record(record))
        except ValueError as exc:
            raise UndecodableFact(f"{place(record)} is {exc}") from exc
    names = DEAD_LETTERS_SCHEMA.names
    return table(DEAD_LETTERS_SCHEMA, [[getattr(letter, name) for letter in letters] for name in names])


def event_rows(records: Sequence[ConsumerRecord], settings: Settings) -> pa.Table:
    """Rows of ``events``: the valid ones among the records of the input topics; refused ones are left out.

    ``records`` of one topic-partition must stand together.
    """
    parts = []
    for (topic, partition), group in groupby(records, key=attrgetter("topic", "partition")):
        index = _INPUT_INDEX[topic.removeprefix(settings.topic_prefix)]
        inputs, _ = take_in(index, list(group), settings)
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
    CUSTOMERS.name: ("customers", customer_rows),
    TRANSITIONS.name: ("transitions", transition_rows),
    ACTIONS.name: ("actions", action_rows),
    PURCHASES.name: ("purchases", purchase_rows),
    ITEM_DAYS.name: ("item_days", item_day_rows),
    LEAKS.name: ("leaks", leak_rows),
    REASONS.name: ("reasons", reason_rows),
    SEGMENTS.name: ("segments", segment_rows),
    SEGMENT_RUNS.name: ("segment_runs", segment_run_rows),
    SHOPS.name: ("shops", shop_rows),
    ERASED.name: ("erased", erased_rows),
    LOSS_WINDOWS.name: ("loss_windows", loss_window_rows),
    ALERTS.name: ("alerts", alert_rows),
    DELIVERIES.name: ("deliveries", delivery_rows),
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
        if name == "shop_id":
            # "" where it is said of all shops.
            arrays.append(array([body.shop_id or "" for body in bodies], field.type))
        elif name in own:
            arrays.append(array([getattr(body, name) for body in bodies], field.type))
        elif name == "topic":
            arrays.append(pa.repeat(pa.scalar(INPUTS[index].name, TEXT), count))
        elif name == "partition":
            arrays.append(pa.repeat(pa.scalar(partition, pa.uint32()), count))
        elif name == "offset":
            arrays.append(array([event.offset for event in inputs], field.type))
        elif name == "id":
            arrays.append(array([event.id for event in inputs], field.type))
        elif name == "occurred_at":
            arrays.append(array([event.t for event in inputs], field.type))
        elif name == "arrived_at":
            arrays.append(array([event.arrived for event in inputs], field.type))
        elif name == "action":
            named = "identify" if _BODIES[index] is Identify else "visit"
            arrays.append(pa.repeat(pa.scalar(named, TEXT), count))
        elif name == "lines":
            arrays.append(structs([body.lines if isinstance(body, Order) else () for body in bodies], _LINE))
        else:
            arrays.append(pa.nulls(count, field.type))
    return pa.Table.from_arrays(arrays, schema=EVENTS_SCHEMA)

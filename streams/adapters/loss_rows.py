"""Facts of losses to rows: purchases, item-days, leaks, reasons, segments and shops, column-wise as Arrow.

A table has the fields of its fact and the partition, in which the fact is as well as its customer; but of
item-days each item is a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import pyarrow as pa
from aiokafka import ConsumerRecord

from streams.adapters.columns import (
    DAY,
    ID32,
    MS,
    SUM,
    TEXT,
    array,
    decoded,
    facts,
    partitions,
    structs,
    table,
)
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact, ReasonFact, SegmentFact
from streams.settings import Settings

_LINE: Final = pa.struct(
    [
        ("item_id", TEXT),
        ("category", TEXT),
        ("quantity", pa.uint32()),
        ("gross", SUM),
        ("discount", SUM),
        ("net", SUM),
    ]
)
PURCHASES_SCHEMA: Final = pa.schema(
    [
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("order_id", TEXT),
        ("ordered_at", MS),
        ("day", DAY),
        ("total", SUM),
        ("refunded", SUM),
        ("is_reversed", pa.bool_()),
        ("currency", TEXT),
        ("lines", pa.list_(_LINE)),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
ITEM_DAYS_SCHEMA: Final = pa.schema(
    [
        ("shop_id", TEXT),
        ("day", DAY),
        ("item_id", TEXT),
        ("customer_id", TEXT),
        ("category", TEXT),
        ("disposition", TEXT),
        ("first_at", MS),
        ("visits", pa.uint32()),
        ("favorited", pa.bool_()),
        ("carted", pa.bool_()),
        ("is_bot", pa.bool_()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
LEAKS_SCHEMA: Final = pa.schema(
    [
        ("leak_id", ID32),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("day", DAY),
        ("seen_at", MS),
        ("item_ids", pa.list_(TEXT)),
        ("categories", pa.list_(TEXT)),
        ("intent", TEXT),
        ("to_shop_id", TEXT),
        ("order_id", TEXT),
        ("ordered_at", MS),
        ("to_item_ids", pa.list_(TEXT)),
        ("pieces", pa.uint64()),
        ("amount", SUM),
        ("currency", TEXT),
        ("price_here", SUM),
        ("price_there", SUM),
        ("is_bot", pa.bool_()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
REASONS_SCHEMA: Final = pa.schema(
    [
        ("reason_id", ID32),
        ("kind", TEXT),
        ("subject_id", ID32),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("at", MS),
        ("day", DAY),
        ("category", TEXT),
        ("reason", TEXT),
        ("score", pa.float64()),
        ("scores", pa.map_(TEXT, pa.float64())),
        ("evidence", pa.map_(TEXT, TEXT)),
        ("is_bot", pa.bool_()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
SEGMENTS_SCHEMA: Final = pa.schema(
    [
        ("segment", TEXT),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("is_member", pa.bool_()),
        ("at", MS),
        ("cause", TEXT),
        ("rules_version", pa.uint64()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
SEGMENT_RUNS_SCHEMA: Final = pa.schema(
    [
        ("rules_version", pa.uint64()),
        ("partition", pa.uint32()),
        ("done", pa.uint64()),
        ("total", pa.uint64()),
        ("started_at", MS),
        ("at", MS),
        ("is_finished", pa.bool_()),
    ]
)
SHOPS_SCHEMA: Final = pa.schema(
    [("shop_id", TEXT), ("name", TEXT), ("zone", TEXT), ("currency", TEXT), ("version", pa.uint64())]
)

#: The columns of item_days that are of the whole day of a customer, and of each item.
_OF_DAY: Final = frozenset({"shop_id", "customer_id", "day", "is_bot", "version", "is_deleted"})
_OF_ITEM: Final = frozenset(ITEM_DAYS_SCHEMA.names) - _OF_DAY - {"partition"}


class _SegmentRun(msgspec.Struct, gc=False):
    rules_version: int
    partition: int
    done: int
    total: int
    started_at: int
    at: int
    is_finished: bool


class _Shop(msgspec.Struct, gc=False):
    shop_id: str
    name: str
    zone: str
    currency: str | None
    version: int


_PURCHASE: Final = msgspec.json.Decoder(PurchaseFact)
_ITEM_DAYS: Final = msgspec.json.Decoder(ItemDaysFact)
_LEAK: Final = msgspec.json.Decoder(LeakFact)
_REASON: Final = msgspec.json.Decoder(ReasonFact)
_SEGMENT: Final = msgspec.json.Decoder(SegmentFact)
_SEGMENT_RUN: Final = msgspec.json.Decoder(_SegmentRun)
_SHOP: Final = msgspec.json.Decoder(_Shop)


def purchase_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``purchases``."""
    columns = [*decoded(_PURCHASE, records), partitions(records)]
    lines = PURCHASES_SCHEMA.get_field_index("lines")
    arrays = [
        structs(column, _LINE) if index == lines else array(column, PURCHASES_SCHEMA.field(index).type)
        for index, column in enumerate(columns)
    ]
    return pa.Table.from_arrays(arrays, schema=PURCHASES_SCHEMA)


def item_day_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``item_days``, one for each item of each record; a tombstone's hide those items."""
    days = facts(_ITEM_DAYS, records)
    items = [item for day in days for item in day.items]
    # What is of the day is made into a column once a day, and then repeated for its items.
    of_item = pa.array([index for index, day in enumerate(days) for _ in day.items], pa.int32())
    arrays = []
    for field in ITEM_DAYS_SCHEMA:
        name = field.name
        if name in _OF_ITEM:
            arrays.append(array([getattr(item, name) for item in items], field.type))
        else:
            values = partitions(records) if name == "partition" else [getattr(day, name) for day in days]
            arrays.append(array(values, field.type).take(of_item))
    return pa.Table.from_arrays(arrays, schema=ITEM_DAYS_SCHEMA)


def leak_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``leaks``."""
    return table(LEAKS_SCHEMA, [*decoded(_LEAK, records), partitions(records)])


def reason_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``reasons``."""
    return table(REASONS_SCHEMA, [*decoded(_REASON, records), partitions(records)])


def segment_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``segments``."""
    return table(SEGMENTS_SCHEMA, [*decoded(_SEGMENT, records), partitions(records)])


def segment_run_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``segment_runs``."""
    return table(SEGMENT_RUNS_SCHEMA, decoded(_SEGMENT_RUN, records))


def shop_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``shops``; each partition of the topic has them all, and they replace one another."""
    return table(SHOPS_SCHEMA, decoded(_SHOP, records))

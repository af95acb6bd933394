"""Facts of what is watched to rows: windows of loss, alerts and deliveries, column-wise as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
from aiokafka import ConsumerRecord

from streams.adapters.columns import ID32, MS, SUM, TEXT, array, decoded, partitions, structs
from streams.domain.alert_facts import AlertFact, DeliveryFact, LossWindowFact
from streams.settings import Settings

_AT_RISK: Final = pa.map_(TEXT, SUM)
_CONTRIBUTOR: Final = pa.struct(
    [
        ("dimension", TEXT),
        ("value", TEXT),
        ("observed", pa.float64()),
        ("expected", pa.float64()),
        ("share", pa.float64()),
    ]
)
LOSS_WINDOWS_SCHEMA: Final = pa.schema(
    [
        ("shop_id", TEXT),
        ("scope", TEXT),
        ("scope_value", TEXT),
        ("minute", MS),
        ("closed", pa.uint32()),
        ("lost", pa.uint32()),
        ("bots", pa.uint32()),
        ("value_at_risk", _AT_RISK),
        ("active_carts", pa.uint32()),
        ("orders", pa.uint32()),
        ("observed", pa.float64()),
        ("expected", pa.float64()),
        ("band", pa.float64()),
        ("expected_lost", pa.float64()),
        ("orders_per_cart", pa.float64()),
        ("expected_orders_per_cart", pa.float64()),
        ("band_orders_per_cart", pa.float64()),
        ("verdict", TEXT),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
ALERTS_SCHEMA: Final = pa.schema(
    [
        ("alert_id", ID32),
        ("kind", TEXT),
        ("shop_id", TEXT),
        ("scope", TEXT),
        ("scope_value", TEXT),
        ("signal", TEXT),
        ("status", TEXT),
        ("severity", TEXT),
        ("rule", TEXT),
        ("began_at", MS),
        ("at", MS),
        ("resolved_at", MS),
        ("observed", pa.float64()),
        ("expected", pa.float64()),
        ("band", pa.float64()),
        ("sessions", pa.uint64()),
        ("lost", pa.uint64()),
        ("value_at_risk", _AT_RISK),
        ("contributors", pa.list_(_CONTRIBUTOR)),
        ("held_by", pa.list_(TEXT)),
        ("summary", TEXT),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
DELIVERIES_SCHEMA: Final = pa.schema(
    [
        ("delivery_id", ID32),
        ("endpoint", TEXT),
        ("topic", TEXT),
        ("subject_id", ID32),
        ("revision", pa.uint64()),
        ("webhook_id", TEXT),
        ("status", TEXT),
        ("attempts", pa.uint32()),
        ("created_at", MS),
        ("at", MS),
        ("next_at", MS),
        ("http_status", pa.uint16()),
        ("error", TEXT),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)

_LOSS_WINDOW: Final = msgspec.json.Decoder(LossWindowFact)
_ALERT: Final = msgspec.json.Decoder(AlertFact)
_DELIVERY: Final = msgspec.json.Decoder(DeliveryFact)


def loss_window_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``loss_windows``."""
    return _table(LOSS_WINDOWS_SCHEMA, [*decoded(_LOSS_WINDOW, records), partitions(records)])


def alert_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``alerts``."""
    return _table(ALERTS_SCHEMA, [*decoded(_ALERT, records), partitions(records)])


def delivery_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``deliveries``."""
    return _table(DELIVERIES_SCHEMA, [*decoded(_DELIVERY, records), partitions(records)])


def _table(schema: pa.Schema, columns: Sequence[Iterable[Any]]) -> pa.Table:
    return pa.Table.from_arrays(
        [_array(field.type, column) for field, column in zip(schema, columns, strict=True)], schema=schema
    )


def _array(kind: pa.DataType, column: Iterable[Any]) -> pa.Array:
    if kind == _AT_RISK:
        # Arrow reads no decimal out of text inside of a map.
        texts = array(column, pa.map_(TEXT, TEXT))
        return pa.MapArray.from_arrays(texts.offsets, texts.keys, texts.items.cast(SUM), type=_AT_RISK)
    if kind == pa.list_(_CONTRIBUTOR):
        return structs(column, _CONTRIBUTOR)
    return array(column, kind)

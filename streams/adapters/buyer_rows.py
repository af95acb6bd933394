"""Facts of buyers to rows: profiles, transitions and actions, column-wise as Arrow.

A table has the fields of its fact and the partition, in which the fact is as well as its customer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import pyarrow as pa
from aiokafka import ConsumerRecord

from streams.adapters.columns import DAY, ID32, MS, SUM, TEXT, decoded, partitions, table
from streams.domain.facts import ActionFact, ProfileFact, TransitionFact
from streams.settings import Settings

CUSTOMERS_SCHEMA: Final = pa.schema(
    [
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("as_of", DAY),
        ("stage", TEXT),
        ("stage_since", MS),
        ("tier", TEXT),
        ("r_score", pa.uint8()),
        ("f_score", pa.uint8()),
        ("m_score", pa.uint8()),
        ("p_alive", pa.float64()),
        ("p_return_90d", pa.float64()),
        ("expected_orders_90d", pa.float64()),
        ("next_order_on", DAY),
        ("overdue_days", pa.uint32()),
        ("usual_gap_days", pa.float64()),
        ("first_order_at", MS),
        ("last_order_at", MS),
        ("first_order_on", DAY),
        ("last_order_on", DAY),
        ("purchase_days", pa.uint32()),
        ("orders", pa.uint32()),
        ("reversed_orders", pa.uint32()),
        ("recency_days", pa.uint32()),
        ("monetary", SUM),
        ("average_order_value", SUM),
        ("currency", TEXT),
        ("mixed_currency", pa.bool_()),
        ("preferred_categories", pa.list_(TEXT)),
        ("price_band", pa.uint8()),
        ("discount_affinity", pa.float64()),
        ("visits_30d", pa.uint32()),
        ("favorites_30d", pa.uint32()),
        ("carts_30d", pa.uint32()),
        ("visits_90d", pa.uint32()),
        ("favorites_90d", pa.uint32()),
        ("carts_90d", pa.uint32()),
        ("last_seen_at", MS),
        ("model_version", pa.uint64()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
TRANSITIONS_SCHEMA: Final = pa.schema(
    [
        ("transition_id", ID32),
        ("kind", TEXT),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("anchor", MS),
        ("at", MS),
        ("from_state", TEXT),
        ("to_state", TEXT),
        ("cause", TEXT),
        ("p_alive", pa.float64()),
        ("p_return_90d", pa.float64()),
        ("overdue_days", pa.uint32()),
        ("usual_gap_days", pa.float64()),
        ("model_version", pa.uint64()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)
ACTIONS_SCHEMA: Final = pa.schema(
    [
        ("action_id", ID32),
        ("kind", TEXT),
        ("shop_id", TEXT),
        ("customer_id", TEXT),
        ("category", TEXT),
        ("anchor", MS),
        ("at", MS),
        ("expected_on", DAY),
        ("priority", pa.uint8()),
        ("holdout", pa.bool_()),
        ("reason", TEXT),
        ("stage", TEXT),
        ("p_alive", pa.float64()),
        ("p_return_90d", pa.float64()),
        ("overdue_days", pa.uint32()),
        ("usual_gap_days", pa.float64()),
        ("discount_affinity", pa.float64()),
        ("model_version", pa.uint64()),
        ("version", pa.uint64()),
        ("is_deleted", pa.uint8()),
        ("partition", pa.uint32()),
    ]
)


_PROFILE: Final = msgspec.json.Decoder(ProfileFact)
_TRANSITION: Final = msgspec.json.Decoder(TransitionFact)
_ACTION: Final = msgspec.json.Decoder(ActionFact)


def customer_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``customers``."""
    return table(CUSTOMERS_SCHEMA, [*decoded(_PROFILE, records), partitions(records)])


def transition_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``transitions``."""
    return table(TRANSITIONS_SCHEMA, [*decoded(_TRANSITION, records), partitions(records)])


def action_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``actions``."""
    return table(ACTIONS_SCHEMA, [*decoded(_ACTION, records), partitions(records)])

"""What is published to every worker, on compacted topics: lapse models, rules of segments, shops.

Each of these takes a topic's records into the partition and the step, and gives back those that it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from schemas.facts import RejectReason
from streams.adapters.codec import Rejected, decode_model_record, decode_shop_record
from streams.adapters.segments import decode_rules_record
from streams.agents.partition import Partition, Step
from streams.domain.progress import (
    CALENDAR_KEY,
    MODEL_KEY,
    RULES_KEY,
    Calendar,
    encode_calendar,
    encode_model,
    encode_rules,
)
from streams.domain.segments import Rules

Take = Callable[[Partition, Step, Sequence[Any]], list[Rejected]]


def take_models(partition: Partition, step: Step, records: Sequence[Any]) -> list[Rejected]:
    """Put newer parameters into force, from the next check-up of each buyer on; a tombstone withdraws."""
    refused = []
    for record in records:
        if record.value is None and record.key is not None:
            partition.models.pop(record.key.decode(errors="replace"), None)
            step.changes[MODEL_KEY + record.key] = None
            continue
        try:
            model = decode_model_record(record.key, record.value or b"")
        except ValueError as exc:
            refused.append(_refused(record, exc))
            continue
        known = partition.models.get(model.shop_id)
        if known is None or model.version > known.version:
            partition.models[model.shop_id] = model
            step.changes[MODEL_KEY + model.shop_id.encode()] = encode_model(model)
    return refused


def take_rules(partition: Partition, step: Step, records: Sequence[Any]) -> list[Rejected]:
    """Put newer rules of segments into force."""
    refused = []
    for record in records:
        try:
            rules = decode_rules_record(record.key, record.value)
        except ValueError as exc:
            refused.append(_refused(record, exc))
            continue
        if rules.version > partition.rules.version:
            partition.rules = Rules(rules)
            step.context = replace(step.context, rules=partition.rules)
            step.changes[RULES_KEY] = encode_rules(rules)
    return refused


def take_shops(partition: Partition, step: Step, records: Sequence[Any]) -> list[Rejected]:
    """Count the days of each shop in its own zone from now on."""
    refused = []
    for record in records:
        try:
            shop = decode_shop_record(record.key, record.value or b"")
        except ValueError as exc:
            refused.append(_refused(record, exc))
            continue
        known = partition.calendars.get(shop.shop_id)
        if known is None or shop.version > known.version:
            calendar = Calendar(shop.shop_id, shop.zone, shop.version)
            partition.go_by(calendar, step.context.policy)
            step.changes[CALENDAR_KEY + shop.shop_id.encode()] = encode_calendar(calendar)
    return refused


def _refused(record: Any, exc: ValueError) -> Rejected:
    reason = RejectReason.INVALID_FIELD
    return Rejected(record.offset, record.timestamp, reason, str(exc), record.key, record.value)

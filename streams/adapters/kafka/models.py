"""Shops' models on their compacted topic: publishing them, and reading back what is in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.topics import MODELS
from streams.adapters.codec import decode_model_record
from streams.adapters.kafka.everywhere import InForce, publish_everywhere, read_everywhere
from streams.domain.outlook import ShopModel
from streams.settings import Settings

encode: Final = msgspec.json.Encoder().encode

Published = InForce[ShopModel]


def publish(settings: Settings, models: Iterable[ShopModel]) -> int:
    """Send every model to every partition; returns how many those are. Raises AdminError."""
    return publish_everywhere(settings, MODELS, [(model.shop_id.encode(), encode(model)) for model in models])


def published(settings: Settings) -> Published:
    """All that the topic holds. Raises AdminError."""
    return read_everywhere(settings, MODELS, decode_model_record)

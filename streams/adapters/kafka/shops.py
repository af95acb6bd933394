"""What is known of shops, on their compacted topic: publishing it, and reading back what is in force."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.losses import ShopFact
from schemas.topics import SHOPS
from streams.adapters.kafka.everywhere import InForce, publish_everywhere, read_everywhere
from streams.settings import Settings


def publish_shops(settings: Settings, shops: Iterable[ShopFact]) -> int:
    """Send every shop to every partition; returns how many those are. Raises AdminError."""
    records = [(shop.shop_id.encode(), shop.model_dump_json().encode()) for shop in shops]
    return publish_everywhere(settings, SHOPS, records)


def published_shops(settings: Settings) -> InForce[ShopFact]:
    """All that the topic holds. Raises AdminError."""
    return read_everywhere(settings, SHOPS, _decode)


def _decode(key: bytes, body: bytes) -> ShopFact:
    shop = ShopFact.model_validate_json(body)
    if shop.shop_id.encode() != key:
        raise ValueError("the key is not the shop's id")
    return shop

"""Taobao's user behaviour: ``user,item,category,pv|fav|cart|buy,unix seconds``, no header.

pv is a visit of an item's page, fav and cart put the item among the favorites or into the cart, buy is an
order of one line. The data has no prices, no order ids and no shops: each buy is an order of its own, and
everything happens in one shop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from schemas.topics import CARTS, FAVORITES, ORDERS, VISITS, Topic
from streams.sources.files import SourceFile
from streams.sources.record import SourceRecord, content_id, event, unreadable

SHOP: Final = "taobao"

_TOPICS: Final[dict[str, Topic]] = {"pv": VISITS, "fav": FAVORITES, "cart": CARTS, "buy": ORDERS}
#: Beyond this many ms a number is no time any calendar knows, and no integer every JSON reader keeps.
_MAX_MS: Final = 1 << 53


def read(file: SourceFile, shop: str | None = None) -> Iterator[SourceRecord]:
    """One record for each line. A line that no event can be made of goes as it came to ``visits``."""
    shop = shop or SHOP
    lines = file.lines()
    for line in lines:
        if not _is_header(line):
            yield _record(line, shop)
        break
    for line in lines:
        yield _record(line, shop)


def _record(line: bytes, shop: str) -> SourceRecord:
    line = line.strip()
    try:
        user, item, category, behavior, seconds = line.decode().split(",")
        topic = _TOPICS[behavior]
        at = int(seconds) * 1000 if seconds.isdecimal() else round(float(seconds) * 1000)
    except (ValueError, KeyError, OverflowError):
        return _unreadable(line)
    if not user or not item or not -_MAX_MS < at < _MAX_MS:
        return _unreadable(line)
    event_id = content_id(line)
    body: dict[str, Any] = {"event_id": event_id, "occurred_at": at, "customer_id": user, "shop_id": shop}
    goods = {"item_id": item, "category": category} if category else {"item_id": item}
    if topic is ORDERS:
        body |= {"action": "placed", "order_id": event_id, "lines": [goods]}
    elif topic is VISITS:
        body |= goods
    else:
        body |= {"action": "add", **goods}
    return event(topic, at, body)


def _unreadable(line: bytes) -> SourceRecord:
    user, comma, _ = line.partition(b",")
    return unreadable(line, user if comma else None)


def _is_header(line: bytes) -> bool:
    """Whether a first line names columns: several fields, and not one digit among them."""
    return line.count(b",") >= 4 and not any(48 <= byte <= 57 for byte in line)

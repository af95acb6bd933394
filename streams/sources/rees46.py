"""REES46's eCommerce behaviour: ``event_time,event_type,product_id,category_id,category_code,brand,price,
user_id,user_session``, with a header, times like ``2019-10-01 00:00:00 UTC``.

view is a visit of an item's page; cart adds one piece at its price, remove_from_cart takes the line away;
purchase is an order of one line. The data has no order ids. A basket of several products comes as several
purchase rows, and no rule to join them gives the same orders for a shuffled file; so each purchase row is an
order of its own: revenue, buyers and outcomes are those of the baskets, only the number of orders is
that of the rows. The prices are dollars.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from schemas.topics import CARTS, ORDERS, VISITS, Topic
from streams.sources.files import SourceFile
from streams.sources.record import SourceError, SourceRecord, content_id, event, unreadable

SHOP: Final = "rees46"
CURRENCY: Final = "USD"

_COLUMNS: Final = (
    "event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price", "user_id",
    "user_session",
)  # fmt: skip
_NEEDED: Final = ("event_time", "event_type", "product_id", "user_id")
_KINDS: Final[dict[str, tuple[Topic, str]]] = {
    "view": (VISITS, ""),
    "cart": (CARTS, "add"),
    "remove_from_cart": (CARTS, "remove"),
    "purchase": (ORDERS, "placed"),
}
#: A price as the contract takes it: negative or with more digits, it is sent and refused there.
_PRICE: Final = re.compile(r"-?\d{1,12}(\.\d+)?", re.ASCII)


def read(file: SourceFile, shop: str | None = None) -> Iterator[SourceRecord]:
    """One record for each line after the header. A line that no event can be made of goes as it came to
    ``visits``. SourceError for a header that lacks a needed column; without a header the usual order holds.
    """
    lines = file.lines()
    first = next(lines, None)
    if first is None:
        return
    columns: tuple[str, ...] = _COLUMNS
    if first[:1].isdigit():
        yield _record(first, _Layout(file, columns), shop or SHOP)
    else:
        columns = tuple(
            name.strip().strip('"').lower() for name in first.decode("utf-8", "replace").split(",")
        )
    layout = _Layout(file, columns)
    for line in lines:
        yield _record(line, layout, shop or SHOP)


class _Layout:
    """Where each column stands; -1 where it is missing."""

    def __init__(self, file: SourceFile, columns: tuple[str, ...]) -> None:
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            raise SourceError(f"{file.path} is not in the rees46 format: no column {', '.join(missing)}")
        self.width = len(columns)
        at = {name: columns.index(name) if name in columns else -1 for name in _COLUMNS}
        self.time, self.type, self.user = at["event_time"], at["event_type"], at["user_id"]
        self.product, self.price = at["product_id"], at["price"]
        self.category_id, self.category_code = at["category_id"], at["category_code"]


def _record(line: bytes, layout: _Layout, shop: str) -> SourceRecord:
    line = line.strip()
    user = None
    try:
        text = line.decode()
        fields = text.split(",") if '"' not in text else next(csv.reader([text], strict=True))
        if len(fields) > layout.user:
            user = fields[layout.user].strip().encode()
        if len(fields) != layout.width:
            return unreadable(line, user)
        fields.append("")  # what a column that is not there (-1) reads
        topic, action = _KINDS[fields[layout.type]]
        at = _ms(fields[layout.time])
    except (ValueError, KeyError, csv.Error):
        return unreadable(line, user)
    item, price = fields[layout.product], fields[layout.price].strip()
    if not user or not item or (price and not _PRICE.fullmatch(price)):
        return unreadable(line, user)
    body: dict[str, Any] = {
        "event_id": content_id(line),
        "occurred_at": at,
        "customer_id": user.decode(),
        "shop_id": shop,
    }
    goods: dict[str, Any] = {"item_id": item}
    if category := fields[layout.category_code] or fields[layout.category_id]:
        goods["category"] = category
    if topic is VISITS:
        # A price that the contract refuses is no reason to lose who was there.
        if price and not price.startswith("-"):
            goods |= {"price": price, "currency": CURRENCY}
        return event(topic, at, body | goods)
    body["action"] = action
    if price and action != "remove":
        goods["price"] = price
        body["currency"] = CURRENCY
    if topic is CARTS:
        return event(topic, at, body | goods)
    body |= {"order_id": body["event_id"], "lines": [goods]}
    if price:
        body["total"] = price
    return event(topic, at, body)


def _ms(text: str) -> int:
    """Ms since 1970 of ``2019-10-01 00:00:00 UTC`` or any ISO time; UTC where it names no zone."""
    moment = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)

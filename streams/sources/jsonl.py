"""Events as JSON, one object a line, under the contract's names or the ones it accepts beside them.

Where a line goes is decided in this order:

1. The first of ``topic``, ``type``, ``event`` and ``event_name`` that holds a known name (case and
   punctuation do not matter): a topic of the contract or its singular, or an event of Segment or GA4, such
   as ``Product Viewed``, ``Product Added``, ``Product Added to Wishlist``, ``Product Reviewed``, ``Order
   Completed``, ``view_item``, ``add_to_cart``, ``purchase``. Of a Segment or GA4 event the fields inside
   ``properties`` or ``params`` and those of an only item are lifted up, and its ``action`` is set where it
   has none.
2. By shape: a feedback's action is feedback; whatever says ``identified_as`` is an identity; an order id or
   an order's action is an order; ``set``, ``clear``, or ``add`` and ``remove`` with a cart id, quantity or
   price are a cart; ``add`` and ``remove`` with a ``target`` are a favorite; an object with no action is a
   visit.
3. Everything else goes as it came to ``visits`` without a key, and is refused there.

A line is sent byte for byte as it is, unless something had to be lifted, set or added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec

from schemas.topics import CARTS, FAVORITES, FEEDBACK, IDENTITIES, ORDERS, VISITS, Topic
from streams.sources.files import SourceFile
from streams.sources.record import SourceRecord, unreadable

_NAMES: Final[dict[str, tuple[Topic, str | None]]] = {
    "visits": (VISITS, None),
    "visit": (VISITS, None),
    "page": (VISITS, None),
    "page_view": (VISITS, None),
    "page_viewed": (VISITS, None),
    "product_viewed": (VISITS, None),
    "product_list_viewed": (VISITS, None),
    "view_item": (VISITS, None),
    "view_item_list": (VISITS, None),
    "favorites": (FAVORITES, None),
    "favorite": (FAVORITES, None),
    "product_added_to_wishlist": (FAVORITES, "add"),
    "product_removed_from_wishlist": (FAVORITES, "remove"),
    "add_to_wishlist": (FAVORITES, "add"),
    "remove_from_wishlist": (FAVORITES, "remove"),
    "carts": (CARTS, None),
    "cart": (CARTS, None),
    "product_added": (CARTS, "add"),
    "product_removed": (CARTS, "remove"),
    "add_to_cart": (CARTS, "add"),
    "remove_from_cart": (CARTS, "remove"),
    "orders": (ORDERS, None),
    "order": (ORDERS, None),
    "order_completed": (ORDERS, "placed"),
    "order_cancelled": (ORDERS, "cancelled"),
    "order_refunded": (ORDERS, "refunded"),
    "purchase": (ORDERS, "placed"),
    "refund": (ORDERS, "refunded"),
    "feedback": (FEEDBACK, None),
    "review": (FEEDBACK, "review"),
    "complaint": (FEEDBACK, "complaint"),
    "reply": (FEEDBACK, "reply"),
    "product_reviewed": (FEEDBACK, "review"),
    "identities": (IDENTITIES, None),
    "identity": (IDENTITIES, None),
    "identify": (IDENTITIES, None),
}
_NAMED_BY: Final = ("topic", "type", "event", "event_name")
_NESTED: Final = ("properties", "params")
_CUSTOMER_IDS: Final = ("customer_id", "userId", "user_id")
_GUEST_IDS: Final = ("customer_id", "anonymousId", "anonymous_id")
_ORDER_IDS: Final = frozenset({"order_id", "orderId", "transaction_id"})
_ORDER_ACTIONS: Final = frozenset({"placed", "paid", "cancelled", "refunded"})
_FEEDBACK_ACTIONS: Final = frozenset({"review", "complaint", "reply"})
_CART_FIELDS: Final = frozenset({"cart_id", "cartId", "quantity", "price"})
_ITEM_IDS: Final = frozenset({"item_id", "product_id", "productId"})
_PUNCTUATION: Final = re.compile(r"[^a-z0-9]+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_Rfc3339 = Annotated[datetime, msgspec.Meta(tz=True)]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(file: SourceFile, shop: str | None = None) -> Iterator[SourceRecord]:
    """One record for each line; ``shop`` is that of lines that name none."""
    for line in file.lines():
        yield _record(line, shop)


def _record(line: bytes, shop: str | None) -> SourceRecord:
    try:
        body = _decode(line)
        placed = _placed(line, body, shop) if isinstance(body, dict) else None
    # What no JSON reader takes: cut text, bad UTF-8, half a surrogate pair, endless nesting or numbers.
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        placed = None
    return unreadable(line, None) if placed is None else placed


def _placed(line: bytes, body: dict[str, Any], shop: str | None) -> SourceRecord | None:
    if (named := _named(body)) is not None:
        topic, action = named
        event = _lifted(body, topic, action)
    elif (by_shape := _shaped(body)) is not None:
        topic, event = by_shape, body
    else:
        return None
    if shop is not None and "shop_id" not in event:
        event = {**event, "shop_id": shop}
    value = line if event is body else _encode(event)
    names = _GUEST_IDS if topic is IDENTITIES else _CUSTOMER_IDS
    customer = _first(event, *names)
    key = customer.encode() if isinstance(customer, str) and customer else None
    return SourceRecord(topic, key, value, _ms(_first(event, "occurred_at", "timestamp")))


def _named(body: dict[str, Any]) -> tuple[Topic, str | None] | None:
    for field in _NAMED_BY:
        name = body.get(field)
        if isinstance(name, str) and (found := _NAMES.get(_PUNCTUATION.sub("_", name.lower()))):
            return found
    return None


def _lifted(body: dict[str, Any], topic: Topic, action: str | None) -> dict[str, Any]:
    """The body with what is nested in it on its top level, and its action; itself where nothing changes."""
    lifted = body
    for name in _NESTED:
        if isinstance(nested := body.get(name), dict):
            lifted = nested | {key: each for key, each in lifted.items() if key != name}
    if topic is not ORDERS and not _ITEM_IDS & lifted.keys():
        items = _first(lifted, "items", "products")
        if isinstance(items, list) and len(items) == 1 and isinstance(items[0], dict):
            lifted = items[0] | lifted
    if action is not None and "action" not in lifted:
        lifted = {**lifted, "action": action}
    return lifted


def _shaped(body: dict[str, Any]) -> Topic | None:
    action = body.get("action")
    if action is not None and not isinstance(action, str):
        return None
    if action in _FEEDBACK_ACTIONS:
        return FEEDBACK
    if "identified_as" in body:
        return IDENTITIES
    if _ORDER_IDS & body.keys() or action in _ORDER_ACTIONS:
        return ORDERS
    if action in ("set", "clear"):
        return CARTS
    if action in ("add", "remove"):
        if "target" in body:
            return FAVORITES
        return CARTS if _CART_FIELDS & body.keys() else None
    return VISITS if action is None else None


def _first(body: dict[str, Any], *names: str) -> Any:
    return next((body[name] for name in names if name in body), None)


def _ms(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        moment = msgspec.convert(value, _Rfc3339)
    except msgspec.ValidationError:
        return None
    return (moment - _EPOCH) // _MILLISECOND

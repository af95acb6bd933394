"""Facts of losses: purchases, item-days, leaks, reasons, segments. Their wire form is ``schemas.losses``.

Times in ms since 1970 UTC, days of the shop's calendar, money as 4-decimal strings.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

Disposition = Literal["bought_item", "bought_similar", "bought_other", "bought_elsewhere", "nothing"]
Intent = Literal["cart", "favorite"]
Reason = Literal["price", "competition", "forgot", "dissatisfied", "variety", "natural", "unknown"]
ReasonKind = Literal["session", "lapse"]
SegmentCause = Literal["event", "time", "rules"]


class PurchaseLine(Struct, frozen=True, gc=False):
    """One line; ``net`` is its part of the total less refunds."""

    item_id: str
    category: str | None
    quantity: int
    gross: str
    discount: str
    net: str


class PurchaseFact(Struct, frozen=True, gc=False):
    """An order as it stands."""

    shop_id: str
    customer_id: str
    order_id: str
    ordered_at: int
    day: date
    total: str
    refunded: str
    is_reversed: bool
    currency: str | None
    lines: tuple[PurchaseLine, ...]
    version: int
    is_deleted: bool


class ItemDay(Struct, frozen=True, gc=False):
    """One item that was looked at on one day."""

    item_id: str
    category: str | None
    disposition: Disposition
    first_at: int
    visits: int
    favorited: bool
    carted: bool


class ItemDaysFact(Struct, frozen=True, gc=False):
    """All items that a customer looked at in one shop on one day."""

    shop_id: str
    customer_id: str
    day: date
    is_bot: bool
    items: tuple[ItemDay, ...]
    version: int
    is_deleted: bool


class LeakFact(Struct, frozen=True, gc=False):
    """An order elsewhere of what a lost visitor of ``shop_id`` had looked at there."""

    leak_id: str
    shop_id: str
    customer_id: str
    day: date
    seen_at: int
    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    intent: Intent | None
    to_shop_id: str
    order_id: str
    ordered_at: int
    to_item_ids: tuple[str, ...]
    pieces: int
    amount: str
    currency: str | None
    price_here: str | None
    price_there: str | None
    is_bot: bool
    version: int
    is_deleted: bool


class ReasonFact(Struct, frozen=True, gc=False):
    """Why a session was lost or a buyer lapsed."""

    reason_id: str
    kind: ReasonKind
    subject_id: str
    shop_id: str
    customer_id: str
    at: int
    day: date
    category: str | None
    reason: Reason
    score: float
    scores: dict[str, float]
    evidence: dict[str, str]
    is_bot: bool
    version: int
    is_deleted: bool


class SegmentFact(Struct, frozen=True, gc=False):
    """A customer has entered or left a segment."""

    segment: str
    shop_id: str
    customer_id: str
    is_member: bool
    at: int
    cause: SegmentCause
    rules_version: int
    version: int
    is_deleted: bool


def leak_id(customer_id: str, shop_id: str, to_shop_id: str, order_id: str) -> str:
    """32 hex digits, a function of who left whom for which order."""
    return xxh3_128_hexdigest(f"{customer_id}\x00{shop_id}\x00{to_shop_id}\x00{order_id}".encode())


def reason_id(kind: ReasonKind, subject_id: str) -> str:
    """32 hex digits, a function of what is explained."""
    return xxh3_128_hexdigest(f"{kind}\x00{subject_id}".encode())

"""Events as the rules see them: already validated, with a 64-bit digest of their id and a time in ms.

The structs mirror ``schemas.events`` field by field under the canonical names; a test proves that both
accept the same input and give the same values. Collections are tuples, so an event is a value.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, NewType

from msgspec import Meta, Struct

#: When something happened, ms since 1970-01-01 UTC. Decides everything.
EventTime = NewType("EventTime", int)
#: When the broker took the record in, ms since 1970-01-01 UTC. Only recorded.
ArrivalTime = NewType("ArrivalTime", int)

Id = Annotated[str, Meta(min_length=1, max_length=128)]
ShortText = Annotated[str, Meta(max_length=256)]
LongText = Annotated[str, Meta(max_length=2048)]
#: Three capital letters: the codec looks at the letters, a pattern here would double a cart event's price.
Currency = Annotated[str, Meta(min_length=3, max_length=3)]
Quantity = Annotated[int, Meta(ge=0, le=1_000_000)]
Moment = Annotated[datetime, Meta(tz=True)] | int

FavoriteAction = Literal["add", "remove"]
FavoriteTarget = Literal["item", "shop"]
CartAction = Literal["add", "remove", "set", "clear"]
OrderAction = Literal["placed", "paid", "cancelled", "refunded"]
FeedbackAction = Literal["review", "complaint", "reply"]
Rating = Annotated[int, Meta(ge=1, le=5)]
#: Of a reply, ms: ten years at most.
Wait = Annotated[int, Meta(ge=0, le=315_360_000_000)]

MAX_LINES = 200


class Visit(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A page of a shop was seen; ``item_id`` where it was an item's page."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    shop_id: Id
    item_id: Id | None = None
    category: ShortText | None = None
    price: Decimal | None = None
    currency: Currency | None = None
    url: LongText | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class Favorite(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """An item, or the shop itself, was put among the favorites or taken out."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    shop_id: Id
    action: FavoriteAction
    target: FavoriteTarget = "item"
    item_id: Id | None = None
    category: ShortText | None = None
    price: Decimal | None = None
    currency: Currency | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class Cart(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The cart changed: ``add`` raises a line by ``quantity``, ``set`` states it, ``remove`` takes the
    line away, ``clear`` takes every line away."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    shop_id: Id
    action: CartAction
    item_id: Id | None = None
    category: ShortText | None = None
    quantity: Quantity = 1
    price: Decimal | None = None
    currency: Currency | None = None
    cart_id: Id | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class OrderLine(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """One line of an order; ``price`` is of one unit, ``discount`` of the whole line."""

    item_id: Id
    category: ShortText | None = None
    quantity: Quantity = 1
    price: Decimal | None = None
    discount: Decimal | None = None


class Order(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """An order was placed, paid, cancelled or refunded; a refund without an amount is a full one."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    shop_id: Id
    action: OrderAction
    order_id: Id
    lines: Annotated[tuple[OrderLine, ...], Meta(max_length=MAX_LINES)] = ()
    total: Decimal | None = None
    currency: Currency | None = None
    refund_amount: Decimal | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class Feedback(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A customer has said something of a shop, or was answered after ``reply_ms``."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    shop_id: Id
    action: FeedbackAction
    rating: Rating | None = None
    reply_ms: Wait | None = None
    order_id: Id | None = None
    item_id: Id | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class Identify(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The guest ``customer_id`` is the customer ``identified_as``: in ``shop_id``, or in every shop."""

    event_id: Id
    occurred_at: Moment
    customer_id: Id
    identified_as: Id
    shop_id: Id | None = None
    channel: ShortText | None = None
    referrer: LongText | None = None
    campaign: ShortText | None = None
    user_agent: LongText | None = None
    is_bot: bool = False


class Introduction(Identify, forbid_unknown_fields=True, gc=False, kw_only=True):
    """An ``Identify``, and the partition that the customer's records are in."""

    partition: int


class Handover(Struct, frozen=True, gc=False, kw_only=True):
    """What the customer has from a guest: a session, and orders (``Orders``), packed; both may be missing.

    event_id: a digest of the rest. occurred_at: when the session begins; without one, the earliest that the
    orders have. partition: of the customer's records.
    """

    event_id: str
    occurred_at: int
    partition: int
    customer_id: Id
    guest_id: Id
    shop_id: str
    session: bytes = b""
    orders: bytes = b""


#: What sessions, orders and grievances are made of.
Body = Visit | Favorite | Cart | Order | Feedback


class Input(Struct, gc=False):
    """One accepted record: where it stood, when, and what it says.

    topic: index into ``schemas.topics.READ``; offset: of the record in its topic-partition;
    id: 64-bit digest of topic and event id; t: event time; arrived: the record's own timestamp;
    raw: the bytes as they came, kept for a late event's record.

    An ``Introduction`` or a ``Handover`` is told by its topic before anybody looks at the body.
    """

    topic: int
    offset: int
    id: int
    t: EventTime
    arrived: ArrivalTime
    body: Body
    raw: bytes

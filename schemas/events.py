"""What a storefront sends: visits, favorites, carts, orders, feedback, identities. The inputs' contract.

A record's value is one JSON object in UTF-8, at most ``MAX_BODY_BYTES`` long and nested at most
``MAX_DEPTH`` deep; its key is ``customer_id`` in UTF-8. Fields nobody declared are ignored. Types are
strict: ``"1"`` is not 1 and 1 is not true. Where a Segment or GA4 name means the same it is accepted
beside ours; of several names given the first listed wins, and of a name given twice the last value does.

The worker reads canonical names with a faster decoder (``streams.adapters.codec``) that accepts nothing
these models refuse; whatever it does not accept is decided here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

MAX_BODY_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 16
MAX_LINES: Final = 200
#: Event times accepted, ms since 1970-01-01 UTC: from 1990-01-01, and before 2100-01-01.
EARLIEST_MS: Final = 631_152_000_000
LATEST_MS: Final = 4_102_444_800_000
#: Amounts are below this and at least 0, with at most ``MONEY_DECIMALS`` decimals.
MONEY_LIMIT: Final = Decimal(10) ** 12
MONEY_DECIMALS: Final = 4
#: The longest wait for a reply that is believed: ten years, in ms.
MAX_REPLY_MS: Final = 10 * 365 * 86_400_000
#: Unicode's control characters (category Cc); none may stand in an id.
CONTROL_CHARACTERS: Final = r"\x00-\x1f\x7f-\x9f"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_Rfc3339 = Annotated[datetime, msgspec.Meta(tz=True)]


def _moment(value: object) -> datetime:
    """An aware datetime, RFC 3339 text or epoch ms as a datetime in UTC, floored to the millisecond."""
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, _Rfc3339)
        except msgspec.ValidationError:
            raise PydanticCustomError(
                "moment", "must be RFC 3339 with a zone, like 2026-03-01T12:00:00.000Z"
            ) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise PydanticCustomError("moment", "must have a time zone")
        ms = (value - _EPOCH) // _MILLISECOND
    elif isinstance(value, int) and not isinstance(value, bool):
        ms = value
    else:
        raise PydanticCustomError(
            "moment", "must be RFC 3339 text or whole milliseconds since 1970-01-01 UTC"
        )
    if not EARLIEST_MS <= ms < LATEST_MS:
        raise PydanticCustomError(
            "timestamp_out_of_range", "must be from 1990-01-01 and before 2100-01-01 UTC"
        )
    return _EPOCH + timedelta(milliseconds=ms)


def _print_moment(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _money(value: object) -> Decimal:
    """A number, or its text, as a Decimal with 4 decimals; a JSON fraction is what a double makes of it."""
    if isinstance(value, Decimal):
        amount = value
    elif isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PydanticCustomError("money", "must be a number or a string that holds one")
    else:
        try:
            amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        except ArithmeticError:
            raise PydanticCustomError("money", "must be a number or a string that holds one") from None
    if not amount.is_finite():
        raise PydanticCustomError("non_finite_number", "must be a finite number")
    if not 0 <= amount < MONEY_LIMIT:
        raise PydanticCustomError("money", "must be at least 0 and below 10^12")
    # Always the same exponent: 0E-999999999 is a short text for a zero that prints a gigabyte.
    exact = round(amount, MONEY_DECIMALS)
    if exact != amount:
        raise PydanticCustomError("money", "must have at most 4 decimals")
    return exact


def _id(value: str) -> str:
    # Printable text has no control characters; the rest is looked at one by one.
    if not value.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" for c in value):
        raise PydanticCustomError("control_character", "must not have control characters")
    return value


Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    PlainSerializer(_print_moment, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": EARLIEST_MS, "exclusiveMaximum": LATEST_MS},
            ]
        }
    ),
]
Money = Annotated[
    Decimal,
    PlainValidator(_money),
    PlainSerializer(lambda amount: f"{amount:f}", return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": int(MONEY_LIMIT)},
                {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,4})?$"},
            ]
        }
    ),
]
Id = Annotated[
    str,
    Field(min_length=1, max_length=128),
    AfterValidator(_id),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": 128, "pattern": f"^[^{CONTROL_CHARACTERS}]*$"}
    ),
]
ShortText = Annotated[str, Field(max_length=256)]
LongText = Annotated[str, Field(max_length=2048)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", min_length=3, max_length=3)]
Quantity = Annotated[int, Field(ge=0, le=1_000_000)]


def _field(description: str, *names: str) -> FieldInfo:
    """A described field; ``names``, where given, are its own name and the others it is accepted under."""
    if not names:
        info: FieldInfo = Field(description=description)
        return info
    aliased: FieldInfo = Field(
        description=f"{description} Also accepted as {', '.join(names[1:])}.",
        validation_alias=AliasChoices(*names),
    )
    return aliased


class _Envelope(BaseModel):
    """What every event says of itself: which, when, who, where, and what led there."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    event_id: Annotated[
        Id,
        _field(
            "Names this event among those of its topic, shop and customer; a second one is a duplicate.",
            "event_id",
            "messageId",
            "message_id",
        ),
    ]
    occurred_at: Annotated[
        Moment,
        _field(
            "When it happened: RFC 3339 with a zone, or whole milliseconds since 1970-01-01 UTC."
            " Fractions are read to the microsecond and floored to the millisecond.",
            "occurred_at",
            "timestamp",
        ),
    ]
    customer_id: Annotated[
        Id, _field("Who did it; equal to the record's key.", "customer_id", "userId", "user_id")
    ]
    shop_id: Annotated[Id, _field("The shop it happened in.")]
    channel: Annotated[
        ShortText | None, _field("What brought the customer, such as search, email or ads.")
    ] = None
    referrer: Annotated[
        LongText | None, _field("The address the customer came from.", "referrer", "page_referrer")
    ] = None
    campaign: Annotated[
        ShortText | None, _field("The campaign that brought the customer.", "campaign", "utm_campaign")
    ] = None
    user_agent: Annotated[
        LongText | None, _field("The browser's own name for itself.", "user_agent", "userAgent")
    ] = None
    is_bot: Annotated[bool, _field("Known to be a machine: kept, and reported apart.")] = False


class Visit(_Envelope):
    """A page of a shop was seen."""

    item_id: Annotated[
        Id | None, _field("The item whose page it was.", "item_id", "product_id", "productId")
    ] = None
    category: Annotated[ShortText | None, _field("The item's category.", "category", "item_category")] = None
    price: Annotated[Money | None, _field("Of one piece, as the page shows it, in currency.")] = None
    currency: Annotated[Currency | None, _field("ISO 4217, three capital letters.")] = None
    url: Annotated[LongText | None, _field("The page's address.", "url", "page_location")] = None


class Favorite(_Envelope):
    """An item, or the shop itself, was put among the favorites or taken out."""

    action: Annotated[Literal["add", "remove"], _field("Put in or taken out.")]
    target: Annotated[Literal["item", "shop"], _field("What it was: an item needs item_id.")] = "item"
    item_id: Annotated[Id | None, _field("The item.", "item_id", "product_id", "productId")] = None
    category: Annotated[ShortText | None, _field("The item's category.", "category", "item_category")] = None
    price: Annotated[Money | None, _field("Of one piece, as the page shows it, in currency.")] = None
    currency: Annotated[Currency | None, _field("ISO 4217, three capital letters.")] = None

    @model_validator(mode="after")
    def _has_its_item(self) -> Self:
        if self.target == "item" and self.item_id is None:
            raise PydanticCustomError("missing_item_id", "item_id is needed where the target is an item")
        return self


class Cart(_Envelope):
    """The cart changed."""

    action: Annotated[
        Literal["add", "remove", "set", "clear"],
        _field(
            "add raises the item's line by quantity, set states its quantity, remove takes the line away,"
            " clear takes every line away. All but clear need item_id."
        ),
    ]
    item_id: Annotated[Id | None, _field("The item.", "item_id", "product_id", "productId")] = None
    category: Annotated[ShortText | None, _field("The item's category.", "category", "item_category")] = None
    quantity: Annotated[Quantity, _field("Pieces; of meaning to add and set.")] = 1
    price: Annotated[Money | None, _field("Of one piece, in currency.")] = None
    currency: Annotated[Currency | None, _field("ISO 4217, three capital letters.")] = None
    cart_id: Annotated[Id | None, _field("The storefront's name for the cart.", "cart_id", "cartId")] = None

    @model_validator(mode="after")
    def _has_its_item(self) -> Self:
        if self.action != "clear" and self.item_id is None:
            raise PydanticCustomError("missing_item_id", "item_id is needed unless the action is clear")
        return self


class OrderLine(BaseModel):
    """One item of an order."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    item_id: Annotated[Id, _field("The item.", "item_id", "product_id", "productId")]
    category: Annotated[ShortText | None, _field("The item's category.", "category", "item_category")] = None
    quantity: Annotated[Quantity, _field("Pieces.")] = 1
    price: Annotated[Money | None, _field("Of one piece, in the order's currency.")] = None
    discount: Annotated[Money | None, _field("Taken off the whole line, in the order's currency.")] = None


class Order(_Envelope):
    """An order was placed, paid, cancelled or refunded."""

    action: Annotated[Literal["placed", "paid", "cancelled", "refunded"], _field("What became of the order.")]
    order_id: Annotated[
        Id,
        _field(
            "The order, the same in each of its events; placed twice it is one order.",
            "order_id",
            "orderId",
            "transaction_id",
        ),
    ]
    lines: Annotated[
        tuple[OrderLine, ...],
        Field(strict=False, max_length=MAX_LINES),
        _field("What was ordered.", "lines", "products", "items"),
    ] = ()
    total: Annotated[
        Money | None,
        _field(
            "What the customer owes for the order, in currency; without it the lines are added up."
            " GA4's value is the amount given back where the action is refunded.",
            "total",
            "revenue",
            "value",
        ),
    ] = None
    currency: Annotated[Currency | None, _field("ISO 4217, three capital letters.")] = None
    refund_amount: Annotated[
        Money | None, _field("Given back, in currency; a refund without it is of the whole order.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _value_of_a_refund(cls, data: Any) -> Any:
        """GA4 names a refund's amount ``value``: read as the total, a partial refund would be a full one."""
        if isinstance(data, dict) and data.get("action") == "refunded" and "value" in data:
            amount = data["value"]
            rest = {name: value for name, value in data.items() if name != "value"}
            return {"refund_amount": amount} | rest
        return data


class Feedback(_Envelope):
    """A customer has said something of a shop, or was answered."""

    action: Annotated[
        Literal["review", "complaint", "reply"],
        _field("review needs rating, reply needs reply_ms; a complaint speaks for itself."),
    ]
    rating: Annotated[int | None, Field(ge=1, le=5), _field("Of a review, 5 the best.")] = None
    reply_ms: Annotated[
        int | None,
        Field(ge=0, le=MAX_REPLY_MS),
        _field("Of a reply, how long the customer waited for it, in ms."),
    ] = None
    order_id: Annotated[Id | None, _field("The order it is about.", "order_id", "orderId")] = None
    item_id: Annotated[Id | None, _field("The item it is about.", "item_id", "product_id", "productId")] = (
        None
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.action == "review" and self.rating is None:
            raise PydanticCustomError("missing_rating", "rating is needed where the action is review")
        if self.action == "reply" and self.reply_ms is None:
            raise PydanticCustomError("missing_reply_ms", "reply_ms is needed where the action is reply")
        return self


class Identify(_Envelope):
    """A guest has turned out to be a customer: what they were doing is the customer's."""

    customer_id: Annotated[
        Id,
        _field(
            "The guest, as their events have it so far; equal to the record's key.",
            "customer_id",
            "anonymousId",
            "anonymous_id",
        ),
    ]
    identified_as: Annotated[
        Id, _field("The customer that the guest is.", "identified_as", "userId", "user_id")
    ]
    shop_id: Annotated[Id | None, _field("The shop it is said of; all shops if none.")] = None  # type: ignore[assignment]


_Model = type[Visit] | type[Favorite] | type[Cart] | type[Order] | type[Feedback] | type[Identify]
#: The model of each input topic's values, by the topic's name.
MODELS: Final[dict[str, _Model]] = {
    "visits": Visit,
    "favorites": Favorite,
    "carts": Cart,
    "orders": Order,
    "feedback": Feedback,
    "identities": Identify,
}

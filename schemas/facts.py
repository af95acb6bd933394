"""What the pipeline says: sessions, dead letters, late events, ingest counts.

Times are whole milliseconds since 1970-01-01 UTC. Amounts are decimals with four places, as text in JSON.
Each fact has an identity, and a version that only grows: of several with one identity the highest counts.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

Milliseconds = Annotated[int, Field(ge=0, description="ms since 1970-01-01 UTC")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[
    Decimal,
    # Lax, because the wire has text where Python has a Decimal.
    Field(strict=False, ge=0, decimal_places=4, allow_inf_nan=False),
    PlainSerializer(lambda amount: f"{amount:.4f}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[0-9]{4}$"}),
]


class RejectReason(StrEnum):
    """Why a record was refused. Closed: a metric's label and a column's values; only ever appended to."""

    MALFORMED_JSON = "malformed_json"  # not one JSON text: cut off, empty, or followed by something
    BAD_ENCODING = "bad_encoding"  # not plain UTF-8: invalid bytes, a byte order mark, half a surrogate pair
    NOT_AN_OBJECT = "not_an_object"  # JSON, but a list, a text, a number or null
    MISSING_FIELD = "missing_field"  # a field that must be there, always or for this action, is not
    INVALID_FIELD = "invalid_field"  # a field is of the wrong type or outside its bounds
    UNKNOWN_KIND = "unknown_kind"  # an action or a target outside its set
    NON_FINITE_NUMBER = "non_finite_number"  # NaN, an infinity, or a number too great to be held
    TOO_LARGE = "too_large"  # the body has more bytes than the contract allows
    TOO_DEEP = "too_deep"  # the body is nested deeper than the contract allows
    NULL_KEY = "null_key"  # no key: nobody can tell which partition the customer belongs to
    NULL_VALUE = "null_value"  # no body; an input topic has no tombstones
    KEY_MISMATCH = (
        "key_mismatch"  # the key is not the customer_id, so the record may be in the wrong partition
    )
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"  # before 1990 or from 2100 on
    TIMESTAMP_AHEAD = "timestamp_ahead"  # stamped later than its arrival, by more than the tolerance
    TOO_MANY_EVENTS = "too_many_events"  # the customer's retained events reached the policy's bound


class _Fact(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class SessionFact(_Fact):
    """A customer's activity in one shop that has ended, and how. Identity: session_id; key: customer_id."""

    session_id: Annotated[
        str,
        Field(
            pattern="^[0-9a-f]{32}$",
            description="XXH3 128 of customer_id, NUL, shop_id, NUL, started_at; hexadecimal",
        ),
    ]
    shop_id: str
    customer_id: str
    started_at: Milliseconds
    ended_at: Milliseconds
    outcome: Annotated[
        Literal["converted", "lost"],
        Field(description="converted: with at least one order not fully reversed"),
    ]
    lost_stage: Annotated[
        Literal["bounced", "browsed", "favorited", "carted"] | None,
        Field(description="the deepest intent standing at the end; null where converted"),
    ]
    events: Annotated[Count, Field(description="all activity")]
    visits: Annotated[Count, Field(description="pages seen")]
    favorites: Annotated[Count, Field(description="favorites added")]
    carts: Annotated[Count, Field(description="changes of the cart")]
    cart_value: Annotated[Amount, Field(description="of the cart standing at the end, in currency")]
    currency: Annotated[
        Annotated[str, Field(pattern="^[A-Z]{3}$")] | None,
        Field(description="of cart_value and revenue; null where no event names one"),
    ]
    mixed_currency: Annotated[
        bool, Field(description="amounts in other currencies were there, and are not in the sums")
    ]
    orders: Annotated[Count, Field(description="orders not fully reversed")]
    revenue: Annotated[Amount, Field(description="of these orders, net of partial refunds, in currency")]
    recovered: Annotated[
        bool, Field(description="lost, but the customer ordered in that shop inside the recovery window")
    ]
    recovered_at: Milliseconds | None
    recovered_by: Annotated[str | None, Field(description="the order_id that recovered it")]
    landing_item: Annotated[str | None, Field(description="the item of the first item page seen")]
    channel: str | None
    campaign: str | None
    is_bot: bool
    version: Annotated[int, Field(ge=1, description="grows with every event that bears on the verdict")]
    is_deleted: Annotated[
        bool, Field(description="a tombstone: the session was absorbed by another, or is none any more")
    ]


class DeadLetter(_Fact):
    """A refused record. Identity: topic, partition, offset.

    On Kafka its value and key are the refused bytes as they came and the rest stands in ``ebbtide-*``
    headers; in JSON, bytes are Base64.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    reason: Annotated[RejectReason, Field(strict=False)]
    detail: Annotated[str, Field(description="one line for a person")]
    topic: Annotated[str, Field(description="the input topic's name, without the deployment's prefix")]
    partition: Count
    offset: Count
    arrived_at: Annotated[int, Field(description="ms since 1970-01-01 UTC; -1 where the record had no time")]
    key: bytes | None
    value: bytes | None


class LateEvent(_Fact):
    """An accepted event older than the horizon: counted and kept, in no verdict. Identity: topic, partition,
    offset; key: customer_id."""

    topic: Annotated[str, Field(description="the input topic's name, without the deployment's prefix")]
    partition: Count
    offset: Count
    event_id: str
    customer_id: str
    shop_id: str
    occurred_at: Milliseconds
    arrived_at: Milliseconds
    watermark: Annotated[Milliseconds, Field(description="the partition's watermark when it was found late")]
    body: Annotated[str, Field(description="the JSON text as it came")]


class IngestCount(_Fact):
    """What became of all records of one input partition so far.

    received = applied + duplicate + late + rejected.
    Identity: topic, partition; version: next_offset; key: ``topic:partition``.
    """

    topic: Annotated[str, Field(description="the input topic's name, without the deployment's prefix")]
    partition: Count
    next_offset: Annotated[Count, Field(description="all records below it are counted")]
    received: Count
    applied: Count
    duplicate: Count
    late: Count
    rejected: Count
    watermark: Annotated[int, Field(description="ms since 1970-01-01 UTC; may be before it while unknown")]


#: The model of each fact topic's values, by the topic's name.
MODELS: Final[dict[str, type[BaseModel]]] = {
    "sessions": SessionFact,
    "late-events": LateEvent,
    "ingest": IngestCount,
    "dead-letters": DeadLetter,
}

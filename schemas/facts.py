"""What the pipeline says: sessions, customers' profiles, transitions and actions, dead letters, late events,
ingest counts.

Times are whole milliseconds since 1970-01-01 UTC. Amounts are decimals with four places, as text in JSON.
Each fact has an identity, and a version that only grows: of several with one identity the highest counts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas import alerts, losses
from schemas.base import Amount, Count, Currency, Day, Fact, Id32, Milliseconds, Share


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
    ERASED = "erased"  # of a customer who was erased afterwards: neither key nor value is kept
    NOT_A_GUEST = "not_a_guest"  # identified is a known customer's id, or one that is somebody else already


class SessionFact(Fact):
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
        Currency | None,
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
    day: Annotated[Day, Field(description="the day of the shop's calendar that started_at lies in")]
    bot_by: Annotated[
        Literal["told", "user_agent", "rate", "no_dwell"] | None,
        Field(
            description="what gave the bot away: an event that says so, its user agent, more pages a minute"
            " than people read, or no time on any page; null where is_bot is false"
        ),
    ]
    version: Annotated[int, Field(ge=1, description="grows with every event that bears on the verdict")]
    is_deleted: Annotated[
        bool, Field(description="a tombstone: the session was absorbed by another, or is none any more")
    ]


class DeadLetter(Fact):
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


class LateEvent(Fact):
    """An accepted event older than the horizon: counted and kept, in no verdict. Identity: topic, partition,
    offset; key: customer_id."""

    topic: Annotated[
        str, Field(description="the input topic's name, or handovers, without the deployment's prefix")
    ]
    partition: Count
    offset: Count
    event_id: str
    customer_id: str
    shop_id: str
    occurred_at: Milliseconds
    arrived_at: Milliseconds
    watermark: Annotated[Milliseconds, Field(description="the partition's watermark when it was found late")]
    body: Annotated[str, Field(description="the JSON text as it came")]


class IngestCount(Fact):
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


Stage = Literal["prospect", "new", "active", "lapsing", "lapsed", "won_back"]
Tier = Literal[
    "champion",
    "loyal",
    "active",
    "new",
    "promising",
    "needs_attention",
    "at_risk",
    "previously_loyal",
    "almost_lost",
    "dormant",
]
Score = Annotated[int, Field(ge=1, le=5, description="quintile among the shop's buyers, 5 the best")]
ModelVersion = Annotated[
    int, Field(ge=0, description="of the shop's model that said so; 0 is the one built in")
]


class ProfileFact(Fact):
    """All that is known of one customer in one shop. Identity: customer_id, shop_id; key: customer_id.

    It is told again when anything but as_of, recency_days and overdue_days has changed; these two
    follow from the day: as_of less last_order_on, and as_of less next_order_on where that is positive.
    """

    shop_id: str
    customer_id: str
    as_of: Annotated[Day, Field(description="the day it was drawn up on")]
    stage: Stage
    stage_since: Annotated[
        Milliseconds | None, Field(description="when that stage began; null for a prospect")
    ]
    tier: Annotated[
        Tier | None, Field(description="null for a prospect, and while the shop has no cut points")
    ]
    r_score: Annotated[Score | None, Field(description="recency: the fewer days, the higher")]
    f_score: Annotated[Score | None, Field(description="frequency: purchase days")]
    m_score: Annotated[Score | None, Field(description="monetary: net revenue in currency")]
    p_alive: Annotated[Share | None, Field(description="P(will ever buy again), 2 decimals")]
    p_return_90d: Annotated[
        Share | None,
        Field(description="P(buys in the 90 days from as_of), 2 decimals"),
    ]
    expected_orders_90d: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="purchase days to expect in the 90 days from as_of, 2 decimals"),
    ]
    next_order_on: Annotated[
        Day | None, Field(description="the day by which half of such buyers, if still buyers, buy again")
    ]
    overdue_days: Annotated[Count | None, Field(description="days that as_of is past next_order_on")]
    usual_gap_days: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="mean days between purchase days, 1 decimal; null before the second"),
    ]
    first_order_at: Annotated[Milliseconds | None, Field(description="of the first standing order")]
    last_order_at: Annotated[Milliseconds | None, Field(description="of the last standing order")]
    first_order_on: Day | None
    last_order_on: Day | None
    purchase_days: Annotated[Count, Field(description="days with a standing order: the frequency")]
    orders: Annotated[Count, Field(description="orders not fully reversed")]
    reversed_orders: Annotated[Count, Field(description="orders fully cancelled or refunded")]
    recency_days: Annotated[Count | None, Field(description="days from last_order_on to as_of")]
    monetary: Annotated[Amount, Field(description="net revenue of standing orders, in currency")]
    average_order_value: Annotated[Amount, Field(description="monetary per standing order in currency")]
    currency: Annotated[
        Currency | None,
        Field(description="the one with the most standing orders; null where no order names one"),
    ]
    mixed_currency: Annotated[
        bool, Field(description="orders in other currencies stand, and are not in the sums")
    ]
    preferred_categories: Annotated[
        tuple[str, ...],
        Field(strict=False, max_length=3, description="by standing orders with them, most first"),
    ]
    price_band: Annotated[
        Score | None, Field(description="quintile of the mean unit price paid; 5 is the dearest")
    ]
    discount_affinity: Annotated[
        Share | None, Field(description="share of standing orders with a discount, 2 decimals")
    ]
    visits_30d: Annotated[Count, Field(description="pages seen in sessions begun in the last 30 days")]
    favorites_30d: Annotated[Count, Field(description="favorites added, likewise")]
    carts_30d: Annotated[Count, Field(description="changes of the cart, likewise")]
    visits_90d: Annotated[Count, Field(description="pages seen in sessions begun in the last 90 days")]
    favorites_90d: Annotated[Count, Field(description="favorites added, likewise")]
    carts_90d: Annotated[Count, Field(description="changes of the cart, likewise")]
    last_seen_at: Annotated[Milliseconds | None, Field(description="the end of the latest session")]
    model_version: ModelVersion
    version: Annotated[int, Field(ge=1, description="grows each time it is told")]
    is_deleted: Annotated[
        bool,
        Field(description="a tombstone: nothing is left of the customer in that shop, or they are forgotten"),
    ]


class TransitionFact(Fact):
    """From one lifecycle stage, or tier, to another. Identity: transition_id; key: customer_id.

    A stage's transition is withdrawn by a tombstone when a late order or a refund makes it untrue.
    """

    transition_id: Annotated[
        Id32,
        Field(
            description="XXH3 128 of customer_id, shop_id, kind, anchor and, of a stage, to_state;"
            " NUL between"
        ),
    ]
    kind: Literal["stage", "tier"]
    shop_id: str
    customer_id: str
    anchor: Annotated[
        Milliseconds,
        Field(description="of a stage: the order that began the episode; of a tier: the start of the day"),
    ]
    at: Annotated[Milliseconds, Field(description="when it happened")]
    from_state: Annotated[str | None, Field(description="a stage, or a tier; null: none before")]
    to_state: Annotated[str | None, Field(description="a stage, or a tier; null: none any more")]
    cause: Annotated[
        Literal["order", "overdue", "silence", "refund", "model"],
        Field(
            description="order: they bought, or in a tombstone a late order came in; overdue: the chance of"
            " a return has come down to the threshold; silence: no order for so long that they count as"
            " lapsed, or of a tier, time passed; refund: an order was reversed; model: other parameters or"
            " cut points came"
        ),
    ]
    p_alive: Annotated[
        Share | None, Field(description="on that day, 4 decimals; null of an order and of a tier")
    ]
    p_return_90d: Annotated[Share | None, Field(description="P(buys in 90 days) then, 4 decimals")]
    overdue_days: Annotated[Count | None, Field(description="days past the expected next order, then")]
    usual_gap_days: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="mean days between purchase days by then, 1 decimal; null before the second"),
    ]
    model_version: ModelVersion
    version: Annotated[int, Field(ge=1, description="grows each time it is told")]
    is_deleted: Annotated[bool, Field(description="a tombstone: it did not happen after all")]


class ActionFact(Fact):
    """Something to do for one customer, once per episode. Identity: action_id; key: customer_id.

    Whoever acts must leave the holdout group alone: the difference between both is what acting brings.
    """

    action_id: Annotated[
        Id32, Field(description="XXH3 128 of customer_id, shop_id, kind, category and anchor; NUL between")
    ]
    kind: Annotated[
        Literal["repurchase_due", "coupon_care", "win_back"],
        Field(
            description="repurchase_due: shortly before the expected next order; coupon_care: lapsing, and"
            " used to discounts; win_back: lapsed"
        ),
    ]
    shop_id: str
    customer_id: str
    category: Annotated[
        str | None, Field(description="whose own rhythm makes it due; null: of the customer as a whole")
    ]
    anchor: Annotated[Milliseconds, Field(description="the order that began the episode")]
    at: Annotated[Milliseconds, Field(description="when it became due")]
    expected_on: Annotated[Day | None, Field(description="the day the next order is expected")]
    priority: Annotated[int, Field(ge=1, le=4, description="1 first")]
    holdout: Annotated[
        bool, Field(description="in the group to leave alone; drawn per customer, shop and kind")
    ]
    reason: Annotated[str, Field(description="one line for a person")]
    stage: Stage
    p_alive: Annotated[Share | None, Field(description="when it became due, 4 decimals")]
    p_return_90d: Annotated[Share | None, Field(description="P(buys in 90 days) then, 4 decimals")]
    overdue_days: Annotated[Count | None, Field(description="days past the expected next order, then")]
    usual_gap_days: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="mean days between purchase days, or days with the category; 1 decimal"),
    ]
    discount_affinity: Annotated[Share | None, Field(description="share of standing orders with a discount")]
    model_version: ModelVersion
    version: Annotated[int, Field(ge=1, description="grows each time it is told")]
    is_deleted: Annotated[
        bool, Field(description="a tombstone: withdrawn, for it rested on an order that was")
    ]


class ErasedFact(Fact):
    """A customer has been erased from the states, and is to be erased by whoever reads this. Identity and
    key: customer_digest; version: at. Facts of the customer that were sent until then count for nothing, nor
    does what happened until erased_at; whoever has the id later is somebody new."""

    customer_digest: Annotated[
        str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of customer_id in UTF-8")
    ]
    erased_at: Annotated[Milliseconds, Field(description="when it was asked for: events until then are gone")]
    at: Annotated[int, Field(description="when the state was dropped, wall clock, ms since 1970-01-01 UTC")]


#: The model of each fact topic's values, by the topic's name.
MODELS: Final[dict[str, type[BaseModel]]] = {
    "sessions": SessionFact,
    "late-events": LateEvent,
    "ingest": IngestCount,
    "dead-letters": DeadLetter,
    "customers": ProfileFact,
    "transitions": TransitionFact,
    "actions": ActionFact,
    "erased": ErasedFact,
    **losses.MODELS,
    **alerts.MODELS,
}

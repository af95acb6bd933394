"""What is watched and told of it: windows of loss, alerts, deliveries of what hooks are sent.

As in ``schemas.facts`` each has an identity, and a version that only grows: of several with one identity the
highest counts.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from schemas.base import Amount, Count, Currency, Fact, Id32, Milliseconds, Version

Scope = Literal["shop", "channel", "stage"]
Signal = Literal["loss_rate", "lost_count", "drift", "orders_per_cart"]
Trouble = Literal["lag", "silent_topic", "schema_errors", "bot_burst"]
ShopOrAll = Annotated[str, Field(description="empty: all shops together")]
AtRisk = Annotated[dict[Currency, Amount], Field(description="value of the carts lost, by currency")]


class LossWindowFact(Fact):
    """One minute of one shop, what was expected of it, and what was made of it. Identity: shop_id, scope,
    scope_value, minute; key: shop_id.

    A session counts in the minute of event time in which it closes: its end plus the gap. Bots' are left out
    of all but ``bots``. It is told again when a session of the minute is corrected while the window is open.
    """

    shop_id: ShopOrAll
    scope: Scope
    scope_value: Annotated[str, Field(description="the channel, or the lost stage; empty: all of the shop")]
    minute: Annotated[Milliseconds, Field(description="the start of it")]
    closed: Annotated[Count, Field(description="sessions closed")]
    lost: Annotated[Count, Field(description="of these, lost; of a stage, lost at it")]
    bots: Annotated[Count, Field(description="sessions of bots closed; of a whole shop, else 0")]
    value_at_risk: AtRisk
    active_carts: Annotated[
        Count, Field(description="customers who changed their cart in this minute; of a whole shop, else 0")
    ]
    orders: Annotated[Count, Field(description="orders placed in this minute; of a whole shop, else 0")]
    observed: Annotated[
        float | None, Field(description="loss rate of the minutes judged together; null: none closed")
    ]
    expected: Annotated[float | None, Field(description="that rate as expected then; null while learning")]
    band: Annotated[float | None, Field(description="above this the rate is out of the ordinary")]
    expected_lost: Annotated[float | None, Field(description="lost sessions expected of this minute")]
    orders_per_cart: Annotated[
        float | None, Field(description="orders per active cart, of the minutes judged together")
    ]
    expected_orders_per_cart: Annotated[float | None, Field(description="as expected then")]
    band_orders_per_cart: Annotated[float | None, Field(description="below this it is out of the ordinary")]
    verdict: Annotated[
        Literal["learning", "within", "pending", "firing", "held"],
        Field(
            description="learning: nothing to compare with yet; within: as expected; pending: out of its"
            " band, not for long enough; firing: an alert stands; held: one would, but the data is in doubt"
        ),
    ]
    version: Version
    is_deleted: bool


class Contributor(Fact):
    """What drives an alert: one item, stage, channel or destination."""

    dimension: Literal["item", "stage", "channel", "destination"]
    value: str
    observed: Annotated[float, Field(description="lost sessions with it in the alert's minutes")]
    expected: Annotated[float, Field(description="as many as usual there would be")]
    share: Annotated[float, Field(ge=0, le=1, description="of all that is lost beyond the expected")]


class AlertFact(Fact):
    """An alert as it stands. Identity: alert_id; key: shop_id. Hooks send its version as the revision."""

    alert_id: Annotated[
        Id32,
        Field(
            description="XXH3 128 of shop_id, signal, scope, scope_value, began_at in decimal; NUL between"
        ),
    ]
    kind: Annotated[
        Literal["loss", "pipeline"],
        Field(description="loss: customers are leaving; pipeline: the data that would tell is in doubt"),
    ]
    shop_id: ShopOrAll
    scope: Scope
    scope_value: Annotated[
        str, Field(description="the channel, or the lost stage; of silent_topic and such, the topic")
    ]
    signal: Signal | Trouble
    status: Annotated[
        Literal["firing", "held", "resolved"],
        Field(description="held: not to be told, for a pipeline alert stands; held_by has which"),
    ]
    severity: Literal["warning", "critical"]
    rule: Annotated[str, Field(description="the rule of alerts.yaml that it is judged by")]
    began_at: Annotated[Milliseconds, Field(description="start of the first minute out of its band")]
    at: Annotated[Milliseconds, Field(description="end of the minute that this revision was made by")]
    resolved_at: Milliseconds | None
    observed: float | None
    expected: float | None
    band: Annotated[float | None, Field(description="the limit that observed is beyond")]
    sessions: Annotated[Count, Field(description="closed since began_at")]
    lost: Annotated[Count, Field(description="of these, lost")]
    value_at_risk: AtRisk
    contributors: Annotated[tuple[Contributor, ...], Field(strict=False, description="greatest share first")]
    held_by: Annotated[tuple[str, ...], Field(strict=False, description="signals of pipeline alerts")]
    summary: Annotated[str, Field(description="one line for a person")]
    version: Version
    is_deleted: bool


class DeliveryFact(Fact):
    """What became of one message to one endpoint. Identity and key: delivery_id; it has no payload."""

    delivery_id: Annotated[
        Id32, Field(description="XXH3 128 of endpoint, topic, subject_id, revision in decimal; NUL between")
    ]
    endpoint: Annotated[str, Field(description="its name in alerts.yaml")]
    topic: Annotated[str, Field(description="what it tells of: alerts, segments, transitions or actions")]
    subject_id: Annotated[str, Field(description="identity of the fact that is told")]
    revision: Annotated[int, Field(ge=1, description="version of the fact that is told")]
    webhook_id: Annotated[str, Field(description="the idempotency key that the receiver sees")]
    status: Annotated[
        Literal["waiting", "delivered", "dead", "cancelled"],
        Field(
            description="waiting: to be sent at next_at; delivered: answered with 2xx; dead: given up, to be"
            " had again by `ebbtide hooks retry`; cancelled: its endpoint is gone, or the customer erased"
        ),
    ]
    attempts: Count
    created_at: Annotated[Milliseconds, Field(description="wall clock, as all times here")]
    at: Annotated[Milliseconds | None, Field(description="of the last attempt")]
    next_at: Annotated[Milliseconds | None, Field(description="of the next attempt; null: none follows")]
    http_status: Annotated[int | None, Field(description="of the last answer; null: there was none")]
    error: Annotated[str | None, Field(description="one line; null where it went well")]
    version: Version
    is_deleted: bool


MODELS: Final[dict[str, type[BaseModel]]] = {
    "loss-windows": LossWindowFact,
    "alerts": AlertFact,
    "deliveries": DeliveryFact,
}

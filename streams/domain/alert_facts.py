"""Facts of what is watched: windows of loss and alerts. Their wire form is ``schemas.alerts``.

Times in ms since 1970 UTC, amounts as 4-decimal strings by currency.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

Scope = Literal["shop", "channel", "stage"]
Signal = Literal["loss_rate", "lost_count", "drift", "orders_per_cart"]
Trouble = Literal["lag", "silent_topic", "schema_errors", "bot_burst"]
Verdict = Literal["learning", "within", "pending", "firing", "held"]
Status = Literal["firing", "held", "resolved"]
Severity = Literal["warning", "critical"]
Dimension = Literal["item", "stage", "channel", "destination"]

SIGNALS: Final[tuple[Signal, ...]] = ("loss_rate", "lost_count", "drift", "orders_per_cart")


class LossWindowFact(Struct, frozen=True, gc=False):
    """One minute of one series, what was expected of it and what was made of it."""

    shop_id: str
    scope: Scope
    scope_value: str
    minute: int
    closed: int
    lost: int
    bots: int
    value_at_risk: dict[str, str]
    active_carts: int
    orders: int
    observed: float | None
    expected: float | None
    band: float | None
    expected_lost: float | None
    orders_per_cart: float | None
    expected_orders_per_cart: float | None
    band_orders_per_cart: float | None
    verdict: Verdict
    version: int
    is_deleted: bool


class Contributor(Struct, frozen=True, gc=False):
    """What drives an alert: one item, stage, channel or destination."""

    dimension: Dimension
    value: str
    observed: float
    expected: float
    share: float


class AlertFact(Struct, frozen=True, gc=False):
    """An alert as it stands."""

    alert_id: str
    kind: Literal["loss", "pipeline"]
    shop_id: str
    scope: Scope
    scope_value: str
    signal: Signal | Trouble
    status: Status
    severity: Severity
    rule: str
    began_at: int
    at: int
    resolved_at: int | None
    observed: float | None
    expected: float | None
    band: float | None
    sessions: int
    lost: int
    value_at_risk: dict[str, str]
    contributors: tuple[Contributor, ...]
    held_by: tuple[str, ...]
    summary: str
    version: int
    is_deleted: bool


class DeliveryFact(Struct, frozen=True, gc=False):
    """What became of one message to one endpoint; times by the wall clock."""

    delivery_id: str
    endpoint: str
    topic: str
    subject_id: str
    revision: int
    webhook_id: str
    status: Literal["waiting", "delivered", "dead", "cancelled"]
    attempts: int
    created_at: int
    at: int | None
    next_at: int | None
    http_status: int | None
    error: str | None
    version: int
    is_deleted: bool


def alert_id(shop_id: str, signal: str, scope: str, scope_value: str, began_at: int) -> str:
    """The identity of an alert: the same whenever it is found again."""
    return xxh3_128_hexdigest("\0".join((shop_id, signal, scope, scope_value, str(began_at))).encode())

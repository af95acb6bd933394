"""Facts: what the rules conclude, as values. Their wire form is ``schemas.facts``.

A fact's id is a function of what it is about; its version only grows with the events that bear on it.
So a fact sent twice is one fact, and the same events give the same rows in any order of arrival.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

#: What gave a bot away.
BotSign = Literal["told", "user_agent", "rate", "no_dwell"]
Outcome = Literal["converted", "lost"]
LostStage = Literal["bounced", "browsed", "favorited", "carted"]
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
TransitionKind = Literal["stage", "tier"]
Cause = Literal["order", "overdue", "silence", "refund", "model"]
ActionKind = Literal["repurchase_due", "coupon_care", "win_back"]

EPOCH: Final = date(1970, 1, 1)
#: Money inside the rules is an integer of ten-thousandths of a currency unit: sums are exact.
MONEY_SCALE: Final = 10_000


class SessionFact(Struct, frozen=True, gc=False):
    """The verdict on one closed session; times in ms since 1970 UTC, money as 4-decimal strings."""

    session_id: str
    shop_id: str
    customer_id: str
    started_at: int
    ended_at: int
    outcome: Outcome
    lost_stage: LostStage | None
    events: int
    visits: int
    favorites: int
    carts: int
    cart_value: str
    currency: str | None
    mixed_currency: bool
    orders: int
    revenue: str
    recovered: bool
    recovered_at: int | None
    recovered_by: str | None
    landing_item: str | None
    channel: str | None
    campaign: str | None
    is_bot: bool
    day: date
    bot_by: BotSign | None
    version: int
    is_deleted: bool


class ProfileFact(Struct, frozen=True, gc=False):
    """All that is known of one customer in one shop; days are of the shop's calendar, shares in [0, 1]."""

    shop_id: str
    customer_id: str
    as_of: date
    stage: Stage
    stage_since: int | None
    tier: Tier | None
    r_score: int | None
    f_score: int | None
    m_score: int | None
    p_alive: float | None
    p_return_90d: float | None
    expected_orders_90d: float | None
    next_order_on: date | None
    overdue_days: int | None
    usual_gap_days: float | None
    first_order_at: int | None
    last_order_at: int | None
    first_order_on: date | None
    last_order_on: date | None
    purchase_days: int
    orders: int
    reversed_orders: int
    recency_days: int | None
    monetary: str
    average_order_value: str
    currency: str | None
    mixed_currency: bool
    preferred_categories: tuple[str, ...]
    price_band: int | None
    discount_affinity: float | None
    visits_30d: int
    favorites_30d: int
    carts_30d: int
    visits_90d: int
    favorites_90d: int
    carts_90d: int
    last_seen_at: int | None
    model_version: int
    version: int
    is_deleted: bool


class TransitionFact(Struct, frozen=True, gc=False):
    """From one lifecycle stage, or tier, to another; times in ms, ``anchor`` of the order it began with."""

    transition_id: str
    kind: TransitionKind
    shop_id: str
    customer_id: str
    anchor: int
    at: int
    from_state: str | None
    to_state: str | None
    cause: Cause
    p_alive: float | None
    p_return_90d: float | None
    overdue_days: int | None
    usual_gap_days: float | None
    model_version: int
    version: int
    is_deleted: bool


class ActionFact(Struct, frozen=True, gc=False):
    """Something to do for one customer, or in the holdout group to leave undone; once per episode."""

    action_id: str
    kind: ActionKind
    shop_id: str
    customer_id: str
    category: str | None
    anchor: int
    at: int
    expected_on: date | None
    priority: int
    holdout: bool
    reason: str
    stage: Stage
    p_alive: float | None
    p_return_90d: float | None
    overdue_days: int | None
    usual_gap_days: float | None
    discount_affinity: float | None
    model_version: int
    version: int
    is_deleted: bool


def transition_id(
    customer_id: str, shop_id: str, kind: TransitionKind, anchor: int, to_state: Stage | None = None
) -> str:
    """32 hex digits. A tier's transition is named by its day: the last one of a day counts."""
    state = "" if to_state is None else f"\x00{to_state}"
    return xxh3_128_hexdigest(f"{customer_id}\x00{shop_id}\x00{kind}\x00{anchor}{state}".encode())


def action_id(customer_id: str, shop_id: str, kind: ActionKind, category: str | None, anchor: int) -> str:
    """32 hex digits, a function of whom it is for, what it is, and the episode."""
    text = f"{customer_id}\x00{shop_id}\x00{kind}\x00{category or ''}\x00{anchor}"
    return xxh3_128_hexdigest(text.encode())


def session_id(customer_id: str, shop_id: str, started_at: int) -> str:
    """The session's id: 32 hex digits, a function of whose, where and when it began."""
    return xxh3_128_hexdigest(f"{customer_id}\x00{shop_id}\x00{started_at}".encode())


def to_amount(value: Decimal) -> int:
    """Money of the contract (at most four decimals) as an integer of ten-thousandths."""
    return int(value * MONEY_SCALE)


def money(amount: int) -> str:
    """``amount`` ten-thousandths as a decimal string with four decimals."""
    if not amount:
        return "0.0000"
    digits = f"{amount:05d}" if amount > 0 else f"{amount:06d}"
    return f"{digits[:-4]}.{digits[-4:]}"


def tombstone(customer_id: str, shop_id: str, started_at: int, version: int) -> SessionFact:
    """Takes back whatever was said of a session that another one has absorbed."""
    return SessionFact(
        session_id=session_id(customer_id, shop_id, started_at),
        shop_id=shop_id,
        customer_id=customer_id,
        started_at=started_at,
        ended_at=started_at,
        outcome="lost",
        lost_stage=None,
        events=0,
        visits=0,
        favorites=0,
        carts=0,
        cart_value="0.0000",
        currency=None,
        mixed_currency=False,
        orders=0,
        revenue="0.0000",
        recovered=False,
        recovered_at=None,
        recovered_by=None,
        landing_item=None,
        channel=None,
        campaign=None,
        is_bot=False,
        day=EPOCH,
        bot_by=None,
        version=version,
        is_deleted=True,
    )

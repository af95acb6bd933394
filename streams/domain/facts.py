"""Facts: what the rules conclude, as values. Their wire form is ``schemas.facts``.

A fact's id is a function of what it is about; its version only grows with the events that bear on it.
So a fact sent twice is one fact, and the same events give the same rows in any order of arrival.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

Outcome = Literal["converted", "lost"]
LostStage = Literal["bounced", "browsed", "favorited", "carted"]

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
    version: int
    is_deleted: bool


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
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), MONEY_SCALE)
    return f"{sign}{whole}.{part:04d}"


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
        version=version,
        is_deleted=True,
    )

"""What the pipeline says of losses: purchases, item-days, leaks, reasons, segments; and shops' particulars.

As in ``schemas.facts`` each has an identity, and a version that only grows: of several with one identity the
highest counts.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from schemas.base import Amount, Count, Currency, Day, Fact, Id32, Milliseconds, Version

Disposition = Literal["bought_item", "bought_similar", "bought_other", "bought_elsewhere", "nothing"]
Intent = Literal["cart", "favorite"]
Reason = Literal["price", "competition", "forgot", "dissatisfied", "variety", "natural", "unknown"]


class PurchaseLine(Fact):
    """One line of a purchase, amounts in the purchase's currency."""

    item_id: str
    category: str | None
    quantity: Count
    gross: Annotated[Amount, Field(description="pieces at the price of one; 0 where no price was told")]
    discount: Annotated[Amount, Field(description="taken off this line")]
    net: Annotated[
        Amount,
        Field(
            description="its part of the purchase's total less refunded, in proportion to gross less"
            " discount, or to the pieces where no line has a price; the parts of all lines add up exactly"
        ),
    ]


class PurchaseFact(Fact):
    """An order as it stands. Identity: shop_id, customer_id, order_id; key: customer_id."""

    shop_id: str
    customer_id: str
    order_id: str
    ordered_at: Annotated[Milliseconds, Field(description="when it was placed, else first paid")]
    day: Annotated[Day, Field(description="the day of the shop's calendar that ordered_at lies in")]
    total: Annotated[Amount, Field(description="as ordered; later refunds do not change it")]
    refunded: Annotated[Amount, Field(description="taken back since, at most total")]
    is_reversed: Annotated[bool, Field(description="wholly cancelled or refunded")]
    currency: Currency | None
    lines: Annotated[tuple[PurchaseLine, ...], Field(strict=False)]
    version: Version
    is_deleted: bool


class ItemDay(Fact):
    """One item that a customer looked at on one day, and what they bought in its place."""

    item_id: str
    category: Annotated[str | None, Field(description="as the day's earliest event with one names it")]
    disposition: Annotated[
        Disposition,
        Field(
            description="the best that is true, in this order: a standing order of that day in that shop has"
            " the item; has its category; is there; one elsewhere, from the first look on and inside the leak"
            " window, has its category; nothing"
        ),
    ]
    first_at: Annotated[Milliseconds, Field(description="the first look at its page on that day")]
    visits: Annotated[Count, Field(description="looks at its page on that day")]
    favorited: Annotated[bool, Field(description="put among the favorites on that day")]
    carted: Annotated[bool, Field(description="put in the cart on that day")]


class ItemDaysFact(Fact):
    """The items whose pages a customer looked at in one shop on one day of its calendar, in sessions that
    have closed. Identity: shop_id, customer_id, day; key: customer_id. Each telling has all items."""

    shop_id: str
    customer_id: str
    day: Day
    is_bot: bool
    items: Annotated[tuple[ItemDay, ...], Field(strict=False, description="by item_id")]
    version: Version
    is_deleted: Annotated[bool, Field(description="a tombstone for each of its items")]


class LeakFact(Fact):
    """A visitor who bought nothing here that day bought the same category elsewhere. Identity: leak_id; key:
    customer_id.

    An order leaks once from a shop: from the latest day on which the customer looked at its category there,
    up to the order, bought nothing there, and whose leak window has the order.
    """

    leak_id: Annotated[
        Id32, Field(description="XXH3 128 of customer_id, shop_id, to_shop_id, order_id; NUL between")
    ]
    shop_id: Annotated[str, Field(description="the shop that lost the visitor")]
    customer_id: str
    day: Annotated[Day, Field(description="of the visit, in the calendar of shop_id")]
    seen_at: Annotated[
        Milliseconds,
        Field(
            description="the last look on that day at any of item_ids, if before the order; else the last of"
            " the first looks that are"
        ),
    ]
    item_ids: Annotated[tuple[str, ...], Field(strict=False, description="looked at here, sorted")]
    categories: Annotated[tuple[str, ...], Field(strict=False, description="that match, sorted")]
    intent: Annotated[
        Intent | None,
        Field(description="the deepest shown here on that day for a matching item; null: only looked"),
    ]
    to_shop_id: str
    order_id: str
    ordered_at: Milliseconds
    to_item_ids: Annotated[tuple[str, ...], Field(strict=False, description="matching items, sorted")]
    pieces: Annotated[Count, Field(description="of matching lines")]
    amount: Annotated[Amount, Field(description="net of matching lines, less refunds, in currency")]
    currency: Currency | None
    price_here: Annotated[
        Amount | None, Field(description="the lowest price told here of a matching item; null: none was")
    ]
    price_there: Annotated[
        Amount | None, Field(description="mean price of a piece there as ordered; null: none was told")
    ]
    is_bot: bool
    version: Version
    is_deleted: Annotated[bool, Field(description="a tombstone: the order or the loss stands no more")]


class ReasonFact(Fact):
    """Why a session was lost, or a buyer lapsed. Identity: reason_id; key: customer_id.

    What many did at once is no customer's own reason: the view ``loss_reasons`` adds ``market``.
    """

    reason_id: Annotated[Id32, Field(description="XXH3 128 of kind, NUL, subject_id")]
    kind: Literal["session", "lapse"]
    subject_id: Annotated[Id32, Field(description="the session_id, or the transition_id")]
    shop_id: str
    customer_id: str
    at: Annotated[Milliseconds, Field(description="the session's end, or when the stage began")]
    day: Day
    category: Annotated[
        str | None, Field(description="that it is about: the one looked at most, else bought most")
    ]
    reason: Reason
    score: Annotated[float, Field(ge=0, le=1, description="of reason, 2 decimals; 0 for unknown")]
    scores: Annotated[dict[str, float], Field(description="of each reason that has any evidence, 2 decimals")]
    evidence: Annotated[
        dict[str, str], Field(description="what the scores rest on, as text: names are in the README")
    ]
    is_bot: bool
    version: Version
    is_deleted: bool


class SegmentFact(Fact):
    """A customer has entered or left a segment of a shop. Identity: segment, shop_id, customer_id; key:
    customer_id."""

    segment: str
    shop_id: str
    customer_id: str
    is_member: Annotated[bool, Field(description="entered; false: left")]
    at: Annotated[Milliseconds, Field(description="the event time from which on it is so")]
    cause: Annotated[
        Literal["event", "time", "rules"],
        Field(description="an event, time alone, or other rules made it so"),
    ]
    rules_version: Count
    version: Version
    is_deleted: Annotated[bool, Field(description="a tombstone: the segment, or the customer, is gone")]


class SegmentRun(Fact):
    """How far one partition has come with applying a new rule set to everyone. Identity: rules_version,
    partition; key: ``partition``; version: done."""

    rules_version: Count
    partition: Count
    done: Annotated[Count, Field(description="customers looked at")]
    total: Annotated[Count, Field(description="customers there were when it began")]
    started_at: Annotated[int, Field(description="wall clock, ms since 1970-01-01 UTC")]
    at: Annotated[int, Field(description="wall clock, ms since 1970-01-01 UTC")]
    is_finished: bool


class ShopFact(Fact):
    """What is known of a shop. Identity and key: shop_id, sent to every partition."""

    shop_id: str
    name: str
    zone: Annotated[str, Field(description="IANA zone of its calendar")]
    currency: Annotated[Currency | None, Field(description="it reports in; null: the one it sells most in")]
    version: Version


#: The model of each of these topics' values, by the topic's name.
MODELS: Final[dict[str, type[BaseModel]]] = {
    "purchases": PurchaseFact,
    "item-days": ItemDaysFact,
    "leaks": LeakFact,
    "reasons": ReasonFact,
    "segments": SegmentFact,
    "segment-runs": SegmentRun,
    "shops": ShopFact,
}

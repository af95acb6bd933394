"""Small stories with their sessions worked out by hand, one customer each, for the oracle to be judged by.

A story is raw events in order of arrival, each with its topic, and all the sessions that they are: by the
minute of its start after NOON, the columns of a session that the story is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from streams.domain.policy import DAY, HOUR, MINUTE
from tests.builders import NOON, Event, cart, favorite, feedback, inputs, line, order, visit

Raw = tuple[str, Event]
Columns = dict[str, Any]


def v(minute: float, **fields: Any) -> Raw:
    return "visits", visit(_at(minute), **fields)


def f(minute: float, action: str = "add", **fields: Any) -> Raw:
    return "favorites", favorite(_at(minute), action, **fields)


def c(minute: float, action: str = "add", **fields: Any) -> Raw:
    return "carts", cart(_at(minute), action, **fields)


def o(minute: float, action: str = "placed", order_id: str = "o1", **fields: Any) -> Raw:
    return "orders", order(_at(minute), action, order_id, **fields)


def b(minute: float, action: str = "review", **fields: Any) -> Raw:
    return "feedback", feedback(_at(minute), action, **fields)


def looks(count: int, ms: int) -> list[Raw]:
    """So many, each so many ms after the one before."""
    return [v(n * ms / MINUTE, event_id=f"look-{n}") for n in range(count)]


def _at(minute: float) -> int:
    return NOON + round(minute * MINUTE)


@dataclass(frozen=True)
class Story:
    """``late`` and ``refused`` are places in ``events`` that the stream did not take into verdicts."""

    events: tuple[Raw, ...]
    sessions: dict[float, Columns]
    late: frozenset[int] = field(default=frozenset())
    refused: frozenset[int] = field(default=frozenset())


def story(
    *events: Raw, late: tuple[int, ...] = (), refused: tuple[int, ...] = ()
) -> Callable[[dict[float, Columns]], Story]:
    """Takes the events, then the sessions: a story reads in that order."""
    return lambda sessions: Story(events, sessions, frozenset(late), frozenset(refused))


def _by_digest(topic: str, *events: Event) -> list[Event]:
    """The events by their 64-bit digests, which break ties of time."""
    digests = {event.body.event_id: event.id for event in inputs(topic, *events)}
    return sorted(events, key=lambda event: digests[event["event_id"]])


_D = DAY / MINUTE
_H = HOUR / MINUTE
_MS = 1 / MINUTE
_LOST = {"outcome": "lost"}
_BOUNCED = {"outcome": "lost", "lost_stage": "bounced"}
_BROWSED = {"outcome": "lost", "lost_stage": "browsed"}
_FAVORITED = {"outcome": "lost", "lost_stage": "favorited"}
_CARTED = {"outcome": "lost", "lost_stage": "carted"}
_CONVERTED = {"outcome": "converted", "lost_stage": None}

_TIED = _by_digest(
    "carts",
    cart(NOON, "set", event_id="tied-a", quantity=2),
    cart(NOON, "set", event_id="tied-b", quantity=5),
)

STORIES: Final[dict[str, Story]] = {
    # where sessions begin and end
    "silence of exactly the gap does not split": story(v(0), v(30))({0: {**_BROWSED, "events": 2}}),
    "silence of one ms more splits": story(v(0), v(30 + _MS))({0: _BOUNCED, 30 + _MS: _BOUNCED}),
    "a session is a customer's in one shop": story(v(0), v(1, shop_id="s2"))({0: _BOUNCED, 1: _BOUNCED}),
    "arrival does not matter": story(v(20), v(40), v(0))({0: {"events": 3, "ended_at": _at(40)}}),
    "a cancellation does not hold a session open": story(o(-1000), v(0), o(20, "cancelled"), v(40))(
        {-1000: _LOST, 0: _BOUNCED, 40: _BOUNCED}
    ),
    # how deep the intent was
    "one visit and nothing else bounced": story(v(0))(
        {0: {**_BOUNCED, "events": 1, "visits": 1, "version": 1}}
    ),
    "two visits browsed": story(v(0), v(1))({0: _BROWSED}),
    "a lone favorite is favorited": story(f(0))({0: {**_FAVORITED, "favorites": 1}}),
    "a favorite taken back never bounced": story(f(0), f(1, "remove"))({0: {**_BROWSED, "favorites": 1}}),
    "the shop as a favorite is not an item": story(f(0, target="shop"), f(1, "remove"))({0: _FAVORITED}),
    "the last word on a favorite counts": story(f(0), f(1, "remove"), f(2, event_id="again"))(
        {0: {**_FAVORITED, "favorites": 2}}
    ),
    "a cart outweighs a favorite": story(f(0), c(1))(
        {0: {**_CARTED, "carts": 1, "cart_value": Decimal(10), "currency": "CNY"}}
    ),
    "a lone removal browsed": story(c(0, "remove"))({0: {**_BROWSED, "carts": 1, "cart_value": Decimal(0)}}),
    # which cart stands
    "a cart emptied again is not abandoned": story(c(0), c(1, "remove"))(
        {0: {**_BROWSED, "cart_value": Decimal(0), "carts": 2}}
    ),
    "clear takes every line": story(c(0), c(1, item_id="i2"), c(2, "clear"), c(3, item_id="i3"))(
        {0: {**_CARTED, "cart_value": Decimal(10), "carts": 4}}
    ),
    "adds after a set raise it, adds before do not": story(
        c(0, quantity=7), c(1, "set", quantity=3), c(2, quantity=2, price="12.5")
    )({0: {"cart_value": Decimal("62.5")}}),
    "an add after clear starts from nothing": story(c(0, quantity=7), c(1, "clear"), c(2, quantity=2))(
        {0: {"cart_value": Decimal(20)}}
    ),
    "a set to zero leaves no line": story(c(0), c(1, "set", quantity=0))({0: _BROWSED}),
    "the last price told is a line's": story(c(0, price="3"), c(1, price=None, currency=None))(
        {0: {"cart_value": Decimal(6)}}
    ),
    "a line without a price is carted and worth nothing": story(c(0, price=None, currency=None))(
        {0: {**_CARTED, "cart_value": Decimal(0), "currency": None}}
    ),
    "of two statements of one moment the larger digest wins": story(*(("carts", e) for e in _TIED))(
        {0: {"cart_value": Decimal(10 * _TIED[1]["quantity"])}}
    ),
    "a cart beyond eighteen digits is summed": story(c(0, quantity=1_000_000, price="999999999999.9999"))(
        {0: {"cart_value": Decimal("999999999999999900.0000")}}
    ),
    # what an order does
    "an order alone converts": story(o(0))(
        {0: {**_CONVERTED, "orders": 1, "revenue": Decimal(10), "events": 1, "version": 2}}
    ),
    "without a total the lines with a price are summed": story(
        o(0, total=None, lines=[line(quantity=3, discount="4.5"), line("i2", price=None), line("i3")])
    )({0: {"revenue": Decimal("35.5")}}),
    "without total and price an order is worth nothing and converts": story(o(0, total=None, lines=[]))(
        {0: {**_CONVERTED, "revenue": Decimal(0)}}
    ),
    "a bought line does not stand": story(c(0), o(1))({0: {**_CONVERTED, "cart_value": Decimal(0)}}),
    "a line touched after the order stands": story(c(0), o(1), c(2))(
        {0: {**_CONVERTED, "cart_value": Decimal(20)}}
    ),
    "an order of another item buys nothing": story(c(0), o(1, lines=[line("i9")]))(
        {0: {"cart_value": Decimal(10)}}
    ),
    "a cancelled order buys nothing": story(c(0), o(1), o(2, "cancelled"))(
        {0: {**_CARTED, "cart_value": Decimal(10), "orders": 0, "revenue": Decimal(0)}}
    ),
    "a repeated order id is one order": story(o(0), o(1, event_id="again"))(
        {0: {"orders": 1, "revenue": Decimal(10), "events": 2, "version": 4}}
    ),
    "a repeated order id in a later session is the first session's": story(
        o(0), v(600), o(601, event_id="again", total="99")
    )(
        {
            0: {**_CONVERTED, "revenue": Decimal(10), "version": 3},
            600: {**_BROWSED, "events": 2, "version": 4, "orders": 0},
        }
    ),
    "payment without placement converts": story(o(0, "paid"))({0: _CONVERTED}),
    "a session of payments alone is none": story(o(0), o(600, "paid"))(
        {0: {**_CONVERTED, "events": 1, "version": 3}}
    ),
    "a payment with a visit is a session without an order": story(o(0), o(600, "paid"), v(601))(
        {0: _CONVERTED, 600: {**_BROWSED, "events": 2}}
    ),
    "placed decides though paid came before": story(o(0, "paid"), o(600))({600: {**_CONVERTED, "orders": 1}}),
    # what takes an order back
    "cancelling all orders re-opens the verdict": story(o(0), o(1, order_id="o2"), o(2, "cancelled"))(
        {0: {**_CONVERTED, "orders": 1, "revenue": Decimal(10)}}
    ),
    "a refund without an amount is of all": story(v(0), o(1), o(600, "refunded"))(
        {0: {**_BROWSED, "orders": 0, "version": 4}}
    ),
    "a partial refund changes money only": story(o(0), o(600, "refunded", refund_amount="3.5"))(
        {0: {**_CONVERTED, "revenue": Decimal("6.5"), "version": 3}}
    ),
    "partial refunds that add up to the total are of all": story(
        o(0), o(600, "refunded", refund_amount="6"), o(601, "refunded", refund_amount="4")
    )({0: {**_BROWSED, "orders": 0, "revenue": Decimal(0), "version": 4}}),
    "an amendment at the end of the window counts": story(o(0), o(30 * _D, "cancelled"))({0: _BROWSED}),
    "an amendment after the window does not": story(o(0), o(30 * _D + _MS, "cancelled"))(
        {0: {**_CONVERTED, "version": 2}}
    ),
    "an amendment stamped before its order counts": story(o(-1, "cancelled"), o(0))({0: _BROWSED}),
    "an amendment of an unknown order is of no consequence": story(v(0), o(1, "cancelled"))(
        {0: {**_BOUNCED, "version": 1}}
    ),
    # who came back
    "an order after the session recovers it": story(v(0), o(120))(
        {
            0: {**_BOUNCED, "recovered": True, "recovered_at": _at(120), "recovered_by": "o1", "version": 2},
            120: {**_CONVERTED, "recovered": False, "recovered_by": None},
        }
    ),
    "the window's last ms recovers": story(v(0), o(30 + 24 * _H))({0: {"recovered": True}, 30 + 24 * _H: {}}),
    "one ms after the window does not": story(v(0), o(30 + 24 * _H + _MS))(
        {0: {"recovered": False, "version": 1}, 30 + 24 * _H + _MS: {}}
    ),
    "a cancelled order recovers nothing": story(v(0), o(120), o(121, "cancelled"))(
        {0: {"recovered": False, "recovered_at": None, "version": 3}, 120: {**_BROWSED, "orders": 0}}
    ),
    "the earliest standing order recovers": story(
        v(0), o(120), o(180, order_id="o2"), o(240, order_id="o3"), o(250, "cancelled")
    )({0: {"recovered_at": _at(180), "recovered_by": "o2", "version": 5}, 120: {}, 180: {}, 240: {}}),
    "an order in another shop recovers nothing": story(v(0), o(120, shop_id="s2"))(
        {0: {"recovered": False}, 120: _CONVERTED}
    ),
    "a converted session is not recovered": story(o(0), o(120, order_id="o2"))(
        {0: {**_CONVERTED, "recovered": False, "version": 3}, 120: {"orders": 1}}
    ),
    # in which money
    "amounts in another currency are not added": story(
        o(0), o(1, order_id="o2", currency="EUR", total="5"), c(2, currency="EUR", price="7", item_id="i2")
    )(
        {
            0: {
                "currency": "CNY",
                "mixed_currency": True,
                "orders": 2,
                "revenue": Decimal(10),
                "cart_value": Decimal(0),
            }
        }
    ),
    "an order's currency goes before a cart's": story(c(0, currency="EUR"), o(1, lines=[]))(
        {0: {"currency": "CNY", "mixed_currency": True, "cart_value": Decimal(0)}}
    ),
    "the earliest order that has a currency says it": story(
        o(0, currency=None), o(1, order_id="o2", currency="EUR")
    )({0: {"currency": "EUR", "mixed_currency": False, "revenue": Decimal(20)}}),
    "the earliest order says the currency though it was never placed": story(
        o(0, "paid", currency="EUR"), o(1, order_id="o2")
    )({0: {"currency": "EUR", "mixed_currency": True}}),
    # what is kept beside
    "landing, channel and campaign are each of the earliest event that has one": story(
        f(0, channel="mail"),
        v(1),
        v(2, item_id="i5", campaign="spring"),
        v(3, item_id="i6", channel="ads", campaign="autumn"),
    )({0: {"landing_item": "i5", "channel": "mail", "campaign": "spring", "favorites": 1, "visits": 3}}),
    "one tagged event makes a bot": story(v(0), v(1, is_bot=True))({0: {"is_bot": True, "bot_by": "told"}}),
    "fifty looks that dwell for less than 300 ms are a machine's": story(*looks(50, 299))(
        {0: {"is_bot": True, "bot_by": "no_dwell", "visits": 50}}
    ),
    "forty-nine are not": story(*looks(49, 299))({0: {"is_bot": False, "bot_by": None}}),
    "fifty that dwell for 300 ms are not": story(*looks(50, 300))({0: {"is_bot": False, "bot_by": None}}),
    "over 60 looks a minute, kept up for five, are a machine's": story(*looks(301, 900))(
        {0: {"is_bot": True, "bot_by": "rate"}}
    ),
    "and 300 are not": story(*looks(300, 900))({0: {"is_bot": False, "bot_by": None}}),
    "a cart sent over at once is nobody's haste": story(
        v(0), *[c(n * _MS, item_id=f"i{n}", event_id=f"cart-{n}") for n in range(60)]
    )({0: {"is_bot": False, "bot_by": None, "carts": 60}}),
    "a session counts on its start day": story(v(12 * _H - 10), v(12 * _H + 10))(
        {12 * _H - 10: {"events": 2, "day": date(2026, 3, 2)}}
    ),
    "feedback is no activity": story(v(0), b(20), v(40), b(41, "complaint"))(
        {0: {**_BOUNCED, "version": 1}, 40: {**_BOUNCED, "ended_at": _at(40), "version": 1}}
    ),
    # what was not taken in
    "of one event id the first to arrive stands": story(
        v(0, event_id="same"), v(50, event_id="same", item_id="other")
    )({0: {**_BOUNCED, "landing_item": None}}),
    "an id is of its topic": story(v(0, event_id="same"), f(1, event_id="same"))({0: {"events": 2}}),
    "what came behind the horizon is in no verdict": story(v(0), v(1), late=(1,))({0: _BOUNCED}),
    "what was beyond the customer's bound is in no verdict": story(v(0), v(1), refused=(1,))({0: _BOUNCED}),
}

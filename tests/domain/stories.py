"""Hypothesis strategies: stories of a few customers in a few shops, small enough to shrink, rich enough to
reach every rule; and the helpers that make inputs of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from streams.domain.events import (
    ArrivalTime,
    Cart,
    EventTime,
    Favorite,
    Feedback,
    Input,
    Order,
    OrderLine,
    Visit,
)
from streams.domain.policy import DAY, MINUTE, Policy

ITEMS = ["a", "b"]
CURRENCIES = [None, "CNY", "USD"]
PRICES = [None, Decimal("9.99"), Decimal("0.0001"), Decimal(100)]
#: Short windows, so that a story of a few hours crosses every one of them. The horizon spans a whole story:
#: whatever order it is delivered in is disorder inside the horizon.
POLICY = Policy(
    gap=30 * MINUTE,
    horizon=6 * 60 * MINUTE + 10,
    recovery_window=90 * MINUTE,
    amendment_window=180 * MINUTE,
    lapsed_after=2 * DAY,
    prospect_memory=DAY,
    buyer_memory=4 * DAY,
)
_TOPIC = {Visit: 0, Favorite: 1, Cart: 2, Order: 3, Feedback: 4}


def make(t: int, event_id: str, kind: type[Any], offset: int = 0, **fields: Any) -> Input:
    """An input of ``kind`` at ``t`` ms; its offset is for the caller to set."""
    fields.setdefault("customer_id", "c")
    fields.setdefault("shop_id", "s")
    body = kind(event_id=event_id, occurred_at=t, **fields)
    digest = xxh3_64_intdigest((chr(_TOPIC[kind]) + event_id).encode())  # as the decoder has it
    return Input(_TOPIC[kind], offset, digest, EventTime(t), ArrivalTime(t), body, b"{}")


#: What an event is drawn from, a few small numbers: quick to draw, and to shrink.
_DRAW = st.tuples(
    st.integers(0, 24), st.integers(0, 6), st.integers(0, 23), st.integers(0, 2**16 - 1), st.integers(0, 5)
)


def _event(number: int, drawn: tuple[int, int, int, int, int]) -> Input:
    """The event that the small numbers stand for; its id is unique to ``number``."""
    slot, kind, who, detail, nudge = drawn
    # A grid on which exactly the gap, and a millisecond beside it, are met often.
    t = 10**9 + slot * 15 * MINUTE + (nudge - 2 if nudge < 4 else 0)

    def pick(options: Sequence[Any]) -> Any:
        nonlocal detail
        detail, index = divmod(detail, len(options))
        return options[index]

    common: dict[str, Any] = {
        "customer_id": "c" if who % 4 else "d",
        "shop_id": "z" if who % 3 == 2 else "s",
        "channel": (None, "ads", None, "mail")[(who + slot) % 4],
        "campaign": "11.11" if who == 5 else None,
        "is_bot": who == 7,
    }
    event_id = f"e{number}"
    if kind == 0:
        return make(t, event_id, Visit, item_id=pick([None, *ITEMS]), **common)
    if kind == 1:
        target = pick(["item", "shop"])
        action, item = pick(["add", "remove"]), pick(ITEMS)
        return make(
            t,
            event_id,
            Favorite,
            action=action,
            target=target,
            item_id=item if target == "item" else None,
            **common,
        )
    if kind <= 3:
        action, item = pick(["add", "add", "set", "remove", "clear"]), pick(ITEMS)
        return make(
            t,
            event_id,
            Cart,
            action=action,
            item_id=None if action == "clear" else item,
            quantity=pick([1, 2, 0]),
            price=pick(PRICES),
            currency=pick(CURRENCIES),
            **common,
        )
    action = pick(["placed", "placed", "paid", "cancelled", "refunded"])
    # An order id that is told again after more than the amendment window may be another order by then: beyond
    # the guarantee, and so not told here. Amendments do come beyond the window.
    block = slot // 12 if action in ("placed", "paid") else pick([0, slot // 12])
    lines = tuple(
        OrderLine(item_id=item, quantity=1 + nudge % 2, price=PRICES[(nudge + slot) % 4])
        for item in pick([[], ["a"], ["b"], ["a", "b"]])
    )
    return make(
        t,
        event_id,
        Order,
        action=action,
        order_id=f"{pick(['o1', 'o2', 'o3'])}-{block}",
        lines=lines,
        total=pick([None, Decimal(20), Decimal("0.5")]),
        currency=pick(CURRENCIES),
        refund_amount=pick([None, Decimal(5), Decimal(20)]),
        **common,
    )


def story(most: int = 14) -> st.SearchStrategy[list[Input]]:
    """Up to ``most`` distinct events."""
    return st.lists(_DRAW, min_size=1, max_size=most).map(
        lambda drawn: [_event(number, numbers) for number, numbers in enumerate(drawn)]
    )


def deliver(events: Sequence[Input]) -> list[Input]:
    """``events`` in the order given, each topic's offsets counted up."""
    offsets = [0] * 4
    delivered = []
    for e in events:
        delivered.append(Input(e.topic, offsets[e.topic], e.id, e.t, e.arrived, e.body, e.raw))
        offsets[e.topic] += 1
    return delivered

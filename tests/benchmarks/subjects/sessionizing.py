"""The sessionization that stock Faust, Quix Streams and Bytewax are given, as one would write it for them.

One open session a customer, closed by its next event after more than the gap; counts by kind; converted if
it has an order. What Ebbtide does beside it is left out: no check of sizes and types, no duplicates known,
an event older than the open session is dropped, nothing is revised, no verdict comes from silence alone,
no cart, no amounts, nothing refused is kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

GAP_MS: Final = 30 * 60_000
#: Of the input topics the ones that make sessions, and the first; nothing is sent to the others.
KINDS: Final = ("visits", "favorites", "carts", "orders")

State = dict[str, Any]


def step(state: State | None, kind: str, event: dict[str, Any]) -> tuple[State, dict[str, Any] | None]:
    """Take an event (its JSON as a dict) into the customer's state: the new state, and the session closed."""
    t = int(datetime.fromisoformat(event["occurred_at"]).timestamp() * 1000)
    closed = None
    if state is not None:
        if t < state["started_at"] - GAP_MS:
            return state, None
        if t > state["ended_at"] + GAP_MS:
            state["outcome"] = "converted" if state["orders"] else "lost"
            closed, state = state, None
    if state is None:
        state = {
            "customer_id": event["customer_id"],
            "shop_id": event["shop_id"],
            "started_at": t,
            "ended_at": t,
            "events": 0,
            "visits": 0,
            "favorites": 0,
            "carts": 0,
            "orders": 0,
        }
    elif t > state["ended_at"]:
        state["ended_at"] = t
    elif t < state["started_at"]:
        state["started_at"] = t
    state["events"] += 1
    state[kind] += 1
    return state, closed

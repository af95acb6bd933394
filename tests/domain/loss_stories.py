"""Stories of a few customers who look here and buy there, around the midnights of three zones, as hypothesis
draws them; and a worker over one partition, in memory, that may be cut at any record it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from schemas import topics
from streams.domain.events import (
    ArrivalTime,
    Body,
    Cart,
    EventTime,
    Favorite,
    Feedback,
    Input,
    Order,
    OrderLine,
    Visit,
)
from streams.domain.policy import DAY, HOUR, MINUTE, Policy

#: 2024-03-30T00:00Z. In the night after it London puts its clocks forward.
START: Final = 1_711_756_800_000
#: No event is earlier than this.
EARLIEST: Final = START - 15 * MINUTE
#: Times of day in UTC: midnight in London before and after the change, in Shanghai, and in the policy's zone,
#: some of them in one session with the minutes before it.
TIMES: Final = [
    10 * HOUR,
    0,
    20 * MINUTE,
    4 * HOUR,
    16 * HOUR - 10 * MINUTE,
    16 * HOUR,
    23 * HOUR,
    24 * HOUR - 10 * MINUTE,
]
#: To the millisecond at a midnight, on either side of it, and far enough from it to join what lies apart.
NUDGES: Final = [0, 1, -1, 15 * MINUTE, -15 * MINUTE]
DAYS: Final = 3
ZONES: Final = {"london": "Europe/London", "shanghai": "Asia/Shanghai"}
SHOPS: Final = ["london", "shanghai", "elsewhere"]
#: The horizon spans a whole story: whatever order it is delivered in is disorder inside it. Two looks at
#: once are a bot's, unless the session goes on.
POLICY: Final = Policy(
    zone="America/New_York",
    horizon=4 * DAY,
    recovery_window=90 * MINUTE,
    amendment_window=25 * HOUR,
    lapsed_after=2 * DAY,
    prospect_memory=DAY,
    buyer_memory=4 * DAY,
    bot_events=2,
    bot_dwell=10 * MINUTE,
)
CATEGORIES: Final = {"green": "tea", "black": "tea", "mug": "cups", "thing": None}
ITEMS: Final = list(CATEGORIES)
PRICES: Final = [None, Decimal("9.99"), Decimal("0.0001"), Decimal(100)]
CURRENCIES: Final = ["CNY", None, "USD"]
_TOPICS: Final = (Visit, Favorite, Cart, Order, Feedback)


def policies(shortest: int = 4 * DAY) -> st.SearchStrategy[Policy]:
    """Leaks of the same day and of the next; the horizon from ``shortest`` on; with and without buyers."""
    horizons = sorted({max(shortest, each) for each in (4 * DAY, 3 * HOUR, 0)}, reverse=True)
    return st.builds(
        lambda window, horizon, buyers: replace(POLICY, leak_window=window, horizon=horizon, buyers=buyers),
        st.sampled_from([0, DAY]),
        st.sampled_from(horizons),
        st.sampled_from([True, True, False]),
    )


def make(t: int, event_id: str, kind: type[Body], **fields: Any) -> Input:
    """An event of ``kind`` at ``t`` ms; ``deliver`` gives it its offset."""
    body = kind(event_id=event_id, occurred_at=t, **fields)
    topic = _TOPICS.index(kind)
    digest = xxh3_64_intdigest((chr(topic) + event_id).encode())  # as the decoder has it
    return Input(topic, 0, digest, EventTime(t), ArrivalTime(t), body, b"{}")


#: What a scene is drawn from, a few small numbers: quick to draw, and to shrink.
_DRAW = st.tuples(
    st.integers(0, DAYS * len(TIMES) - 1),
    st.integers(0, 10),
    st.integers(0, 23),
    # Three of them: of larger ones hypothesis draws most often small values.
    st.tuples(*[st.integers(0, 2**24 - 1)] * 3),
    st.integers(0, len(NUDGES) - 1),
)


class _Scene:
    """Up to four events that go together, as the small numbers say; their ids are unique to ``number``."""

    def __init__(self, number: int, drawn: tuple[int, int, int, tuple[int, int, int], int]) -> None:
        self.slot, kind, who, details, self.nudge = drawn
        self.detail = sum(each << 24 * place for place, each in enumerate(details))
        self.number, self.customer, self.shop, self.is_bot = number, "c", SHOPS[who % 3], who == 20
        if who > 20:
            self.customer = "d"
        self.events: list[Input] = []
        if kind == 0:
            pass  # stories are of one length, and so the shorter ones are simple, too
        elif kind <= 3:
            item = self.pick(ITEMS)
            if kind != 3:
                self.visit(item)
            if kind == 2:
                # Two looks at once, but then it goes on for a while, if that arrives in time.
                self.visit(item)
                self.nudge = 3
            if kind >= 2:
                self.later([0, 0, 1, 7])
                self.pick([self.favorite, self.cart])(item)
        elif kind <= 5:
            # Seen here, bought there, or here; and perhaps taken back.
            item = self.pick(ITEMS)
            self.visit(item)
            if kind == 5:
                self.pick([self.visit, self.favorite, self.cart])(self.pick([item, "green", "black"]))
            self.shop = SHOPS[(who + self.pick([1, 1, 2, 0])) % 3]
            self.later([0, 1, 2, 4, 8])
            self.order([item])
            if self.pick([False, False, True]):
                self.later([8, 7, 3, 1])
                self.amend(self.order_id)
        elif kind <= 8:
            self.order(self.pick([["black"], ["mug"], ["green", "mug"], ["black", "thing", "black"], []]))
            if kind == 8:
                self.later([0, 1, 3, 8, 9])
                self.amend(self.order_id)
        elif kind == 9:
            self.amend(f"{self.customer}-{self.pick(['o', 'p'])}-{self.pick(range(DAYS))}")
        else:
            self.say(Feedback, action="review", rating=1)

    def later(self, slots: Sequence[int]) -> None:
        self.slot = min(self.slot + self.pick(slots), DAYS * len(TIMES) - 1)

    def pick(self, options: Sequence[Any]) -> Any:
        """One of ``options``, the first by preference."""
        self.detail, index = divmod(self.detail, len(options))
        return options[index]

    def say(self, kind: type[Body], **fields: Any) -> None:
        day, time = divmod(self.slot, len(TIMES))
        t = START + day * DAY + TIMES[time] + NUDGES[self.nudge]
        event_id = f"e{self.number}-{len(self.events)}"
        fields |= {"customer_id": self.customer, "shop_id": self.shop, "is_bot": self.is_bot}
        self.events.append(make(t, event_id, kind, **fields))

    def item(self, item: str) -> dict[str, Any]:
        return {
            "item_id": item,
            "category": self.category(item),
            "price": self.pick(PRICES),
            "currency": self.pick(CURRENCIES),
        }

    def category(self, item: str) -> str | None:
        # Not everybody names it, and not everybody the same.
        named: str | None = self.pick([CATEGORIES[item]] * 5 + [None, "", "cups"])
        return named

    def visit(self, item: str) -> None:
        self.say(Visit, **self.item(item) | {"item_id": self.pick([item] * 5 + [None])})

    def favorite(self, item: str) -> None:
        target = self.pick(["item", "item", "item", "shop"])
        fields = self.item(item) | {"target": target, "action": self.pick(["add", "add", "remove"])}
        self.say(Favorite, **fields | ({"item_id": None} if target == "shop" else {}))

    def cart(self, item: str) -> None:
        action = self.pick(["add", "set", "add", "remove", "clear"])
        fields = self.item(item) | {"action": action, "quantity": self.pick([1, 2, 0])}
        self.say(Cart, **fields | ({"item_id": None} if action == "clear" else {}))

    def order(self, items: Sequence[str]) -> None:
        # An order id that is told again after more than the amendment window may be another order by then:
        # beyond the guarantee, and so not told here. Amendments do come before their order, and too late.
        self.order_id = f"{self.customer}-{self.pick(['o', 'p'])}-{self.slot // len(TIMES)}"
        lines = []
        for item in items:
            category, quantity, price = self.category(item), self.pick([1, 1, 2, 0, 3]), self.pick(PRICES)
            discount = self.pick([None, None, Decimal("0.5"), Decimal(200)])
            lines.append(
                OrderLine(item_id=item, category=category, quantity=quantity, price=price, discount=discount)
            )
        self.say(
            Order,
            order_id=self.order_id,
            action=self.pick(["placed", "placed", "placed", "paid"]),
            lines=tuple(lines),
            total=self.pick([Decimal(20), None, Decimal("0.5"), Decimal("7.0003"), Decimal(0)]),
            currency=self.pick(CURRENCIES),
        )

    def amend(self, order_id: str) -> None:
        amount = self.pick([None, Decimal(5), Decimal("0.3333"), Decimal(20)])
        action = self.pick(["refunded", "refunded", "cancelled"])
        self.say(Order, order_id=order_id, action=action, refund_amount=amount)


def scene(number: int, drawn: tuple[int, int, int, tuple[int, int, int], int]) -> list[Input]:
    """The events of the scene that the small numbers stand for."""
    return _Scene(number, drawn).events


def story(most: int = 8) -> st.SearchStrategy[list[Input]]:
    """Distinct events of up to ``most`` scenes, one at least."""
    scenes = st.lists(_DRAW, min_size=most, max_size=most)
    return scenes.map(
        lambda drawn: [event for number, each in enumerate(drawn) for event in scene(number, each)]
    ).filter(bool)


def deliver(events: Sequence[Input]) -> list[Input]:
    """``events`` in the order given, each topic's offsets counted up."""
    offsets = [0] * len(topics.INPUTS)
    delivered = []
    for e in events:
        delivered.append(Input(e.topic, offsets[e.topic], e.id, e.t, e.arrived, e.body, e.raw))
        offsets[e.topic] += 1
    return delivered


def in_order(events: Sequence[Input]) -> list[Input]:
    return sorted(events, key=lambda e: (e.t, e.id))


def end_of(events: Sequence[Input]) -> int:
    """The watermark at which every session has closed."""
    return max(e.t for e in events) + POLICY.gap + 1

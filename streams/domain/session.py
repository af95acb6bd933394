"""Sessions of one customer in one shop: intervals of activity that merge, never split.

What a session holds is commutative (sums, unions, minima by (time, id)), so late and out-of-order
events need no path of their own:

        gap            gap
    |<------>|     |<------>|
    a   b    c               d          a..c is one session, d another
                       L                a late L within the gap of both merges them into a..d
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from streams.domain.cart import CODES, CartOp, fold
from streams.domain.crawlers import is_crawler
from streams.domain.events import Cart, Favorite, Input, Visit
from streams.domain.facts import to_amount

First = tuple[int, int, str]

#: Bytes of an event id's digest.
DIGEST_BYTES: Final = 8


_pack: Final = msgspec.msgpack.Encoder().encode

LOOKED: Final = 0
FAVORITED: Final = 1
CARTED: Final = 2


class Touch(Struct, array_like=True, frozen=True, gc=False):
    """An item was looked at, put among the favorites or put in the cart; ``price`` in ten-thousandths."""

    t: int
    kind: int
    item: str
    category: str | None
    price: int | None
    currency: str | None


_unpack_touches: Final = msgspec.msgpack.Decoder(list[Touch]).decode
#: What msgpack puts before a list, followed by its length in four bytes.
_LIST: Final = b"\xdd"


class Session(Struct, array_like=True, gc=False):
    """One session; times in ms.

    ids: the digests of its events, eight bytes each, so that they are one object to read and write however
    many they are; dropped once no event inside the horizon can repeat one.
    landing, channel, campaign: (time, id, value) of the earliest event that has one.
    favorites: (time, id, added) of the latest word on a target; "" is the shop.
    published: the version last sent, 0 if none was.
    by_agent: whether a user agent is known to be a machine's.
    touches: of items, until the session has closed and the customer's trail has them; each is packed once,
    one after the other, and none is read before. touched: how many.
    """

    start: int
    end: int
    events: int = 0
    visits: int = 0
    favorited: int = 0
    paid: int = 0
    ids: bytes = b""
    landing: First | None = None
    channel: First | None = None
    campaign: First | None = None
    favorites: dict[str, tuple[int, int, bool]] | None = None
    cart: list[CartOp] | None = None
    is_bot: bool = False
    published: int = 0
    by_agent: bool = False
    touches: bytes = b""
    touched: int = 0

    def give_up_touches(self) -> list[Touch]:
        """Its touches, which are no more its own."""
        if not self.touched:
            return []
        packed = _LIST + self.touched.to_bytes(4, "big") + self.touches
        self.touches, self.touched = b"", 0
        return _unpack_touches(packed)

    @property
    def carts(self) -> int:
        """Changes of the cart."""
        return len(self.cart) if self.cart else 0

    @property
    def carted(self) -> int:
        """1 if something stands in the cart, else 0."""
        return 1 if self.cart and fold(self.cart) else 0

    def add(self, event: Input, losses: bool) -> None:
        """Take in one activity event that lies inside the session's interval; ``losses``: keep its touch."""
        body = event.body
        t, key = event.t, event.id
        self.events += 1
        self.ids += key.to_bytes(DIGEST_BYTES, "big")
        if isinstance(body, Visit):
            self.visits += 1
            if body.item_id is not None:
                if self.landing is None or t <= self.landing[0]:
                    self.landing = _earliest(self.landing, (t, key, body.item_id))
                if losses:
                    self._touch(t, LOOKED, body.item_id, body)
        elif isinstance(body, Favorite):
            self._favorite(t, key, body)
            if losses and body.action == "add" and body.target == "item" and body.item_id is not None:
                self._touch(t, FAVORITED, body.item_id, body)
        elif isinstance(body, Cart):
            self._cart(t, key, body)
            if losses and body.action in ("add", "set") and body.quantity and body.item_id is not None:
                self._touch(t, CARTED, body.item_id, body)
        elif body.action == "paid":
            self.paid += 1
        if body.channel is not None and (self.channel is None or t <= self.channel[0]):
            self.channel = _earliest(self.channel, (t, key, body.channel))
        if body.campaign is not None and (self.campaign is None or t <= self.campaign[0]):
            self.campaign = _earliest(self.campaign, (t, key, body.campaign))
        if body.is_bot:
            self.is_bot = True
        if body.user_agent is not None and not self.by_agent and is_crawler(body.user_agent):
            self.by_agent = True

    def _touch(self, t: int, kind: int, item: str, body: Visit | Favorite | Cart) -> None:
        price = None if body.price is None else to_amount(body.price)
        self.touches += _pack((t, kind, item, body.category, price, body.currency))
        self.touched += 1

    def _favorite(self, t: int, key: int, body: Favorite) -> None:
        added = body.action == "add"
        self.favorited += added
        target = "" if body.target == "shop" or body.item_id is None else body.item_id
        if self.favorites is None:
            self.favorites = {}
        word = (t, key, added)
        if word > self.favorites.get(target, (-1, -1, False)):
            self.favorites[target] = word

    def _cart(self, t: int, key: int, body: Cart) -> None:
        if self.cart is None:
            self.cart = []
        price = None if body.price is None else to_amount(body.price)
        op = CartOp(t, key, CODES[body.action], body.item_id, body.quantity, price, body.currency)
        self.cart.append(op)

    def absorb(self, other: Session) -> None:
        """Become the union of both."""
        self.start = min(self.start, other.start)
        self.end = max(self.end, other.end)
        self.events += other.events
        self.visits += other.visits
        self.favorited += other.favorited
        self.paid += other.paid
        self.ids += other.ids
        self.landing = _earliest(self.landing, other.landing)
        self.channel = _earliest(self.channel, other.channel)
        self.campaign = _earliest(self.campaign, other.campaign)
        if other.favorites:
            mine = self.favorites or {}
            for target, word in other.favorites.items():
                mine[target] = max(word, mine.get(target, word))
            self.favorites = mine
        if other.cart:
            self.cart = (self.cart or []) + other.cart
        self.is_bot = self.is_bot or other.is_bot
        self.by_agent = self.by_agent or other.by_agent
        self.touches += other.touches
        self.touched += other.touched


def begins(ids: bytes, digest: bytes, at: int) -> bool:
    """Whether ``digest``, first found in ``ids`` at ``at``, is one of them; across two it is nobody's."""
    while at >= 0:
        if at % DIGEST_BYTES == 0:
            return True
        at = ids.find(digest, at + 1)
    return False


def _earliest(a: First | None, b: First | None) -> First | None:
    if a is None:
        return b
    if b is None:
        return a
    return a if a[:2] <= b[:2] else b

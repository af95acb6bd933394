"""Sessions of one customer in one shop: intervals of activity that merge, never split.

What a session holds is commutative (sums, unions, minima by (time, id)), so late and out-of-order
events need no path of their own:

        gap            gap
    |<------>|     |<------>|
    a   b    c               d          a..c is one session, d another
                       L                a late L within the gap of both merges them into a..d
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from streams.domain.cart import CODES, CartOp
from streams.domain.events import Cart, Favorite, Input, Visit
from streams.domain.facts import to_amount
from streams.domain.order import OrderRecord

First = tuple[int, int, str]

_DIGEST: Final = 8


class Session(Struct, array_like=True, gc=False):
    """One session; times in ms.

    ids: the digests of its events, eight bytes each, so that they are one object to read and write however
    many they are; dropped once no event inside the horizon can repeat one.
    landing, channel, campaign: (time, id, value) of the earliest event that has one.
    favorites: (time, id, added) of the latest word on a target; "" is the shop.
    published: the version last sent, 0 if none was.
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

    def add(self, event: Input) -> None:
        """Take in one activity event that lies inside the session's interval."""
        body = event.body
        t, key = event.t, event.id
        self.events += 1
        self.ids += key.to_bytes(_DIGEST, "big")
        if isinstance(body, Visit):
            self.visits += 1
            if body.item_id is not None and (self.landing is None or t <= self.landing[0]):
                self.landing = _earliest(self.landing, (t, key, body.item_id))
        elif isinstance(body, Favorite):
            self._favorite(t, key, body)
        elif isinstance(body, Cart):
            self._cart(t, key, body)
        elif body.action == "paid":
            self.paid += 1
        if body.channel is not None and (self.channel is None or t <= self.channel[0]):
            self.channel = _earliest(self.channel, (t, key, body.channel))
        if body.campaign is not None and (self.campaign is None or t <= self.campaign[0]):
            self.campaign = _earliest(self.campaign, (t, key, body.campaign))
        if body.is_bot:
            self.is_bot = True

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


class Shop(Struct, array_like=True, gc=False):
    """One customer's sessions in one shop, by start, and the orders that bear on them."""

    sessions: list[Session] = field(default_factory=list)
    orders: dict[str, OrderRecord] | None = None

    def retained(self) -> int:
        """Events whose digests are kept, to bound the state."""
        count = sum(len(s.ids) for s in self.sessions) // _DIGEST
        if self.orders:
            count += sum(len(o.amendments) for o in self.orders.values())
        return count

    def knows(self, key: int) -> bool:
        """Whether the event with this digest was taken in already."""
        digest = key.to_bytes(_DIGEST, "big")
        for session in self.sessions:
            # Found across two digests it is nobody's.
            at = session.ids.find(digest)
            while at >= 0:
                if at % _DIGEST == 0:
                    return True
                at = session.ids.find(digest, at + 1)
        if self.orders:
            return any(a.id == key for o in self.orders.values() for a in o.amendments)
        return False


def place(shop: Shop, event: Input, gap: int) -> Sequence[tuple[int, int]]:
    """Put an activity event where it belongs, merging what it joins.

    Returns (start, version) of each published session that no longer stands under that start; the version is
    above any that it was published with, so that the caller can take it back. An id never stands again.
    """
    t = event.t
    sessions = shop.sessions
    if sessions:
        last = sessions[-1]
        if last.start <= t <= last.end + gap:  # in order, the common case
            if t > last.end:
                last.end = t
            last.add(event)
            return ()
    joined = [s for s in sessions if s.start - gap <= t <= s.end + gap]
    if not joined:
        fresh = Session(t, t)
        fresh.add(event)
        sessions.append(fresh)
        if len(sessions) > 1 and sessions[-2].start > t:
            sessions.sort(key=_start)
        return ()
    survivor = joined[0]
    gone = [(s.start, s.published + 1) for s in joined[1:] if s.published]
    for other in joined[1:]:
        survivor.absorb(other)
        sessions.remove(other)
    if t < survivor.start:
        if survivor.published:
            gone.append((survivor.start, survivor.published + 1))
        survivor.start, survivor.published = t, 0
    survivor.end = max(survivor.end, t)
    survivor.add(event)
    return gone


def _earliest(a: First | None, b: First | None) -> First | None:
    if a is None:
        return b
    if b is None:
        return a
    return a if a[:2] <= b[:2] else b


def _start(session: Session) -> int:
    return session.start

"""What is kept of one customer in one shop: open sessions at hand, closed ones and orders packed away.

Most events touch a customer's open session and nothing else. So a closed session whose verdict has been
published is kept as bytes inside the state (``Closed``), and so are the orders: they are read only when an
event bears on them, or when their time has come, and written only when they have changed.

Closed sessions all end before an open one begins; ``place`` opens them again for an event that came late.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct, field

from streams.domain.events import Input
from streams.domain.order import Orders
from streams.domain.session import DIGEST_BYTES, Session

_pack = msgspec.msgpack.Encoder().encode
_unpack_session = msgspec.msgpack.Decoder(Session).decode
_unpack_orders = msgspec.msgpack.Decoder(Orders).decode


class Closed(Struct, array_like=True, gc=False):
    """A closed session whose verdict is published; times in ms.

    ids: digests of its events, dropped once no event inside the horizon can repeat one.
    until: the watermark beyond which nothing can change its verdict; 0 while the policy alone says it.
    body: the session without its ids.
    """

    start: int
    end: int
    ids: bytes
    body: bytes
    until: int = 0

    def session(self) -> Session:
        """The session as it was when it was closed."""
        session = _unpack_session(self.body)
        session.ids = self.ids
        return session


class Shop(Struct, array_like=True, gc=False):
    """Sessions by start. ledger: the orders that bear on them, packed; due: the watermark beyond which one of
    the orders may be forgotten."""

    sessions: list[Session] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    ledger: bytes = b""
    due: int = 0

    def orders(self) -> Orders:
        """The orders, read; changes count only once they are kept with ``keep_orders``."""
        return _unpack_orders(self.ledger) if self.ledger else {}

    def keep_orders(self, orders: Orders, due: int) -> None:
        """Take over ``orders``, none of which is to be forgotten before ``due``."""
        self.ledger = _pack(orders) if orders else b""
        self.due = due

    def close(self, session: Session) -> None:
        """Pack a session away whose verdict is published."""
        ids, session.ids = session.ids, b""
        self.closed.append(Closed(session.start, session.end, ids, _pack(session)))

    def reopen(self) -> None:
        """Have all sessions at hand: something may bear on the closed ones."""
        if self.closed:
            self.sessions = sorted([*(c.session() for c in self.closed), *self.sessions], key=_start)
            self.closed = []

    def intervals(self) -> list[tuple[int, int]]:
        """(start, end) of every session that is kept."""
        return [(s.start, s.end) for s in self.sessions] + [(c.start, c.end) for c in self.closed]

    def retained(self) -> int:
        """Events whose digests are kept, to bound the state."""
        ids = sum(len(s.ids) for s in self.sessions) + sum(len(c.ids) for c in self.closed)
        return ids // DIGEST_BYTES + sum(len(order.amendments) for order in self.orders().values())

    def knows(self, key: int) -> bool:
        """Whether an activity event of this digest was taken in already; ``orders`` knows amendments."""
        digest = key.to_bytes(DIGEST_BYTES, "big")
        for session in self.sessions:
            if (at := session.ids.find(digest)) >= 0 and _begins(session.ids, digest, at):
                return True
        for closed in self.closed:
            if (at := closed.ids.find(digest)) >= 0 and _begins(closed.ids, digest, at):
                return True
        return False

    def extend(self, event: Input, gap: int) -> bool:
        """Take an activity event into the latest session, the common case; False if that is not its place."""
        if not self.sessions:
            return False
        last = self.sessions[-1]
        t = event.t
        if not last.start <= t <= last.end + gap:
            return False
        if t > last.end:
            last.end = t
        last.add(event)
        return True


def place(shop: Shop, event: Input, gap: int) -> Sequence[tuple[int, int]]:
    """Put an activity event that does not ``extend`` where it belongs, merging what it joins.

    Returns (start, version) of each published session that no longer stands under that start; the version is
    above any that it was published with, so that the caller can take it back. An id never stands again.
    """
    t = event.t
    sessions = shop.sessions
    after_all = not sessions or t > sessions[-1].end
    if shop.closed and t <= shop.closed[-1].end + gap:
        shop.reopen()
        sessions, after_all = shop.sessions, False
    joined = [] if after_all else [s for s in sessions if s.start - gap <= t <= s.end + gap]
    if not joined:
        fresh = Session(t, t)
        fresh.add(event)
        sessions.append(fresh)
        if not after_all:
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


def _begins(ids: bytes, digest: bytes, at: int) -> bool:
    # Found across two digests it is nobody's.
    while at >= 0:
        if at % DIGEST_BYTES == 0:
            return True
        at = ids.find(digest, at + 1)
    return False


def _start(session: Session) -> int:
    return session.start

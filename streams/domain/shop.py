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

from streams.domain.buyer import Buyer
from streams.domain.checkup import NEVER
from streams.domain.events import Input
from streams.domain.order import Orders
from streams.domain.policy import Policy
from streams.domain.segment_standing import ENDLESS
from streams.domain.segments import Asking, Rules
from streams.domain.session import DIGEST_BYTES, Session, Touch, begins

_pack = msgspec.msgpack.Encoder().encode
_unpack_session = msgspec.msgpack.Decoder(Session).decode
_unpack_buyer = msgspec.msgpack.Decoder(Buyer).decode
_unpack_orders = msgspec.msgpack.Decoder(Orders).decode


class Closed(Struct, array_like=True, gc=False):
    """A closed session whose verdict is published; times in ms.

    ids: digests of its events, dropped once no event inside the horizon can repeat one.
    visits, favorited, carts, carted: its activity. until: the watermark beyond which nothing can change its
    verdict, 0 while the policy alone says it. body: the session without these and its ids.
    """

    start: int
    end: int
    ids: bytes
    body: bytes
    visits: int
    favorited: int
    carts: int
    until: int = 0
    carted: int = 0

    def session(self) -> Session:
        """The session as it was when it was closed."""
        session = _unpack_session(self.body)
        session.start, session.end, session.ids = self.start, self.end, self.ids
        return session


class Shop(Struct, array_like=True, gc=False):
    """Sessions by start. ledger: the orders that bear on them, packed; due: the watermark beyond which one of
    the orders may be forgotten.

    person: who the customer is to the shop (a ``Buyer``), packed; check_at: the watermark at which time alone
    makes the next check-up due, 0 if it never does; owes: facts of the last one may not have been sent.

    asked: the version of the segments' rules asked last, -1 if none was. left: how many visits, favorites and
    carts may come before they are to be asked again, 0 for any number; empty if all may. stirred: the
    earliest time of an event since that may change an answer, 0 if there is none.
    """

    sessions: list[Session] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    ledger: bytes = b""
    due: int = 0
    person: bytes = b""
    check_at: int = 0
    owes: bool = False
    asked: int = -1
    left: list[int] = field(default_factory=list)
    stirred: int = 0

    def orders(self) -> Orders:
        """The orders, read; changes count only once they are kept with ``keep_orders``."""
        return _unpack_orders(self.ledger) if self.ledger else {}

    def keep_orders(self, orders: Orders, due: int) -> None:
        """Take over ``orders``, none of which is to be forgotten before ``due``."""
        self.ledger = _pack(orders) if orders else b""
        self.due = due

    def buyer(self) -> Buyer | None:
        """Who the customer is to the shop, read; changes count once they are kept with ``keep_buyer``."""
        return _unpack_buyer(self.person) if self.person else None

    def keep_buyer(self, buyer: Buyer | None, check_at: int) -> None:
        """Take over what the check-up has come to."""
        self.person = b"" if buyer is None else _pack(buyer)
        self.check_at = 0 if check_at == NEVER else max(check_at, 1)
        self.owes = buyer is not None and buyer.owed != 0

    def asking(self, rules: Rules) -> Asking:
        """What the check-up of segments goes by."""
        fresh = self.asked < 0 and not self.person
        asked = rules.version if fresh else self.asked
        return Asking(rules, self.sessions, self.stirred, asked, watched=self.asked >= 0)

    def keep_answers(self, left: tuple[int, int, int], rules: Rules) -> None:
        """Take over what the rules' answers hang on."""
        self.asked = rules.version
        self.left = [0 if n >= ENDLESS else n for n in left] if min(left) < ENDLESS else []
        self.stirred = 0

    def notice(self, event: Input, rules: Rules, watermark: int, policy: Policy) -> None:
        """Have the rules asked again if an activity event, about to be taken in, may change an answer."""
        at, t = event.topic, event.t
        if self.asked < 0 and not self.person:
            self.keep_answers(rules.initial(event.body.shop_id, policy.gap), rules)
        if self.left and at < len(self.left):
            if (left := self.left[at]) > 1:
                self.left[at] = left - 1
            elif left:
                self.stir(t, watermark)
        last = (
            self.sessions[-1].start
            if self.sessions
            else self.closed[-1].end + policy.gap
            if self.closed
            else 0
        )
        if t < last:
            # It came late, and may move a session to another day.
            self.stir(t, watermark)

    def stir(self, t: int, watermark: int) -> None:
        """Have the customer looked at because of an event of ``t``, at once or when its time has come."""
        if not self.stirred or t < self.stirred:
            self.stirred = t
        # A check-up does not look beyond the watermark.
        self.check_at = 1 if t <= watermark else min(self.check_at or NEVER, t)

    def close(self, session: Session) -> list[Touch]:
        """Pack a session away whose verdict is published; gives up what it touched."""
        start, end, ids, touches = session.start, session.end, session.ids, session.give_up_touches()
        session.start = session.end = 0
        session.ids = b""
        body = _pack(session)
        seen = session.visits, session.favorited, session.carts
        self.closed.append(Closed(start, end, ids, body, *seen, carted=session.carted))
        return touches

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
            if (at := session.ids.find(digest)) >= 0 and begins(session.ids, digest, at):
                return True
        for closed in self.closed:
            if (at := closed.ids.find(digest)) >= 0 and begins(closed.ids, digest, at):
                return True
        return False

    def extend(self, event: Input, policy: Policy) -> bool:
        """Take an activity event into the latest session, the common case; False if that is not its place."""
        if not self.sessions:
            return False
        last = self.sessions[-1]
        t = event.t
        if not last.start <= t <= last.end + policy.gap:
            return False
        if t > last.end:
            last.end = t
        last.add(event, policy.losses)
        return True


def place(shop: Shop, event: Input, policy: Policy) -> Sequence[tuple[int, int]]:
    """Put an activity event that does not ``extend`` where it belongs, merging what it joins.

    Returns (start, version) of each published session that no longer stands under that start; the version is
    above any that it was published with, so that the caller can take it back. An id never stands again.
    """
    t, gap = event.t, policy.gap
    sessions = shop.sessions
    after_all = not sessions or t > sessions[-1].end
    if shop.closed and t <= shop.closed[-1].end + gap:
        shop.reopen()
        sessions, after_all = shop.sessions, False
    joined = [] if after_all else [s for s in sessions if s.start - gap <= t <= s.end + gap]
    if not joined:
        fresh = Session(t, t)
        fresh.add(event, policy.losses)
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
    survivor.add(event, policy.losses)
    return gone


def join(shop: Shop, arrived: Session, policy: Policy) -> Sequence[tuple[int, int]]:
    """Put a whole session where it belongs, merging what it joins; gives what ``place`` gives."""
    gap = policy.gap
    if shop.closed and arrived.start <= shop.closed[-1].end + gap:
        shop.reopen()
    apart: list[Session] = []
    joined = [arrived]
    for session in shop.sessions:
        meets = session.start - gap <= arrived.end and arrived.start <= session.end + gap
        (joined if meets else apart).append(session)
    # Of two that begin together the one that was there survives, with what was published of it.
    survivor, *others = sorted(joined, key=lambda each: (each.start, each is arrived))
    for other in others:
        survivor.absorb(other)
    shop.sessions = sorted([*apart, survivor], key=_start)
    return [(other.start, other.published + 1) for other in others if other.published]


def _start(session: Session) -> int:
    return session.start

"""Who a guest is: what identify events have said of an id, and what has gone over to the customer since.

A guest's session is *claimed* if an identify event of that shop, or of all shops, lies in start..end + gap of
it; the sessions are those that all of the guest's accepted events make. Orders tie: an order on which a
claimed session's verdict rests goes over whole, and so does every session whose verdict rests on that order.
All of this only grows as events arrive, so it ends the same in any order of arrival.

A guest is one customer: the first identify event, by its place in the log, says which. An id that has been
handed something, or that a guest was said to be, is a known customer's, and gives nothing away any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field
from xxhash import xxh3_64_hexdigest

from streams.domain.checkup import AT_ONCE, NEVER
from streams.domain.events import Handover
from streams.domain.order import OrderRecord, Orders
from streams.domain.policy import Policy
from streams.domain.session import DIGEST_BYTES, Session, begins

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_session: Final = msgspec.msgpack.Decoder(Session).decode
_unpack_orders: Final = msgspec.msgpack.Decoder(Orders).decode

#: (start, end) of a session, ms.
Interval = tuple[int, int]


class Claim(Struct, array_like=True, frozen=True, gc=False):
    """An identify event of a shop, "" for all; ``t`` in ms."""

    t: int
    id: int
    shop: str


class Stub(Struct, array_like=True, gc=False):
    """A session that has gone over: when it was, and the digests of its events."""

    start: int
    end: int
    ids: bytes


class Given(Struct, array_like=True, gc=False):
    """An order that has gone over. until: the watermark (ms) beyond which nothing more is heard of it. times:
    of its mentions; ids: digests of its amendments. version: of the withdrawal of what the guest's purchase
    was said to be, 0 if nothing was."""

    until: int
    times: list[int] = field(default_factory=list)
    ids: bytes = b""
    version: int = 0


class Gone(Struct, array_like=True, gc=False):
    """What has gone over of one shop; the sessions are apart by more than the gap."""

    stubs: list[Stub] = field(default_factory=list)
    orders: dict[str, Given] = field(default_factory=dict)


class Identity(Struct, array_like=True, gc=False):
    """heir: the customer that the guest is, "" while nobody has said; partition: of their records. gone: by
    shop. known: the watermark (ms) up to which the id is remembered to be a known customer's, 0 if it is not
    known to be. owed: what the last batch had to hand over."""

    heir: str = ""
    partition: int = 0
    claims: list[Claim] = field(default_factory=list)
    gone: dict[str, Gone] = field(default_factory=dict)
    known: int = 0
    owed: list[Handover] = field(default_factory=list)

    def knows(self, shop_id: str, key: int) -> bool:
        """Whether an event of this digest has gone over."""
        gone = self.gone.get(shop_id)
        if gone is None:
            return False
        digest = key.to_bytes(DIGEST_BYTES, "big")
        kept = [*(stub.ids for stub in gone.stubs), *(given.ids for given in gone.orders.values())]
        return any(begins(ids, digest, ids.find(digest)) for ids in kept)

    def claimed(self, key: int, shop_id: str | None) -> bool:
        """Whether an identify event of this digest was taken in, said of the same shop."""
        return any(claim.id == key and claim.shop == (shop_id or "") for claim in self.claims)

    def retained(self) -> int:
        """Events whose digests are kept, to bound the state."""
        size = 0
        for gone in self.gone.values():
            size += sum(len(stub.ids) for stub in gone.stubs)
            size += sum(len(given.ids) for given in gone.orders.values())
        return size // DIGEST_BYTES + len(self.claims)

    def claimed_at(self, shop_id: str) -> list[int]:
        """The times of the identify events that bear on a shop, ms."""
        return [claim.t for claim in self.claims if claim.shop in ("", shop_id)]

    def withdrawn(self) -> list[tuple[str, str, int]]:
        """(shop, order, version) of the purchases that are the guest's no longer."""
        return [
            (shop_id, order_id, given.version)
            for shop_id, gone in self.gone.items()
            for order_id, given in gone.orders.items()
            if given.version
        ]

    def put_away(self, watermark: int, policy: Policy) -> int:
        """Forget what no accepted event can meet any more; gives when to look again, NEVER if nothing is
        left."""
        horizon = policy.horizon
        self.claims = [c for c in self.claims if watermark <= c.t + policy.gap + horizon]
        dues = [c.t + policy.gap + horizon for c in self.claims]
        settles_in = policy.gap + policy.recovery_window + horizon
        for shop_id, gone in tuple(self.gone.items()):
            gone.stubs = [stub for stub in gone.stubs if watermark <= stub.end + settles_in]
            gone.orders = {name: each for name, each in gone.orders.items() if watermark <= each.until}
            dues += [stub.end + settles_in for stub in gone.stubs]
            dues += [each.until for each in gone.orders.values()]
            if not gone.stubs and not gone.orders:
                del self.gone[shop_id]
        if not self.claims and not self.gone:
            self.heir = ""
        if watermark > self.known:
            self.known = 0
        elif self.known:
            dues.append(self.known)
        # What is owed is let go in the next step, if no crash comes between.
        return AT_ONCE if self.owed else min(dues) + 1 if dues else NEVER


class Taken(Struct, frozen=True, gc=False):
    """What is to go over of one shop: sessions by their start, orders by id."""

    starts: Collection[int]
    orders: Collection[str]


def claimed(
    sessions: Sequence[Interval],
    orders: Mapping[str, OrderRecord],
    times: Collection[int],
    gone: Gone | None,
    policy: Policy,
) -> Taken:
    """Which of the guest's sessions and orders in one shop go over, ``times`` being of identify events."""
    gap = policy.gap
    stubs = [(stub.start, stub.end) for stub in gone.stubs] if gone else []
    #: By order, the times of its mentions; of those gone already, too.
    mentions = {name: [t for _, t, _ in record.mentions] for name, record in orders.items()}
    if gone:
        for name, given in gone.orders.items():
            mentions[name] = given.times + mentions.get(name, [])
    taken = {
        (start, end)
        for start, end in sessions
        if any(start <= t <= end + gap for t in times)
        or any(start <= stub[1] + gap and stub[0] - gap <= end for stub in stubs)
    }
    names = set(gone.orders) if gone else set()
    while taken or stubs or names:
        more_names = {
            name
            for name, said in mentions.items()
            if name not in names and any(_bears(each, said, policy) for each in (*taken, *stubs))
        }
        names |= more_names
        more = {
            each
            for each in sessions
            if each not in taken and any(_bears(each, mentions[name], policy) for name in names)
        }
        taken |= more
        if not more_names and not more:
            break
    return Taken({start for start, _ in taken}, [name for name in orders if name in names])


def _bears(session: Interval, mentions: Iterable[int], policy: Policy) -> bool:
    """Whether an order bears on the session's verdict; as ``verdict.relevant`` has it."""
    start, end = session
    opens = end + policy.gap
    shuts = opens + policy.recovery_window
    return any(start <= t <= end or opens < t <= shuts for t in mentions)


def note_session(gone: Gone, session: Session, gap: int) -> None:
    """Remember a session that goes over, as one with those it touches."""
    stub = Stub(session.start, session.end, session.ids)
    apart = []
    for other in gone.stubs:
        if other.start - gap <= stub.end and stub.start <= other.end + gap:
            stub = Stub(min(other.start, stub.start), max(other.end, stub.end), other.ids + stub.ids)
        else:
            apart.append(other)
    gone.stubs = [*apart, stub]


def note_order(gone: Gone, order_id: str, record: OrderRecord, until: int, version: int) -> None:
    """Remember an order that goes over."""
    given = gone.orders.setdefault(order_id, Given(until))
    given.until = max(given.until, until)
    given.times += [t for _, t, _ in record.mentions]
    given.ids += b"".join(a.id.to_bytes(DIGEST_BYTES, "big") for a in record.amendments)
    given.version = max(given.version, version)


def handovers(
    me: Identity, guest: str, shop_id: str, sessions: Iterable[Session], orders: Orders
) -> Iterator[Handover]:
    """One for each session, with the orders mentioned in it, and one for the orders that are left."""
    left = dict(orders)
    for session in sessions:
        within = {
            name: record
            for name, record in left.items()
            if any(session.start <= t <= session.end for _, t, _ in record.mentions)
        }
        for name in within:
            del left[name]
        yield handover(me, guest, shop_id, session.start, session, within)
    if left:
        at = min(t for record in left.values() for t in times_of(record))
        yield handover(me, guest, shop_id, at, None, left)


def times_of(record: OrderRecord) -> list[int]:
    """When something was heard of the order, ms."""
    return [*(t for _, t, _ in record.mentions), *(each.t for each in record.amendments)]


def handover(
    me: Identity,
    guest: str,
    shop_id: str,
    at: int,
    session: Session | None = None,
    orders: Orders | None = None,
) -> Handover:
    """What the customer is handed; with nothing in it, it says that they are a known customer."""
    session_bytes = b"" if session is None else _pack(session)
    orders_bytes = _pack(orders) if orders else b""
    named = _pack((me.heir, guest, shop_id, at, session_bytes, orders_bytes))
    return Handover(
        event_id=xxh3_64_hexdigest(named),
        occurred_at=at,
        partition=me.partition,
        customer_id=me.heir,
        guest_id=guest,
        shop_id=shop_id,
        session=session_bytes,
        orders=orders_bytes,
    )


def session_of(body: Handover) -> Session | None:
    """The session that is handed over."""
    return _unpack_session(body.session) if body.session else None


def orders_of(body: Handover) -> Orders:
    """The orders that are handed over."""
    return _unpack_orders(body.orders) if body.orders else {}

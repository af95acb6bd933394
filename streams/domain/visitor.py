"""One customer's state and the pure step that moves it: ``advance``.

``advance`` takes bytes and gives bytes; it keeps nothing.

A crash may cut a batch between the write of some states and the write of the partition's marker. Then the
batch is delivered again, perhaps cut differently; ``applied`` tells which events a state has seen, and
``odd`` what became of those that were not simply applied, so that each is counted once, as what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from streams.domain import checkup
from streams.domain.buyer import Buyer, is_settled, leave
from streams.domain.checkup import AT_ONCE, NEVER, evaluate
from streams.domain.events import Input, Order
from streams.domain.facts import SessionFact, tombstone
from streams.domain.order import OrderRecord, Orders
from streams.domain.outlook import DEFAULT_MODEL, ShopModel
from streams.domain.policy import Policy
from streams.domain.session import Session
from streams.domain.shop import Closed, Shop, place
from streams.domain.state import Owed, Visitor, decode, encode, header
from streams.domain.verdict import judge, relevant, version

Fact = SessionFact | checkup.Fact

#: What became of an event; the index of its count in a tally.
APPLIED: Final = 0
DUPLICATE: Final = 1
LATE: Final = 2
REFUSED: Final = 3
CLASSES: Final = 4


class Context(Struct, frozen=True, gc=False):
    """What a batch's customers have in common.

    models: the published parameters by shop; under "" those of shops without their own.

    watermark: to judge lateness by, it must be one that a crash does not take back: what is late stays late.
    done: per input topic, the highest offset that a completed batch covers. batch: this batch's number in its
    partition, growing. paid: facts owed by batches up to this number have been sent.
    """

    watermark: int
    policy: Policy
    batch: int
    paid: int
    done: Sequence[int]
    models: Mapping[str, ShopModel] = {}

    def model(self, shop_id: str) -> ShopModel:
        """The parameters in force for a shop."""
        return self.models.get(shop_id) or self.models.get("", DEFAULT_MODEL)


class Transition(Struct, gc=False):
    """What one step gives.

    stored: None when nothing needs keeping, the very object that came in when nothing changed.
    wake_at: a deadline that is new, or earlier than the one the state came with; None if that one serves.
    answers: (input, class) of late and refused events, to be recorded before the state is: a state that has
    seen an event does not answer it again.
    odd: (topic, class) of each input that was not applied and that no completed batch has counted yet.
    """

    stored: bytes | None
    wake_at: int | None
    facts: list[Fact]
    odd: Sequence[tuple[int, int]] = ()
    answers: Sequence[tuple[Input, int]] = ()


def advance(customer_id: str, stored: bytes | None, inputs: Sequence[Input], context: Context) -> Transition:
    """Take ``inputs`` (of this customer; those of a topic in offset order) and the watermark into the state.

    Called without inputs when the state's deadline has passed.
    """
    watermark, policy, done = context.watermark, context.policy, context.done
    oldest = watermark - policy.horizon
    facts: list[Fact] = []
    odd: list[tuple[int, int]] = []
    answers: list[tuple[Input, int]] = []
    unpaid: list[Owed] = []
    ledgers: dict[str, Orders] = {}
    changed = not inputs
    crashed = False
    if stored is None:
        visitor = Visitor([-1] * len(done))
        wake_before = NEVER
    else:
        visitor = decode(stored)
        if len(visitor.applied) < len(done):
            # An earlier release read fewer topics.
            visitor.applied += [-1] * (len(done) - len(visitor.applied))
        wake_before, batch, owes = header(stored)
        if visitor.odd:
            visitor.odd = [seen for seen in visitor.odd if seen[1] > done[seen[0]]]
        if owes:
            crashed = batch > context.paid
            if crashed:
                unpaid = visitor.owed
            visitor.owed = []
            for shop in visitor.shops.values():
                changed |= crashed and shop.owes
                shop.owes &= crashed
    seen = visitor.applied
    room = policy.max_events
    if stored is not None and len(stored) // 8 + len(inputs) >= room:
        # An event that is retained takes eight bytes at least, so a shorter state has room.
        room -= sum(shop.retained() for shop in visitor.shops.values())
    for event in inputs:
        topic, offset = event.topic, event.offset
        if offset <= seen[topic] or offset <= done[topic]:
            if offset > done[topic]:
                kind = _class_of(visitor, topic, offset)
                if kind != APPLIED:
                    odd.append((topic, kind))
            continue
        changed = True
        seen[topic] = offset
        kind = LATE if event.t < oldest else _take(customer_id, visitor, event, context, room, facts, ledgers)
        if kind == APPLIED:
            room -= 1
        else:
            odd.append((topic, kind))
            visitor.odd.append((topic, offset, kind))
            if kind >= LATE:
                answers.append((event, kind))
    wake_at = NEVER
    if changed:
        for shop_id in tuple(visitor.shops):
            due = _settle(
                customer_id, visitor, shop_id, context, facts, unpaid, ledgers.get(shop_id), crashed
            )
            if due < wake_at:
                wake_at = due
    if unpaid:
        facts += _again(customer_id, visitor, unpaid, policy)
        visitor.owed = unpaid + visitor.owed
    if not changed:
        return Transition(stored, None, facts, odd, answers)
    if not visitor.shops:
        if not visitor.owed and not visitor.odd:
            return Transition(None, None, facts, odd, answers)
        wake_at = AT_ONCE
    kept = encode(visitor, wake_at, context.batch)
    return Transition(kept, wake_at if wake_at < wake_before else None, facts, odd, answers)


def _class_of(visitor: Visitor, topic: int, offset: int) -> int:
    for seen_topic, seen_offset, kind in visitor.odd:
        if seen_offset == offset and seen_topic == topic:
            return kind
    return APPLIED


def _take(
    customer_id: str,
    visitor: Visitor,
    event: Input,
    context: Context,
    room: int,
    facts: list[Fact],
    ledgers: dict[str, Orders],
) -> int:
    """Put an event that is not late where it belongs, unless it is there or there is no room.

    ledgers: the orders, by shop, that this step has read.
    """
    body = event.body
    shop_id = body.shop_id
    shop = visitor.shops.get(shop_id)
    if shop is not None and shop.knows(event.id):
        return DUPLICATE
    if isinstance(body, Order):
        orders = ledgers.get(shop_id)
        if orders is None:
            orders = {} if shop is None else shop.orders()
        key = event.id
        for record in orders.values():
            if record.amendments and any(a.id == key for a in record.amendments):
                return DUPLICATE
        if room <= 0:
            return REFUSED
        if shop is None:
            shop = visitor.shops[shop_id] = Shop()
        ledgers[shop_id] = orders
        shop.reopen()  # any of its verdicts may change
        record = orders.setdefault(body.order_id, OrderRecord())
        if body.action not in ("placed", "paid"):
            record.amend(event, body)
            shop.check_at = 1
            return APPLIED
        record.mention(event, body)
        if event.t > context.watermark:
            # A check-up does not look beyond the watermark.
            shop.check_at = min(shop.check_at or NEVER, event.t)
        else:
            shop.check_at = 1
    elif room <= 0:
        return REFUSED
    elif shop is None:
        shop = visitor.shops[shop_id] = Shop()
    if shop.extend(event, context.policy):
        return APPLIED
    for start, count in place(shop, event, context.policy):
        visitor.owed.append(Owed(shop_id, start, count))
        facts.append(tombstone(customer_id, shop_id, start, count))
    return APPLIED


def _settle(
    customer_id: str,
    visitor: Visitor,
    shop_id: str,
    context: Context,
    facts: list[Fact],
    unpaid: list[Owed],
    changed: Orders | None,
    crashed: bool,
) -> int:
    """Owe the verdicts that are new or have changed, and forget what nothing can change any more.

    changed: the shop's orders if an event of this step bears on them. crashed: what the shop owes may not
    have been sent. Returns the watermark at which time alone changes something next; NEVER for a shop that is
    gone.
    """
    shop = visitor.shops[shop_id]
    watermark, policy = context.watermark, context.policy
    orders = changed
    gap = policy.gap
    look = 0 < shop.check_at <= watermark or (crashed and shop.owes)
    # They are apart by more than the gap, so the first to begin is the first to close.
    if shop.sessions and watermark > shop.sessions[0].end + gap:
        if orders is None:
            orders = shop.orders()
        look = True
        at_hand, shop.sessions = shop.sessions, []
        for session in at_hand:
            if watermark > session.end + gap:
                _publish(customer_id, visitor, shop_id, session, orders, policy, facts)
                shop.close(session)
            else:
                shop.sessions.append(session)
    due = shop.sessions[0].end + gap if shop.sessions else NEVER
    settles_in = gap + policy.recovery_window + policy.horizon
    gone: list[Closed] = []
    for closed in tuple(shop.closed):
        until = closed.until or closed.end + settles_in
        if watermark > until:
            if orders is None:
                orders = shop.orders()
            closed.until = until = _expires(closed, orders, policy)
            closed.ids = b""
            if watermark > until:
                owed = unpaid + visitor.owed
                if any(o.start == closed.start and o.shop == shop_id for o in owed):
                    # A crash may still ask for what is owed of it, so it stays until the next step.
                    until = AT_ONCE - 1
                else:
                    shop.closed.remove(closed)
                    gone.append(closed)
                    continue
        if until < due:
            due = until
    if orders is None and (look or gone or (shop.ledger and watermark > shop.due)):
        orders = shop.orders()
    if not policy.buyers:
        if shop.check_at:
            shop.keep_buyer(None, NEVER)
    elif look or gone:
        facts += _check_up(customer_id, shop_id, shop, orders or {}, gone, context, crashed)
    if orders:
        _keep_orders(shop, orders, changed is not None, watermark, policy)
    if shop.ledger and shop.due < due:
        due = shop.due
    if 0 < shop.check_at <= due:
        due = shop.check_at - 1
    if not shop.sessions and not shop.closed and not shop.ledger and not shop.person:
        del visitor.shops[shop_id]
        return NEVER
    return due + 1


def _check_up(
    customer_id: str,
    shop_id: str,
    shop: Shop,
    orders: Orders,
    gone: Sequence[Closed],
    context: Context,
    crashed: bool,
) -> Sequence[Fact]:
    """Look at who the customer is to the shop; ``gone`` are the sessions that have left the state."""
    policy = context.policy
    buyer = shop.buyer()
    if gone:
        buyer = buyer or Buyer()
        for closed in gone:
            leave(buyer, closed, policy)
    result = evaluate(
        customer_id,
        shop_id,
        buyer,
        orders.values(),
        shop.closed,
        context.model(shop_id),
        context.watermark,
        policy,
        crashed and shop.owes,
    )
    shop.keep_buyer(result.buyer, result.wake_at)
    return result.facts


def _keep_orders(shop: Shop, orders: Orders, changed: bool, watermark: int, policy: Policy) -> None:
    """Pack the orders away without those that nothing can change, that bear on no session that is kept, and
    that the buyer's history holds."""
    due = NEVER - 1
    expired = []
    for order_id, record in orders.items():
        until = _order_expires(record, policy)
        if watermark > until:
            expired.append(order_id)
        elif until < due:
            due = until
    if expired:
        buyer = shop.buyer()
        bearing = [relevant(start, end, orders, policy) for start, end in shop.intervals()]
        for order_id in expired:
            settled = not policy.buyers or is_settled(buyer, orders[order_id])
            if settled and not any(order_id in each for each in bearing):
                del orders[order_id]
                changed = True
    if changed:
        shop.keep_orders(orders, due)
    else:
        shop.due = due


def _publish(
    customer_id: str,
    visitor: Visitor,
    shop_id: str,
    session: Session,
    orders: Orders,
    policy: Policy,
    facts: list[Fact],
) -> None:
    bearing = relevant(session.start, session.end, orders, policy) if orders else {}
    count = version(session, bearing, policy)
    if count == session.published:
        return
    fact = judge(customer_id, shop_id, session, bearing, policy)
    if fact is not None:
        facts.append(fact)
        visitor.owed.append(Owed(shop_id, session.start))
        session.published = count
    elif session.published:
        # What was published has turned out to hold only payments of another session's orders.
        facts.append(tombstone(customer_id, shop_id, session.start, count))
        visitor.owed.append(Owed(shop_id, session.start, count))
        session.published = count


def _order_expires(record: OrderRecord, policy: Policy) -> int:
    window = max(policy.amendment_window, policy.gap + policy.recovery_window)
    return record.expires(window, policy.horizon)


def _expires(closed: Closed, orders: Orders, policy: Policy) -> int:
    """The watermark beyond which nothing can change the session's verdict."""
    bearing = relevant(closed.start, closed.end, orders, policy)
    settled = closed.end + policy.gap + policy.recovery_window + policy.horizon
    return max([settled, *(_order_expires(record, policy) for record in bearing.values())])


def _again(customer_id: str, visitor: Visitor, unpaid: list[Owed], policy: Policy) -> list[Fact]:
    """The facts that a batch before a crash owed and may not have sent, as they stand now."""
    facts: list[Fact] = []
    for owed in unpaid:
        if owed.version:
            facts.append(tombstone(customer_id, owed.shop, owed.start, owed.version))
        elif shop := visitor.shops.get(owed.shop):
            orders = shop.orders()
            for session in (*shop.sessions, *(c.session() for c in shop.closed if c.start == owed.start)):
                if session.start == owed.start:
                    bearing = relevant(session.start, session.end, orders, policy)
                    fact = judge(customer_id, owed.shop, session, bearing, policy)
                    if fact is not None:
                        facts.append(fact)
    return facts

"""A step's part in identities: what a guest had goes over to the customer, and comes in there.

A session that had closed before goes over without its touches: these are in the guest's item-days already,
folded by item, and stay there. Its verdict, its cart and favorites, and its orders with all that rests on
them go over whole.
"""

from __future__ import annotations

from streams.domain import identity
from streams.domain.events import Handover, Input, Introduction
from streams.domain.facts import tombstone
from streams.domain.identity import Claim, Gone, Identity
from streams.domain.motives import Said
from streams.domain.order import OrderRecord, Orders
from streams.domain.session import DIGEST_BYTES
from streams.domain.settle import Step, order_expires
from streams.domain.shop import Shop, join
from streams.domain.state import Owed


def identify(step: Step, event: Input, body: Introduction) -> bool:
    """Take in that the guest is a customer; False if the id is not, or no longer, a guest's."""
    visitor = step.visitor
    me = visitor.identity
    heir = body.identified_as
    if me is None:
        me = visitor.identity = Identity()
    if heir == step.customer_id:
        # All that it says is that the id is a known customer's.
        if me.heir:
            return False
        know(step, event.t)
    elif me.known or me.heir not in ("", heir):
        return False
    elif not me.heir:
        me.heir, me.partition = heir, body.partition
        _owe(step, me, identity.handover(me, step.customer_id, "", event.t))
    me.claims.append(Claim(event.t, event.id, body.shop_id or ""))
    return True


def know(step: Step, at: int) -> None:
    """Remember that the id is a known customer's, as of ``at`` (ms)."""
    me = step.visitor.identity
    if me is None:
        me = step.visitor.identity = Identity()
    me.known = max(me.known, at + step.context.policy.buyer_memory)


def inherit(step: Step, event: Input, body: Handover) -> bool:
    """Take in what was a guest's; False if there is nothing new in it."""
    visitor, context = step.visitor, step.context
    policy, shop_id = context.policy, body.shop_id
    know(step, event.t)
    session, orders = identity.session_of(body), identity.orders_of(body)
    if session is None and not orders:
        return True
    shop = visitor.shops.get(shop_id)
    if shop is None:
        shop = visitor.shops[shop_id] = Shop()
    news = session is not None
    if orders:
        shop.reopen()  # any of its verdicts may change
        news |= _take_orders(step, shop_id, shop, orders)
    if session is not None:
        # Its own digest stands among those of its events, so that it is known when it comes again.
        session.ids += event.id.to_bytes(DIGEST_BYTES, "big")
        shop.stir(session.start, context.watermark)
        for start, count in join(shop, session, policy):
            _take_back(step, shop_id, start, count)
    return news


def _take_orders(step: Step, shop_id: str, shop: Shop, orders: Orders) -> bool:
    ledger = step.orders(shop_id)
    news = False
    for order_id, record in orders.items():
        if not ledger.setdefault(order_id, OrderRecord()).absorb(record):
            continue
        news = True
        step.resold.setdefault(shop_id, set()).add(order_id)
        for _, t, _ in record.mentions:
            shop.stir(t, step.context.watermark)
        for amendment in record.amendments:
            shop.stir(amendment.t, step.context.watermark)
            if step.context.policy.losses:
                step.trail().hear(shop_id, Said.of_amendment(amendment))
    return news


def hand_over(step: Step) -> None:
    """Owe the customer all that is the guest's no longer, and take back what was said of it."""
    me = step.visitor.identity
    # Whoever has been handed something gives nothing away: so nothing goes round in circles.
    if me is None or not me.heir or me.known:
        return
    for shop_id, shop in step.visitor.shops.items():
        times, gone = me.claimed_at(shop_id), me.gone.get(shop_id)
        if times or gone is not None:
            _hand_over(step, me, shop_id, shop, times, gone)


def _hand_over(
    step: Step, me: Identity, shop_id: str, shop: Shop, times: list[int], gone: Gone | None
) -> None:
    context = step.context
    policy, watermark = context.policy, context.watermark
    orders = step.orders(shop_id)
    taken = identity.claimed(shop.intervals(), orders, times, gone, policy)
    if not taken.starts and not taken.orders:
        return
    shop.reopen()
    gone = me.gone.setdefault(shop_id, Gone())
    sessions = [session for session in shop.sessions if session.start in taken.starts]
    shop.sessions = [session for session in shop.sessions if session.start not in taken.starts]
    for session in sessions:
        shop.stir(session.start, watermark)
        identity.note_session(gone, session, policy.gap)
        if session.published:
            _take_back(step, shop_id, session.start, session.published + 1)
            session.published = 0
    before = shop.orders() if taken.orders else {}
    going = {order_id: orders.pop(order_id) for order_id in taken.orders}
    for order_id, record in going.items():
        step.resold.setdefault(shop_id, set()).add(order_id)
        had = before.get(order_id)
        said = policy.losses and had is not None and had.moment() is not None
        version = record.weight(policy.amendment_window) + 1 if said else 0
        until = max(order_expires(record, policy), watermark)
        identity.note_order(gone, order_id, record, until, version)
        shop.stir(min(identity.times_of(record)), watermark)
        if record.amendments and policy.losses and step.trail().unhear(shop_id, record.amendments):
            step.heard.add(shop_id)
    for handover in identity.handovers(me, step.customer_id, shop_id, sessions, going):
        _owe(step, me, handover)


def _owe(step: Step, me: Identity, handover: Handover) -> None:
    me.owed.append(handover)
    step.handovers += (handover,)


def _take_back(step: Step, shop_id: str, start: int, version: int) -> None:
    step.visitor.owed.append(Owed(shop_id, start, version))
    step.facts.append(tombstone(step.customer_id, shop_id, start, version))

"""The second half of a step: what is new or has changed is told, what nothing can change is forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from streams.domain import checkup, trail
from streams.domain.buyer import Buyer, Episode, is_settled, leave
from streams.domain.checkup import AT_ONCE, NEVER, evaluate
from streams.domain.context import Context
from streams.domain.disposition import Sale
from streams.domain.events import Handover
from streams.domain.facts import SessionFact, TransitionFact, tombstone
from streams.domain.follow import Fact as LossFact
from streams.domain.follow import News, follow
from streams.domain.loss_facts import PurchaseFact
from streams.domain.motives import Lapse
from streams.domain.order import OrderRecord, Orders
from streams.domain.outlook import ShopModel, gap_of_most
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.purchase import purchase, withdrawn
from streams.domain.session import Session, Touch
from streams.domain.shop import Closed, Shop
from streams.domain.state import Owed, Visitor
from streams.domain.trail import Trail
from streams.domain.verdict import judge, relevant, version

Fact = SessionFact | checkup.Fact | PurchaseFact | LossFact


class Step(Struct, gc=False):
    """One customer's step in the making.

    crashed: facts owed before it may not have been sent; unpaid: of these, the sessions'.
    resold: by shop, the orders that events of this step bear on. touches: by shop, of each session that has
    closed. lapses: of buyers, found in this step. heard: shops of which the customer has said something.
    handovers: to be sent, those that a crash may have kept back among them.
    """

    customer_id: str
    visitor: Visitor
    context: Context
    crashed: bool = False
    unpaid: list[Owed] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    resold: dict[str, set[str]] = field(default_factory=dict)
    touches: list[tuple[str, Sequence[Touch]]] = field(default_factory=list)
    lapses: list[tuple[str, Lapse]] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)
    handovers: tuple[Handover, ...] = ()
    _ledgers: dict[str, Orders] = field(default_factory=dict)
    _trail: Trail | None = None

    def orders(self, shop_id: str) -> Orders:
        """The shop's orders, read once a step; changes count only once they are kept."""
        orders = self._ledgers.get(shop_id)
        if orders is None:
            shop = self.visitor.shops.get(shop_id)
            orders = self._ledgers[shop_id] = {} if shop is None else shop.orders()
        return orders

    def orders_read(self, shop_id: str) -> Orders | None:
        """The shop's orders if they have been read."""
        return self._ledgers.get(shop_id)

    def trail(self) -> Trail:
        """The customer's trail, read once a step."""
        if self._trail is None:
            self._trail = trail.read(self.visitor.trail)
        return self._trail

    def trail_read(self) -> bool:
        """Whether the trail has been read, and may have been changed."""
        return self._trail is not None


def settle(step: Step) -> int:
    """Owe the facts that are new or have changed, and forget what nothing can change any more.

    Returns the watermark at which time alone changes something next.
    """
    visitor, policy = step.visitor, step.context.policy
    dues = [(shop_id, _settle_shop(step, shop_id)) for shop_id in tuple(visitor.shops)]
    wake_at = _follow(step) if policy.losses or step.trail_read() or visitor.trail else NEVER
    for shop_id, due in dues:
        wake_at = min(wake_at, _put_away(step, shop_id, due))
    if (me := visitor.identity) is not None:
        due = me.put_away(step.context.watermark, policy)
        wake_at = min(wake_at, due)
        if due == NEVER:
            visitor.identity = None
    if step.unpaid:
        step.facts += again(step)
        visitor.owed = step.unpaid + visitor.owed
    return wake_at


def _settle_shop(step: Step, shop_id: str) -> int:
    """Publish and close sessions, and look at who the customer is to the shop; gives when to look again."""
    shop = step.visitor.shops[shop_id]
    context = step.context
    watermark, policy = context.watermark, context.policy_of(shop_id)
    gap = policy.gap
    look = 0 < shop.check_at <= watermark or (step.crashed and shop.owes)
    look |= context.other_rules and shop.asked != context.rules.version
    # They are apart by more than the gap, so the first to begin is the first to close.
    if shop.sessions and watermark > shop.sessions[0].end + gap:
        orders = step.orders(shop_id)
        look = True
        at_hand, shop.sessions = shop.sessions, []
        for session in at_hand:
            if watermark > session.end + gap:
                _publish(step, shop_id, session, orders, policy)
                if touches := shop.close(session):
                    step.touches.append((shop_id, touches))
            else:
                shop.sessions.append(session)
    due = shop.sessions[0].end + gap if shop.sessions else NEVER
    settles_in = gap + policy.recovery_window + policy.horizon
    gone: list[Closed] = []
    for closed in tuple(shop.closed):
        until = closed.until or closed.end + settles_in
        if watermark > until:
            closed.until = until = _expires(closed, step.orders(shop_id), policy)
            closed.ids = b""
            if watermark > until:
                owed = step.unpaid + step.visitor.owed
                if any(o.start == closed.start and o.shop == shop_id for o in owed):
                    # A crash may still ask for what is owed of it, so it stays until the next step.
                    until = AT_ONCE - 1
                else:
                    shop.closed.remove(closed)
                    gone.append(closed)
                    continue
        if until < due:
            due = until
    if not policy.buyers:
        if shop.check_at:
            shop.keep_buyer(None, NEVER)
    elif look or gone:
        _check_up(step, shop_id, shop, gone, policy)
    return due


def _check_up(step: Step, shop_id: str, shop: Shop, gone: Sequence[Closed], policy: Policy) -> None:
    """Look at who the customer is to the shop; ``gone`` are the sessions that have left the state."""
    context = step.context
    buyer = shop.buyer()
    if gone:
        buyer = buyer or Buyer()
        for closed in gone:
            leave(buyer, closed, policy)
    result = evaluate(
        step.customer_id,
        shop_id,
        buyer,
        step.orders(shop_id).values(),
        shop.closed,
        context.model(shop_id),
        context.watermark,
        policy,
        step.crashed and shop.owes,
        shop.asking(context.rules),
    )
    shop.keep_buyer(result.buyer, result.wake_at)
    if result.left is not None:
        shop.keep_answers(result.left, context.rules)
    elif result.buyer is None:
        shop.keep_answers(context.rules.initial(shop_id, policy.gap), context.rules)
    step.facts += result.facts
    if result.buyer is not None and policy.losses:
        for fact in result.facts:
            if isinstance(fact, TransitionFact) and fact.to_state in ("lapsing", "lapsed"):
                stays = [(result.buyer.seen, result.buyer.seen), *shop.intervals()]
                step.lapses.append((shop_id, _lapse(fact, stays, result.episodes, context.model(shop_id))))


def _lapse(
    fact: TransitionFact, stays: Sequence[tuple[int, int]], episodes: Sequence[Episode], model: ShopModel
) -> Lapse:
    seen = max([min(end, fact.at) for start, end in stays if start <= fact.at], default=0)
    for episode in episodes:
        if episode.anchor == fact.anchor:
            q90 = gap_of_most(model, episode.x, episode.t_x)
            return Lapse.of(fact, seen, q90, one_time=episode.x == 0)
    # It is told again, after a crash; what it rests on is known from before.
    return Lapse.of(fact, seen, 0, one_time=False)


def _follow(step: Step) -> int:
    """Take what this step has brought into the trail; gives the watermark at which it is to be looked at."""
    visitor, context = step.visitor, step.context
    unpaid = step.crashed and visitor.trail_owes
    sessions = [fact for fact in step.facts if isinstance(fact, SessionFact)] if step.facts else []
    if not (
        sessions
        or step.lapses
        or step.touches
        or step.resold
        or unpaid
        or step.trail_read()
        or 0 < visitor.trail_at <= context.watermark
    ):
        return visitor.trail_at or NEVER
    if not context.policy.losses:
        # It holds nothing but what customers have said, and what an earlier setting has left.
        due = trail.forget(
            step.trail(), context.watermark, context.policy_of, _open_since(visitor), owes=False
        )
        return _keep_trail(step, False, due)
    told: list[Fact] = []
    for shop_id, shop in visitor.shops.items():
        ids = step.orders(shop_id) if unpaid and shop.ledger else step.resold.get(shop_id, ())
        orders = step.orders(shop_id) if ids else {}
        for order_id in ids:
            record = orders.get(order_id)
            if record is None:
                continue  # it has gone over to the customer that the guest is
            fact = purchase(step.customer_id, shop_id, order_id, record, context.policy_of(shop_id))
            if fact is not None:
                told.append(fact)
    if (me := visitor.identity) is not None:
        for shop_id, order_id, count in me.withdrawn():
            if unpaid or order_id in step.resold.get(shop_id, ()):
                told.append(withdrawn(step.customer_id, shop_id, order_id, count))
    news = News(
        touches=step.touches,
        sessions=sessions,
        lapses=step.lapses,
        heard=step.heard,
        sales=_sales(step),
        resold=[(shop_id, order_id) for shop_id, ids in step.resold.items() for order_id in ids],
        sold=bool(told),
        open_since=_open_since(visitor),
        # What has stayed only because it might have to be told again is looked at with the next watermark; a
        # step at this one must not judge it either, because the orders that bore on it were free to go.
        expired=0 < visitor.trail_at <= context.watermark + 1,
    )
    followed, due = follow(step.customer_id, step.trail(), news, context.watermark, context.policy_of, unpaid)
    step.facts += told
    step.facts += followed
    return _keep_trail(step, bool(told or followed), due)


def _open_since(visitor: Visitor) -> dict[str, int]:
    return {shop_id: shop.sessions[0].start for shop_id, shop in visitor.shops.items() if shop.sessions}


def _keep_trail(step: Step, owes: bool, due: int) -> int:
    visitor = step.visitor
    visitor.trail = trail.keep(step.trail())
    visitor.trail_at = 0 if due == NEVER else max(due, 1)
    visitor.trail_owes = owes
    return due


def _sales(step: Step) -> list[Sale]:
    """All standing orders that are known, of all shops."""
    sales = []
    for shop_id, shop in step.visitor.shops.items():
        if not shop.ledger and shop_id not in step.resold:
            continue
        policy = step.context.policy
        for order_id, record in step.orders(shop_id).items():
            moment = record.moment()
            back = record.refunded(policy.amendment_window)
            if moment is not None and back is not None:
                sales.append(Sale(shop_id, order_id, moment[1], record, back))
    return sales


def _put_away(step: Step, shop_id: str, due: int) -> int:
    """Pack away what was read of the shop; gives when to look again, NEVER for a shop that is gone."""
    shop = step.visitor.shops[shop_id]
    watermark, policy = step.context.watermark, step.context.policy_of(shop_id)
    orders = step.orders_read(shop_id)
    if orders is None and shop.ledger and watermark > shop.due:
        orders = step.orders(shop_id)
    if orders or (orders is not None and shop_id in step.resold):
        _keep_orders(shop, orders, shop_id in step.resold, step.visitor.trail_owes, watermark, policy)
    if shop.ledger and shop.due < due:
        due = shop.due
    if 0 < shop.check_at <= due:
        due = shop.check_at - 1
    if not shop.sessions and not shop.closed and not shop.ledger and not shop.person:
        del step.visitor.shops[shop_id]
        return NEVER
    return due + 1


def _keep_orders(
    shop: Shop, orders: Orders, changed: bool, held: bool, watermark: int, policy: Policy
) -> None:
    """Pack the orders away without those that nothing can change, that bear on no session that is kept, and
    that the buyer's history holds. held: a crash may still ask for what was said of any of them."""
    due = NEVER - 1
    expired = []
    for order_id, record in orders.items():
        until = order_expires(record, policy)
        if watermark > until:
            expired.append(order_id)
        elif until < due:
            due = until
    if expired and held:
        due = watermark
    elif expired:
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


def _publish(step: Step, shop_id: str, session: Session, orders: Orders, policy: Policy) -> None:
    bearing = relevant(session.start, session.end, orders, policy) if orders else {}
    count = version(session, bearing, policy)
    if count == session.published:
        return
    fact = judge(step.customer_id, shop_id, session, bearing, policy)
    if fact is not None:
        step.facts.append(fact)
        step.visitor.owed.append(Owed(shop_id, session.start))
        session.published = count
    elif session.published:
        # What was published has turned out to hold only payments of another session's orders.
        step.facts.append(tombstone(step.customer_id, shop_id, session.start, count))
        step.visitor.owed.append(Owed(shop_id, session.start, count))
        session.published = count


def order_expires(record: OrderRecord, policy: Policy) -> int:
    """The watermark beyond which nothing can change the order, nor anything that it bears on."""
    window = max(policy.amendment_window, policy.gap + policy.recovery_window)
    if policy.losses:
        # It outlives every day that it may bear on; a day may have an hour or two more than others.
        window += policy.leak_window + DAY + 2 * HOUR
    return record.expires(window, policy.horizon)


def _expires(closed: Closed, orders: Orders, policy: Policy) -> int:
    """The watermark beyond which nothing can change the session's verdict."""
    bearing = relevant(closed.start, closed.end, orders, policy)
    settled = closed.end + policy.gap + policy.recovery_window + policy.horizon
    return max([settled, *(order_expires(record, policy) for record in bearing.values())])


def again(step: Step) -> list[Fact]:
    """The facts that a batch before a crash owed and may not have sent, as they stand now."""
    customer_id, visitor, context = step.customer_id, step.visitor, step.context
    facts: list[Fact] = []
    for owed in step.unpaid:
        if owed.version:
            facts.append(tombstone(customer_id, owed.shop, owed.start, owed.version))
        elif shop := visitor.shops.get(owed.shop):
            orders = shop.orders()
            policy = context.policy_of(owed.shop)
            for session in (*shop.sessions, *(c.session() for c in shop.closed if c.start == owed.start)):
                if session.start == owed.start:
                    bearing = relevant(session.start, session.end, orders, policy)
                    fact = judge(customer_id, owed.shop, session, bearing, policy)
                    if fact is not None:
                        facts.append(fact)
    return facts

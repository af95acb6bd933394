"""The verdict on a closed session: converted or lost, how deep the intent was, what stood to be won.

A verdict is a function of the events that bear on it and of nothing else; its version counts them.
"""

from __future__ import annotations

from streams.domain import cart
from streams.domain.bots import bot_sign
from streams.domain.cart import Line
from streams.domain.days import date_of, day_of
from streams.domain.facts import LostStage, SessionFact, money, session_id
from streams.domain.order import OrderRecord, Orders
from streams.domain.policy import Policy
from streams.domain.session import Session


def closes_at(session: Session, policy: Policy) -> int:
    """The last moment at which the session is still open: it is closed beyond it."""
    return session.end + policy.gap


def relevant(start: int, end: int, orders: Orders, policy: Policy) -> Orders:
    """The orders that bear on the verdict on start..end: mentioned in it, or in its recovery window."""
    opens = end + policy.gap
    shuts = opens + policy.recovery_window
    bearing = {}
    for order_id, order in orders.items():
        for _, t, _ in order.mentions:
            if start <= t <= end or opens < t <= shuts:
                bearing[order_id] = order
                break
    return bearing


def version(session: Session, bearing: Orders, policy: Policy) -> int:
    """The number of events that bear on the verdict; it only grows as they arrive."""
    if not bearing:
        return session.events
    return session.events + sum(order.weight(policy.amendment_window) for order in bearing.values())


def attributed(session: Session, bearing: Orders) -> Orders:
    """The orders whose moment lies in the session."""
    found = {}
    for order_id, order in bearing.items():
        moment = order.moment()
        if moment is not None and session.start <= moment[1] <= session.end:
            found[order_id] = order
    return found


def judge(
    customer_id: str, shop_id: str, session: Session, bearing: Orders, policy: Policy
) -> SessionFact | None:
    """The session's fact, given the orders that bear on it.

    There is none if the session holds only payments of other sessions' orders.
    """
    own = attributed(session, bearing) if bearing else {}
    if not own and session.paid == session.events:
        return None
    standing: list[tuple[OrderRecord, int]] = []
    for order in own.values():
        back = order.refunded(policy.amendment_window)
        if back is not None:
            standing.append((order, back))
    lines = _standing_lines(session, [order for order, _ in standing]) if session.cart else []
    currency, mixed = _currency(session, own) if own or session.cart else (None, False)
    cart_value = revenue = 0
    for line in lines:
        if line.currency is None or line.currency == currency:
            cart_value += line.price * line.quantity
    for order, back in standing:
        if back < order.total and (order.currency is None or order.currency == currency):
            revenue += order.total - back
    lost = not standing
    sign = bot_sign(session, policy)
    recovery = _recovery(session, bearing, policy) if lost and bearing else None
    return SessionFact(
        session_id=session_id(customer_id, shop_id, session.start),
        shop_id=shop_id,
        customer_id=customer_id,
        started_at=session.start,
        ended_at=session.end,
        outcome="lost" if lost else "converted",
        lost_stage=_stage(session, lines) if lost else None,
        events=session.events,
        visits=session.visits,
        favorites=session.favorited,
        carts=session.carts,
        cart_value=money(cart_value),
        currency=currency,
        mixed_currency=mixed,
        orders=len(standing),
        revenue=money(revenue),
        recovered=recovery is not None,
        recovered_at=recovery[0] if recovery else None,
        recovered_by=recovery[1] if recovery else None,
        landing_item=session.landing[2] if session.landing else None,
        channel=session.channel[2] if session.channel else None,
        campaign=session.campaign[2] if session.campaign else None,
        is_bot=sign is not None,
        day=date_of(day_of(session.start, policy.zone)),
        bot_by=sign,
        version=version(session, bearing, policy),
        is_deleted=False,
    )


def _stage(session: Session, lines: list[Line]) -> LostStage:
    if lines:
        return "carted"
    if session.favorites and any(added for _, _, added in session.favorites.values()):
        return "favorited"
    if session.events == 1 == session.visits:
        return "bounced"
    return "browsed"


def _standing_lines(session: Session, orders: list[OrderRecord]) -> list[Line]:
    """Cart lines that no standing order of the session has bought since they were last touched."""
    lines = cart.fold(session.cart or [])
    if not orders:
        return lines
    bought: dict[str, cart.Stamp] = {}
    for order in orders:
        moment = order.moment()
        if moment is not None:
            for item in order.items:
                bought[item] = max(bought.get(item, cart.BEFORE_ALL), moment[1:])
    return [
        line
        for line in lines
        if bought.get(line.item, cart.BEFORE_ALL) < line.touched or line.item not in bought
    ]


def _currency(session: Session, own: Orders) -> tuple[str | None, bool]:
    """Of the earliest order that has one, else of the earliest priced cart event that has one; and whether
    an order or a priced cart event names another: that money is not added."""
    named: list[tuple[int, int, int, str]] = []
    for order in own.values():
        moment = order.moment()
        if order.currency and moment is not None:
            named.append((0, moment[1], moment[2], order.currency))
    for op in session.cart or ():
        if op.price is not None and op.currency:
            named.append((1, op.t, op.id, op.currency))
    if not named:
        return None, False
    currency = min(named)[3]
    return currency, any(each[3] != currency for each in named)


def _recovery(session: Session, bearing: Orders, policy: Policy) -> tuple[int, str] | None:
    """(moment, order id) of the earliest standing order inside the recovery window."""
    opens = closes_at(session, policy)
    shuts = opens + policy.recovery_window
    found = [
        (moment[1], moment[2], order_id)
        for order_id, order in bearing.items()
        if (moment := order.moment()) is not None
        and opens < moment[1] <= shuts
        and order.refunded(policy.amendment_window) is not None
    ]
    if not found:
        return None
    at, _, order_id = min(found)
    return at, order_id

"""One customer's state and the pure step that moves it: ``advance``.

``advance`` takes bytes and gives bytes; it keeps nothing.

A crash may cut a batch between the write of some states and the write of the partition's marker. Then the
batch is delivered again, perhaps cut differently; ``applied`` tells which events a state has seen, and
``odd`` what became of those that were not simply applied, so that each is counted once, as what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from msgspec import Struct

from schemas.topics import FEEDBACK, INPUTS
from streams.domain.checkup import AT_ONCE, NEVER
from streams.domain.context import Context
from streams.domain.events import Feedback, Handover, Input, Introduction, Order
from streams.domain.facts import tombstone
from streams.domain.handing import hand_over, identify, inherit
from streams.domain.motives import Said
from streams.domain.order import OrderRecord
from streams.domain.settle import Fact, Step, again, settle
from streams.domain.shop import Shop, place
from streams.domain.state import Owed, Visitor, decode, encode, header

#: What became of an event; the index of its count in a tally.
APPLIED: Final = 0
DUPLICATE: Final = 1
LATE: Final = 2
REFUSED: Final = 3
CLASSES: Final = 4
#: In answers alone: refused, because an identify event was of no guest.
NOT_A_GUEST: Final = 4
#: From here on, topics of what is no activity and no order.
_FEEDBACK: Final = INPUTS.index(FEEDBACK)


class Transition(Struct, gc=False):
    """What one step gives.

    stored: None when nothing needs keeping, the very object that came in when nothing changed.
    wake_at: a deadline that is new, or earlier than the one the state came with; None if that one serves.
    answers: (input, class) of late and refused events, to be recorded before the state is: a state that has
    seen an event does not answer it again. NOT_A_GUEST stands for a class of its own: refused for that.
    odd: (topic, class) of each input that was not applied and that no completed batch has counted yet.
    handovers: what is owed to customers, to be sent once the state is kept.
    """

    stored: bytes | None
    wake_at: int | None
    facts: list[Fact]
    odd: Sequence[tuple[int, int]] = ()
    answers: Sequence[tuple[Input, int]] = ()
    handovers: Sequence[Handover] = ()


def advance(customer_id: str, stored: bytes | None, inputs: Sequence[Input], context: Context) -> Transition:
    """Take ``inputs`` (of this customer; those of a topic in offset order) and the watermark into the state.

    Called without inputs when the state's deadline has passed.
    """
    policy, done = context.policy, context.done
    oldest = context.watermark - policy.horizon
    odd: list[tuple[int, int]] = []
    answers: list[tuple[Input, int]] = []
    changed = not inputs
    if stored is None:
        visitor = Visitor([-1] * len(done))
        step = Step(customer_id, visitor, context)
        wake_before = NEVER
    else:
        visitor = decode(stored)
        if len(visitor.applied) < len(done):
            # An earlier release read fewer topics.
            visitor.applied += [-1] * (len(done) - len(visitor.applied))
        step = Step(customer_id, visitor, context)
        wake_before, batch, owes = header(stored)
        if visitor.odd:
            visitor.odd = [seen for seen in visitor.odd if seen[1] > done[seen[0]]]
        if owes:
            crashed = step.crashed = batch > context.paid
            if crashed:
                step.unpaid = visitor.owed
                changed |= visitor.trail_owes
            visitor.owed = []
            visitor.trail_owes &= crashed
            for shop in visitor.shops.values():
                changed |= crashed and shop.owes
                shop.owes &= crashed
            if (me := visitor.identity) is not None:
                if crashed:
                    step.handovers = tuple(me.owed)
                else:
                    me.owed = []
    if context.other_rules and all(s.asked == context.rules.version for s in visitor.shops.values()):
        return Transition(stored, None, [])
    seen = visitor.applied
    room = policy.max_events
    if stored is not None and len(stored) // 8 + len(inputs) >= room:
        # An event that is retained takes eight bytes at least, so a shorter state has room.
        room -= sum(shop.retained() for shop in visitor.shops.values()) + step.trail().retained()
        room -= 0 if visitor.identity is None else visitor.identity.retained()
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
        kind = LATE if event.t < oldest else _take(step, event, room)
        if kind == APPLIED:
            room -= 1
        else:
            if kind >= LATE:
                answers.append((event, kind))
                kind = min(kind, REFUSED)
            odd.append((topic, kind))
            visitor.odd.append((topic, offset, kind))
    if not changed:
        step.facts += again(step)
        return Transition(stored, None, step.facts, odd, answers, step.handovers)
    if visitor.identity is not None:
        hand_over(step)
    wake_at = settle(step)
    if not visitor.shops and not visitor.trail and visitor.identity is None:
        if not visitor.owed and not visitor.odd:
            return Transition(None, None, step.facts, odd, answers)
        wake_at = AT_ONCE
    kept = encode(visitor, wake_at, context.batch)
    return Transition(
        kept, wake_at if wake_at < wake_before else None, step.facts, odd, answers, step.handovers
    )


def _class_of(visitor: Visitor, topic: int, offset: int) -> int:
    for seen_topic, seen_offset, kind in visitor.odd:
        if seen_offset == offset and seen_topic == topic:
            return kind
    return APPLIED


def _take(step: Step, event: Input, room: int) -> int:
    """Put an event that is not late where it belongs, unless it is there or there is no room."""
    visitor, context = step.visitor, step.context
    body = event.body
    shop_id = body.shop_id
    shop = visitor.shops.get(shop_id)
    if shop is not None and shop.knows(event.id):
        return DUPLICATE
    if visitor.identity is not None and visitor.identity.knows(shop_id, event.id):
        return DUPLICATE
    if event.topic >= _FEEDBACK:
        return _hear(step, event, body, room) if isinstance(body, Feedback) else _meet(step, event, room)
    if isinstance(body, Order):
        orders = step.orders(shop_id)
        key = event.id
        for record in orders.values():
            if record.amendments and any(a.id == key for a in record.amendments):
                return DUPLICATE
        if room <= 0:
            return REFUSED
        if shop is None:
            shop = visitor.shops[shop_id] = Shop()
        shop.reopen()  # any of its verdicts may change
        record = orders.setdefault(body.order_id, OrderRecord())
        step.resold.setdefault(shop_id, set()).add(body.order_id)
        if body.action not in ("placed", "paid"):
            record.amend(event, body)
            shop.stir(event.t, context.watermark)
            if context.policy.losses:
                step.trail().hear(shop_id, Said.of(event, body))
            return APPLIED
        record.mention(event, body)
        shop.stir(event.t, context.watermark)
    elif room <= 0:
        return REFUSED
    elif shop is None:
        shop = visitor.shops[shop_id] = Shop()
    if context.policy.buyers and not isinstance(body, Order):
        shop.notice(event, context.rules, context.watermark, context.policy)
    if shop.extend(event, context.policy):
        return APPLIED
    for start, count in place(shop, event, context.policy):
        visitor.owed.append(Owed(shop_id, start, count))
        step.facts.append(tombstone(step.customer_id, shop_id, start, count))
    return APPLIED


def _meet(step: Step, event: Input, room: int) -> int:
    """Take in who a guest is, or what a guest has handed over."""
    visitor = step.visitor
    body = cast("Introduction | Handover", event.body)
    me = visitor.identity
    if isinstance(body, Introduction):
        if me is not None and me.claimed(event.id, body.shop_id):
            return DUPLICATE
        if room <= 0:
            return REFUSED
        return APPLIED if identify(step, event, body) else NOT_A_GUEST
    if room <= 0:
        return REFUSED
    return APPLIED if inherit(step, event, body) else DUPLICATE


def _hear(step: Step, event: Input, body: Feedback, room: int) -> int:
    if room <= 0:
        return REFUSED
    if not step.trail().hear(body.shop_id, Said.of(event, body)):
        return DUPLICATE
    step.heard.add(body.shop_id)
    return APPLIED

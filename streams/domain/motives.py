"""What a customer's trail knows of losses and their reasons: the evidence, from which ``reasons`` judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from streams.domain.days import date_of, day_of
from streams.domain.disposition import Sale
from streams.domain.events import Feedback, Input, Order
from streams.domain.facts import LostStage, SessionFact, Stage, TransitionFact, session_id
from streams.domain.facts import transition_id as id_of_transition
from streams.domain.leakage import Leak
from streams.domain.loss_facts import ReasonFact, ReasonKind, reason_id
from streams.domain.order import CANCELLED, Amendment
from streams.domain.policy import DAY, Policy
from streams.domain.purchase import unit_price
from streams.domain.reasons import (
    Bought,
    Grievance,
    GrievanceKind,
    LapseEvidence,
    LossEvidence,
    Move,
    Verdict,
    why_lapsed,
    why_lost,
)

#: How far back purchases are looked at for what they say of a loss.
LOOKBACK: Final = 120 * DAY
#: A rating up to this is bad; a reply later than this is.
_BAD_RATING: Final = 2
_SLOW_REPLY: Final = DAY
#: By code, in order of weight; 0 is nothing bad, kept to know a duplicate.
_KINDS: Final[tuple[GrievanceKind, ...]] = ("review", "complaint", "refunded", "cancelled", "reply")
_FINE: Final = 0

_pack: Final = msgspec.msgpack.Encoder().encode


class Said(Struct, array_like=True, frozen=True, gc=False):
    """Feedback, or an order taken back. code: 0 for nothing bad, else 1 + its place among the kinds."""

    t: int
    id: int
    code: int

    @classmethod
    def of(cls, event: Input, body: Feedback | Order) -> Said:
        """What the event comes to."""
        kind: GrievanceKind | None = None
        if isinstance(body, Order):
            kind = "cancelled" if body.action == "cancelled" else "refunded"
        elif body.action == "complaint":
            kind = "complaint"
        elif body.rating is not None and body.rating <= _BAD_RATING and body.action == "review":
            kind = "review"
        elif body.reply_ms is not None and body.reply_ms > _SLOW_REPLY and body.action == "reply":
            kind = "reply"
        return cls(event.t, event.id, _FINE if kind is None else 1 + _KINDS.index(kind))

    @classmethod
    def of_amendment(cls, amendment: Amendment) -> Said:
        """What was said by taking an order back, or a part of it."""
        kind: GrievanceKind = "cancelled" if amendment.code == CANCELLED else "refunded"
        return cls(amendment.t, amendment.id, 1 + _KINDS.index(kind))


class Past(Struct, array_like=True, frozen=True, gc=False):
    """A standing purchase. prices: (category, mean price of a piece in ten-thousandths or None)."""

    shop: str
    order: str
    at: int
    currency: str | None
    prices: tuple[tuple[str, int | None], ...]

    @classmethod
    def of(cls, sale: Sale) -> Past:
        """What is remembered of ``sale``."""
        record = sale.record
        prices = tuple(
            (name, unit_price([d for d in record.details if d.category == place]))
            for place, name in enumerate(record.categories)
        )
        return cls(sale.shop_id, sale.order_id, sale.at, record.currency, prices)

    def sort_key(self) -> tuple[int, str, str]:
        """By time, and the same for all."""
        return self.at, self.shop, self.order


class Loss(Struct, array_like=True, gc=False):
    """A lost session whose reason was told, or is to be: digest and version of what was said last."""

    start: int
    end: int
    stage: LostStage
    is_bot: bool
    told: int = 0
    version: int = 0
    gone: bool = False

    @classmethod
    def of(cls, fact: SessionFact) -> Loss:
        """The loss that ``fact`` speaks of."""
        assert fact.lost_stage is not None
        return cls(fact.started_at, fact.ended_at, fact.lost_stage, fact.is_bot)


class Lapse(Struct, array_like=True, gc=False):
    """A buyer's lapse whose reason was told, or is to be. seen: the end of the latest session before it, 0 if
    none is known. q90: in days, the gap that 90 % of this buyer's gaps do not exceed."""

    anchor: int
    at: int
    state: Stage
    one_time: bool
    seen: int
    q90: int
    told: int = 0
    version: int = 0
    gone: bool = False

    @classmethod
    def of(cls, fact: TransitionFact, seen: int, q90: int, one_time: bool) -> Lapse:
        """The lapse that ``fact``, a transition to a stage, speaks of."""
        state: Stage = "lapsing" if fact.to_state == "lapsing" else "lapsed"
        return cls(fact.anchor, fact.at, state, one_time, seen, q90, gone=fact.is_deleted)


def latest_grievance(said: Iterable[Said], at: int, window: int, left: int | None = None) -> Grievance | None:
    """The latest at or before ``at`` and less than ``window`` ms before it; its age is counted back from
    ``left``, if given, when the buyer was last there."""
    found = None
    for each in said:
        if each.code != _FINE and at - window < each.t <= at:
            key = (each.t, -each.code)
            if found is None or key > found:
                found = key
    if found is None:
        return None
    return Grievance(_KINDS[-found[1] - 1], max(0, (at if left is None else left) - found[0]))


def moves_of_leaks(leaks: Sequence[tuple[str, str, Leak]], past: Sequence[Past]) -> tuple[Move, ...]:
    """What a lost session moved to; ``leaks``: (shop, order, leak)."""
    return tuple(
        Move(category, shop, order, lost.price_here, lost.price_there, _history(past, category, lost.at))
        for shop, order, lost in leaks
        for category in lost.categories
    )


def moves_of_lapse(shop_id: str, lapse: Lapse, past: Sequence[Past]) -> tuple[Move, ...]:
    """Purchases elsewhere, since the last one here, of categories bought here; ``past`` by time."""
    since = lapse.at - LOOKBACK
    here: dict[str, tuple[int | None, str | None]] = {}
    for bought in past:
        if bought.shop == shop_id and since < bought.at <= lapse.at:
            for category, price in bought.prices:
                if price is not None or category not in here:
                    here[category] = (price, bought.currency)
    moves = []
    for bought in past:
        if bought.shop == shop_id or not max(lapse.anchor, since) < bought.at <= lapse.at:
            continue
        for category, there in bought.prices:
            if category not in here:
                continue
            price, currency = here[category]
            if currency is not None and bought.currency is not None and currency != bought.currency:
                price = None
            history = _history(past, category, lapse.at)
            moves.append(Move(category, bought.shop, bought.order, price, there, history))
    return tuple(moves)


def _history(past: Sequence[Past], category: str, at: int) -> tuple[Bought, ...]:
    return tuple(
        Bought(bought.shop, price, bought.currency)
        for bought in past
        if at - LOOKBACK < bought.at <= at
        for name, price in bought.prices
        if name == category
    )


def explain_loss(
    customer_id: str, shop_id: str, loss: Loss, moves: tuple[Move, ...], said: Sequence[Said], policy: Policy
) -> ReasonFact | None:
    """Why the session was lost, unless that was said already; its version is the caller's to set."""
    window = policy.grievance_window
    grievance = latest_grievance(said, loss.start, window) if said else None
    if moves or grievance is not None:
        verdict = why_lost(LossEvidence(loss.stage, moves, grievance, window))
    else:
        verdict = _of_stage(loss.stage)
    subject = session_id(customer_id, shop_id, loss.start)
    at, day = loss.end, day_of(loss.start, policy.zone)
    fact = _fact("session", subject, shop_id, customer_id, at, day, verdict, loss.is_bot)
    return _unless_told(fact, loss)


@lru_cache
def _of_stage(stage: LostStage) -> Verdict:
    """Of most losses nothing is known but how they ended."""
    return why_lost(LossEvidence(stage, (), None, 0))


def explain_lapse(
    customer_id: str,
    shop_id: str,
    lapse: Lapse,
    moves: tuple[Move, ...],
    said: Iterable[Said],
    policy: Policy,
) -> ReasonFact | None:
    """Why the buyer lapsed, unless that was said already; its version is the caller's to set."""
    window, zone = policy.grievance_window, policy.zone
    today, last = day_of(lapse.at, zone), day_of(lapse.anchor, zone)
    evidence = LapseEvidence(
        silence=today - last,
        unseen=today - day_of(max(lapse.anchor, lapse.seen), zone),
        q90=lapse.q90,
        one_time=lapse.one_time,
        moves=moves,
        grievance=latest_grievance(said, lapse.at, window, max(lapse.anchor, lapse.seen)),
        window=window,
    )
    subject = subject_of(customer_id, shop_id, lapse)
    fact = _fact("lapse", subject, shop_id, customer_id, lapse.at, today, why_lapsed(evidence), False)
    return _unless_told(fact, lapse)


def subject_of(customer_id: str, shop_id: str, of: Loss | Lapse) -> str:
    """The id of the session, or of the transition."""
    if isinstance(of, Loss):
        return session_id(customer_id, shop_id, of.start)
    return id_of_transition(customer_id, shop_id, "stage", of.anchor, of.state)


def withdraw(customer_id: str, shop_id: str, of: Loss | Lapse, policy: Policy) -> ReasonFact:
    """Takes back what was said of a loss that is none any more; its version is the caller's to set."""
    kind: ReasonKind = "session" if isinstance(of, Loss) else "lapse"
    at = of.end if isinstance(of, Loss) else of.at
    # A session's day stays, whatever is said of it: who reads it by day finds what it takes back beside it.
    day = day_of(of.start if isinstance(of, Loss) else of.at, policy.zone)
    subject = subject_of(customer_id, shop_id, of)
    nothing = Verdict("unknown", 0.0, {}, {}, None)
    fact = _fact(kind, subject, shop_id, customer_id, at, day, nothing, False)
    return msgspec.structs.replace(fact, is_deleted=True)


def _unless_told(fact: ReasonFact, of: Loss | Lapse) -> ReasonFact | None:
    digest = xxh3_64_intdigest(_pack(fact)) or 1
    if digest == of.told:
        return None
    of.told = digest
    return fact


def _fact(
    kind: ReasonKind,
    subject: str,
    shop_id: str,
    customer_id: str,
    at: int,
    day: int,
    verdict: Verdict,
    is_bot: bool,
) -> ReasonFact:
    return ReasonFact(
        reason_id=reason_id(kind, subject),
        kind=kind,
        subject_id=subject,
        shop_id=shop_id,
        customer_id=customer_id,
        at=at,
        day=date_of(day),
        category=verdict.category,
        reason=verdict.reason,
        score=verdict.score,
        scores=verdict.scores,
        evidence=verdict.evidence,
        is_bot=is_bot,
        version=0,
        is_deleted=False,
    )


def settles_after(policy: Policy) -> int:
    """How long after an order, in ms, an event may still change what it has come to."""
    return max(policy.amendment_window, policy.gap + policy.recovery_window) + policy.horizon

"""What a step has brought to a customer's trail, and what is thereby to be told.

It is the same whatever order things arrive in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field
from xxhash import xxh3_64_intdigest

from streams.domain import motives
from streams.domain.checkup import NEVER
from streams.domain.days import date_of, day_of, start_of
from streams.domain.disposition import Sale, dispositions
from streams.domain.facts import SessionFact
from streams.domain.leakage import Leak, Leaked, leak
from streams.domain.loss_facts import ItemDaysFact, LeakFact, ReasonFact
from streams.domain.motives import Lapse, Loss, Past
from streams.domain.policy import DAY, Policy
from streams.domain.session import Touch
from streams.domain.trail import PolicyOf, Trace, Trail, fold, forget, forget_days, is_bot, window_of

Fact = ItemDaysFact | LeakFact | ReasonFact

_pack: Final = msgspec.msgpack.Encoder().encode


class News(Struct, gc=False):
    """What a step has brought. touches: by shop, those of one session that has closed. sessions: what was
    said of sessions; lapses: by shop. heard: shops of which something was said. sales: all standing orders
    that are known; resold: (shop, order) of those that are new or have changed. sold: whether anything was
    told of purchases. open_since: by shop, when the first session began that is open. expired: whether the
    trail holds what is past its time.
    """

    touches: Sequence[tuple[str, Sequence[Touch]]]
    sessions: Iterable[SessionFact]
    lapses: Iterable[tuple[str, Lapse]]
    heard: Iterable[str]
    sales: Sequence[Sale]
    resold: Sequence[tuple[str, str]]
    sold: bool
    open_since: Mapping[str, int]
    expired: bool


def follow(
    customer_id: str, trail: Trail, news: News, watermark: int, policy_of: PolicyOf, unpaid: bool
) -> tuple[list[Fact], int]:
    """Take in ``news``; gives what is to be told, and the watermark (ms) at which to look again.

    unpaid: what ``trail.owed`` names may not have been sent, and is told again under a new version.
    """
    version = max(trail.version + 1, watermark)
    if unpaid:
        _unsay(trail)
    else:
        _forget_what_is_withdrawn(trail)
        if news.expired:
            # What is past its time is not to be looked at again: the orders that bore on it may be gone. All
            # else may be why of a loss that this step has brought.
            forget_days(trail, watermark, policy_of, _open_before(news))
    changed = unpaid or bool(news.resold)
    fresh = _take_in(trail, news, policy_of)
    facts: list[Fact] = []
    for shop_id, trace in trail.traces.items():
        every = changed or shop_id in fresh.shops
        days = tuple(trace.days) if every else fresh.days.get(shop_id, ())
        if not (every or days):
            continue
        policy = policy_of(shop_id)
        own, elsewhere = _split(shop_id, news.sales)
        for number in days:
            told = _tell_day(customer_id, shop_id, trace, number, own, elsewhere, policy, version)
            if told is not None:
                facts.append(told)
        if elsewhere or trail.leaks:
            facts += _tell_leaks(customer_id, shop_id, trail, own, elsewhere, policy, version)
        if trace.losses or trace.lapses:
            facts += _tell_reasons(customer_id, shop_id, trail, policy, version)
    if facts or news.sold:
        trail.version = version
        trail.owed = trail.owed or version
    return facts, forget(trail, watermark, policy_of, news.open_since, owes=trail.owed > 0)


def _open_before(news: News) -> Mapping[str, int]:
    """When the first session began, by shop, that is open or has just brought its touches."""
    begun = dict(news.open_since)
    for shop_id, touches in news.touches:
        begun[shop_id] = min(begun.get(shop_id, NEVER), *(touch.t for touch in touches))
    return begun


class _Fresh(Struct, gc=False):
    """days: that were looked at anew, by shop. shops: of which something else is new."""

    days: dict[str, set[int]] = field(default_factory=dict)
    shops: set[str] = field(default_factory=set)


def _take_in(trail: Trail, news: News, policy_of: PolicyOf) -> _Fresh:
    fresh = _Fresh(shops=set(news.heard))
    for shop_id, touches in news.touches:
        fresh.days.setdefault(shop_id, set()).update(
            fold(trail.trace(shop_id), touches, policy_of(shop_id).zone)
        )
    for fact in news.sessions:
        is_lost = fact.outcome == "lost" and not fact.is_deleted
        trace = trail.trace(fact.shop_id) if is_lost or fact.is_bot else trail.traces.get(fact.shop_id)
        if trace is not None:
            fresh.shops.add(fact.shop_id)
            _note(trace, fact, is_lost)
            for lapse in trace.lapses:
                if fact.started_at <= lapse.at and not fact.is_deleted:
                    lapse.seen = max(lapse.seen, min(fact.ended_at, lapse.at))
    for shop_id, lapse in news.lapses:
        fresh.shops.add(shop_id)
        trace = trail.trace(shop_id)
        at = [
            n for n, had in enumerate(trace.lapses) if (had.anchor, had.state) == (lapse.anchor, lapse.state)
        ]
        if at:
            # Of sessions that have left the state only what was told before knows.
            had = trace.lapses[at[0]]
            lapse.seen = max(lapse.seen, min(had.seen, lapse.at))
            if not lapse.q90:
                lapse.q90, lapse.one_time = had.q90, had.one_time
            if not lapse.gone:
                lapse.told, lapse.version = trace.lapses[at[0]].told, trace.lapses[at[0]].version
            trace.lapses[at[0]] = lapse
        else:
            trace.lapses.append(lapse)
    if news.resold:
        gone = set(news.resold)
        trail.past = [each for each in trail.past if (each.shop, each.order) not in gone]
        trail.past += [Past.of(sale) for sale in news.sales if (sale.shop_id, sale.order_id) in gone]
        trail.past.sort(key=Past.sort_key)
    return fresh


def _note(trace: Trace, fact: SessionFact, is_lost: bool) -> None:
    """Take in what was said of a session: whether it is a machine's, whether it is lost."""
    if fact.is_bot and not fact.is_deleted:
        trace.bots[fact.started_at] = fact.ended_at
    elif trace.bots:
        trace.bots.pop(fact.started_at, None)
    for loss in trace.losses:
        if loss.start == fact.started_at:
            break
    else:
        if is_lost:
            trace.losses.append(Loss.of(fact))
        return
    if is_lost:
        assert fact.lost_stage is not None
        loss.end, loss.stage, loss.is_bot, loss.gone = fact.ended_at, fact.lost_stage, fact.is_bot, False
    else:
        loss.gone, loss.told = True, 0


def _forget_what_is_withdrawn(trail: Trail) -> None:
    trail.owed = 0
    trail.leaks = [each for each in trail.leaks if not each.gone]
    for trace in trail.traces.values():
        trace.losses = [each for each in trace.losses if not each.gone]
        trace.lapses = [each for each in trace.lapses if not each.gone]


def _unsay(trail: Trail) -> None:
    """A crash may have kept it from being sent: whatever that may be is told anew."""
    for trace in trail.traces.values():
        for day in trace.days.values():
            if day.version >= trail.owed:
                day.told = 0
        for each in trace.explained():
            if each.version >= trail.owed:
                each.told = 0
    for leaked in trail.leaks:
        if leaked.version >= trail.owed:
            leaked.version = 0


def _split(shop_id: str, sales: Sequence[Sale]) -> tuple[list[Sale], list[Sale]]:
    own = [sale for sale in sales if sale.shop_id == shop_id]
    return own, [sale for sale in sales if sale.shop_id != shop_id] if len(own) < len(sales) else []


def _tell_day(
    customer_id: str,
    shop_id: str,
    trace: Trace,
    number: int,
    own: Sequence[Sale],
    elsewhere: Sequence[Sale],
    policy: Policy,
    version: int,
) -> ItemDaysFact | None:
    day = trace.days[number]
    if not day.looked_at():
        return None
    begins, ends, shuts = window_of(number, policy)
    items, day.bought = dispositions(
        day,
        begins,
        [sale for sale in own if begins <= sale.at < ends] if own else own,
        [sale for sale in elsewhere if begins <= sale.at < shuts] if elsewhere else elsewhere,
    )
    of_bot = is_bot(trace, day, begins)
    digest = xxh3_64_intdigest(_pack((of_bot, items))) or 1
    if digest == day.told:
        return None
    day.told, day.version = digest, version
    return ItemDaysFact(shop_id, customer_id, date_of(number), of_bot, items, version, False)


def _tell_leaks(
    customer_id: str,
    shop_id: str,
    trail: Trail,
    own: Sequence[Sale],
    elsewhere: Sequence[Sale],
    policy: Policy,
    version: int,
) -> list[Fact]:
    """Leaks from one shop that are new, have changed, or are none any more."""
    found = _leaks(trail.traces[shop_id], own, elsewhere, policy) if elsewhere else {}
    facts: list[Fact] = []
    for said in trail.leaks:
        if said.shop != shop_id:
            continue
        lost = found.pop((said.to_shop, said.order), None)
        if lost is None:
            # A day that is forgotten leaks for good what it has leaked.
            if said.leak.day not in trail.traces[shop_id].days or (said.gone and said.version):
                continue
            said.gone = True
        elif lost == said.leak and said.version and not said.gone:
            continue
        else:
            said.leak, said.gone = lost, False
        said.version = version
        facts.append(said.fact(customer_id))
    for (to_shop, order), lost in found.items():
        said = Leaked(shop_id, to_shop, order, lost, version)
        trail.leaks.append(said)
        facts.append(said.fact(customer_id))
    return facts


def _leaks(
    trace: Trace, own: Sequence[Sale], elsewhere: Sequence[Sale], policy: Policy
) -> dict[tuple[str, str], Leak]:
    """By shop and order, each from the latest day that leaks it."""
    found = {}
    zone = policy.zone
    sold_on = {day_of(sale.at, zone) for sale in own}
    after = policy.leak_window // DAY
    for sale in elsewhere:
        latest = day_of(sale.at, zone)
        for number in range(latest, latest - after - 1, -1):
            day = trace.days.get(number)
            if day is None or number in sold_on:
                continue
            begins = start_of(number, zone)
            lost = leak(number, day, begins, sale, is_bot(trace, day, begins))
            if lost is not None:
                found[sale.shop_id, sale.order_id] = lost
                break
    return found


def _tell_reasons(customer_id: str, shop_id: str, trail: Trail, policy: Policy, version: int) -> list[Fact]:
    """Reasons of one shop's losses that are new or have changed, and of those that are none any more."""
    trace = trail.traces[shop_id]
    leaks = [
        (each.to_shop, each.order, each.leak)
        for each in trail.leaks
        if each.shop == shop_id and not each.gone
    ]
    facts: list[Fact] = []
    for of in trace.explained():
        fact: ReasonFact | None
        if of.gone:
            if of.told:
                continue
            of.told = 1
            fact = motives.withdraw(customer_id, shop_id, of, policy)
        elif isinstance(of, Loss):
            seen_in = [each for each in leaks if of.start <= each[2].seen_at <= of.end]
            moves = motives.moves_of_leaks(seen_in, trail.past) if seen_in else ()
            fact = motives.explain_loss(customer_id, shop_id, of, moves, trace.said, policy)
        else:
            moves = motives.moves_of_lapse(shop_id, of, trail.past)
            fact = motives.explain_lapse(customer_id, shop_id, of, moves, trace.said, policy)
        if fact is not None:
            of.version = version
            facts.append(msgspec.structs.replace(fact, version=version))
    return facts

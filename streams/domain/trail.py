"""A customer's trail through all shops: where they looked, where they went instead, and why.

What sessions touched comes in when they close, by local day, and stays until nothing can change what became
of it: the leak window and the horizon after the day, and while an order that bears on it can be taken back.
``follow`` tells what is new or has changed; it is the same whatever order things arrive in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field
from xxhash import xxh3_64_intdigest

from streams.domain import motives
from streams.domain.checkup import NEVER
from streams.domain.days import date_of, day_of, start_of
from streams.domain.disposition import Day, Sale, dispositions
from streams.domain.facts import SessionFact
from streams.domain.leakage import Leak, Leaked, leak
from streams.domain.loss_facts import ItemDaysFact, LeakFact, ReasonFact
from streams.domain.motives import LOOKBACK, Lapse, Loss, Past, Said, settles_after
from streams.domain.order import Amendment
from streams.domain.policy import DAY, LONGEST_LEAK_WINDOW, Policy
from streams.domain.session import Touch

Fact = ItemDaysFact | LeakFact | ReasonFact
PolicyOf = Callable[[str], Policy]

_pack: Final = msgspec.msgpack.Encoder().encode


class Trace(Struct, array_like=True, gc=False):
    """In one shop. days: by number. bots: the end, by start, of sessions of machines. losses, lapses: whose
    reason may still change. said: by the customer of the shop, or taken back."""

    days: dict[int, Day] = field(default_factory=dict)
    bots: dict[int, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    lapses: list[Lapse] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def explained(self) -> list[Loss | Lapse]:
        """All that has a reason."""
        return [*self.losses, *self.lapses]

    def is_empty(self) -> bool:
        """Whether there is nothing to keep; bots are kept for the days."""
        return not (self.days or self.losses or self.lapses or self.said)


class Trail(Struct, array_like=True, gc=False):
    """traces: by shop. past: standing purchases of the last months. version: of what was told last; owed: the
    lowest version that may not have been sent, 0 if all was."""

    traces: dict[str, Trace] = field(default_factory=dict)
    leaks: list[Leaked] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    version: int = 0
    owed: int = 0

    def trace(self, shop_id: str) -> Trace:
        """The trace in a shop, begun if there is none."""
        trace = self.traces.get(shop_id)
        if trace is None:
            trace = self.traces[shop_id] = Trace()
        return trace

    def hear(self, shop_id: str, said: Said) -> bool:
        """Take in what a customer has said of a shop; False if it was heard before."""
        heard = self.trace(shop_id).said
        if any(each.id == said.id for each in heard):
            return False
        heard.append(said)
        return True

    def unhear(self, shop_id: str, amendments: Iterable[Amendment]) -> bool:
        """Forget orders taken back that are somebody else's; False if none was known."""
        trace = self.traces.get(shop_id)
        if trace is None:
            return False
        ids = {each.id for each in amendments}
        kept = [each for each in trace.said if each.id not in ids]
        some = len(kept) < len(trace.said)
        trace.said = kept
        return some

    def retained(self) -> int:
        """Events that are kept, to bound the state."""
        return sum(len(trace.said) for trace in self.traces.values())


_decode: Final = msgspec.msgpack.Decoder(Trail).decode


def read(packed: bytes) -> Trail:
    """The trail that is kept as ``packed``."""
    return _decode(packed) if packed else Trail()


def keep(trail: Trail) -> bytes:
    """``trail`` as it is kept; nothing if there is nothing to keep."""
    return _pack(trail) if trail.traces or trail.leaks or trail.past else b""


class News(Struct, gc=False):
    """What a step has brought. touches: by shop, those of one session that has closed. sessions: what was
    said of sessions; lapses: by shop. heard: shops of which something was said. sales: all standing orders
    that are known; resold: (shop, order) of those that are new or have changed. sold: whether anything was
    told of purchases.
    """

    touches: Sequence[tuple[str, Sequence[Touch]]]
    sessions: Iterable[SessionFact]
    lapses: Iterable[tuple[str, Lapse]]
    heard: Iterable[str]
    sales: Sequence[Sale]
    resold: Sequence[tuple[str, str]]
    sold: bool


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
    return facts, forget(trail, watermark, policy_of, owes=trail.owed > 0)


class _Fresh(Struct, gc=False):
    """days: that were looked at anew, by shop. shops: of which something else is new."""

    days: dict[str, set[int]] = field(default_factory=dict)
    shops: set[str] = field(default_factory=set)


def _take_in(trail: Trail, news: News, policy_of: PolicyOf) -> _Fresh:
    fresh = _Fresh(shops=set(news.heard))
    for shop_id, touches in news.touches:
        fresh.days.setdefault(shop_id, set()).update(
            _fold(trail.trace(shop_id), touches, policy_of(shop_id).zone)
        )
    for fact in news.sessions:
        is_lost = fact.outcome == "lost" and not fact.is_deleted
        trace = trail.trace(fact.shop_id) if is_lost or fact.is_bot else trail.traces.get(fact.shop_id)
        if trace is not None:
            fresh.shops.add(fact.shop_id)
            _note(trace, fact, is_lost)
    for shop_id, lapse in news.lapses:
        fresh.shops.add(shop_id)
        trace = trail.trace(shop_id)
        at = [
            n for n, had in enumerate(trace.lapses) if (had.anchor, had.state) == (lapse.anchor, lapse.state)
        ]
        if at:
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


def _fold(trace: Trace, touches: Sequence[Touch], zone: str) -> Iterable[int]:
    by_day: dict[int, list[Touch]] = {}
    for touch in touches:
        number = day_of(touch.t, zone)
        same = by_day.get(number)
        if same is None:
            by_day[number] = [touch]
        else:
            same.append(touch)
    for number, portion in by_day.items():
        day = trace.days.get(number)
        if day is None:
            day = trace.days[number] = Day()
        day.fold(portion, start_of(number, zone))
    return by_day


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


def _is_bot(trace: Trace, day: Day, begins: int) -> bool:
    return bool(trace.bots) and any(
        start <= begins + fold <= end for start, end in trace.bots.items() for fold in day.folds
    )


def _window(number: int, policy: Policy) -> tuple[int, int, int]:
    """When the day begins and ends, and when its leak window ends; the ends are not part of them."""
    zone = policy.zone
    ends = start_of(number + 1, zone)
    after = policy.leak_window // DAY
    return start_of(number, zone), ends, start_of(number + 1 + after, zone) if after else ends


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
    begins, ends, shuts = _window(number, policy)
    items, day.bought = dispositions(
        day,
        begins,
        [sale for sale in own if begins <= sale.at < ends] if own else own,
        [sale for sale in elsewhere if begins <= sale.at < shuts] if elsewhere else elsewhere,
    )
    is_bot = _is_bot(trace, day, begins)
    digest = xxh3_64_intdigest(_pack((is_bot, items))) or 1
    if digest == day.told:
        return None
    day.told, day.version = digest, version
    return ItemDaysFact(shop_id, customer_id, date_of(number), is_bot, items, version, False)


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
            lost = leak(number, day, begins, sale, _is_bot(trace, day, begins))
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


def forget(trail: Trail, watermark: int, policy_of: PolicyOf, owes: bool) -> int:
    """Drop what nothing can change any more; gives the watermark (ms) at which more can go, NEVER if none.

    owes: something may have to be told again, so that everything stays until the next step.
    """
    due = NEVER
    for shop_id in tuple(trail.traces):
        trace, policy = trail.traces[shop_id], policy_of(shop_id)
        settles = settles_after(policy)
        leaked = [each.leak.seen_at for each in trail.leaks if each.shop == shop_id]
        for number, day in tuple(trace.days.items()):
            until = _window(number, policy)[2] + (settles if day.bought else policy.horizon)
            if watermark > until and not owes:
                del trace.days[number]
            elif until < due:
                due = until
        kept: list[Loss] = []
        for loss in trace.losses:
            shuts = _window(day_of(loss.end, policy.zone), policy)[2]
            until = max(shuts, loss.end + policy.gap + policy.recovery_window) + policy.horizon
            if any(loss.start <= seen_at <= loss.end for seen_at in leaked):
                until = max(until, shuts + settles)
            if watermark <= until or owes:
                kept.append(loss)
                due = min(due, until)
        trace.losses = kept
        trace.lapses = [each for each in trace.lapses if watermark <= each.at + settles or owes]
        due = min([due, *(each.at + settles for each in trace.lapses)])
        bad_until = policy.grievance_window + settles
        said = []
        for each in trace.said:
            until = each.t + (bad_until if each.code else policy.horizon)
            if watermark <= until or owes:
                said.append(each)
                due = min(due, until)
        trace.said = said
        if trace.bots:
            first = start_of(min(trace.days), policy.zone) if trace.days else NEVER
            trace.bots = {start: end for start, end in trace.bots.items() if end >= first}
        if trace.is_empty():
            del trail.traces[shop_id]
    if not owes:
        trail.leaks = [each for each in trail.leaks if _bears(each, trail)]
    stays = LOOKBACK + 3 * DAY + LONGEST_LEAK_WINDOW + settles_after(policy_of(""))
    trail.past = [each for each in trail.past if watermark <= each.at + stays or owes]
    due = min([due, *(each.at + stays for each in trail.past)])
    if due <= watermark:
        due = watermark
    return due + 1 if due != NEVER else NEVER


def _bears(leaked: Leaked, trail: Trail) -> bool:
    """Whether the leak may still change, or what is said of a loss rests on it."""
    trace = trail.traces.get(leaked.shop)
    if trace is None:
        return False
    seen_at = leaked.leak.seen_at
    return leaked.leak.day in trace.days or any(loss.start <= seen_at <= loss.end for loss in trace.losses)

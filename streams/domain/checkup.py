"""The check-up of one customer in one shop: what has changed since the last one, and when to look again.

It is due when orders of the shop have changed, a session has closed or left the state, new parameters have
come, or time alone changes something: a silence that has grown too long, a day that leaves the last thirty,
an order that can be settled. What silence does begins with a local day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from streams.domain import actions, lifecycle, profile, segments
from streams.domain.actions import Ground
from streams.domain.activity import Activity, Day, activity_changes_on, by_day, recent
from streams.domain.buyer import Buyer, Episode, History, Pending, Tiers, pending
from streams.domain.days import day_of, start_of
from streams.domain.facts import ActionFact, Cause, ProfileFact, Stage, TransitionFact, transition_id
from streams.domain.loss_facts import SegmentFact
from streams.domain.order import OrderRecord
from streams.domain.outlook import Chances, ShopModel, fades_after
from streams.domain.policy import Policy
from streams.domain.profile import Profile
from streams.domain.rfm import next_recency_change
from streams.domain.segment_standing import Person
from streams.domain.segments import Asking

Fact = ProfileFact | TransitionFact | ActionFact | SegmentFact

NEVER: Final = (1 << 63) - 1
AT_ONCE: Final = 0
_NO_CHANCES: Final = Chances(0.0, 0.0, 0.0)


class Evaluation(Struct, frozen=True, gc=False):
    """facts: to be told, in any order. wake_at: the watermark (ms) at which time alone changes something
    next; AT_ONCE: in the next step, NEVER: only an event does. buyer: to be kept, None if nothing is.
    left: how many visits, favorites and carts may change a segment; None if segments were not looked at.
    episodes: those that the facts speak of, and others."""

    facts: list[Fact]
    wake_at: int
    buyer: Buyer | None
    left: tuple[int, int, int] | None = None
    episodes: Sequence[Episode] = ()


class _Purchases(Struct, frozen=True, gc=False):
    """All purchases up to now, and how far they can be settled.

    episodes: of the last settled occasion, and of each in the ledger. standing: moments of the ledger's
    standing orders. settled: the history that nothing can change any more. unsettled: the moment of the first
    order that is not part of it; until: the watermark up to which it may change. later: the moment of the
    first order still to come, by the watermark.
    """

    history: History
    episodes: list[Episode]
    standing: set[int]
    settled: History
    unsettled: int | None
    until: int
    later: int


def evaluate(
    customer_id: str,
    shop_id: str,
    buyer: Buyer | None,
    orders: Iterable[OrderRecord],
    sessions: Sequence[Activity],
    model: ShopModel,
    now: int,
    policy: Policy,
    unpaid: bool = False,
    asking: Asking | None = None,
) -> Evaluation:
    """Look at one customer in one shop at the watermark ``now`` (ms). Orders beyond it are not looked at yet.

    ``orders`` are all of the shop's ledger; the caller keeps each until ``buyer.is_settled`` says otherwise.
    ``sessions`` are the closed ones in the state; ``buyer.leave`` must have taken over each that has left it.
    ``buyer`` is taken over and changed. ``unpaid``: what ``buyer.owed`` names may not have been sent, so it
    is told again: all as it was but the profile, which is told as it is now under a new version. ``asking``:
    what segments go by; None to leave them alone.

    Deterministic; the same call again, with the buyer it gave, tells nothing.
    """
    if buyer is None:
        buyer = Buyer()
    # A crash may have taken the watermark back behind a state that was written before it.
    if buyer.checked > now:
        now = buyer.checked
    today = day_of(now, policy.zone)
    version = buyer.version + 1 if buyer.version >= now else now
    facts: list[Fact] = []
    episodes: Sequence[Episode] = ()
    if not unpaid:
        buyer.owed = 0
        buyer.turns = []
    elif buyer.owed:
        facts = _again(customer_id, shop_id, buyer, today, policy)
    ledger = pending(buyer, orders)
    opened = asking.opened if asking is not None else ()
    if buyer.forgotten:
        if not ledger and not sessions and not opened:
            return Evaluation(facts, AT_ONCE, buyer) if buyer.owed else Evaluation([], NEVER, None)
        buyer.forgotten = False
    activity = buyer.activity = recent(buyer.activity, today)
    seen = buyer.seen
    if sessions:
        activity = recent(by_day(activity, sessions, policy.zone), today)
        for session in sessions:
            if session.end > seen:
                seen = session.end
    if ledger or buyer.settled.days or buyer.told or buyer.asked:
        purchases = _purchases(buyer, ledger, now, policy)
        history = purchases.history
        changed = _cause(buyer, history, model)
        ground = _look(buyer, purchases, activity, seen, model, now, today, policy)
        drawn, stage = ground.profile, ground.line.stage
        # Only late orders and refunds make a transition untrue.
        withdrawn: Cause = "refund" if changed == "refund" else "order"
        lifecycle.tell(buyer, ground.line.steps, model, policy, version, withdrawn)
        actions.ask(buyer, ground, policy, version)
        for told in buyer.told:
            if told.version == version:
                facts.append(lifecycle.fact(customer_id, shop_id, told))
        for asked in buyer.asked:
            if asked.version == version:
                facts.append(actions.fact(customer_id, shop_id, asked, policy))
        if _tell_tier(buyer, drawn, today, changed, version):
            facts.append(_tier_fact(customer_id, shop_id, buyer.tier, policy))
        episodes = tuple(purchases.episodes) if facts else ()
        _settle(buyer, purchases, now, policy)
        until, later = purchases.until, purchases.later
    else:
        history, stage, until, later = buyer.settled, "prospect", NEVER, NEVER
        drawn = profile.of_prospect(history.reversed, activity, today, seen, model.version)
    remembered = _remembered_until(history, seen, policy)
    silent = not sessions and not opened and now > remembered
    past = silent and not ledger
    if past and not facts:
        return _forget(customer_id, shop_id, buyer, now, today, version)
    digest, likeness = drawn.digests()
    if digest != buyer.profile and (seen or history.orders or history.reversed):
        facts.append(profile.fact(customer_id, shop_id, drawn, today, version))
        buyer.profile = digest
    flips_at, left = NEVER, None
    if asking is not None and asking.stirred > now:
        # It has been counted with its session, but other events may still come to be before it.
        flips_at = asking.stirred
    elif (
        asking is not None
        and not past
        and asking.still_holds(buyer, shop_id, likeness, activity, now, policy)
    ):
        flips_at = buyer.flips_at or NEVER
    elif asking is not None and not past:
        last_visit = max([seen, *(session.end for session in opened)])
        days = segments.seen_by_day(activity, opened, policy.zone)
        person = Person(drawn, days, history.recent, last_visit, history.last_at)
        found = segments.tell(buyer, asking, shop_id, person, now, policy, version)
        buyer.likeness = likeness
        facts += [segments.fact(customer_id, shop_id, turn) for turn in found.turns]
        flips_at, left = found.until, found.left
    if facts:
        buyer.version = version
        buyer.owed = buyer.owed or version
    if buyer.told or buyer.asked:
        _forget_what_is_final(buyer, history, version)
    buyer.checked, buyer.model = now, model.version
    by_itself = _wake_at(history, stage, drawn, activity, model, today, policy)
    wake_at = min(later, until + 1, by_itself, flips_at)
    if now <= remembered < wake_at:
        wake_at = remembered + 1
    # What was told just now may have to be told again, and what was folded just now is still in the caller's
    # ledger, so nobody is forgotten before the next step.
    soon = past or (silent and until == NEVER and later == NEVER)
    return Evaluation(facts, AT_ONCE if soon else wake_at, buyer, left, episodes)


def _purchases(buyer: Buyer, ledger: Sequence[Pending], now: int, policy: Policy) -> _Purchases:
    history = settled = buyer.settled
    episodes = buyer.episodes[:1] if settled.days else []
    known = {episode.anchor: episode for episode in buyer.episodes} if buyer.episodes else {}
    standing: set[int] = set()
    unsettled: int | None = None
    until = later = NEVER
    for order in ledger:
        at = order.at
        if at > now:
            later = at
            break
        if unsettled is None:
            expires = order.record.expires(policy.amendment_window, policy.horizon)
            if now <= expires:
                unsettled, until, settled = at, expires, history
                history = history.copy()
            elif history is buyer.settled:
                history = history.copy()
        before = history.orders
        if history.take(order, policy):
            episode = known.get(at)
            x, t_x = history.days - 1, history.last_day - history.first_day
            if episode is None or episode.x != x or episode.t_x != t_x:
                episode = Episode(at, history.last_day, x, t_x)
            episodes.append(episode)
        if history.orders > before:
            standing.add(at)
    if unsettled is None:
        settled = history
    return _Purchases(history, episodes, standing, settled, unsettled, until, later)


def _look(
    buyer: Buyer,
    purchases: _Purchases,
    activity: list[Day],
    seen: int,
    model: ShopModel,
    now: int,
    today: int,
    policy: Policy,
) -> Ground:
    history, episodes = purchases.history, purchases.episodes
    lifecycle.reckon(buyer, episodes, model, now, policy)
    line = lifecycle.timeline(buyer.settled.days > 0, episodes, now, policy)
    chance = _NO_CHANCES
    if history.days:
        drawn, chance = profile.of_buyer(history, line.stage, line.since, activity, today, seen, model)
    else:
        drawn = profile.of_prospect(history.reversed, activity, today, seen, model.version)
    return Ground(history, episodes, purchases.standing, line, drawn, chance, now, today)


def _cause(buyer: Buyer, history: History, model: ShopModel) -> Cause:
    """What has changed since the last check-up, before anything else; remembers what stands now."""
    net = 0
    for money in history.money.values():
        net += money.net
    if history.reversed > buyer.reversed:
        cause: Cause = "refund"
    elif history.orders > buyer.orders:
        cause = "order"
    elif net != buyer.net:
        cause = "refund"
    elif model.version != buyer.model:
        cause = "model"
    else:
        cause = "silence"
    buyer.orders, buyer.reversed, buyer.net = history.orders, history.reversed, net
    return cause


def _tell_tier(buyer: Buyer, drawn: Profile, today: int, changed: Cause, version: int) -> bool:
    """Note the tier if it has changed. A day has one transition, from what it began with: the last counts."""
    had = buyer.tier
    if drawn.tier == (had.now if had else None):
        return False
    before = None if had is None else had.before if had.day == today else had.now
    buyer.tier = Tiers(drawn.tier, today, before, changed, drawn.model, version)
    return True


def _tier_fact(customer_id: str, shop_id: str, tiers: Tiers | None, policy: Policy) -> TransitionFact:
    assert tiers is not None
    begins = start_of(tiers.day, policy.zone)
    return TransitionFact(
        transition_id=transition_id(customer_id, shop_id, "tier", begins),
        kind="tier",
        shop_id=shop_id,
        customer_id=customer_id,
        anchor=begins,
        at=begins,
        from_state=tiers.before,
        to_state=tiers.now,
        cause=tiers.cause,
        p_alive=None,
        p_return_90d=None,
        overdue_days=None,
        usual_gap_days=None,
        model_version=tiers.model,
        version=tiers.version,
        is_deleted=tiers.before == tiers.now,
    )


def _settle(buyer: Buyer, purchases: _Purchases, now: int, policy: Policy) -> None:
    """Fold what nothing can change any more; transitions before ``final`` are as they are from now on."""
    settled, episodes = purchases.settled, purchases.episodes
    buyer.settled = settled
    if settled.days:
        while episodes[0].anchor != settled.anchor:
            del episodes[0]
    buyer.episodes = episodes
    final = now - policy.horizon
    unsettled = purchases.unsettled
    if unsettled is not None and unsettled < final:
        final = unsettled
    if final > buyer.final:
        buyer.final = final


def _forget_what_is_final(buyer: Buyer, history: History, version: int) -> None:
    """Drop what was told, can change no more, would not be told again, and is not owed."""
    owed = buyer.owed or version
    if buyer.told:
        buyer.told = [t for t in buyer.told if t.version >= owed or (t.at >= buyer.final and not t.gone)]
    if buyer.asked:
        last = buyer.episodes[-1] if buyer.episodes else None
        buyer.asked = [
            a
            for a in buyer.asked
            if a.version >= owed
            or (not a.gone and (a.at >= buyer.final or actions.is_open(a, history, last)))
        ]


def _again(customer_id: str, shop_id: str, buyer: Buyer, today: int, policy: Policy) -> list[Fact]:
    """What may not have been sent, as it was told; the profile is only marked, to be told anew."""
    owed = buyer.owed
    facts: list[Fact] = [segments.fact(customer_id, shop_id, t) for t in buyer.turns if t.version >= owed]
    if buyer.forgotten:
        return [*facts, _withdrawn(customer_id, shop_id, today, buyer.version)]
    # No profile has this digest: it is told anew, or taken back if by now there is nobody to tell it of.
    buyer.profile = min(buyer.profile, 1)
    facts += [lifecycle.fact(customer_id, shop_id, t) for t in buyer.told if t.version >= owed]
    facts += [actions.fact(customer_id, shop_id, a, policy) for a in buyer.asked if a.version >= owed]
    if buyer.tier is not None and buyer.tier.version >= owed:
        facts.append(_tier_fact(customer_id, shop_id, buyer.tier, policy))
    return facts


def _remembered_until(history: History, seen: int, policy: Policy) -> int:
    if history.days:
        return max(seen, history.last_at) + policy.buyer_memory
    return max(seen, history.upto[0]) + policy.prospect_memory


def _forget(customer_id: str, shop_id: str, buyer: Buyer, now: int, today: int, version: int) -> Evaluation:
    """Withdraw the profile and the segments; that they were is known until it has been sent."""
    if not buyer.profile and not buyer.segments:
        return Evaluation([], NEVER, None)
    turns = segments.withdrawn(buyer.segments, now, version)
    gone = Buyer(version=version, owed=version, checked=buyer.checked, forgotten=True, turns=turns)
    facts: list[Fact] = [segments.fact(customer_id, shop_id, turn) for turn in turns]
    return Evaluation([*facts, _withdrawn(customer_id, shop_id, today, version)], AT_ONCE, gone)


def _withdrawn(customer_id: str, shop_id: str, today: int, version: int) -> ProfileFact:
    nothing = profile.of_prospect(0, [], today, 0, 0)
    return profile.fact(customer_id, shop_id, nothing, today, version, gone=True)


def _wake_at(
    history: History,
    stage: Stage,
    drawn: Profile,
    activity: list[Day],
    model: ShopModel,
    today: int,
    policy: Policy,
) -> int:
    """The beginning of the next day that changes something by itself."""
    if stage not in ("prospect", "lapsed"):
        # The daily check-up: chances, scores and reminders may all have moved.
        return start_of(today + 1, policy.zone)
    day = activity_changes_on(activity, today) if activity else None
    if stage == "lapsed":
        last = history.last_day
        days = [] if day is None else [day]
        cuts = model.cuts
        if cuts and (recency := next_recency_change(today - last, cuts.recency)) is not None:
            days.append(last + recency)
        fades = fades_after(model, history.x, history.t_x, drawn.alive or 0.0)
        if fades is not None:
            days.append(max(last + fades, today + 1))
        day = min(days, default=None)
    return NEVER if day is None else start_of(day, policy.zone)

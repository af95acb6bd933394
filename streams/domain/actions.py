"""What to do for a customer, and for whom to leave it undone: each action at most once per episode.

repurchase_due: shortly before the next order is expected, while the buyer is not lapsing. Where some of the
buyer's categories have a rhythm of their own, one per such category, and none for the buyer as a whole.
coupon_care: the buyer is lapsing, and used to discounts.
win_back: the buyer has lapsed; one-time and price-sensitive buyers come first.

An action is told only while it makes sense, never for a time that has passed meanwhile. It is withdrawn when
a refund or a late order takes away what it rested on.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from streams.domain.buyer import Asked, Buyer, Episode, History
from streams.domain.days import date_of, day_of, start_of
from streams.domain.facts import ActionFact, ActionKind, action_id
from streams.domain.lifecycle import SHARE, Timeline
from streams.domain.outlook import Chances
from streams.domain.policy import DAY, Policy
from streams.domain.profile import Profile, discount_prone, price_sensitive

_STILL_BUYING: Final = ("new", "active", "won_back")


class Ground(Struct, frozen=True, gc=False):
    """What actions rest on. standing: the moments of the ledger's standing orders."""

    history: History
    episodes: list[Episode]
    standing: set[int]
    line: Timeline
    profile: Profile
    chance: Chances
    now: int
    today: int


def ask(buyer: Buyer, ground: Ground, policy: Policy, version: int) -> None:
    """Bring ``buyer.asked`` up to what holds now: what is new, or withdrawn, is told under ``version``."""
    for had in buyer.asked:
        if had.at >= buyer.final and not had.gone and not _rests(had, buyer, ground):
            had.gone, had.version = True, version
    for new in _wanted(buyer, ground, policy):
        if not any(
            a.kind == new.kind and a.category == new.category and a.anchor == new.anchor and not a.gone
            for a in buyer.asked
        ):
            _support(new, ground)
            new.version = version
            buyer.asked.append(new)


def is_open(asked: Asked, history: History, last: Episode | None) -> bool:
    """Whether forgetting the action would have it told again."""
    if asked.category:
        category = history.categories.get(asked.category)
        return category is not None and category.last_at == asked.anchor
    return last is not None and last.anchor == asked.anchor


def _wanted(buyer: Buyer, ground: Ground, policy: Policy) -> list[Asked]:
    if not ground.episodes:
        return []
    stage, since = ground.line.stage, ground.line.since
    profile, last = ground.profile, ground.episodes[-1]
    if stage in _STILL_BUYING:
        wanted = []
        lead = policy.repurchase_lead // DAY
        for name, anchor, due, gap in _reminders(ground.history, profile, ground.today, lead):
            at = _when(start_of(due - lead, policy.zone), anchor, buyer, ground)
            priority = _by_money(profile)
            wanted.append(Asked("repurchase_due", name, anchor, at, stage, priority, due, gap))
        return wanted
    gap = None if profile.gap is None else round(10 * profile.gap)
    kind: ActionKind
    if stage == "lapsing" and discount_prone(profile, policy):
        kind, priority = "coupon_care", _by_money(profile)
    elif stage == "lapsed":
        kind, priority = "win_back", 1
        if ground.history.days > 1:
            priority += 2
        if not price_sensitive(profile, policy):
            priority += 1
    else:
        return []
    at = _when(since or 0, last.anchor, buyer, ground)
    return [Asked(kind, "", last.anchor, at, stage, priority, profile.due, gap)]


def _reminders(
    history: History, profile: Profile, today: int, lead: int
) -> list[tuple[str, int, int, int | None]]:
    """(category, anchor, the day it is expected, usual gap in tenths of a day) of what is expected by
    ``lead`` days from today, and not before today."""
    found: list[tuple[str, int, int, int | None]] = []
    rhythmic = False
    for name, category in history.categories.items():
        if (gap := category.gap()) is not None:
            rhythmic = True
            due = category.last_day + math.ceil(gap)
            if today <= due <= today + lead:
                found.append((name, category.last_at, due, round(10 * gap)))
    expected = profile.due
    if not rhythmic and expected is not None and today <= expected <= today + lead:
        gap = profile.gap
        found.append(("", history.anchor, expected, None if gap is None else round(10 * gap)))
    return found


def _when(due: int, anchor: int, buyer: Buyer, ground: Ground) -> int:
    """When it became due; now, if by then it had already been looked for and not been found."""
    at = max(due, anchor)
    return at if at > buyer.checked else ground.now


def _support(asked: Asked, ground: Ground) -> None:
    profile, chance = ground.profile, ground.chance
    asked.alive, asked.returns = round(chance.alive * SHARE), round(chance.returns * SHARE)
    asked.overdue = None if asked.expected is None else max(0, ground.today - asked.expected)
    asked.discounts = None if profile.discounts is None else round(100 * profile.discounts)
    asked.model = profile.model


def _rests(asked: Asked, buyer: Buyer, ground: Ground) -> bool:
    """Whether what the action was told for is still so."""
    if asked.category:
        if asked.anchor > buyer.settled.upto[0] and asked.anchor not in ground.standing:
            return False
        category = ground.history.categories.get(asked.category)
        return category is None or not asked.anchor < category.last_at <= asked.at
    for index, episode in enumerate(ground.episodes):
        if episode.anchor == asked.anchor:
            later = ground.episodes[index + 1 : index + 2]
            if later and later[0].anchor <= asked.at:
                return False
            if asked.kind == "repurchase_due":
                return True
            stage = "lapsing" if asked.kind == "coupon_care" else "lapsed"
            return any(step.episode is episode and step.after == stage for step in ground.line.steps)
    return False


def _by_money(profile: Profile) -> int:
    """1 for the two highest fifths by money, 3 for the two lowest."""
    if profile.m is None or profile.m == 3:
        return 2
    return 1 if profile.m > 3 else 3


def is_holdout(customer_id: str, shop_id: str, kind: ActionKind, policy: Policy) -> bool:
    """Whether the customer is left alone, always the same for this kind and independently of other kinds."""
    drawn = xxh3_64_intdigest(f"holdout\x00{kind}\x00{shop_id}\x00{customer_id}".encode())
    return drawn % 10_000 < policy.holdout_percent * 100


def fact(customer_id: str, shop_id: str, asked: Asked, policy: Policy) -> ActionFact:
    """What was asked for, as a fact."""
    category = asked.category or None
    return ActionFact(
        action_id=action_id(customer_id, shop_id, asked.kind, category, asked.anchor),
        kind=asked.kind,
        shop_id=shop_id,
        customer_id=customer_id,
        category=category,
        anchor=asked.anchor,
        at=asked.at,
        expected_on=None if asked.expected is None else date_of(asked.expected),
        priority=asked.priority,
        holdout=is_holdout(customer_id, shop_id, asked.kind, policy),
        reason=_reason(asked, policy),
        stage=asked.stage,
        p_alive=None if asked.alive is None else asked.alive / SHARE,
        p_return_90d=None if asked.returns is None else asked.returns / SHARE,
        overdue_days=asked.overdue,
        usual_gap_days=None if asked.gap is None else asked.gap / 10,
        discount_affinity=None if asked.discounts is None else asked.discounts / 100,
        model_version=asked.model,
        version=asked.version,
        is_deleted=asked.gone,
    )


def _reason(asked: Asked, policy: Policy) -> str:
    if asked.kind == "repurchase_due":
        expected = "" if asked.expected is None else f"; expected by {date_of(asked.expected)}"
        if asked.gap is None:
            return f"bought once{expected}"
        return f"buys {asked.category or 'here'} every {asked.gap / 10} days{expected}"
    if asked.kind == "coupon_care":
        overdue = "" if asked.overdue is None else f"{asked.overdue} days overdue; "
        return f"{overdue}{asked.discounts} % of orders with a discount"
    silent = day_of(asked.at, policy.zone) - day_of(asked.anchor, policy.zone)
    return f"no order for {silent} days{'; bought once' if asked.gap is None else ''}"

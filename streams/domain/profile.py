"""The profile of one customer in one shop: drawn up at each check-up, told only when it says something new.

Two figures move every day by themselves, ``recency_days`` and ``overdue_days``; they follow from the
profile's dates and its day, so a profile that differs in nothing else is not told again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from streams.domain.activity import Day, spans
from streams.domain.buyer import History, unit_price
from streams.domain.days import date_of
from streams.domain.facts import ProfileFact, Stage, Tier, money
from streams.domain.outlook import Chances, ShopModel, outlook
from streams.domain.policy import Policy
from streams.domain.rfm import recency_score, score, tier

_encode: Final = msgspec.msgpack.Encoder().encode


class Profile(Struct, array_like=True, frozen=True, gc=False):
    """All of a profile that counts as a change. Days are local, times ms, money ten-thousandths."""

    stage: Stage
    since: int | None
    tier: Tier | None
    r: int | None
    f: int | None
    m: int | None
    alive: float | None
    returns: float | None
    expected: float | None
    due: int | None
    gap: float | None
    first_at: int | None
    last_at: int | None
    first_day: int | None
    last_day: int | None
    days: int
    orders: int
    reversed: int
    monetary: int
    average: int
    currency: str | None
    mixed: bool
    categories: tuple[str, ...]
    price_band: int | None
    discounts: float | None
    activity: tuple[int, int, int, int, int, int]
    seen: int | None
    model: int

    def digests(self) -> tuple[int, int]:
        """64 bits each, never 0: equal for equal profiles; and for those that are the same to any rule of a
        segment, which asks about activity by its days."""
        packed = _encode(self)
        # An array's parts follow one another; of this short one a single byte is before them.
        rest = len(_encode((self.activity, self.seen, self.model))) - 1
        return xxh3_64_intdigest(packed) or 1, xxh3_64_intdigest(packed[:-rest]) or 1


def of_prospect(reversed_orders: int, activity: list[Day], today: int, seen: int, model: int) -> Profile:
    """The profile of a customer without a standing order."""
    return Profile(
        "prospect",
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        0,
        0,
        reversed_orders,
        0,
        0,
        None,
        False,
        (),
        None,
        None,
        spans(activity, today),
        seen or None,
        model,
    )


def of_buyer(
    history: History,
    stage: Stage,
    since: int | None,
    activity: list[Day],
    today: int,
    seen: int,
    model: ShopModel,
) -> tuple[Profile, Chances]:
    """The profile of a customer with a standing order, and the chances it rests on."""
    x, t_x = history.days - 1, history.last_day - history.first_day
    ahead = outlook(model, x, t_x, today - history.first_day)
    currency, main = history.main()
    r = f = m = band = None
    group: Tier | None = None
    cuts = model.cuts
    if cuts is not None:
        r = recency_score(today - history.last_day, cuts.recency)
        f = score(history.days, cuts.frequency)
        if (points := cuts.monetary.get(currency)) is not None:
            m = score(main.net, points)
        price = unit_price(main)
        if price is not None and (points := cuts.unit_price.get(currency)) is not None:
            band = score(price, points)
        group = tier(r, f, m)
    profile = Profile(
        stage,
        since,
        group,
        r,
        f,
        m,
        ahead.alive,
        ahead.returns,
        ahead.expected,
        None if ahead.due is None else history.last_day + ahead.due,
        round(t_x / x, 1) if x else None,
        history.first_at,
        history.last_at,
        history.first_day,
        history.last_day,
        history.days,
        history.orders,
        history.reversed,
        main.net,
        main.net // main.orders if main.orders else 0,
        currency or None,
        history.mixed(),
        history.preferred(),
        band,
        round(history.discounted / history.orders, 2) if history.discounted else 0.0,
        spans(activity, today),
        seen or None,
        model.version,
    )
    return profile, ahead.chances


def price_sensitive(profile: Profile, policy: Policy) -> bool:
    """Whether the buyer waits for discounts, or buys from the cheapest fifth."""
    return discount_prone(profile, policy) or profile.price_band == 1


def discount_prone(profile: Profile, policy: Policy) -> bool:
    """Whether enough of the buyer's orders had a discount."""
    return profile.discounts is not None and profile.discounts >= policy.discount_prone


def fact(
    customer_id: str, shop_id: str, profile: Profile, today: int, version: int, gone: bool = False
) -> ProfileFact:
    """The profile as a fact of the day ``today``."""
    p = profile
    first_on = last_on = next_on = overdue = recency = None
    if p.first_day is not None and p.last_day is not None:
        first_on, last_on, recency = date_of(p.first_day), date_of(p.last_day), today - p.last_day
    if p.due is not None:
        next_on, overdue = date_of(p.due), max(0, today - p.due)
    v30, f30, c30, v90, f90, c90 = p.activity
    monetary = money(p.monetary)
    average = monetary if p.average == p.monetary else money(p.average)
    # By position, for speed: forty names cost as much again as all the rest.
    return ProfileFact(
        shop_id,
        customer_id,
        date_of(today),
        p.stage,
        p.since,
        p.tier,
        p.r,
        p.f,
        p.m,
        p.alive,
        p.returns,
        p.expected,
        next_on,
        overdue,
        p.gap,
        p.first_at,
        p.last_at,
        first_on,
        last_on,
        p.days,
        p.orders,
        p.reversed,
        recency,
        monetary,
        average,
        p.currency,
        p.mixed,
        p.categories,
        p.price_band,
        p.discounts,
        v30,
        f30,
        c30,
        v90,
        f90,
        c90,
        p.seen,
        p.model,
        version,
        gone,
    )

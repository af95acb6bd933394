"""The profile of one customer in one shop: drawn up at each check-up, told only when it says something new.

Two figures move every day by themselves, ``recency_days`` and ``overdue_days``; they follow from the
profile's dates and its day, so a profile that differs in nothing else is not told again.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from streams.domain.buyer import SHORT_SPAN, Day, History, unit_price
from streams.domain.days import date_of
from streams.domain.facts import ProfileFact, Stage, Tier, money
from streams.domain.outlook import Chances, ShopModel, chances, due_after
from streams.domain.policy import Policy
from streams.domain.rfm import recency_score, score, tier

_encode: Final = msgspec.msgpack.Encoder().encode


class Profile(NamedTuple):
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

    def digest(self) -> int:
        """64 bits, never 0, equal for equal profiles."""
        return xxh3_64_intdigest(_encode(self)) or 1


def of_prospect(reversed_orders: int, activity: list[Day], today: int, seen: int, model: int) -> Profile:
    """The profile of a customer without a standing order."""
    return Profile(
        "prospect",
        *(None,) * 14,
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
    chance = chances(model, x, t_x, today - history.first_day)
    due = due_after(model, x, t_x)
    currency = history.main_currency()
    main = history.main_money(currency)
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
        round(chance.alive, 2),
        round(chance.returns, 2),
        round(chance.expected, 2),
        None if due is None else history.last_day + due,
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
        len(history.money) > 2 or (len(history.money) == 2 and "" not in history.money),
        history.preferred(),
        band,
        round(history.discounted / history.orders, 2),
        spans(activity, today),
        seen or None,
        model.version,
    )
    return profile, chance


def spans(activity: list[Day], today: int) -> tuple[int, int, int, int, int, int]:
    """Visits, favorites and carts of the last 30 days, then of all of ``activity``."""
    v30 = f30 = c30 = v90 = f90 = c90 = 0
    since = today - SHORT_SPAN
    for day in activity:
        v90 += day.visits
        f90 += day.favorites
        c90 += day.carts
        if day.day > since:
            v30 += day.visits
            f30 += day.favorites
            c30 += day.carts
    return v30, f30, c30, v90, f90, c90


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
    p: Any = profile
    last, due = p.last_day, p.due
    return ProfileFact(
        shop_id=shop_id,
        customer_id=customer_id,
        as_of=date_of(today),
        stage=p.stage,
        stage_since=p.since,
        tier=p.tier,
        r_score=p.r,
        f_score=p.f,
        m_score=p.m,
        p_alive=p.alive,
        p_return_90d=p.returns,
        expected_orders_90d=p.expected,
        next_order_on=None if due is None else date_of(due),
        overdue_days=None if due is None else max(0, today - due),
        usual_gap_days=p.gap,
        first_order_at=p.first_at,
        last_order_at=p.last_at,
        first_order_on=None if last is None else date_of(p.first_day),
        last_order_on=None if last is None else date_of(last),
        purchase_days=p.days,
        orders=p.orders,
        reversed_orders=p.reversed,
        recency_days=None if last is None else today - last,
        monetary=money(p.monetary),
        average_order_value=money(p.average),
        currency=p.currency,
        mixed_currency=p.mixed,
        preferred_categories=p.categories,
        price_band=p.price_band,
        discount_affinity=p.discounts,
        visits_30d=p.activity[0],
        favorites_30d=p.activity[1],
        carts_30d=p.activity[2],
        visits_90d=p.activity[3],
        favorites_90d=p.activity[4],
        carts_90d=p.activity[5],
        last_seen_at=p.seen,
        model_version=p.model,
        version=version,
        is_deleted=gone,
    )

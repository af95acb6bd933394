"""The batch SQL for buyers: the slow reference judges it, it judges the engine, and finds what is wrong."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.verify import VerifyReport, parameters, text, verify
from streams.domain.events import Input, Order
from streams.domain.facts import ProfileFact, TransitionFact, to_amount
from streams.domain.lapse import BetaGeometric
from streams.domain.outlook import DEFAULT_MODEL, ShopModel
from streams.domain.policy import DAY, HOUR
from tests.domain import buyer_reference as reference
from tests.domain.buyer_reference import Said
from tests.integration.buyer_play import DAYS, POLICY, START, Play, publish, story

pytestmark = pytest.mark.replay

Person = tuple[str, str]


class Played:
    """Two partitions of seeded stories in a store, the second one's watermark hours behind what is known."""

    def __init__(self, url: str, seed: int, until: int) -> None:
        migrate(url)
        self.chance = random.Random(seed)
        self._store, self.client = Store(url), connect(url)
        self.plays = [Play(0), Play(1, lag=5 * HOUR)]
        for play in self.plays:
            people = [story(f"p{play.partition}-{n}", self.chance) for n in range(120)]
            play.run(people, until, self.chance)
            play.store(self._store, self.client)

    def publish(self, *facts: Any, partition: int = 0) -> None:
        publish(self._store, partition, *facts)

    def publish_all(self) -> None:
        for play in self.plays:
            self.publish(*play.facts, partition=play.partition)

    def ask(self, name: str) -> list[dict[str, Any]]:
        """The rows of customers.sql or transitions.sql."""
        given = parameters(POLICY, {})
        return list(self.client.query(text(name), parameters=given).named_results())

    def verify(self, **more: Any) -> VerifyReport:
        """Of profiles and transitions, which is what these tests err in, unless more is asked for."""
        more = {"tables": ["customers", "transitions"], **more}
        return verify(self.client, replace(POLICY, losses=False), **more)

    def standing(self, kind: type[Any]) -> list[Any]:
        """The facts of partition 0 that stand."""
        stand: dict[Any, Any] = {}
        for fact in (f for f in self.plays[0].facts if isinstance(f, kind)):
            key = fact.transition_id if kind is TransitionFact else (fact.customer_id, fact.shop_id)
            if key not in stand or fact.version >= stand[key].version:
                stand[key] = fact
        return [f for f in stand.values() if not f.is_deleted]

    def close(self) -> None:
        self._store.close()
        self.client.close()


@pytest.fixture
def played(database: str, request: pytest.FixtureRequest) -> Iterator[Played]:
    seed, until = getattr(request, "param", (1, START + 150 * DAY + HOUR))
    with closing(Played(database, seed, until)) as one:
        yield one


#: In the middle of the stories, behind their end, and long after, when most are lapsed.
SEEDS: Final = [(2, START + 90 * DAY + 13 * HOUR), (3, START + (DAYS + 2) * DAY), (4, START + 300 * DAY)]


@pytest.mark.parametrize("played", SEEDS, indirect=True)
def test_what_the_engine_tells_is_what_the_raw_events_say(played: Played) -> None:
    """However late, twice and out of order events came, and whatever was refused."""
    played.publish_all()
    found = played.verify(tables=None)
    assert (found.missing, found.extra, found.different) == (0, 0, 0), "\n".join(map(str, found.samples))
    assert found.tables["segments"].rows > 100
    assert found.tables["customers"].rows > 200
    assert found.tables["transitions"].rows > 200
    assert found.tables["customers"].open < 20


@pytest.mark.parametrize("played", SEEDS[:2], indirect=True)
def test_the_oracle_agrees_with_the_slow_reference(played: Played) -> None:
    """Row by row, where no event says that somebody may have been forgotten meanwhile."""
    said, now = _said(played.plays)
    rows = {(row["customer_id"], row["shop_id"]): row for row in played.ask("customers")}
    steps = defaultdict(list)
    for row in played.ask("transitions"):
        named = (row["anchor"], row["at"], row["from_state"], row["to_state"], row["cause"])
        steps[row["customer_id"], row["shop_id"]].append(named)
    for person, events in said.items():
        assert sorted(steps.pop(person, [])) == sorted(
            reference.stages(events, DEFAULT_MODEL, now[person], POLICY)
        )
        row = rows[person]
        for column, must in reference.profile(events, DEFAULT_MODEL, now[person], POLICY).items():
            if not (column == "reversed_orders" and row["was_away"]):
                assert _agrees(column, row, must), (person, column, must, row)
    assert not steps


def _said(plays: list[Play]) -> tuple[dict[Person, list[Said]], dict[Person, int]]:
    """Each person's orders as the reference takes them, and the watermark of their partition."""
    by_order: dict[tuple[str, str, str], list[Input]] = defaultdict(list)
    now: dict[Person, int] = {}
    for play in plays:
        for event in play.accepted():
            now[event.body.customer_id, event.body.shop_id] = play.watermark
            if isinstance(event.body, Order):
                key = (event.body.customer_id, event.body.shop_id, event.body.order_id)
                by_order[key].append(event)
    found: dict[Person, list[Said]] = defaultdict(list)
    for (customer, shop, order_id), events in by_order.items():
        mentions = [e for e in events if _order(e).action in ("placed", "paid")]
        if mentions:
            first = min(mentions, key=lambda e: (_order(e).action == "paid", e.t, e.id))
            found[customer, shop].append(_placed(order_id, first))
        for event in events:
            if event not in mentions:
                back = _order(event).refund_amount
                amount = None if back is None else to_amount(back)
                found[customer, shop].append(
                    Said(event.t, event.id, order_id, _order(event).action, amount=amount)
                )
    return found, now


def _order(event: Input) -> Order:
    assert isinstance(event.body, Order)
    return event.body


def _placed(order_id: str, event: Input) -> Said:
    order = _order(event)
    priced = [line for line in order.lines if line.price is not None]
    gross = sum(to_amount(line.price or Decimal()) * line.quantity for line in priced)
    off = sum(to_amount(line.discount or Decimal()) for line in priced)
    total = gross - off if order.total is None else to_amount(order.total)
    names = tuple(line.category for line in order.lines if line.category)
    discount = max(off, gross - total)
    return Said(event.t, event.id, order_id, "placed", total, order.currency, names, discount)


def _agrees(column: str, row: dict[str, Any], must: Any) -> bool:
    if column.endswith("_on"):
        day = row[column.replace("_on", "_day")]
        return bool(day == (must - date(1970, 1, 1)).days)
    found = row[column]
    if column in ("monetary", "average_order_value"):
        return bool(found == Decimal(must))
    if isinstance(must, float):
        half = 0.05 if column == "usual_gap_days" else 0.005
        return bool(abs(found - must) <= half + 1e-9)
    return bool((tuple(found) if isinstance(must, tuple) else found) == must)


#: The least that each column can be wrong by; what is left out is named with its reason in the SQL.
_A_DAY: Final = timedelta(days=1)
_PROFILE: Final[dict[str, Any]] = {
    **dict.fromkeys(("p_alive", "p_return_90d", "expected_orders_90d", "discount_affinity"), 0.01),
    "usual_gap_days": 0.1,
    **dict.fromkeys(("stage_since", "first_order_at", "last_order_at", "last_seen_at"), 1),
    **dict.fromkeys(("next_order_on", "first_order_on", "last_order_on"), _A_DAY),
    **dict.fromkeys(("purchase_days", "orders", "reversed_orders"), 1),
    **dict.fromkeys(
        ("visits_30d", "favorites_30d", "carts_30d", "visits_90d", "favorites_90d", "carts_90d"), 1
    ),
    **dict.fromkeys(("monetary", "average_order_value"), Decimal("0.0001")),
}
_PROFILE_TOO: Final[dict[str, Any]] = {
    **dict.fromkeys(("r_score", "f_score", "m_score", "price_band"), 1),
    "stage": "won_back",
    "tier": "loyal",
    "currency": "CHF",
    "mixed_currency": True,
    "preferred_categories": ("nothing",),
}
_STEP: Final[dict[str, Any]] = {
    **dict.fromkeys(("at", "overdue_days"), 1),
    **dict.fromkeys(("p_alive", "p_return_90d"), 0.0001),
    "usual_gap_days": 0.1,
}
_STEP_TOO: Final[dict[str, Any]] = {"from_state": "prospect", "cause": "model"}


def _wrong(fact: Any, by: dict[str, Any], replaced: dict[str, Any]) -> Any:
    changes = dict(replaced)
    for name, more in by.items():
        value = getattr(fact, name)
        if isinstance(more, Decimal):
            changes[name] = str(Decimal(value) + more)
        elif isinstance(more, float):
            # Away from what is true, and still a share.
            changes[name] = round(value - more if value > 0.5 else value + more, 4)
        else:
            changes[name] = value + more
    return msgspec.structs.replace(fact, version=fact.version + 1, **changes)


def test_each_wrong_column_of_a_profile_is_found_and_named(played: Played) -> None:
    """All at once in one profile, each by the least it can be wrong by."""
    played.publish_all()
    true = next(
        f
        for f in played.standing(ProfileFact)
        if f.purchase_days > 1 and f.last_seen_at and f.currency == "GBP" and not f.mixed_currency
    )
    wrong = _wrong(true, _PROFILE, _PROFILE_TOO)
    played.publish(wrong, partition=1)
    found = played.verify()
    assert (
        found.tables["customers"].missing,
        found.tables["customers"].extra,
        found.tables["customers"].different,
    ) == (0, 0, 1)
    (sample,) = found.samples
    columns = {name for name, _, _ in sample.differences}
    fields = set(ProfileFact.__struct_fields__) - {"shop_id", "customer_id", "version", "is_deleted"}
    # With a version of a model, what models say is judged by that model, and here there is none. The row's
    # day is judged by the watermark, which comes after it.
    assert columns == fields - {"as_of", "model_version"} | {"partition"}


def test_a_profile_of_a_day_to_come_is_found(played: Played) -> None:
    played.publish_all()
    true = next(f for f in played.standing(ProfileFact) if f.stage == "lapsed")
    ahead = msgspec.structs.replace(true, version=true.version + 1, as_of=true.as_of + timedelta(days=400))
    played.publish(ahead)
    assert {name for name, _, _ in played.verify().samples[0].differences} >= {"as_of", "recency_days"}


def test_each_wrong_column_of_a_transition_is_found_and_named(played: Played) -> None:
    """All at once in one transition, by the least it can be wrong by."""
    played.publish_all()
    steps = played.standing(TransitionFact)
    true = next(f for f in steps if f.usual_gap_days and f.p_alive is not None)
    wrong = _wrong(true, _STEP, _STEP_TOO)
    played.publish(wrong, partition=1)
    found = played.verify()
    assert (
        found.tables["transitions"].missing,
        found.tables["transitions"].extra,
        found.tables["transitions"].different,
    ) == (0, 0, 1)
    (sample,) = found.samples
    assert {name for name, _, _ in sample.differences} == {*_STEP, *_STEP_TOO, "partition"}


def test_a_row_too_few_and_a_row_too_many_are_found(played: Played) -> None:
    """A profile and a transition taken back, one of each under another name."""
    played.publish_all()
    profile = next(f for f in played.standing(ProfileFact) if f.stage == "lapsed")
    step = next(f for f in played.standing(TransitionFact) if f.to_state == "lapsed")
    for true in (profile, step):
        gone = msgspec.structs.replace(true, version=true.version + 1, is_deleted=True)
        nobody = msgspec.structs.replace(true, customer_id="nobody")
        if true is step:
            nobody = msgspec.structs.replace(nobody, transition_id="f" * 32)
        played.publish(gone, nobody)
    found = played.verify()
    assert found.tables["customers"][1:4] == (1, 1, 0)
    assert found.tables["transitions"][1:4] == (1, 1, 0)
    assert {s.kind for s in found.samples} == {"missing", "extra"}


def test_what_a_model_that_is_not_known_decided_is_not_judged_and_orders_are(played: Played) -> None:
    """With the model given, its closed forms are judged as well."""
    played.publish_all()
    true = next(f for f in played.standing(ProfileFact) if f.shop_id == "s" and f.purchase_days > 2)
    model = ShopModel("s", 7, BetaGeometric(0.5, 20.0, 0.8, 2.5))
    x, t_x = true.purchase_days - 1, (true.last_order_on - true.first_order_on).days
    silent = (played.plays[0].watermark - true.last_order_at) // DAY
    told = msgspec.structs.replace(
        true, version=true.version + 1, model_version=7, p_alive=0.01, orders=true.orders + 1
    )
    assert abs(model.lapse.p_alive(x, t_x, t_x + silent) - 0.01) > 0.1
    played.publish(told)
    assert [name for name, _, _ in played.verify().samples[0].differences] == ["orders"]
    columns = [name for name, _, _ in played.verify(models={"s": model}).samples[0].differences]
    assert {"orders", "p_alive"} <= set(columns)
    assert not {"stage", "tier"} & set(columns)


@pytest.mark.parametrize("played", [SEEDS[2]], indirect=True)
def test_churn_moves_by_who_crossed_less_who_returned(played: Played) -> None:
    """Every day, over the stored transitions; who is lapsed on a day is counted by purchase days."""
    played.publish_all()
    rows = played.client.query(
        "SELECT toDate32(at, {zone:String}) AS day,"
        " countIf(to_state = 'lapsed'), countIf(from_state = 'lapsed')"
        " FROM transitions FINAL WHERE kind = 'stage' GROUP BY day",
        parameters={"zone": POLICY.zone},
    ).result_rows
    moved = {day: (crossed, returned) for day, crossed, returned in rows}
    said, now = _said(played.plays)
    days = [reference.occasions(events, now[person], POLICY) for person, events in said.items()]
    begin, end = (
        reference.local_date(START, POLICY.zone),
        reference.local_date(min(now.values()), POLICY.zone),
    )
    before, crossings = 0, 0
    for day in (begin + timedelta(days=n) for n in range((end - begin).days + 1)):
        lasts = [max((d for d, _ in each if d <= day), default=None) for each in days]
        lapsed = sum(last is not None and (day - last).days * DAY >= POLICY.lapsed_after for last in lasts)
        crossed, returned = moved.get(day, (0, 0))
        assert lapsed - before == crossed - returned, day
        before, crossings = lapsed, crossings + crossed
    assert crossings > 100

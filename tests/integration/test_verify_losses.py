"""The batch SQL for losses: worked-out stories and the slow reference judge it, it judges the engine, and
finds what is wrong."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from schemas.topics import INPUTS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.rows import input_rows
from streams.adapters.verify import VerifyReport, parameters, text, verify
from streams.domain.events import Input
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact, ReasonFact
from streams.domain.policy import DAY, HOUR, Policy
from tests.domain import loss_reference
from tests.domain.loss_reference import Row
from tests.domain.loss_stories import deliver
from tests.domain.test_loss_reference import STORIES, expected, flat, input_of, policy_of
from tests.integration.buyer_play import Play, publish
from tests.integration.loss_play import CRAWLER, POLICIES, START, ZONES, stories

pytestmark = pytest.mark.replay

KINDS: Final = ("purchases", "item_days", "leaks")
LOSSES: Final = (*KINDS, "reasons")


class Oracle:
    """Raw events in a store, and what the batch SQL makes of them."""

    def __init__(self, url: str, events: Sequence[Input]) -> None:
        migrate(url)
        self.client = connect(url)
        with closing(Store(url)) as store:
            for index in range(len(INPUTS)):
                of_topic = [event for event in events if event.topic == index]
                if of_topic:
                    store.insert("events", input_rows(index, 0, of_topic))
        watermark = max(event.t for event in events) + DAY
        self.client.command(
            "INSERT INTO ingest (topic, partition, next_offset, watermark) VALUES"
            f" ('visits', 0, 1, fromUnixTimestamp64Milli({watermark}))"
        )

    def rows(self, kind: str, policy: Policy, zones: Mapping[str, str]) -> list[Row]:
        """The rows of the query of that name, in the columns and the wire form of facts, one an item."""
        tell_zones(self.client, zones)
        found: list[Row] = []
        for zone in {policy.zone, *zones.values()}:
            given = {
                **parameters(policy, {}),
                "zone": zone,
                "is_listed": int(zone != policy.zone),
                "everywhere": int(kind != "purchases"),
                "bot_agents": [self._number(CRAWLER)],
            }
            found += self.client.query(text(kind), parameters=given).named_results()
        return [_wire(kind, row) for row in found]

    def _number(self, agent: str) -> int:
        return int(self.client.query("SELECT cityHash64({a:String})", {"a": agent}).result_rows[0][0])


def tell_zones(client: Client, zones: Mapping[str, str]) -> None:
    client.command("TRUNCATE TABLE shops")
    rows = [[shop, shop, zone, 1] for shop, zone in zones.items()]
    client.insert("shops", rows, column_names=["shop_id", "name", "zone", "version"])


def _wire(kind: str, row: Mapping[str, Any]) -> Row:
    told: Row = {}
    for name, value in row.items():
        if isinstance(value, Decimal):
            told[name] = f"{value:.4f}"
        elif isinstance(value, date):
            told[name] = value.isoformat()
        elif name in ("is_bot", "is_reversed", "favorited", "carted"):
            told[name] = bool(value)
        elif name == "lines":
            names = ("item_id", "category", "quantity", "gross", "discount", "net")
            told[name] = [_wire(kind, dict(zip(names, line, strict=True))) for line in value]
        elif name != "partition":
            told[name] = value
    return told


def test_the_oracle_tells_the_stories(database: str) -> None:
    """Each story is customers of its own; its last act is judged, when all has been said."""
    events = []
    for name, story in STORIES.items():
        said = [e for act in (story, *story.get("then", ())) for e in act["events"] if "topic" in e]
        for place, event in enumerate(said):
            whose = f"{name}: {event.get('customer_id', 'c')}"
            events.append(input_of(place, {**event, "customer_id": whose}))
    oracle = Oracle(database, deliver(events))
    answers: dict[tuple[str, Policy, tuple[tuple[str, str], ...]], list[Row]] = {}
    for name, story in STORIES.items():
        policy, zones = policy_of(story), story.get("zones", {})
        act = (story, *story.get("then", ()))[-1]
        for kind in KINDS:
            if kind == "purchases" and kind not in act:
                continue
            asked = (kind, policy, tuple(sorted(zones.items())))
            if asked not in answers:
                answers[asked] = oracle.rows(kind, policy, zones)
            wanted = expected(kind, act.get(kind, ()))
            mine = [
                {**row, "customer_id": row["customer_id"].removeprefix(f"{name}: ")}
                for row in answers[asked]
                if row["customer_id"].startswith(f"{name}: ")
            ]
            rows = flat(kind, [{**row, "items": [{}]} for row in mine])
            seen = [{key: row[key] for key in want} for row, want in zip(rows, wanted, strict=False)]
            assert (seen, len(rows)) == (wanted, len(wanted)), (name, kind)
    oracle.client.close()


def test_the_oracle_agrees_with_the_slow_reference(database: str) -> None:
    """Row by row, in three calendars, with leaks of the same day and of two days more."""
    chance = random.Random(11)
    events = deliver([event for each in stories("c", 250, chance) for event in each])
    oracle = Oracle(database, events)
    counts = defaultdict(list)
    for policy in POLICIES:
        for kind in KINDS:
            wanted = flat(kind, getattr(loss_reference, kind)(events, policy, ZONES))
            for row in wanted:
                row.pop("items", None)
            assert flat(kind, [{**row, "items": [{}]} for row in oracle.rows(kind, policy, ZONES)]) == [
                {**row, "items": [{}]} for row in wanted
            ]
            counts[kind].append(len(wanted))
    assert min(counts["purchases"]) > 500
    assert min(counts["item_days"]) > 2_000
    assert counts["leaks"][1] > counts["leaks"][0] > 100
    oracle.client.close()


class Played:
    """Stories through the engine in two partitions, the second one's watermark hours behind what is known."""

    def __init__(self, url: str, seed: int, policy: Policy, zones: Mapping[str, str], days: float) -> None:
        migrate(url)
        self.policy, self._store, self.client = policy, Store(url), connect(url)
        tell_zones(self.client, zones)
        chance = random.Random(seed)
        self.plays = [Play(0, policy=policy, zones=zones), Play(1, lag=5 * HOUR, policy=policy, zones=zones)]
        for play in self.plays:
            play.run(stories(f"p{play.partition}", 100, chance), START + int(days * DAY), chance)
            play.store(self._store, self.client)
            publish(self._store, play.partition, *play.facts)

    def publish(self, *facts: Any, partition: int = 0) -> None:
        publish(self._store, partition, *facts)

    def verify(self, tables: Sequence[str] | None = LOSSES) -> VerifyReport:
        """Of losses, which is what these tests err in, unless more is asked for."""
        return verify(self.client, self.policy, tables=tables)

    def standing(self, kind: type[Any], *identity: str) -> list[Any]:
        """The facts of partition 0 that stand."""
        stand: dict[Any, Any] = {}
        for fact in (f for f in self.plays[0].facts if isinstance(f, kind)):
            key = tuple(getattr(fact, name) for name in identity)
            if key not in stand or fact.version >= stand[key].version:
                stand[key] = fact
        return [fact for fact in stand.values() if not fact.is_deleted]

    def close(self) -> None:
        self._store.close()
        self.client.close()


@pytest.fixture
def played(database: str, request: pytest.FixtureRequest) -> Iterator[Played]:
    with closing(Played(database, *getattr(request, "param", (7, POLICIES[1], {}, 33)))) as one:
        yield one


#: In the middle of a day, in three calendars; and in one when all is settled, leaks of two days more too.
SEEDS: Final = [
    (5, POLICIES[0], ZONES, 20.5),
    (6, POLICIES[1], {}, 50),
]


@pytest.mark.parametrize("played", SEEDS, indirect=True)
def test_what_the_engine_tells_is_what_the_raw_events_say(played: Played) -> None:
    """However late, twice and out of order events came, and whatever was refused."""
    found = played.verify(tables=None)
    assert (found.missing, found.extra, found.different) == (0, 0, 0), "\n".join(map(str, found.samples))
    tables = found.tables
    assert tables["segments"].rows > 100
    assert tables["sessions"].rows > 1_000
    assert tables["purchases"].rows > 300
    assert tables["item_days"].rows > 1_000
    assert tables["leaks"].rows > 50
    assert tables["reasons"].rows > 1_000
    assert sum(tables[name].open for name in LOSSES) < 50


def _wrong(fact: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(fact, version=fact.version + 1, **changes)


def _more(amount: str) -> str:
    """By the least that money can be wrong."""
    return str(Decimal(amount) + Decimal("0.0001"))


#: Before the first lapse, when all that is told of losses is of sessions.
EARLY: Final[tuple[int, Policy, dict[str, str], float]] = (8, POLICIES[1], {}, 11.5)


@pytest.mark.parametrize("played", [EARLY], indirect=True)
def test_each_wrong_column_is_found_and_named(played: Played) -> None:
    """All at once in one row of each table, each by the least it can be wrong by."""
    bought = next(
        f for f in played.standing(PurchaseFact, "shop_id", "customer_id", "order_id") if len(f.lines) > 1
    )
    looked = played.standing(ItemDaysFact, "shop_id", "customer_id", "day")[0]
    lost = next(
        f for f in played.standing(LeakFact, "leak_id") if f.price_here and f.price_there and f.currency
    )
    why = next(f for f in played.standing(ReasonFact, "reason_id") if f.category and f.reason != "unknown")
    line, item = bought.lines[-1], looked.items[0]
    wrong_line = msgspec.structs.replace(line, net=_more(line.net))
    wrong_item = msgspec.structs.replace(
        item,
        category=f"{item.category}!",
        disposition="nothing" if item.disposition != "nothing" else "bought_other",
        first_at=item.first_at + 1,
        visits=item.visits + 1,
        favorited=not item.favorited,
        carted=not item.carted,
    )
    day = timedelta(days=1)
    played.publish(
        _wrong(
            bought,
            ordered_at=bought.ordered_at + 1,
            day=bought.day + day,
            total=_more(bought.total),
            refunded=_more(bought.refunded),
            is_reversed=not bought.is_reversed,
            currency="CHF",
            lines=(*bought.lines[:-1], wrong_line),
        ),
        _wrong(looked, items=(wrong_item, *looked.items[1:]), is_bot=not looked.is_bot),
        _wrong(
            lost,
            day=lost.day - day,
            seen_at=lost.seen_at + 1,
            item_ids=(*lost.item_ids, "x"),
            categories=(*lost.categories, "x"),
            intent=None if lost.intent else "cart",
            ordered_at=lost.ordered_at + 1,
            to_item_ids=(*lost.to_item_ids, "x"),
            pieces=lost.pieces + 1,
            amount=_more(lost.amount),
            currency="CHF",
            price_here=_more(lost.price_here),
            price_there=_more(lost.price_there),
            is_bot=not lost.is_bot,
        ),
        _wrong(
            why,
            at=why.at + 1,
            day=why.day + day,
            category="x",
            reason="unknown",
            score=round(why.score - 0.01, 2),
            scores=why.scores | {"forgot": 0.01},
            evidence=why.evidence | {"shops": "9"},
            is_bot=not why.is_bot,
        ),
        partition=1,
    )
    found = played.verify()
    columns: dict[str, set[str]] = defaultdict(set)
    for sample in found.samples:
        assert sample.kind == "different"
        columns[sample.of] |= {name for name, _, _ in sample.differences}
    fields = {
        "purchase": set(PurchaseFact.__struct_fields__) - {"order_id"},
        "item of a day": {*type(item).__struct_fields__, "is_bot"} - {"item_id"},
        "leak": set(LeakFact.__struct_fields__) - {"leak_id", "to_shop_id", "order_id", "version"},
        "reason": set(ReasonFact.__struct_fields__) - {"reason_id", "kind", "subject_id", "version"},
    }
    assert columns == {
        name: of_fact - {"shop_id", "customer_id", "is_deleted"} | {"partition"}
        for name, of_fact in fields.items()
    }
    assert [found.tables[name].different for name in ("purchases", "leaks")] == [1, 1]
    assert found.tables["item_days"].different == len(looked.items)
    assert found.missing == found.extra == 0


@pytest.mark.parametrize("played", [EARLY], indirect=True)
def test_a_row_too_few_and_a_row_too_many_are_found(played: Played) -> None:
    """In each table one row taken back, and one of somebody who is not there."""
    identities = {
        PurchaseFact: ("shop_id", "customer_id", "order_id"),
        ItemDaysFact: ("shop_id", "customer_id", "day"),
        LeakFact: ("leak_id",),
        ReasonFact: ("reason_id",),
    }
    for kind, identity in identities.items():
        true = played.standing(kind, *identity)[0]
        named = {name: "f" * 32 for name in identity if name in ("leak_id", "reason_id")}
        if kind is ReasonFact:
            named["subject_id"] = "f" * 32
        nobody = msgspec.structs.replace(true, customer_id="nobody", **named)
        played.publish(_wrong(true, is_deleted=True), nobody)
    tables = played.verify().tables
    for name in ("purchases", "leaks", "reasons"):
        assert tables[name][1:3] == (1, 1), name
    assert tables["item_days"].missing == tables["item_days"].extra > 0

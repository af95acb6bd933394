"""The batch SQL for segments: the slow reference judges it, it judges the engine, and finds what is wrong."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from schemas.topics import INPUTS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.rows import input_rows
from streams.adapters.verify import Compared, VerifyReport, parameters, text, verify, with_rules
from streams.domain.events import Cart, Input, Order, OrderLine, Visit
from streams.domain.facts import ProfileFact
from streams.domain.loss_facts import SegmentFact
from streams.domain.policy import DAY, HOUR, MINUTE, Policy
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import FIELDS, Compare, Count, Rule, RuleSet, Segment, Silence, read
from streams.domain.segments import Rules
from tests.domain import segment_reference, test_segments
from tests.domain.stories import deliver, make
from tests.domain.test_segments_simulated import POLICY as MARKET
from tests.domain.test_segments_simulated import marketplace
from tests.integration.buyer_play import POLICY, START, Play, publish, story

#: Every field, everything that is counted, both silences, and all that joins them.
ASKED: Final[dict[str, Any]] = {
    "new": "stage == new",
    "on-the-way-out": {"any": ["stage in [lapsing, lapsed]", "overdue_days >= 10"]},
    "no-tier": {"all": ["tier == null", "r_score == null", "m_score != 2", {"not": "f_score >= 4"}]},
    "band": {"any": ["price_band == 1", "usual_gap_days >= 20.5"]},
    "doubtful": {"all": ["p_alive < 0.8", {"not": "p_return_90d >= 0.4"}]},
    "sure": "p_alive in [0.8, 0.79, 0.78, 0.77, 0.76, 0.75, 0.74]",
    "expected": {"any": ["expected_orders_90d >= 1.25", "usual_gap_days == null"]},
    "due": {"all": ["overdue_days == 0", "recency_days >= 5"]},
    "second-day": "purchase_days in [2, 4]",
    "took-back": {"all": ["reversed_orders >= 1", {"not": "orders == 0"}]},
    "spent": {"any": ["monetary >= 20.0001", "average_order_value == 5"]},
    "not-pounds": {"all": ["currency != GBP", "currency != null"]},
    "mixed": "mixed_currency == true",
    "tea": "preferred_categories contains tea",
    "discount": {"all": ["discount_affinity >= 0.33", "discount_affinity < 1"]},
    "looked": {"all": ["visits_30d >= 2", {"not": "visits_7d >= 1"}]},
    "liked": {"any": ["favorites_60d == 1", "carts_20d == 1"]},
    "left-it": {"all": ["carted_45d >= 1", "orders_45d == 0", "since_last_visit >= 1h"]},
    "orders": {"any": ["orders_90d >= 2", "orders_30d != 0"]},
    "quiet": {"all": ["since_last_visit > 14d", "since_last_order <= 100d"]},
    "here": {"not": {"any": ["since_last_visit >= 36h", "since_last_order < 1d"]}},
    "only-z": "orders >= 1",
}
Person = tuple[str, str]

UNTIL: Final = START + 91 * DAY + 13 * HOUR


def rule_set(rules: Mapping[str, Any], version: int = 0) -> RuleSet:
    """Segments of all shops; one whose name begins with ``only-`` of the shop that it goes on with."""
    shops = {name: (name.removeprefix("only-"),) for name in rules if name.startswith("only-")}
    each = (Segment(name, "", read(rule), shops.get(name)) for name, rule in rules.items())
    return RuleSet(version, tuple(each))


class Told:
    """A store, what the engine has put there, and the rules it went by."""

    def __init__(self, url: str, rules: RuleSet, policy: Policy) -> None:
        migrate(url)
        self.rules, self.policy = rules, policy
        self.store, self.client = Store(url), connect(url)
        self.plays: list[Play] = []
        self._version = 1 << 60

    def play(
        self, people: Sequence[Sequence[Input]], until: int, chance: random.Random, lag: int = 0
    ) -> None:
        """Let the next partition's people do all they do, told late, twice and in another order."""
        play = Play(len(self.plays), lag=lag, policy=self.policy, rules=Rules(self.rules))
        play.run(people, until, chance)
        play.store(self.store, self.client)
        publish(self.store, play.partition, *play.facts)
        self.plays.append(play)

    def tell(self, *facts: SegmentFact, partition: int = 0) -> None:
        """Store facts, each in place of what was told before of the same."""
        self._version += 1
        newest = [msgspec.structs.replace(fact, version=self._version) for fact in facts]
        publish(self.store, partition, *newest)

    def verify(self, **more: Any) -> VerifyReport:
        return verify(self.client, self.policy, **{"segments": self.rules, "tables": ["segments"], **more})

    def members(self) -> dict[str, int]:
        """How many are told to be, by segment."""
        query = "SELECT segment, countIf(is_member) FROM segments FINAL GROUP BY segment"
        return dict(self.client.query(query).result_rows)

    def standing(self) -> list[SegmentFact]:
        """Memberships of the first partition that are judged, those that have ended among them."""
        play = self.plays[0]
        ahead = {e.body.customer_id for e in play.events if e.t > play.watermark}
        stand: dict[tuple[str, str, str], SegmentFact] = {}
        for fact in play.facts:
            if isinstance(fact, SegmentFact) and fact.segment in ("second-day", "orders", "spent", "here"):
                stand[fact.customer_id, fact.shop_id, fact.segment] = fact
        return [f for f in stand.values() if not f.is_deleted and f.customer_id not in ahead]


@contextmanager
def told(clickhouse: str, rules: RuleSet, policy: Policy) -> Iterator[Told]:
    url = urlunsplit(urlsplit(clickhouse)._replace(path=f"/t{uuid.uuid4().hex[:10]}"))
    one = Told(url, rules, policy)
    with closing(one.store), closing(one.client):
        yield one
        one.client.command(f"DROP DATABASE {urlsplit(url).path[1:]}")


@pytest.fixture(scope="module")
def played(clickhouse: str) -> Iterator[Told]:
    """Buyers of two partitions, the second one's watermark hours behind what is known. A test that puts
    something wrong there takes it back."""
    chance = random.Random(21)
    with told(clickhouse, rule_set(ASKED), POLICY) as one:
        for partition, lag in enumerate((0, 5 * HOUR)):
            people = [story(f"p{partition}-{n}", chance) for n in range(60)]
            one.play(people, UNTIL, chance, lag)
        yield one


@pytest.fixture(scope="module")
def judged(played: Told) -> Compared:
    """All of it, while nothing is wrong."""
    return exact(played.verify())


def exact(report: VerifyReport) -> Compared:
    """What was judged, all of it as it must be."""
    found = report.tables["segments"]
    assert (found.missing, found.extra, found.different) == (0, 0, 0), "\n".join(map(str, report.samples))
    return found


def test_what_the_engine_tells_is_what_the_raw_events_say_by_every_kind_of_rule(
    played: Told, judged: Compared
) -> None:
    """However late, twice and out of order events came, and whatever was refused."""
    assert judged.rows > 1_000
    # The last batch reaches beyond the watermark, so of some it is not known yet.
    assert 0 < judged.open < judged.rows / 2
    assert {name for name, members in played.members().items() if members} == set(ASKED)


def test_the_rules_ask_for_all_that_can_be_asked_for() -> None:
    """So that what the test above holds true is held true of all."""
    asked = [part for segment in rule_set(ASKED).segments for part in conditions(segment.rule)]
    assert {part.field for part in asked if isinstance(part, Compare)} == set(FIELDS)
    assert {part.of for part in asked if isinstance(part, Count)} == {
        "orders",
        "visits",
        "favorites",
        "carts",
        "carted",
    }
    assert {part.of for part in asked if isinstance(part, Silence)} == {"visit", "order"}


def conditions(rule: Rule) -> Iterator[Rule]:
    if isinstance(rule, Compare | Count | Silence):
        yield rule
        return
    for part in rule.of if isinstance(rule.of, tuple) else (rule.of,):
        yield from conditions(part)


@pytest.mark.parametrize("rules", [READY_MADE.rule_set, rule_set(ASKED)], ids=["ready-made", "every kind"])
def test_of_the_simulation_what_the_engine_tells_is_exact(clickhouse: str, rules: RuleSet) -> None:
    """Out of order, a twentieth twice, some behind the horizon; in New York's calendar."""
    events = marketplace()
    with told(clickhouse, rules, replace(MARKET, horizon=2 * DAY)) as one:
        one.play([events], events[-1].t + 5 * HOUR, random.Random(5))
        found = exact(one.verify())
        members = one.members()
        assert len(one.plays[0].refused) > 10
        assert found.open == 0
        assert found.rows >= sum(members.values()) > 15
        assert members.get("cart-abandoner-today") or rules is not READY_MADE.rule_set


def test_a_membership_too_few_one_too_many_and_a_wrong_one_are_found_and_named(played: Told) -> None:
    stands = played.standing()
    gone, turned = [f for f in stands if f.is_member][:2]
    left = next(f for f in stands if not f.is_member)
    stranger = but(gone, customer_id="stranger")
    unheard = but(gone, segment="unheard-of")
    played.tell(
        but(gone, is_deleted=True), but(turned, is_member=False), but(left, is_member=True), stranger, unheard
    )
    try:
        report = played.verify()
    finally:
        played.tell(gone, turned, left, but(stranger, is_deleted=True), but(unheard, is_deleted=True))
    assert report.tables["segments"][1:4] == (1, 3, 1)
    assert sorted(map(str, report.samples)) == sorted(
        [
            f"missing membership of {gone.customer_id} in {gone.shop_id} of segment {gone.segment}",
            f"extra membership of stranger in {gone.shop_id} of segment {gone.segment}",
            f"extra membership of {gone.customer_id} in {gone.shop_id} of segment unheard-of",
            f"extra membership of {left.customer_id} in {left.shop_id} of segment {left.segment}",
            f"different membership of {turned.customer_id} in {turned.shop_id} of segment {turned.segment}:"
            " is_member must be true and is false",
        ]
    )


def but(fact: SegmentFact, **changes: Any) -> SegmentFact:
    return msgspec.structs.replace(fact, **changes)


def test_a_turn_at_an_instant_at_which_nothing_can_have_turned_is_found(played: Told) -> None:
    """Each other column is found and named as well."""
    stands = played.standing()
    by_event = next(fact for fact in stands if fact.cause == "event")
    by_time = next(fact for fact in stands if fact.cause == "time")
    others = iter(fact for fact in stands if fact not in (by_event, by_time))
    ahead, unruly = next(others), next(others)
    wrong: dict[str, SegmentFact] = {
        "the time of an event": but(by_event, at=by_event.at + 7),
        "the start of a day or the end of a silence": but(by_time, at=by_time.at - 7),
        "at most the watermark": but(ahead, at=played.plays[0].watermark + 1, cause="rules"),
        "0": but(unruly, rules_version=1),
    }
    played.tell(*wrong.values(), partition=1)
    try:
        report = played.verify()
    finally:
        played.tell(by_event, by_time, ahead, unruly)
    assert report.tables["segments"][1:4] == (0, 0, 4)
    found = {must: column for sample in report.samples for column, must, _ in sample.differences}
    # All of it has come from the second partition.
    assert found == dict.fromkeys(wrong, "at") | {"0": "partition"}
    named = {(s.customer_id, s.shop_id): [column for column, _, _ in s.differences] for s in report.samples}
    assert named[unruly.customer_id, unruly.shop_id] == ["rules_version", "partition"]


def test_before_everyone_was_looked_at_by_the_rules_in_force_nothing_is_judged(
    played: Told, judged: Compared
) -> None:
    """Each partition's run counts by itself; rules that are older than the last run are not in force."""
    runs = [[9, 0, 2, True], [9, 1, 1, False]]
    columns = ["rules_version", "partition", "done", "is_finished"]
    played.client.insert("segment_runs", runs, column_names=columns)
    try:
        half = exact(played.verify(segments=msgspec.structs.replace(played.rules, version=9)))
        nothing = exact(played.verify())
    finally:
        played.client.command("TRUNCATE TABLE segment_runs")
    assert judged.rows / 3 < half.rows < judged.rows
    assert half.open > judged.open + judged.rows / 3
    assert (nothing.rows, nothing.open >= judged.rows / 2) == (0, True)


def test_what_a_model_that_is_not_given_decided_is_not_judged_and_what_orders_did_is(
    played: Told, judged: Compared
) -> None:
    """Told by a model of the shop's own, stages, chances and tiers of all its buyers are open."""
    profiles = (fact for fact in played.plays[0].facts if isinstance(fact, ProfileFact))
    one = next(fact for fact in profiles if fact.shop_id == "s" and fact.orders)
    publish(played.store, 0, msgspec.structs.replace(one, version=1 << 60, model_version=7))
    try:
        fitted = exact(played.verify())
    finally:
        # Any row of a shop that ever had a model makes it one with a model, so this one goes for good.
        played.client.command(
            "ALTER TABLE customers DELETE WHERE model_version = 7", settings={"mutations_sync": 1}
        )
    assert judged.rows / 2 < fitted.rows < judged.rows
    assert fitted.open > judged.open + 150


#: A text that would end one in SQL, a parameter, or a comment.
HOSTILE: Final = "it's \\ \"tea\" {words:Array(String)} /* rules */ -- %s \t\n\\' 茶"
#: From the midst of the stories to long after; on half-hours, beside them, and at a local midnight.
WATERMARKS: Final = (
    *(test_segments.START + days * DAY for days in (2.5, 3, 4, 5, 7, 31, 96)),
    test_segments.START + 4 * DAY + 1,
    test_segments.START + 5 * DAY - HOUR,
)


def test_the_oracle_agrees_with_the_slow_reference(database: str) -> None:
    """Of everyone of whom nothing is known beyond the watermark; of the others it says nothing."""
    chance = random.Random(4)
    policy = test_segments.POLICY
    told: dict[str, Any] = {f"c{n}": text for n, text in enumerate(test_segments.CONDITIONS)}
    told |= {f"j{n}": joined(chance) for n in range(20)}
    rules = rule_set(told)
    hostile = Segment("hostile", "", Compare("preferred_categories", "contains", HOSTILE), (HOSTILE,))
    rules = RuleSet(0, (*rules.segments, hostile))
    migrate(database)
    must: dict[Person, set[str]] = {}
    ahead: set[Person] = set()
    with closing(Store(database)) as store, closing(connect(database)) as client:
        for partition, now in enumerate(map(int, WATERMARKS)):
            events = [e for n in range(32) for e in drawn(f"{partition}-{n}", chance)]
            events += named_badly(f"{partition}-hostile", int(now) - HOUR)
            events = deliver(events)
            for index in range(len(INPUTS)):
                if of_topic := [event for event in events if event.topic == index]:
                    store.insert("events", input_rows(index, partition, of_topic))
            client.command(
                "INSERT INTO ingest (topic, partition, next_offset, watermark) VALUES"
                f" ('visits', {partition}, 1, fromUnixTimestamp64Milli({now}))"
            )
            asked = {**told, "hostile": f"preferred_categories contains {HOSTILE}"}
            found = segment_reference.members(events, now, asked, policy)
            for event in events:
                must.setdefault((event.body.customer_id, event.body.shop_id), set())
            for customer, shop, name in found:
                if name != "hostile" or shop == HOSTILE:
                    must[customer, shop].add(name)
            ahead |= {(e.body.customer_id, e.body.shop_id) for e in events if e.t > now}
        query, meaning = with_rules(text("segments"), rules)
        rows = client.query(query, parameters=parameters(policy, {}) | meaning).named_results()
        answers = {(row["customer_id"], row["shop_id"]): row["answers"] for row in rows}
    for person, names in must.items():
        said = answers.pop(person, [])
        if person in ahead:
            assert {holds for _, holds in said} <= {None}, person
        else:
            assert {name for name, holds in said if holds} == names, person
            assert None not in {holds for _, holds in said}, person
    assert not answers
    assert len(must.keys() - ahead) > 250


def joined(chance: random.Random, depth: int = 0) -> Any:
    """A rule that joins conditions, at most three deep."""
    kind = chance.choice(("all", "any", "not") if depth < 3 else (None,))
    if kind is None or (depth and chance.random() < 0.4):
        return chance.choice(test_segments.CONDITIONS)
    if kind == "not":
        return {"not": joined(chance, depth + 1)}
    return {kind: [joined(chance, depth + 1) for _ in range(chance.randint(2, 3))]}


def drawn(name: str, chance: random.Random) -> list[Input]:
    """What two customers do in six days, as in the laws of segments."""
    most = ((0, 5), (0, 47), (0, 9), (0, 5))
    events = []
    for number in range(chance.randint(1, 10)):
        day, half_hour, kind, detail = (chance.randint(*each) for each in most)
        events += test_segments._events(number, (day, half_hour, kind, detail))
    for event in events:
        event.body.customer_id = f"{name}{event.body.customer_id}"
    return events


def named_badly(customer: str, at: int) -> list[Input]:
    """Somebody who has bought what is called so in a shop that is called so, and in another."""
    line = OrderLine(item_id="a", category=HOSTILE)
    order: dict[str, Any] = {"action": "placed", "lines": (line,), "customer_id": customer}
    return [
        make(at, "bad", Order, order_id="bad", shop_id=HOSTILE, **order),
        make(at, "good", Order, order_id="good", shop_id="s", **order),
        make(at + MINUTE, "look", Visit, customer_id=customer, shop_id=HOSTILE),
        make(at + MINUTE, "put", Cart, action="add", item_id="a", quantity=1, customer_id=customer),
    ]

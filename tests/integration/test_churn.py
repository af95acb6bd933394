"""Churn and repurchase against the definitions: what the rules tell, beside what purchase days say."""

from __future__ import annotations

import random
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.buyer_rows import transition_rows
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.queries import question
from streams.domain.facts import TransitionFact, transition_id
from streams.domain.policy import DAY, HOUR
from streams.settings import Settings
from tests.builders import record
from tests.domain.buyer_reference import Said, local_date, occasions
from tests.domain.buyer_stories import POLICY, START, Counter, in_order
from tests.integration.stored import store

CUSTOMERS: Final = 60
DAYS: Final = 200
END: Final = START + DAYS * DAY
FIRST, LAST = local_date(START, POLICY.zone), local_date(END, POLICY.zone)
LAPSED_AFTER: Final = timedelta(days=POLICY.lapsed_after // DAY)


def _orders(chance: random.Random) -> list[Said]:
    """Up to eight orders in half a year that clocks change in, a third of them taken back, some in part."""
    said = []
    for number in range(chance.randint(1, 8)):
        at = START + chance.randrange(DAYS * 24) * HOUR
        said.append(Said(at, 2 * number, f"o{number}", "placed", 100_000, "GBP"))
        if chance.random() < 0.33:
            after = at + chance.randrange(8) * DAY  # beyond the window of five days it has no say
            amount = chance.choice((None, 40_000, 100_000))
            said.append(Said(after, 2 * number + 1, f"o{number}", "refunded", amount=amount))
    return said


def _told(name: str, events: list[Said], chance: random.Random) -> list[TransitionFact]:
    """All transitions that the rules tell of the customer; some events come late, inside of the horizon."""
    counter = Counter()
    arrivals = sorted((said.at + chance.choice((0, 0, 0, DAY)), said) for said in in_order(events))
    for arrives, said in arrivals:
        counter.until(arrives)
        counter.take([said])
    counter.until(END)
    return [
        msgspec.structs.replace(
            fact,
            customer_id=name,
            transition_id=transition_id(name, fact.shop_id, fact.kind, fact.anchor, fact.to_state),
        )
        for fact in counter.told
        if isinstance(fact, TransitionFact) and fact.kind == "stage"
    ]


@pytest.fixture(scope="module")
def buyers() -> dict[str, list[date]]:
    """Purchase days of each customer, by the definitions."""
    return {
        f"c{seed}": [day for day, _ in occasions(_orders(random.Random(seed)), END, POLICY)]
        for seed in range(CUSTOMERS)
    }


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    """A store with what the rules told of all customers, corrections after and before what they correct."""
    migrate(database)
    facts = []
    for seed in range(CUSTOMERS):
        chance = random.Random(seed)
        facts += _told(f"c{seed}", _orders(chance), chance)
    assert any(fact.is_deleted for fact in facts)
    random.Random(0).shuffle(facts)
    with closing(Store(database)) as into, closing(connect(database)) as client:
        for part in range(3):
            records = [record("transitions", msgspec.json.encode(fact), key=b"c") for fact in facts[part::3]]
            into.insert("transitions", transition_rows(records, Settings()))
        yield client


def ask(client: Client, name: str, **given: str) -> list[dict[str, Any]]:
    whole = {"shop": "", "guests": "", "zone": POLICY.zone, "since": f"{FIRST}", "until": f"{LAST}", **given}
    asked = question(name)
    taken = {key: value for key, value in whole.items() if key in asked.parameters}
    return list(asked.ask(client, taken).named_results())


def test_churn_is_the_share_without_an_order_for_so_long_on_every_day(
    client: Client, buyers: dict[str, list[date]]
) -> None:
    found = {
        row["day"]: (row["buyers"], row["lapsed"]) for row in ask(client, "churn_daily", by_cohort="false")
    }
    expected = {}
    for day in (FIRST + timedelta(days=n) for n in range(DAYS + 1)):
        last = [max(d for d in days if d <= day) for days in buyers.values() if any(d <= day for d in days)]
        if last:
            expected[day] = (len(last), sum(day - d >= LAPSED_AFTER for d in last))
    assert found == expected
    assert any(lapsed for _, lapsed in found.values())


def test_what_churn_changes_by_is_who_crossed_less_who_returned_on_every_day(client: Client) -> None:
    """Of the shop and of each cohort; and the crossings are named one by one."""
    lines: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in ask(client, "churn_daily", by_cohort="true"):
        lines[row["cohort"]].append(row)
    assert len(lines) > 3
    for rows in lines.values():
        before = {"lapsed": 0, "day": rows[0]["day"] - timedelta(days=1)}
        for row in rows:
            assert row["day"] == before["day"] + timedelta(days=1)
            assert row["lapsed"] - before["lapsed"] == row["crossed"] - row["returned"]
            before = row
    whole = lines.pop(None)
    for name in ("buyers", "lapsed", "crossed", "returned"):
        of_cohorts = Counts({row["day"]: 0 for row in whole})
        for rows in lines.values():
            for row in rows:
                of_cohorts[row["day"]] += row[name]
        assert of_cohorts == {row["day"]: row[name] for row in whole}
    named = Counts((row["day"], row["moved"]) for row in ask(client, "churn_crossings"))
    counted = {(row["day"], moved): row[moved] for row in whole for moved in ("crossed", "returned")}
    assert named == {key: count for key, count in counted.items() if count}
    assert sum(row["returned"] for row in whole) > 10


def test_days_asked_about_one_by_one_say_what_they_say_together(client: Client) -> None:
    together = {row["day"]: row for row in ask(client, "churn_daily", by_cohort="false")}
    for n in (40, 77, 199):
        day = FIRST + timedelta(days=n)
        alone = ask(client, "churn_daily", by_cohort="false", since=f"{day}", until=f"{day}")
        assert alone == [together[day]]


def test_a_transition_that_does_not_follow_from_the_one_before_breaks_the_sum(
    client: Client, database: str
) -> None:
    """The identity is a check: counts of who stands there do not come from what transitions claim."""
    (lapsed,) = client.query(
        "SELECT argMin((customer_id, toUnixTimestamp64Milli(at)), at) FROM transitions FINAL"
        " WHERE to_state = 'lapsed'"
    ).result_rows[0]
    claim = {"customer_id": lapsed[0], "shop_id": "s", "anchor": lapsed[1] + 1, "cause": "order"}
    with closing(Store(database)) as into:
        store(into, {"transitions": [{**claim, "from_state": "active", "to_state": "won_back"}]})
    rows = ask(client, "churn_daily", by_cohort="false")
    changes = [(row["lapsed"] - before["lapsed"], row) for before, row in pairwise(rows)]
    assert any(change != row["crossed"] - row["returned"] for change, row in changes)


def test_the_repurchase_rate_is_that_of_the_definition(database: str) -> None:
    migrate(database)
    chance = random.Random(7)
    sessions = [
        {
            "customer_id": f"c{chance.randrange(80)}",
            "started_at": START + chance.randrange(220 * 24 * 60) * 60_000 + number,
            "orders": chance.choice((0, 1, 2)),
        }
        for number in range(500)
    ]
    with closing(Store(database)) as into, closing(connect(database)) as client:
        store(into, {"sessions": sessions})
        for n in (190, 205, 219):
            day = FIRST + timedelta(days=n)
            for row in ask(client, "repurchase_rate", as_of=f"{day}"):
                span = row["span_days"]
                ago = defaultdict(set)
                for said in sessions:
                    if said["orders"]:
                        ago[said["customer_id"]].add((day - local_date(said["started_at"], POLICY.zone)).days)
                before = {c for c, days in ago.items() if any(span < d <= 2 * span for d in days)}
                again = {c for c in before if any(1 <= d <= span for d in ago[c])}
                assert (row["buyers"], row["bought_again"]) == (len(before), len(again))
                assert row["repurchase_rate"] == pytest.approx(len(again) / len(before), abs=1e-6)
                assert 0 < len(again) < len(before)

"""The batch SQL that judges the stream is judged itself: stories worked out by hand, and a real data set."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest
from clickhouse_connect.driver.client import Client

from schemas.topics import INPUTS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.rows import event_rows, input_rows
from streams.adapters.verify import parameters, text
from streams.domain.events import Input
from streams.domain.facts import session_id
from streams.domain.policy import MINUTE, Policy
from streams.settings import Settings
from streams.sources import userbehavior
from streams.sources.files import SourceFile
from tests.builders import NOON, record
from tests.domain import reference, stories
from tests.integration.oracle_cases import STORIES
from tests.sources.real_data import real_file

Row = dict[str, Any]

POLICY: Final = Policy()


def oracle(client: Client, policy: Policy = POLICY, **slice_of: int) -> list[Row]:
    """The rows of sessions.sql."""
    meaning = parameters(policy, {})
    return list(client.query(text("sessions"), parameters={**meaning, **slice_of}).named_results())


def tell(store: Store, client: Client) -> None:
    """Store the events of all stories, each story a customer of its own."""
    settings = Settings()
    offsets: Counter[str] = Counter()
    records = defaultdict(list)
    late, refused = [], []
    for name, story in STORIES.items():
        for place, (topic, event) in enumerate(story.events):
            offset = offsets[topic]
            offsets[topic] += 1
            records[topic].append(record(topic, {**event, "customer_id": name}, offset=offset))
            if place in story.late:
                late.append([topic, 0, offset])
            if place in story.refused:
                refused.append([topic, 0, offset, "too_many_events"])
    for topic, said in records.items():
        rows = event_rows(said, settings)
        assert rows.num_rows == len(said), f"the contract refuses an event of {topic}"
        # Twice, in two inserts: what is stored again changes nothing.
        store.insert("events", rows)
        store.insert("events", rows)
    client.insert("late_events", late, column_names=["topic", "partition", "offset"])
    client.insert("dead_letters", refused, column_names=["topic", "partition", "offset", "reason"])


@pytest.fixture(scope="module")
def told(clickhouse: str) -> Iterator[dict[str, dict[int, Row]]]:
    """What the oracle makes of the stories: by story, then by a session's start in ms."""
    name = f"t{uuid.uuid4().hex[:10]}"
    url = urlunsplit(urlsplit(clickhouse)._replace(path=f"/{name}"))
    migrate(url)
    with closing(Store(url)) as store, closing(connect(url)) as client:
        tell(store, client)
        found: dict[str, dict[int, Row]] = defaultdict(dict)
        for row in oracle(client):
            found[row["customer_id"]][row["started_at"]] = row
        yield found
        client.command(f"DROP DATABASE {name}")


@pytest.mark.parametrize("name", STORIES)
def test_the_oracle_tells_the_story(told: dict[str, dict[int, Row]], name: str) -> None:
    sessions = {NOON + round(minute * MINUTE): columns for minute, columns in STORIES[name].sessions.items()}
    rows = told[name]
    assert sorted(rows) == sorted(sessions)
    for start, columns in sessions.items():
        assert {column: rows[start][column] for column in columns} == columns


def test_a_row_has_every_column(told: dict[str, dict[int, Row]]) -> None:
    name = "a cart outweighs a favorite"
    assert told[name][NOON] == {
        "session_id": session_id(name, "s1", NOON),
        "shop_id": "s1",
        "customer_id": name,
        "started_at": NOON,
        "ended_at": NOON + MINUTE,
        "outcome": "lost",
        "lost_stage": "carted",
        "events": 2,
        "visits": 0,
        "favorites": 1,
        "carts": 1,
        "cart_value": Decimal(10),
        "currency": "CNY",
        "mixed_currency": 0,
        "orders": 0,
        "revenue": Decimal(0),
        "recovered": 0,
        "recovered_at": None,
        "recovered_by": None,
        "landing_item": None,
        "channel": None,
        "campaign": None,
        "is_bot": 0,
        "day": date(2026, 3, 2),
        "bot_by": None,
        "version": 2,
        "partition": 0,
    }


def test_the_oracle_gives_the_published_figures_of_the_taobao_data(database: str) -> None:
    migrate(database)
    records: dict[str, list[Any]] = defaultdict(list)
    for source in userbehavior.read(SourceFile(real_file("userbehavior.csv"))):
        said = records[source.topic.name]
        said.append(
            record(source.topic.name, source.value, offset=len(said), key=source.key, arrived=source.at or 0)
        )
    with closing(Store(database)) as store, closing(connect(database)) as client:
        for said in records.values():
            rows = event_rows(said, Settings())
            store.insert("events", rows)
        stored = int(client.query("SELECT count() FROM events FINAL").result_rows[0][0])
        halves = [oracle(client, sub=0, subs=2), oracle(client, sub=1, subs=2)]
    sessions = [row for half in halves for row in half]
    assert stored == 96_168
    assert all(halves)
    assert Counter(row["lost_stage"] or row["outcome"] for row in sessions) == {
        "converted": 2_077,
        "carted": 4_873,
        "favorited": 2_581,
        "browsed": 15_057,
        "bounced": 37_528,
    }
    assert len({row["customer_id"] for row in sessions if row["outcome"] == "converted"}) == 2_071


def test_the_oracle_agrees_with_the_slow_reference_on_thousands_of_customers(database: str) -> None:
    chance = random.Random(20260302)
    policy = stories.POLICY
    events: list[Input] = []
    expected = []
    for number in range(3_000):
        mine = [drawn(place, chance) for place in range(chance.randint(1, 14))]
        for event in mine:
            event.body.customer_id = f"{number}{event.body.customer_id}"
        events += mine
        expected += reference.sessions(mine, policy)
    migrate(database)
    with closing(Store(database)) as store, closing(connect(database)) as client:
        for index in range(len(INPUTS)):
            of_topic = [event for event in stories.deliver(events) if event.topic == index]
            store.insert("events", input_rows(index, 0, of_topic))
        found = oracle(client, policy)
    assert by_id(found) == by_id(expected)


def drawn(place: int, chance: random.Random) -> Input:
    """An event like those of the engine's laws."""
    small = (chance.randint(0, 24), chance.randint(0, 6), chance.randint(0, 23), chance.getrandbits(16))
    return stories._event(place, (*small, chance.randint(0, 5)))


def by_id(rows: list[Row]) -> dict[str, Row]:
    """Rows as both tell them: amounts with four decimals, no columns of only one."""
    return {
        row["session_id"]: {
            name: f"{value:.4f}" if isinstance(value, Decimal) else value
            for name, value in row.items()
            if name not in {"partition", "is_deleted"}
        }
        for row in rows
    }

"""Segments of the simulated marketplace: in order, and shuffled and duplicated, the reference's members."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any, Final

from schemas import topics
from streams.adapters.codec import decode_batch
from streams.domain.events import Input
from streams.domain.policy import DAY, HOUR, Policy
from streams.sources.simulation import Simulation
from tests.builders import record
from tests.domain.segment_reference import members
from tests.domain.test_segments import Floor, compiled

#: Nothing is late: what is late is in no verdict.
POLICY: Final = Policy(zone="America/New_York", horizon=60 * DAY)
SEGMENTS: Final[dict[str, Any]] = {
    "abandoners": {"all": ["carted_1d >= 1", "orders_1d == 0", "since_last_visit >= 1h"]},
    "fans": {"all": ["favorites_90d >= 2", "orders == 0"]},
    "regulars": {"all": ["orders_3d >= 1", "purchase_days >= 2"]},
    "quiet": {"any": ["since_last_order >= 2d", {"not": "since_last_visit < 36h"}]},
    "lookers": {"all": ["visits_2d >= 6", {"not": "carts_2d >= 1"}, "recency_days == null"]},
    "exactly-three": "visits_3d == 3",
}


@lru_cache(maxsize=1)
def marketplace() -> tuple[Input, ...]:
    """Every event that the contract accepts, once, by time."""
    found: dict[int, Input] = {}
    lanes: dict[str, list[Any]] = {topic.name: [] for topic in topics.INPUTS}
    for each in Simulation(seed=5, customers=70, shops=4, days=6, policy=POLICY):
        lanes[each.topic.name].append(record(each.topic.name, each.value, key=each.key, arrived=2 * 10**12))
    for index, topic in enumerate(topics.INPUTS):
        accepted, _ = decode_batch(index, lanes[topic.name], 0)
        for event in accepted:
            found.setdefault(event.id, event)
    return tuple(sorted(found.values(), key=lambda event: event.t))


def test_in_order_the_members_are_the_references_at_every_hour_looked_at() -> None:
    events, floor = marketplace(), Floor(compiled(SEGMENTS), POLICY)
    ever: set[str] = set()
    at = 0
    for now in range(events[0].t, events[-1].t + 4 * DAY, 7 * HOUR):
        while at < len(events) and events[at].t <= now:
            floor.pass_to(events[at].t - 1)
            floor.take([events[at]], events[at].t - 1)
            at += 1
        floor.pass_to(now)
        stands = members(events, now, SEGMENTS, POLICY)
        assert floor.members() == stands
        ever |= {segment for _, _, segment in stands}
    assert ever == set(SEGMENTS), "every rule has been true of somebody"


def test_shuffled_and_duplicated_they_are_the_same_in_the_end_and_after() -> None:
    events, floor = marketplace(), Floor(compiled(SEGMENTS), POLICY)
    chance = Random(3)
    delivery = [*events, *chance.choices(events, k=len(events) // 5)]
    chance.shuffle(delivery)
    last = events[-1].t
    for start in range(0, len(delivery), 150):
        floor.take(delivery[start : start + 150], events[0].t)
        floor.pass_to(events[0].t + start * (last - events[0].t) // len(delivery))
    for now in (last, last + HOUR, last + DAY, last + 3 * DAY, last + 9 * DAY):
        floor.pass_to(now)
        assert floor.members() == members(events, now, SEGMENTS, POLICY)

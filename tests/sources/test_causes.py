"""Planted causes: the same everywhere, and every loss that the definitions find was planted."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import get_args

import pytest

from streams.domain.events import Feedback, Input, Order, Visit
from streams.domain.policy import DAY, Policy
from streams.sources.causes import DAYS, START, Cause, Causes
from streams.sources.lives import Noise
from tests.domain import reference
from tests.sources.test_simulation import decoded

#: Nothing is blurred.
CLEAR = Noise(0, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def causes() -> Causes:
    return Causes(each=6)


@pytest.fixture(scope="module")
def events(causes: Causes) -> list[Input]:
    accepted, refused = decoded(list(causes), Policy())
    assert refused == 0
    return accepted


def test_the_lost_sessions_are_those_that_were_planted(causes: Causes, events: list[Input]) -> None:
    visits_and_orders = [event for event in events if not isinstance(event.body, Feedback)]
    lost = Counter(
        (row["customer_id"], row["shop_id"], row["started_at"])
        for row in reference.sessions(visits_and_orders, Policy())
        if row["outcome"] == "lost"
    )
    planted = Counter((p.customer_id, p.shop_id, p.at) for p in causes.truth() if p.kind == "session")
    assert planted == lost
    assert set(planted.values()) == {1}


def test_who_lapses_orders_no_more_in_that_shop(causes: Causes, events: list[Input]) -> None:
    ordered: dict[tuple[str, str], int] = {}
    for event in events:
        if isinstance(event.body, Order) and event.body.action == "placed":
            key = (event.body.customer_id, event.body.shop_id)
            ordered[key] = max(event.t, ordered.get(key, 0))
    lapses = [p for p in causes.truth() if p.kind == "lapse"]
    assert lapses
    assert all(ordered[p.customer_id, p.shop_id] == p.at for p in lapses)
    assert all(p.at + Policy().lapsed_after < START + DAYS * DAY for p in lapses)


def test_every_cause_is_planted(causes: Causes) -> None:
    assert {p.cause for p in causes.truth()} == set(get_args(Cause))


def test_records_come_in_order_of_time(causes: Causes) -> None:
    times = [each.at for each in causes if each.at is not None]
    assert times == sorted(times)
    assert len(times) == len(causes)


def test_noise_blurs_what_it_says() -> None:
    """Without it every page tells price and category, in one currency, and nothing else happens."""

    def share(noise: Noise, name: str) -> float:
        accepted, _ = decoded(list(Causes(each=4, noise=noise)), Policy())
        pages = [event.body for event in accepted if isinstance(event.body, Visit)]
        return sum(getattr(page, name) is None for page in pages) / len(pages)

    for name in ("price", "category"):
        assert share(CLEAR, name) == 0 < share(Noise(), name) < share(Noise().times(4), name)
    accepted, _ = decoded(list(Causes(each=4, noise=CLEAR)), Policy())
    assert {e.body.currency for e in accepted if isinstance(e.body, Visit | Order)} == {"EUR"}
    said = {event.body.customer_id for event in accepted if isinstance(event.body, Feedback)}
    angry = {p.customer_id for p in Causes(each=4, noise=CLEAR).truth() if p.cause == "dissatisfied"}
    assert said <= angry


def test_the_same_seed_gives_the_same_bytes(causes: Causes) -> None:
    def digest(source: Causes) -> str:
        return hashlib.sha256(b"".join(each.value for each in source)).hexdigest()

    assert digest(causes) == digest(Causes(each=6)) != digest(Causes(each=6, seed=2))

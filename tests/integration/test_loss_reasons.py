"""The views of reasons: when many moving at once is the market's doing, and what they leave out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Store, connect, migrate
from streams.domain.facts import Stage, session_id, transition_id
from streams.domain.policy import DAY, HOUR, MINUTE
from streams.sources.causes import Cause, Causes
from tests.benchmarks.reasons import macro_f1, paired, run, said, scores, shuffled
from tests.integration.stored import Fact, ms, store

#: A week after the first move that is known: what is usual is known in full.
AT = ms("2024-03-10 12:30")
EVIDENCE = {"category": "shoes", "to_shop": "s2"}
OLD = {"customer_id": "old", "order_id": "old", "ordered_at": AT - 8 * DAY, "categories": ["books"]}


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


@pytest.fixture
def into(database: str, client: Client) -> Iterator[Store]:
    with closing(Store(database)) as into:
        yield into


def leak(customer: str, at: int = AT, **changes: Any) -> Fact:
    said = {"customer_id": customer, "order_id": f"{customer}-1", "ordered_at": at, "categories": ["shoes"]}
    return {**said, **changes}


def reason(customer: str, **changes: Any) -> Fact:
    """Of a session of ``customer`` whose leak is ``leak(customer)``."""
    return {
        "subject_id": session_id(customer, "s1", AT),
        "customer_id": customer,
        "at": AT,
        "category": "shoes",
        "reason": "price",
        "score": 0.75,
        "scores": {"price": 0.75},
        "evidence": {**EVIDENCE, "order": f"{customer}-1"},
        **changes,
    }


def peers(count: int, at: int = AT, **changes: Any) -> list[Fact]:
    return [leak(f"p{n}", at, **changes) for n in range(count)]


def told(client: Client, view: str = "loss_reasons") -> list[tuple[Any, ...]]:
    columns = "customer_id, reason, score, own_reason, own_score, market_peers, market_usual"
    return [tuple(r) for r in client.query(f"SELECT {columns} FROM {view} ORDER BY customer_id").result_rows]


def test_five_others_in_the_same_hours_make_it_the_market(client: Client, into: Store) -> None:
    store(into, {"leaks": [OLD, leak("ann"), *peers(5)], "reasons": [reason("ann")]})
    assert told(client) == [("ann", "market", 0.95, "price", 0.75, 5, 0.0)]


@pytest.mark.parametrize(
    "others",
    [
        peers(4),
        peers(5, is_bot=True),
        peers(5, categories=["books"]),
        peers(5, AT + 3 * HOUR),
        peers(5, AT - 3 * HOUR),
        [leak("p", order_id=f"p-{n}") for n in range(5)],
        [leak("ann", order_id=f"p-{n}") for n in range(5)],
        [dict(one, version=2, is_deleted=True) for one in peers(5)],
    ],
    ids=["four", "bots", "another category", "later", "earlier", "one customer", "oneself", "taken back"],
)
def test_what_makes_no_market(client: Client, into: Store, others: list[Fact]) -> None:
    store(into, {"leaks": [OLD, leak("ann"), *peers(5 if others[0].get("is_deleted") else 0), *others]})
    store(into, {"reasons": [reason("ann")]})
    ((_, said, score, *_),) = told(client)
    assert (said, score) == ("price", 0.75)


def test_hours_are_whole_so_the_edge_is_told_by_them(client: Client, into: Store) -> None:
    """12:30 reaches from 10:00 up to, and not with, 15:00."""
    edges = [leak("p0", ms("2024-03-10 10:00")), leak("p1", ms("2024-03-10 14:59"))]
    beyond = [leak("p2", ms("2024-03-10 09:59")), leak("p3", ms("2024-03-10 15:00"))]
    store(into, {"leaks": [OLD, leak("ann"), *edges, *beyond], "reasons": [reason("ann")]})
    assert told(client)[0][5] == 2


def test_a_category_that_always_moves_has_no_surge(client: Client, into: Store) -> None:
    """Three times the usual: 68 moves in the 168 hours before are 2.02 in five hours, 67 are 1.99."""
    usual = [leak(f"u{n}", AT - DAY - n * HOUR, customer_id=f"u{n}") for n in range(67)]
    store(into, {"leaks": [OLD, leak("ann"), *peers(6), *usual], "reasons": [reason("ann")]})
    ((_, said, score, *_, others, rate),) = told(client)
    assert (said, score, others, round(rate, 3)) == ("market", 0.65, 6, 1.994)
    store(into, {"leaks": [leak("one-more", AT - 7 * DAY)]})
    ((_, said, score, *_, others, rate),) = told(client)
    assert (said, score, others, round(rate, 3)) == ("price", 0.75, 6, 2.024)


def test_an_order_that_left_several_shops_is_one_move(client: Client, into: Store) -> None:
    before = [leak("u", AT - DAY, shop_id=shop) for shop in ("s1", "s3", "s4")]
    store(into, {"leaks": [OLD, leak("ann"), *before], "reasons": [reason("ann")]})
    assert round(told(client)[0][6] * 168 / 5) == 1


def test_where_less_than_a_day_is_known_nothing_is_usual_and_nothing_a_surge(
    client: Client, into: Store
) -> None:
    first = leak("first", AT - 25 * HOUR, categories=["books"])
    store(into, {"leaks": [first, leak("ann"), *peers(9)], "reasons": [reason("ann")]})
    assert told(client) == [("ann", "price", 0.75, "price", 0.75, 9, None)]
    store(into, {"leaks": [{**first, "version": 2, "ordered_at": AT - 26 * HOUR}]})
    assert told(client)[0][1] == "market"


def test_only_a_session_whose_visitor_bought_elsewhere_is_the_markets(client: Client, into: Store) -> None:
    names = ("competes", "varies", "angry", "silent", "lapses")
    said = [
        reason("competes", reason="competition"),
        reason("varies", reason="variety"),
        reason("angry", reason="dissatisfied", score=0.99),
        reason("silent", reason="unknown", score=0.0, evidence={}),
        reason("lapses", kind="lapse"),
    ]
    store(into, {"leaks": [OLD, *map(leak, names)], "reasons": said})
    store(into, {"leaks": peers(2)})
    assert {row[0]: row[1] for row in told(client)} == {
        "competes": "market",
        "varies": "market",
        "angry": "dissatisfied",
        "silent": "unknown",
        "lapses": "price",
    }


def lapse(customer: str, state: Stage, **changes: Any) -> tuple[Fact, Fact]:
    """The transition of a buyer whose last order was at ``AT``, and its reason."""
    step = {"customer_id": customer, "anchor": AT, "from_state": "new", "to_state": state, "cause": "silence"}
    subject = transition_id(customer, "s1", "stage", AT, state)
    return step, reason(customer, kind="lapse", subject_id=subject, **changes)


def test_who_has_lapsed_keeps_the_reason_of_the_lapsing(client: Client, into: Store) -> None:
    """Unless something newer is known, or what came first was no reason either."""
    forgot = {"reason": "forgot", "score": 0.6, "scores": {"forgot": 0.6}, "evidence": {"q90_days": "30"}}
    unknown = {"reason": "unknown", "score": 0.0, "scores": {}, "evidence": {}}
    angry = {"reason": "dissatisfied", "score": 0.9, "scores": {"dissatisfied": 0.9}}
    told_of = [
        *(lapse("keeps", "lapsing", **angry), lapse("keeps", "lapsed", **forgot)),
        *(lapse("newer", "lapsing", **angry), lapse("newer", "lapsed")),
        *(lapse("silent", "lapsing", **unknown), lapse("silent", "lapsed", **forgot)),
        *(lapse("never", "lapsing", **unknown), lapse("never", "lapsed", **unknown)),
    ]
    store(into, {"transitions": [step for step, _ in told_of], "reasons": [why for _, why in told_of]})
    query = """
        SELECT r.customer_id, t.to_state, r.reason, r.score, r.own_reason, r.from_lapsing, r.evidence
        FROM loss_reasons AS r INNER JOIN transitions AS t FINAL ON t.transition_id = r.subject_id
        ORDER BY ALL
    """
    rows = [tuple(row) for row in client.query(query).result_rows]
    evidence = {**EVIDENCE, "order": "keeps-1"}
    assert [row for row in rows if row[0] == "keeps"] == [
        ("keeps", "lapsed", "dissatisfied", 0.9, "forgot", True, evidence),
        ("keeps", "lapsing", "dissatisfied", 0.9, "dissatisfied", False, evidence),
    ]
    assert {row[0]: (row[2], row[5]) for row in rows if row[1] == "lapsed"} == {
        "keeps": ("dissatisfied", True),
        "newer": ("price", False),
        "silent": ("forgot", False),
        "never": ("unknown", False),
    }


def test_a_market_is_taken_back_when_its_peers_are(client: Client, into: Store) -> None:
    store(into, {"leaks": [OLD, leak("ann"), *peers(5)], "reasons": [reason("ann")]})
    assert told(client)[0][1] == "market"
    store(into, {"leaks": [{**peers(1)[0], "version": 2, "is_deleted": True}]})
    assert told(client)[0][1] == "price"


def test_bots_are_left_out_and_stand_beside(client: Client, into: Store) -> None:
    robot = reason("bot", is_bot=True, at=AT + MINUTE)
    store(into, {"leaks": [OLD, leak("ann"), leak("bot", is_bot=True)], "reasons": [reason("ann"), robot]})
    assert [row[0] for row in told(client)] == ["ann"]
    assert [row[0] for row in told(client, "loss_reasons_with_bots")] == ["ann", "bot"]
    query = "SELECT * FROM loss_reasons_by_shop_day"
    (found,) = client.query(query).named_results()
    assert {**found, "day": found["day"].isoformat()} == {
        "shop_id": "s1",
        "day": "2024-03-10",
        "kind": "session",
        "reason": "price",
        "losses": 1,
        "customers": 1,
        "score": 0.75,
        "losses_with_bots": 2,
        "customers_with_bots": 2,
        "score_with_bots": 0.75,
    }


def test_a_reason_taken_back_is_in_no_view(client: Client, into: Store) -> None:
    store(into, {"reasons": [reason("ann"), {**reason("ann"), "version": 2, "is_deleted": True}]})
    assert told(client, "loss_reasons_with_bots") == []


def test_planted_causes_are_found_and_shuffled_ones_are_not(database: str) -> None:
    """A small ``make bench-reasons``: from events through the engine and the tables to the view."""
    source = Causes(each=12)
    truth, by_view = source.truth(), said(database, run(source))
    found = scores(paired(truth, by_view))
    assert all(score.right for score in found.values())
    assert macro_f1(found) >= 0.75
    assert macro_f1(scores(paired(shuffled(truth, random.Random(1)), by_view))) <= 0.3


def test_saying_unknown_or_nothing_counts_against_recall() -> None:
    pairs: list[tuple[Cause, str]] = [
        ("price", "price"),
        ("price", "unknown"),
        ("price", "nothing"),
        ("price", "market"),
        ("natural", "price"),
    ]
    found = scores(pairs)
    assert (found["price"].precision, found["price"].recall) == (1 / 2, 1 / 4)
    assert (found["natural"].precision, found["natural"].recall, found["natural"].f1) == (0, 0, 0)
    assert macro_f1(found) == pytest.approx((1 / 3 + 0) / 2)

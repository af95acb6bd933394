"""JSON lines: each line finds its topic, and goes as it is wherever it can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sources.record import SourceRecord
from tests.sources import reading
from tests.sources.reading import bodies, refusals

NOON = 1_772_452_800_000
ENVELOPE = {"event_id": "e1", "occurred_at": NOON, "customer_id": "c1", "shop_id": "s1"}
SEGMENT = {
    "type": "track",
    "messageId": "m1",
    "timestamp": "2026-03-02T12:00:00.000Z",
    "userId": "c1",
    "shop_id": "s1",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def read(path: Path, *lines: bytes | dict[str, Any], shop: str | None = None) -> list[SourceRecord]:
    content = b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    return reading.read(path, "jsonl", content, shop)


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        ({}, "visits"),
        ({"item_id": "i1"}, "visits"),
        ({"action": "add", "target": "shop"}, "favorites"),
        ({"action": "remove", "target": "item", "item_id": "i1"}, "favorites"),
        ({"action": "add", "item_id": "i1", "quantity": 1}, "carts"),
        ({"action": "remove", "item_id": "i1", "cart_id": "k"}, "carts"),
        ({"action": "set", "item_id": "i1"}, "carts"),
        ({"action": "clear"}, "carts"),
        ({"action": "placed", "order_id": "o1"}, "orders"),
        ({"action": "cancelled", "transaction_id": "o1"}, "orders"),
        ({"action": "review", "rating": 2, "order_id": "o1"}, "feedback"),
        ({"action": "complaint"}, "feedback"),
        ({"type": "reply", "action": "reply", "reply_ms": 5}, "feedback"),
        ({"topic": "feedback", "action": "complaint"}, "feedback"),
        ({"customer_id": "c1", "identified_as": "c2"}, "identities"),
        ({"item_id": "i1", "price": "9.50", "currency": "EUR"}, "visits"),
        ({"topic": "favorites", "action": "add", "item_id": "i1"}, "favorites"),
        ({"topic": "carts", "action": "add", "item_id": "i1"}, "carts"),
        ({"type": "Cart", "action": "remove", "item_id": "i1"}, "carts"),
        ({"type": "order", "action": "paid", "order_id": "o1"}, "orders"),
        ({"type": "visit"}, "visits"),
        ({"event": "page_view", "page_location": "https://shop.example/"}, "visits"),
    ],
)
def test_an_event_of_the_contract_goes_to_its_topic_byte_for_byte(
    path: Path, event: dict[str, Any], topic: str
) -> None:
    line = json.dumps({**ENVELOPE, **event}, indent=None).encode()
    records = read(path, line)
    assert [(r.topic.name, r.key, r.value, r.at) for r in records] == [(topic, b"c1", line, NOON)]
    assert not refusals(records)


@pytest.mark.parametrize(
    ("event", "topic", "said"),
    [
        ({"event": "Product Viewed", "properties": {"product_id": "i1"}}, "visits", {}),
        ({"type": "page", "properties": {"url": "https://shop.example/"}}, "visits", {}),
        (
            {"event": "Product Added", "properties": {"product_id": "i1", "price": 9.5, "currency": "EUR"}},
            "carts",
            {"action": "add", "price": 9.5},
        ),
        (
            {"event": "Product Viewed", "properties": {"product_id": "i1", "price": 9.5, "currency": "EUR"}},
            "visits",
            {"price": 9.5, "currency": "EUR"},
        ),
        (
            {
                "event_name": "view_item",
                "params": {"currency": "EUR", "items": [{"item_id": "i1", "price": 9}]},
            },
            "visits",
            {"price": 9, "currency": "EUR"},
        ),
        (
            {"event": "Product Reviewed", "properties": {"product_id": "i1", "rating": 2}},
            "feedback",
            {"action": "review", "rating": 2},
        ),
        ({"event": "Product Removed", "properties": {"product_id": "i1"}}, "carts", {"action": "remove"}),
        (
            {"event": "Product Added to Wishlist", "properties": {"product_id": "i1"}},
            "favorites",
            {"action": "add"},
        ),
        (
            {
                "event": "Order Completed",
                "properties": {"order_id": "o1", "products": [{"product_id": "i1"}]},
            },
            "orders",
            {"action": "placed"},
        ),
        ({"event": "Order Refunded", "properties": {"order_id": "o1"}}, "orders", {"action": "refunded"}),
        ({"event": "Order Cancelled", "properties": {"order_id": "o1"}}, "orders", {"action": "cancelled"}),
        (
            {"event_name": "add_to_cart", "params": {"items": [{"item_id": "i1", "quantity": 2}]}},
            "carts",
            {"action": "add", "item_id": "i1", "quantity": 2},
        ),
        (
            {"event_name": "purchase", "params": {"transaction_id": "o1", "items": [{"item_id": "i1"}]}},
            "orders",
            {"action": "placed"},
        ),
        (
            {"event_name": "refund", "params": {"transaction_id": "o1", "value": 3}},
            "orders",
            {"action": "refunded"},
        ),
    ],
)
def test_segments_and_ga4s_events_are_taken(
    path: Path, event: dict[str, Any], topic: str, said: dict[str, Any]
) -> None:
    records = read(path, {**SEGMENT, **event})
    assert [(r.topic.name, r.key, r.at) for r in records] == [(topic, b"c1", NOON)]
    [body] = bodies(records)
    assert body.items() >= said.items()
    assert not refusals(records)


@pytest.mark.parametrize(
    "line",
    [
        b'{"cut',
        b"[]",
        b"17",
        b"plain words",
        b'{"event_id":"\xff"}',
        b'{"event_id":"\\ud800"}',
        b'{"action":"add","item_id":"i1","customer_id":"c1"}',  # a favorite or a cart?
        b'{"action":"dance"}',
        b'{"action":7}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_cannot_be_placed_goes_to_visits_as_it_came_without_a_key(
    path: Path, line: bytes
) -> None:
    records = read(path, line, ENVELOPE)
    assert len(records) == 2
    assert (records[0].topic.name, records[0].key, records[0].value) == ("visits", None, line)
    assert sum(refusals(records).values()) == 1


def test_a_shop_is_added_where_none_is_named(path: Path) -> None:
    without = {name: value for name, value in ENVELOPE.items() if name != "shop_id"}
    assert [b["shop_id"] for b in bodies(read(path, ENVELOPE, without, shop="mine"))] == ["s1", "mine"]
    assert refusals(read(path, without)) == {"missing_field": 1}


def test_a_line_longer_than_a_record_may_be_is_refused_not_lost(path: Path) -> None:
    records = read(path, {**ENVELOPE, "url": "u" * 2_000_000}, ENVELOPE)
    assert len(records) == 2
    assert sum(refusals(records).values()) == 1


@given(
    lines=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=30).filter(lambda b: b.strip() and b"\n" not in b),
            st.dictionaries(
                st.sampled_from(
                    ["action", "topic", "event", "properties", "items", "customer_id", "timestamp"]
                ),
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("add"),
                    lambda inner: (
                        st.lists(inner, max_size=2)
                        | st.dictionaries(st.sampled_from(["item_id", "action"]), inner, max_size=2)
                    ),
                    max_leaves=4,
                ),
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=10,
    )
)
def test_every_line_is_sent_whatever_it_is(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    # After a first line that holds no byte order mark.
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    assert len(read(path, ENVELOPE, *lines)) == len(lines) + 1


def test_a_segment_identify_call_is_keyed_by_the_guest(path: Path) -> None:
    [record] = read(path, {**SEGMENT, "type": "identify", "anonymousId": "g1"})
    assert (record.topic.name, record.key) == ("identities", b"g1")

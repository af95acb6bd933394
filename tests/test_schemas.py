"""The contract: its JSON Schema, its examples, and what it accepts and refuses field by field."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas import asyncapi, events, facts, topics
from schemas.events import Cart, Favorite, Feedback, Order, OrderLine, Visit
from schemas.generate import ASYNCAPI, DIRECTORY, differences
from streams.adapters.codec import decode_batch
from tests.builders import TOPIC_INDEX, body, cart, favorite, feedback, line, order, record, visit

EXAMPLES = DIRECTORY.parent / "examples"
INPUT_EXAMPLES = sorted(
    path
    for topic in topics.INPUTS
    for path in (EXAMPLES / topic.name).glob("*.json")
    if not path.name.endswith(".expected.json")
)
FACT_EXAMPLES = sorted(path for topic in topics.FACTS for path in (EXAMPLES / topic.name).glob("*.json"))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name.removesuffix('.json')}"


def test_the_json_schemas_are_those_of_the_models() -> None:
    assert differences() == []


def test_a_changed_a_missing_and_a_stray_schema_are_each_named(tmp_path: Path) -> None:
    copy = tmp_path / "json"
    shutil.copytree(DIRECTORY, copy)
    (copy / "visits.json").write_text("{}")
    (copy / "orders.json").unlink()
    (copy / "old.json").write_text("{}")
    assert differences(copy) == [
        "orders.json is missing",
        "old.json belongs to no topic",
        "visits.json differs from its model",
    ]


def test_the_check_command_agrees() -> None:
    command = [sys.executable, "-m", "schemas.generate", "--check"]
    assert subprocess.run(command, cwd=DIRECTORY.parent.parent, check=False).returncode == 0


def test_the_asyncapi_document_has_every_public_topic_with_its_key_and_a_schema_that_is_there() -> None:
    document = json.loads(ASYNCAPI.read_text("utf-8"))
    assert document == asyncapi.document()
    public = {topic.name: topic for topic in topics.ALL if topic.model is not None}
    assert document["channels"].keys() == public.keys()
    for name, channel in document["channels"].items():
        [(message, reference)] = channel["messages"].items()
        assert reference == {"$ref": f"#/components/messages/{message}"}
        found = document["components"]["messages"][message]
        assert found["bindings"]["kafka"]["key"]["description"] == public[name].key
        if "payload" in found:
            assert (ASYNCAPI.parent / found["payload"]["$ref"]).is_file()
    actions = {each["channel"]["$ref"]: each["action"] for each in document["operations"].values()}
    assert actions["#/channels/visits"] == "receive"
    assert actions["#/channels/alerts"] == "send"
    assert len(actions) == len(public)


def test_every_topic_with_a_model_has_a_schema_and_examples() -> None:
    models: dict[str, type[BaseModel]] = {**events.MODELS, **facts.MODELS}
    with_model = {topic.name: topic.model for topic in topics.ALL if topic.model is not None}
    assert {name: model.__name__ for name, model in models.items()} == with_model
    assert {path.stem for path in DIRECTORY.glob("*.json")} == set(with_model)
    assert {path.name for path in EXAMPLES.iterdir()} == set(with_model)
    for topic in with_model:
        assert list((EXAMPLES / topic).glob("*.json")), f"{topic} has no example"


@pytest.mark.parametrize("path", INPUT_EXAMPLES, ids=name)
def test_an_example_gives_its_expected_event_in_both_readings(path: Path) -> None:
    expected_path = path.with_name(f"{path.stem}.expected.json")
    assert expected_path.exists(), f"{path.name} needs {expected_path.name}, its event under canonical names"
    expected = json.loads(expected_path.read_text("utf-8"))
    topic, value = path.parent.name, path.read_bytes()

    event = events.MODELS[topic].model_validate_json(value)
    assert event.model_dump(mode="json") == expected

    [accepted], rejected = decode_batch(
        TOPIC_INDEX[topic], [record(topic, value, key=event.customer_id.encode(), arrived=2**41)], 0
    )
    assert not rejected
    assert accepted.raw == value
    assert _dumped(topic, accepted.body) == expected


def _dumped(topic: str, struct: Any) -> Any:
    """A decoded struct as the contract prints it."""
    values = {field: getattr(struct, field) for field in struct.__struct_fields__}
    if "lines" in values:
        values["lines"] = [{f: getattr(x, f) for f in x.__struct_fields__} for x in values["lines"]]
    return events.MODELS[topic](**values).model_dump(mode="json")


def test_every_expected_event_belongs_to_an_example() -> None:
    expected = {path for topic in topics.INPUTS for path in (EXAMPLES / topic.name).glob("*.expected.json")}
    assert expected == {path.with_name(f"{path.stem}.expected.json") for path in INPUT_EXAMPLES}


@pytest.mark.parametrize("path", FACT_EXAMPLES, ids=name)
def test_a_fact_survives_its_model_unchanged(path: Path) -> None:
    value = path.read_bytes()
    fact = facts.MODELS[path.parent.name].model_validate_json(value)
    assert fact.model_dump(mode="json") == json.loads(value)


def test_every_field_of_every_event_is_described() -> None:
    for model in (*events.MODELS.values(), OrderLine):
        assert [f for f, info in model.model_fields.items() if not info.description] == []


ACCEPTED: list[tuple[type[BaseModel], dict[str, Any], str, Any]] = [
    (Visit, visit(occurred_at="2026-03-02T12:00:00Z"), "occurred_at", datetime(2026, 3, 2, 12, tzinfo=UTC)),
    (
        Visit,
        visit(occurred_at="2026-03-02T12:00:00.999999+08:00"),
        "occurred_at",
        datetime(2026, 3, 2, 4, 0, 0, 999_000, tzinfo=UTC),
    ),
    (Visit, visit(occurred_at=631_152_000_000), "occurred_at", datetime(1990, 1, 1, tzinfo=UTC)),
    (Visit, visit(customer_id="x" * 128), "customer_id", "x" * 128),
    (Visit, visit(unheard_of={"of": [1]}), "item_id", None),
    (Favorite, favorite(target="shop"), "item_id", None),
    (Cart, cart(action="clear"), "item_id", None),
    (Cart, cart(quantity=0), "quantity", 0),
    (Cart, cart(price=19.99), "price", Decimal("19.99")),
    (Cart, cart(price="0"), "price", Decimal(0)),
    (Cart, cart(price="1.50000"), "price", Decimal("1.5")),
    (Cart, cart(price=99_999_999_999.9999), "price", Decimal("99999999999.9999")),
    (Cart, cart(price="999999999999.9999"), "price", Decimal("999999999999.9999")),
    (Visit, visit(), "price", None),
    (Visit, visit(price=19.99, currency="CNY"), "price", Decimal("19.99")),
    (Visit, visit(price="19.9900", currency="CNY"), "currency", "CNY"),
    (Favorite, favorite(price=0), "price", Decimal(0)),
    (Feedback, feedback(rating=5), "rating", 5),
    (Feedback, feedback(action="complaint"), "rating", None),
    (Feedback, feedback(action="reply", reply_ms=0), "reply_ms", 0),
    (Feedback, feedback(action="reply", reply_ms=315_360_000_000), "reply_ms", 315_360_000_000),
    (Feedback, feedback(orderId="o1"), "order_id", "o1"),
    (Order, order(lines=[line()] * 200), "order_id", "o1"),
    (Order, order(total=7, value=8), "total", Decimal(7)),
    (Order, order(action="refunded", value="2.5"), "refund_amount", Decimal("2.5")),
    (Order, order(action="refunded", value="2.5", refund_amount="1"), "refund_amount", Decimal(1)),
]

REFUSED: list[tuple[type[BaseModel], dict[str, Any], str]] = [
    (Visit, visit(event_id=""), "event_id"),
    (Visit, visit(event_id="x" * 129), "event_id"),
    (Visit, visit(event_id=17), "event_id"),
    (Visit, visit(shop_id="a\u0000b"), "shop_id"),
    (Visit, visit(shop_id="a\u007fb"), "shop_id"),
    (Visit, visit(shop_id="a\u0085b"), "shop_id"),
    (Visit, visit(customer_id=None), "customer_id"),
    (Visit, visit(is_bot=1), "is_bot"),
    (Visit, visit(is_bot=None), "is_bot"),
    (Visit, visit(category="x" * 257), "category"),
    (Visit, visit(url="x" * 2049), "url"),
    (Visit, visit(occurred_at="2026-03-02T12:00:00"), "occurred_at"),
    (Visit, visit(occurred_at="2026-03-02"), "occurred_at"),
    (Visit, visit(occurred_at="1772452800000"), "occurred_at"),
    (Visit, visit(occurred_at=1772452800000.5), "occurred_at"),
    (Visit, visit(occurred_at=True), "occurred_at"),
    (Visit, visit(occurred_at=1772452800), "occurred_at"),
    (Visit, visit(occurred_at=4_102_444_800_000), "occurred_at"),
    (Visit, visit(price=-0.01), "price"),
    (Visit, visit(price="1.00001"), "price"),
    (Visit, visit(currency="eur"), "currency"),
    (Favorite, favorite(price="ten"), "price"),
    (Favorite, favorite(currency="€"), "currency"),
    (Feedback, feedback(rating=0), "rating"),
    (Feedback, feedback(rating=6), "rating"),
    (Feedback, feedback(rating=4.0), "rating"),
    (Feedback, feedback(rating=True), "rating"),
    (Feedback, feedback(action="reply", reply_ms=-1), "reply_ms"),
    (Feedback, feedback(action="reply", reply_ms=315_360_000_001), "reply_ms"),
    (Feedback, feedback(action="praise"), "action"),
    (Cart, cart(quantity="1"), "quantity"),
    (Cart, cart(quantity=1.0), "quantity"),
    (Cart, cart(quantity=True), "quantity"),
    (Cart, cart(quantity=-1), "quantity"),
    (Cart, cart(quantity=1_000_001), "quantity"),
    (Cart, cart(price=True), "price"),
    (Cart, cart(price=-0.01), "price"),
    (Cart, cart(price="1.00001"), "price"),
    (Cart, cart(price=10**12), "price"),
    (Cart, cart(price="Infinity"), "price"),
    (Cart, cart(price="nan"), "price"),
    (Cart, cart(price="ten"), "price"),
    (Cart, cart(currency="cny"), "currency"),
    (Cart, cart(currency="CNY\n"), "currency"),
    (Cart, cart(currency="ÄÖÜ"), "currency"),
    (Order, order(lines=[line()] * 201), "lines"),
    (Order, order(lines=[line(quantity="2")]), "lines"),
    (Order, order(lines={"0": line()}), "lines"),
    (Order, order(refund_amount=-1), "refund_amount"),
    (Order, order(total=-1), "total"),
    (Order, order(action="shipped"), "action"),
]


@pytest.mark.parametrize(("model", "event", "field", "value"), ACCEPTED)
def test_accepted(model: type[BaseModel], event: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(model.model_validate_json(body(event)), field) == value


@pytest.mark.parametrize(("model", "event", "field"), REFUSED)
def test_refused(model: type[BaseModel], event: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(body(event))
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_a_favorite_item_and_a_cart_line_need_their_item() -> None:
    for model, event in ((Favorite, favorite()), (Cart, cart()), (Cart, cart(action="remove"))):
        del event["item_id"]
        with pytest.raises(ValidationError, match="item_id is needed"):
            model.model_validate_json(body(event))


def test_a_review_needs_its_rating_and_a_reply_its_time() -> None:
    for event, needed in (
        (feedback(rating=None), "rating"),
        (feedback(action="reply", reply_ms=None), "reply_ms"),
    ):
        with pytest.raises(ValidationError, match=f"{needed} is needed"):
            Feedback.model_validate_json(body(event))


def test_a_producer_in_python_writes_what_the_worker_reads() -> None:
    event = Order(
        event_id="e1",
        occurred_at=datetime(2026, 3, 2, 20, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=8))),
        customer_id="c1",
        shop_id="s1",
        action="placed",
        order_id="o1",
        lines=(OrderLine(item_id="i1", price=Decimal("19.9")),),
        currency="CNY",
    )
    value = event.model_dump_json().encode()
    assert b'"occurred_at":"2026-03-02T12:00:00.123Z"' in value
    assert Order.model_validate_json(value) == event
    [accepted], _ = decode_batch(3, [record("orders", value, arrived=2**41)], 0)
    assert accepted.t == 1_772_452_800_123
    assert _dumped("orders", accepted.body) == event.model_dump(mode="json")


def test_a_zero_of_a_thousand_million_decimals_stays_small() -> None:
    event = Cart.model_validate_json(body(cart(price="0E-999999999")))
    assert event.model_dump(mode="json")["price"] == "0.0000"

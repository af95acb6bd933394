"""Hostile records and their reasons; what the batch reading promises around them; ticks and dead letters."""

from __future__ import annotations

import json
from typing import Any

import pytest
import xxhash

from schemas.facts import RejectReason as R
from streams.adapters.codec import (
    Rejected,
    dead_letter_from_record,
    dead_letter_headers,
    decode_batch,
    decode_tick,
    encode_tick,
)
from streams.domain.policy import MINUTE
from tests.builders import (
    NOON,
    TOPIC_INDEX,
    body,
    cart,
    favorite,
    feedback,
    identify,
    line,
    order,
    record,
    visit,
)

VISIT = body(visit())


def without(event: dict[str, Any], *names: str) -> bytes:
    return body({name: value for name, value in event.items() if name not in names})


def nested(depth: int) -> bytes:
    """A visit with an extra field that makes the whole ``depth`` deep."""
    return VISIT[:-1] + b',"extra":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


HOSTILE: list[tuple[str, str, bytes | None, R]] = [
    ("empty", "visits", b"", R.MALFORMED_JSON),
    ("blank", "visits", b" \n", R.MALFORMED_JSON),
    ("cut off", "visits", VISIT[:-10], R.MALFORMED_JSON),
    ("two objects", "visits", VISIT + VISIT, R.MALFORMED_JSON),
    ("a comma too many", "visits", VISIT[:-1] + b",}", R.MALFORMED_JSON),
    ("single quotes", "visits", VISIT.replace(b'"', b"'"), R.MALFORMED_JSON),
    ("a raw newline in a text", "visits", VISIT.replace(b'"s1"', b'"s\n1"'), R.MALFORMED_JSON),
    ("unclosed, shallow", "visits", b"[" * 16, R.MALFORMED_JSON),
    ("bad UTF-8", "visits", VISIT.replace(b'"s1"', b'"s\xff"'), R.BAD_ENCODING),
    ("bad UTF-8 in an extra field", "visits", VISIT[:-1] + b',"x":"\xc3("}', R.BAD_ENCODING),
    ("a surrogate as bytes", "visits", VISIT.replace(b'"s1"', b'"\xed\xa0\x80"'), R.BAD_ENCODING),
    ("half a surrogate pair", "visits", VISIT.replace(b'"s1"', b'"\\ud83d"'), R.BAD_ENCODING),
    ("the other half", "visits", VISIT.replace(b'"s1"', b'"\\ude00 "'), R.BAD_ENCODING),
    ("half a pair in an extra field", "visits", VISIT[:-1] + b',"x":"\\ud83dA"}', R.BAD_ENCODING),
    ("a byte order mark", "visits", b"\xef\xbb\xbf" + VISIT, R.BAD_ENCODING),
    ("UTF-16", "visits", VISIT.decode().encode("utf-16"), R.BAD_ENCODING),
    ("a list", "visits", b"[" + VISIT + b"]", R.NOT_AN_OBJECT),
    ("a text", "visits", json.dumps(VISIT.decode()).encode(), R.NOT_AN_OBJECT),
    ("null", "visits", b"null", R.NOT_AN_OBJECT),
    ("a number", "visits", b"17", R.NOT_AN_OBJECT),
    ("an empty object", "visits", b"{}", R.MISSING_FIELD),
    ("no event_id", "visits", without(visit(), "event_id"), R.MISSING_FIELD),
    ("no action", "carts", without(cart(), "action"), R.MISSING_FIELD),
    ("a cart line without its item", "carts", without(cart(), "item_id"), R.MISSING_FIELD),
    ("a favorite without its item", "favorites", without(favorite(), "item_id"), R.MISSING_FIELD),
    ("an order without its id", "orders", without(order(), "order_id"), R.MISSING_FIELD),
    ("a line without its item", "orders", body(order(lines=[{"quantity": 1}])), R.MISSING_FIELD),
    ("a review without its rating", "feedback", without(feedback(), "rating"), R.MISSING_FIELD),
    ("a reply without its time", "feedback", without(feedback(action="reply"), "reply_ms"), R.MISSING_FIELD),
    ("an identity of nobody", "identities", without(identify(), "identified_as"), R.MISSING_FIELD),
    ("a NUL in whom a guest is", "identities", body(identify(heir="a\0")), R.INVALID_FIELD),
    ("an empty shop of an identity", "identities", body(identify(shop_id="")), R.INVALID_FIELD),
    ("feedback that says nothing", "feedback", without(feedback(), "action"), R.MISSING_FIELD),
    ("a number for an id", "visits", body(visit(event_id=1)), R.INVALID_FIELD),
    ("a text for a quantity", "carts", body(cart(quantity="1")), R.INVALID_FIELD),
    ("true for a quantity", "carts", body(cart(quantity=True)), R.INVALID_FIELD),
    ("1 for true", "visits", body(visit(is_bot=1)), R.INVALID_FIELD),
    ("a quantity of ten to the thirty", "carts", body(cart(quantity=10**30)), R.INVALID_FIELD),
    ("201 lines", "orders", body(order(lines=[line()] * 201)), R.INVALID_FIELD),
    ("an id of 129 characters", "visits", body(visit(event_id="x" * 129)), R.INVALID_FIELD),
    ("a NUL in an id", "visits", body(visit(shop_id="a\0b")), R.INVALID_FIELD),
    ("a NUL in a line's item", "orders", body(order(lines=[line("a\0")])), R.INVALID_FIELD),
    ("a NUL in a cart's id", "carts", body(cart(cart_id="a\0")), R.INVALID_FIELD),
    ("a DEL in an id", "favorites", body(favorite(item_id="a\x7f")), R.INVALID_FIELD),
    ("a C1 control in an id", "orders", body(order(order_id="a\x9f")), R.INVALID_FIELD),
    ("a negative price", "carts", body(cart(price="-1")), R.INVALID_FIELD),
    ("a negative price of a page", "visits", body(visit(price="-1")), R.INVALID_FIELD),
    ("five decimals of a page", "visits", body(visit(price="1.00001")), R.INVALID_FIELD),
    ("small letters on a page", "visits", body(visit(currency="cny")), R.INVALID_FIELD),
    ("two letters for a currency", "favorites", body(favorite(currency="CN")), R.INVALID_FIELD),
    ("a negative price of a favorite", "favorites", body(favorite(price=-1)), R.INVALID_FIELD),
    ("no stars", "feedback", body(feedback(rating=0)), R.INVALID_FIELD),
    ("six stars", "feedback", body(feedback(rating=6)), R.INVALID_FIELD),
    ("half a star", "feedback", body(feedback(rating=4.5)), R.INVALID_FIELD),
    ("stars as a text", "feedback", body(feedback(rating="5")), R.INVALID_FIELD),
    ("a reply before the question", "feedback", body(feedback(action="reply", reply_ms=-1)), R.INVALID_FIELD),
    ("a NUL in the order a review is of", "feedback", body(feedback(order_id="a\0")), R.INVALID_FIELD),
    ("a price of ten to the twelve", "carts", body(cart(price=10**12)), R.INVALID_FIELD),
    ("five decimals", "orders", body(order(lines=[line(price="1.00001")])), R.INVALID_FIELD),
    ("a price far too long", "carts", body(cart(price="1" * 60_000)), R.INVALID_FIELD),
    ("small letters for a currency", "carts", body(cart(currency="cny")), R.INVALID_FIELD),
    ("a newline after a currency", "orders", body(order(currency="CNY\n")), R.INVALID_FIELD),
    ("an action that is a number", "carts", body(cart(action=1)), R.INVALID_FIELD),
    ("no zone", "visits", body(visit(occurred_at="2026-03-02T12:00:00")), R.INVALID_FIELD),
    ("a date", "visits", body(visit(occurred_at="2026-03-02")), R.INVALID_FIELD),
    ("the thirtieth of February", "visits", body(visit(occurred_at="2026-02-30T00:00:00Z")), R.INVALID_FIELD),
    ("an unknown cart action", "carts", body(cart(action="explode")), R.UNKNOWN_KIND),
    ("an unknown order action", "orders", body(order(action="shipped")), R.UNKNOWN_KIND),
    ("an unknown target", "favorites", body(favorite(target="brand")), R.UNKNOWN_KIND),
    ("an unknown feedback", "feedback", body(feedback(action="praise")), R.UNKNOWN_KIND),
    ("NaN on a page", "visits", body(visit(price=float("nan"))), R.NON_FINITE_NUMBER),
    ("NaN", "carts", body(cart(price=float("nan"))), R.NON_FINITE_NUMBER),
    ("minus infinity", "carts", body(cart(price=float("-inf"))), R.NON_FINITE_NUMBER),
    ("NaN in an extra field", "visits", VISIT[:-1] + b',"x":[NaN]}', R.NON_FINITE_NUMBER),
    ("NaN as a text", "carts", body(cart(price="NaN")), R.NON_FINITE_NUMBER),
    ("a signalling NaN as a text", "orders", body(order(total="sNaN")), R.NON_FINITE_NUMBER),
    ("infinity as a text", "orders", body(order(refund_amount="Infinity")), R.NON_FINITE_NUMBER),
    ("a number beyond a double", "visits", VISIT[:-1] + b',"x":1e400}', R.NON_FINITE_NUMBER),
    ("five thousand digits", "visits", VISIT[:-1] + b',"x":' + b"9" * 5_000 + b"}", R.NON_FINITE_NUMBER),
    ("64 KiB and one byte", "visits", VISIT[:-1] + b" " * (65_537 - len(VISIT)) + b"}", R.TOO_LARGE),
    ("a megabyte", "visits", b"x" * 1_000_000, R.TOO_LARGE),
    ("17 deep", "visits", nested(17), R.TOO_DEEP),
    ("60,000 deep", "visits", b"[" * 60_000, R.TOO_DEEP),
    ("objects 10,000 deep", "visits", b'{"a":' * 10_000, R.TOO_DEEP),
    ("lines 3,000 deep", "orders", body(order(lines=[]))[:-1] + b',"lines":' + b"[" * 3_000, R.TOO_DEEP),
    ("no value", "visits", None, R.NULL_VALUE),
    ("1902 as text", "visits", body(visit(occurred_at="1902-01-01T00:00:00Z")), R.TIMESTAMP_OUT_OF_RANGE),
    ("1902 as a number", "visits", body(visit(occurred_at=-2_145_916_800_000)), R.TIMESTAMP_OUT_OF_RANGE),
    ("2106", "visits", body(visit(occurred_at="2106-02-07T06:28:15Z")), R.TIMESTAMP_OUT_OF_RANGE),
    ("seconds for milliseconds", "visits", body(visit(occurred_at=NOON // 1_000)), R.TIMESTAMP_OUT_OF_RANGE),
    ("a time of thirty digits", "visits", body(visit(occurred_at=10**29)), R.TIMESTAMP_OUT_OF_RANGE),
]


@pytest.mark.parametrize(("topic", "value", "reason"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_a_hostile_record_is_refused_with_its_reason_and_its_bytes(
    topic: str, value: bytes | None, reason: R
) -> None:
    refused = record(topic, value, offset=41)
    good = [record(topic, _GOOD[topic], offset=40), record(topic, _GOOD[topic], offset=42)]
    accepted, rejected = decode_batch(TOPIC_INDEX[topic], [good[0], refused, good[1]], 5 * MINUTE)
    assert [i.offset for i in accepted] == [40, 42]
    [r] = rejected
    assert (r.reason, r.offset, r.arrived, r.key, r.value) == (reason, 41, NOON, b"c1", value)
    assert r.detail
    assert r.detail.isprintable()
    assert len(r.detail) <= 300


_GOOD = {
    "visits": visit(),
    "favorites": favorite(),
    "carts": cart(),
    "orders": order(),
    "feedback": feedback(),
    "identities": identify(),
}


def refusal(**fields: Any) -> Rejected:
    accepted, [rejected] = decode_batch(0, [record("visits", visit(), **fields)], 5 * MINUTE)
    assert accepted == []
    return rejected


def test_a_record_without_a_key_is_refused_even_if_it_has_no_value_either() -> None:
    assert refusal(key=None).reason is R.NULL_KEY
    _, [both] = decode_batch(0, [record("visits", None, key=None)], 0)
    assert both.reason is R.NULL_KEY


@pytest.mark.parametrize("key", [b"c2", b"", b"C1", b"c1 ", b"\xff", b'"c1"'])
def test_a_key_that_is_not_the_customer_is_refused(key: bytes) -> None:
    assert refusal(key=key).reason is R.KEY_MISMATCH


def test_keys_are_compared_one_by_one_though_newlines_could_shift_them() -> None:
    shifted = [
        record("visits", visit(customer_id="a"), key=b"a\nb"),
        record("visits", visit(customer_id="b\nc"), key=b"c"),
    ]
    accepted, rejected = decode_batch(0, shifted, 0)
    assert accepted == []
    assert [r.reason for r in rejected] == [R.KEY_MISMATCH, R.INVALID_FIELD]
    swapped = [record("visits", visit(customer_id=c), key=k) for c, k in [("a", b"b"), ("b", b"a")]]
    assert [r.reason for r in decode_batch(0, swapped, 0)[1]] == [R.KEY_MISMATCH] * 2


def test_exactly_the_tolerance_ahead_is_accepted_and_a_millisecond_more_is_not() -> None:
    exactly = record("visits", visit(), arrived=NOON - 5 * MINUTE)
    beyond = record("visits", visit(), arrived=NOON - 5 * MINUTE - 1, offset=1)
    accepted, rejected = decode_batch(0, [exactly, beyond], 5 * MINUTE)
    assert [i.offset for i in accepted] == [0]
    assert [(r.offset, r.reason) for r in rejected] == [(1, R.TIMESTAMP_AHEAD)]


def test_one_early_arrival_refuses_no_other_record_of_its_batch() -> None:
    early = record("visits", visit(NOON - 60 * MINUTE), arrived=NOON - 60 * MINUTE)
    now = record("visits", visit(), offset=1)
    accepted, rejected = decode_batch(0, [early, now], 0)
    assert (len(accepted), len(rejected)) == (2, 0)


def test_sixteen_deep_and_64_kib_are_accepted() -> None:
    largest = VISIT[:-1] + b" " * (65_536 - len(VISIT)) + b"}"
    accepted, rejected = decode_batch(0, [record("visits", nested(16)), record("visits", largest)], 0)
    assert (len(accepted), len(rejected)) == (2, 0)


def test_brackets_inside_texts_are_not_nesting() -> None:
    accepted, _ = decode_batch(0, [record("visits", {**visit(url='[[["{{\\' * 20), "extra": []})], 0)
    assert len(accepted) == 1


def test_of_a_name_given_twice_the_last_value_counts_in_both_readings() -> None:
    twice = VISIT[:-1] + b',"shop_id":"s2"}'
    aliased = VISIT[:-1] + b',"shop_id":"s2","extra":1}'
    accepted, _ = decode_batch(0, [record("visits", twice), record("visits", aliased)], 0)
    assert [i.body.shop_id for i in accepted] == ["s2", "s2"]


def test_an_unprintable_character_that_is_no_control_character_may_stand_in_an_id() -> None:
    joiner = "👩\u200d👩 \u3000\u2028\u00ad"
    accepted, rejected = decode_batch(0, [record("visits", visit(shop_id=joiner))], 0)
    assert not rejected
    assert accepted[0].body.shop_id == joiner


def test_every_record_of_a_long_mixed_batch_comes_out_once_and_in_order() -> None:
    records = []
    for n in range(1_000):
        odd: Any = {3: b"{", 11: {**visit(), "extra": n}, 17: b"\xff"}.get(n % 100, visit(NOON + n))
        records.append(record("visits", odd, offset=n, arrived=NOON + n))
    accepted, rejected = decode_batch(0, records, 5 * MINUTE)
    assert [r.offset for r in rejected] == [n for n in range(1_000) if n % 100 in {3, 17}]
    assert [i.offset for i in accepted] == [n for n in range(1_000) if n % 100 not in {3, 17}]
    assert all(i.raw == records[i.offset].value and i.arrived == NOON + i.offset for i in accepted)


def test_an_empty_batch_gives_nothing() -> None:
    assert decode_batch(0, [], 0) == ([], [])


def test_an_id_is_the_digest_that_clickhouse_computes_and_differs_between_topics() -> None:
    ids = [
        decode_batch(TOPIC_INDEX[t], [record(t, {**e, "event_id": "é"})], 0)[0][0].id
        for t, e in _GOOD.items()
    ]
    assert ids == [xxhash.xxh3_64_intdigest(bytes([n]) + "é".encode()) for n in range(len(_GOOD))]
    assert len(set(ids)) == len(_GOOD)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-03-02T12:00:00Z", NOON),
        ("2026-03-02T12:00:00.9999Z", NOON + 999),
        ("2026-03-02t20:00:00.001+08:00", NOON + 1),
        ("2026-03-02 06:30:00-05:30", NOON),
        ("2026-03-02T12:00:00.0009994Z", NOON),
        ("1990-01-01T00:00:00Z", 631_152_000_000),
        ("2099-12-31T23:59:59.999999Z", 4_102_444_799_999),
    ],
)
@pytest.mark.parametrize("extra", [{}, {"extra": 1}], ids=["fast", "contract"])
def test_a_moment_is_floored_to_the_millisecond(text: str, ms: int, extra: dict[str, Any]) -> None:
    [accepted], _ = decode_batch(0, [record("visits", visit(occurred_at=text, **extra), arrived=2**42)], 0)
    assert (accepted.t, accepted.body.occurred_at) == (ms, ms)


def test_a_tick_says_its_time() -> None:
    assert decode_tick(encode_tick(NOON)) == NOON
    assert decode_tick(b'{"at": 1772452800000, "from": "replayer"}') == NOON


@pytest.mark.parametrize(
    "value", [None, b"", b"{}", b"17", b'{"at":"1"}', b'{"at":true}', b'{"at":1}', b"\xff", b"[" * 5_000]
)
def test_what_is_no_tick_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(ValueError, match="not a tick"):
        decode_tick(value)


@pytest.mark.parametrize("key", [b"c1", b"\xff\x00", None])
@pytest.mark.parametrize("value", [b"\xff{", b"", None])
def test_a_dead_letter_keeps_the_record_it_is_of(key: bytes | None, value: bytes | None) -> None:
    rejected = Rejected(17, NOON, R.BAD_ENCODING, "nicht UTF-8: „ä“", key, value)
    headers = dead_letter_headers(rejected, "visits", 3)
    letter = dead_letter_from_record(
        record("dead-letters", value, offset=5, partition=3, key=key, headers=tuple(headers))
    )
    assert letter.model_dump() == {
        "reason": R.BAD_ENCODING,
        "detail": "nicht UTF-8: „ä“",
        "topic": "visits",
        "partition": 3,
        "offset": 17,
        "arrived_at": NOON,
        "key": key,
        "value": value,
    }
    assert type(letter).model_validate_json(letter.model_dump_json()) == letter


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ebbtide-reason", b"boredom"),
        ("ebbtide-offset", b"x"),
        ("ebbtide-offset", b"-1"),
        ("ebbtide-topic", b"\xff"),
        ("ebbtide-detail", None),
    ],
)
def test_a_record_whose_headers_make_no_dead_letter_is_said_to_be_none(
    name: str, value: bytes | None
) -> None:
    headers: dict[str, Any] = dict(
        dead_letter_headers(Rejected(17, NOON, R.TOO_DEEP, "", b"k", b"v"), "visits", 3)
    )
    headers[name] = value
    with pytest.raises(ValueError, match="not a dead letter"):
        dead_letter_from_record(record("dead-letters", b"v", headers=tuple(headers.items())))

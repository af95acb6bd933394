"""The fast reading accepts nothing that the contract refuses, and gives the values the contract gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.events import MODELS
from schemas.facts import RejectReason
from streams.adapters import codec
from streams.adapters.codec import decode_batch
from streams.domain.events import Input
from tests.agents.test_codec import HOSTILE
from tests.builders import TOPIC_INDEX, body, cart, favorite, feedback, identify, order, record, visit
from tests.test_schemas import INPUT_EXAMPLES

FAR = 2**42
# fmt: off
ODD_NUMERALS = [
    "1.0", "1e2", "1E-4", "-0", "-0.0", "0e-99999", "0e99999", "1e-5", "1.00000", "1.00001",
    "99999999999.9999", "100000000000.0001", "999999999999.9999", "999999999999.0003",
    "1000000000000", "1e400",
    "1.00000000000000000001", "0.30000000000000000001", "NaN", "-Infinity", "01", ".5", "5.", "+1",
    "1_0",
]
KINDS = [
    '"add"', '"remove"', '"set"', '"clear"', '"placed"', '"paid"', '"cancelled"', '"refunded"',
    '"review"', '"complaint"', '"reply"',
    '"item"', '"shop"', '"Add"', 'null', '1',
]
OTHER_NAMES = [
    "event_id", "messageId", "customer_id", "userId", "shop_id", "item_id", "product_id",
    "category", "item_category", "url", "channel", "referrer", "campaign", "user_agent", "cart_id",
    "order_id", "transaction_id", "identified_as", "anonymousId", "extra",
]
# fmt: on
TOPICS = list(TOPIC_INDEX)


def tokens(*values: object) -> st.SearchStrategy[str]:
    return st.sampled_from([value if isinstance(value, str) else json.dumps(value) for value in values])


CURRENCIES = ['"CNY"', '"EUR"', '"cny"', '"CNY\\n"', '"ÀÉÎ"', '"CN"', '"CNYX"', '"C1Y"', "null"]
ODD_TEXTS = [
    '"a\\u0000"',
    '"a\x7f"',
    '"\\u0085"',
    '"\\ud83d"',
    '"\\/"',
    '"x\\u00e9"',
    '""',
    '"\u2028"',
    "null",
    "1",
]
LONG_TEXTS = [json.dumps("ü" * n) for n in (1, 2, 3, 4, 127, 128, 129, 256, 257, 2048, 2049)]
ODD_MONEY = ['"sNaN"', '" 1 "', '"１"', '"0E-999999999"', '"0x1"', '"1,5"', '"-0.0001"', '"-0"', "-1", "1e12"]
ODD_MOMENTS = [
    json.dumps(day + between + time + fraction + zone)
    for day in ["2026-03-02", "1989-12-31", "1990-01-01", "2099-12-31", "2026-02-29", "26-03-02"]
    for between in ["T", "t", " ", "_"]
    for time in ["12:00:00", "23:59:59", "24:00:00", "23:59:60", "12:00"]
    for fraction in ["", ".", ".5", ".1239", ".9999994", ".9999996"]
    for zone in ["Z", "z", "+08:00", "+0530", "-23:59", "+24:00", "+08", "", " Z"]
]
BOUNDS = [str(n) for n in (631_152_000_000, 4_102_444_800_000, 1_000_000, 315_360_000_000)]
NEAR_BOUNDS = [str(int(n) + d) for n in BOUNDS for d in (-1, 0, 1)]

texts = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).map(lambda t: json.dumps(t, ensure_ascii=False)),
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(LONG_TEXTS),
)
numerals = st.one_of(
    st.integers(-2, 2**70).map(str),
    st.decimals(-1, 10**13, places=5, allow_nan=False).map(str),
    st.decimals(0, 10**12, places=4, allow_nan=False).map(str),
    st.decimals(0, 10**6, places=2, allow_nan=False).map(str),
    st.floats(width=64).map(json.dumps),
    st.sampled_from(ODD_NUMERALS),
)
money = st.one_of(numerals, numerals.map(json.dumps), st.sampled_from(ODD_MONEY), tokens(True, None, [1]))
quantities = st.one_of(
    st.integers(0, 10).map(str), st.sampled_from(NEAR_BOUNDS), numerals, tokens(True, '"1"')
)
moments = st.one_of(
    st.datetimes(timezones=st.timezones() | st.none()).map(lambda d: json.dumps(d.isoformat())),
    st.sampled_from(NEAR_BOUNDS),
    st.sampled_from(ODD_MOMENTS),
    numerals,
    texts,
)
flags = tokens(True, False, None, 0, 1, '"true"')
currencies = st.one_of(st.sampled_from(CURRENCIES), texts)
kinds = tokens(*KINDS)
OWN = {
    "occurred_at": moments,
    "timestamp": moments,
    "quantity": quantities,
    "is_bot": flags,
    "currency": currencies,
    "action": kinds,
    "target": kinds,
    "rating": quantities,
    "reply_ms": quantities,
    **dict.fromkeys(["price", "discount", "total", "revenue", "value", "refund_amount"], money),
}
NAMES = [*OWN, *OTHER_NAMES]
GOOD: dict[str, dict[str, Any]] = {
    "visits": visit(item_id="i1", category="coats", url="https://s1.example/i1"),
    "favorites": favorite(category="coats"),
    "carts": cart(category="coats", cart_id="k1"),
    "orders": order(refund_amount="1.5"),
    "feedback": feedback(order_id="o1", item_id="i1", reply_ms=5),
    "identities": identify(shop_id="s1"),
}


@st.composite
def objects(draw: st.DrawFn, good: dict[str, Any], changes: int) -> str:
    """A good object with some fields changed, dropped, added or given twice, as JSON text."""
    fields = [(json.dumps(name), json.dumps(value)) for name, value in good.items()]
    for _ in range(draw(st.integers(0, changes))):
        name = draw(st.sampled_from(NAMES))
        written = json.dumps(name)
        if name == "lines" or draw(st.integers(0, 9)) == 0:
            fields = [field for field in fields if field[0] != written]
            continue
        if draw(st.booleans()):
            fields = [field for field in fields if field[0] != written]
        fields.append((written, draw(OWN.get(name, texts))))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    return "{" + ",".join(f"{name}:{value}" for name, value in fields) + "}"


@st.composite
def bodies(draw: st.DrawFn, topic: str) -> bytes:
    good = GOOD[topic]
    text = draw(objects(good, 3))
    if topic == "orders" and draw(st.booleans()):
        lines = [draw(objects({"item_id": "i1", "quantity": 2, "price": "3.5"}, 2)) for _ in range(2)]
        name = draw(st.sampled_from(["lines", "lines", "products", "items"]))
        text = f'{text[:-1]},"{name}":[{",".join(lines)}]}}'
    value = text.encode(errors="surrogatepass")
    match draw(st.integers(0, 14)):
        case 0:
            cut = draw(st.integers(0, len(value)))
            return value[:cut]
        case 1:
            at = draw(st.integers(0, len(value) - 1))
            return value[:at] + draw(st.binary(min_size=1, max_size=2)) + value[at + 1 :]
    return value


def fast(topic: str, value: bytes, key: bytes) -> Input | None:
    """What the fast reading alone makes of a record; None if it leaves it to the contract."""
    try:
        [read] = codec._read_chunk(TOPIC_INDEX[topic], [record(topic, value, key=key, arrived=FAR)], 0)
    except codec._DOUBTS:
        return None
    return read


def key_of(value: bytes) -> bytes:
    """The customer the contract would read, so that only the body is in question."""
    try:
        event = json.loads(value)
        other = event.get("anonymousId", event.get("userId"))
        return str(event.get("customer_id", other)).encode()
    except (ValueError, AttributeError, RecursionError):
        return b"c1"


def compared(topic: str, value: bytes) -> bool:
    """Checks one body; whether it was accepted."""
    key = key_of(value)
    quick = fast(topic, value, key)
    accepted, rejected = decode_batch(TOPIC_INDEX[topic], [record(topic, value, key=key, arrived=FAR)], 0)
    assert len(accepted) + len(rejected) == 1
    try:
        event = MODELS[topic].model_validate_json(value)
    except ValidationError:
        assert not accepted, "accepted what the contract refuses"
        return False
    if rejected:
        # What the models alone cannot see: other JSON than JSON's, size, depth, the key.
        assert rejected[0].reason in {
            RejectReason.NON_FINITE_NUMBER,
            RejectReason.TOO_DEEP,
            RejectReason.TOO_LARGE,
            RejectReason.KEY_MISMATCH,
        }
        assert quick is None
        return False
    assert quick is None or quick == accepted[0]
    assert values_of(accepted[0].body) == {**event.__dict__, **lines_of(event)}
    return True


def values_of(struct: Any) -> dict[str, Any]:
    values = {name: getattr(struct, name) for name in struct.__struct_fields__}
    if "lines" in values:
        values["lines"] = [values_of(line) for line in values["lines"]]
    if "occurred_at" in values:
        # The struct has ms; through the contract once more it is a datetime again.
        again = {**visit(), "occurred_at": values["occurred_at"]}
        values["occurred_at"] = MODELS["visits"].model_validate_json(body(again)).occurred_at
    return values


def lines_of(event: Any) -> dict[str, Any]:
    return {"lines": [dict(line.__dict__) for line in event.lines]} if hasattr(event, "lines") else {}


@pytest.mark.parametrize("topic", TOPICS)
def test_both_readings_accept_the_same_and_give_the_same(topic: str) -> None:
    outcomes = {True: 0, False: 0}

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies(topic))
    @example(body(GOOD[topic]))
    def law(value: bytes) -> None:
        outcomes[compared(topic, value)] += 1

    law()
    # A law about nothing holds too: both outcomes must have been met, often.
    assert min(outcomes.values()) >= 50, outcomes


@pytest.mark.parametrize(("topic", "value"), [h[1:3] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_no_hostile_body_passes_the_fast_reading(topic: str, value: bytes | None) -> None:
    if value is None:
        return
    assert not compared(topic, value)


def sweep(topic: str) -> Iterator[bytes]:
    """A good body with each field in turn left out, given an odd value, and given it a second time."""
    odd = [
        *ODD_TEXTS,
        *LONG_TEXTS,
        *ODD_MONEY,
        *ODD_NUMERALS,
        *map(json.dumps, ODD_NUMERALS),
        *KINDS,
        *CURRENCIES,
    ]
    odd += [*NEAR_BOUNDS, "true", "false", "[]", "{}", "[[]]"]
    good = {json.dumps(name): json.dumps(value) for name, value in GOOD[topic].items()}
    for name in map(json.dumps, [*NAMES, "lines"]):
        others = [f"{n}:{v}" for n, v in good.items() if n != name]
        yield f"{{{','.join(others)}}}".encode()
        for value in [*odd, *(ODD_MOMENTS if name in {'"occurred_at"', '"timestamp"'} else ())]:
            yield f"{{{','.join([*others, f'{name}:{value}'])}}}".encode()
        if name in good:
            yield f"{{{','.join([f'{name}:null', *others, f'{name}:{good[name]}'])}}}".encode()
    if topic == "orders":
        for name in map(json.dumps, ["item_id", "category", "quantity", "price", "discount", "product_id"]):
            for value in odd:
                yield body(order()).replace(b'"price":"10.00"', f'"price":"10.00",{name}:{value}'.encode())


@pytest.mark.parametrize("topic", TOPICS)
def test_both_readings_agree_on_every_odd_value_in_every_field(topic: str) -> None:
    outcomes = [compared(topic, value) for value in sweep(topic)]
    assert min(outcomes.count(True), outcomes.count(False)) >= 500


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=64), st.sampled_from(TOPICS))
def test_no_bytes_at_all_make_the_reading_fail(value: bytes, topic: str) -> None:
    assume(not value.startswith(b"{"))
    assert not compared(topic, value)


def test_canonical_records_take_the_fast_reading() -> None:
    """Parity would hold if everything went to the contract; speed would not."""
    slow = {f"{p.parent.name}/{p.stem}" for p in INPUT_EXAMPLES if fast_reads(p) is None}
    assert slow == {
        "visits/segment",
        "visits/ga4",
        "favorites/segment",
        "favorites/ga4",
        "carts/segment",
        "carts/ga4",
        "carts/maximal",  # sixteen digits of money: only the contract sees whether they were text
        "feedback/segment",
        "identities/segment",
        "orders/segment",
        "orders/segment-total-over-revenue",
        "orders/ga4",
        "orders/ga4-refund",
    }


def fast_reads(path: Any) -> Input | None:
    value = path.read_bytes()
    return fast(path.parent.name, value, key_of(value))

"""REES46's eCommerce behaviour: what each row becomes, and that none is lost."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from streams.sources.record import SourceError, SourceRecord
from tests.sources import reading
from tests.sources.reading import bodies, refusals

HEADER = b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
ROWS = b"""2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d7
2019-10-01 00:00:05 UTC,cart,1004767,2053013555,electronics.phone,samsung,254.82,541312140,72d7
2019-10-01 00:00:09 UTC,remove_from_cart,1004767,2053013555,electronics.phone,samsung,254.82,541312140,72d7
2019-10-01 00:01:00 UTC,purchase,1004767,2053013555,electronics.phone,samsung,254.82,541312140,72d7
"""
OCTOBER = 1_569_888_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "2019-Oct.csv"


def read(path: Path, content: bytes, shop: str | None = None) -> list[SourceRecord]:
    return reading.read(path, "rees46", content, shop)


def test_each_type_becomes_the_event_it_is(path: Path) -> None:
    records = read(path, HEADER + ROWS)
    assert [r.topic.name for r in records] == ["visits", "carts", "carts", "orders"]
    assert {r.key for r in records} == {b"541312140"}
    assert [r.at for r in records] == [OCTOBER, OCTOBER + 5_000, OCTOBER + 9_000, OCTOBER + 60_000]
    view, cart, remove, purchase = bodies(records)
    ids = [event.pop("event_id") for event in (view, cart, remove, purchase)]
    assert len(set(ids)) == 4
    envelope = {"customer_id": "541312140", "shop_id": "rees46"}
    phone = {"item_id": "1004767", "category": "electronics.phone"}
    assert view == {
        **envelope,
        "occurred_at": OCTOBER,
        "item_id": "44600062",
        "category": "2103807459595387724",
        "price": "35.79",
        "currency": "USD",
    }
    priced = {**phone, "price": "254.82"}
    assert cart == {
        **envelope, **priced, "occurred_at": OCTOBER + 5_000, "action": "add", "currency": "USD"
    }  # fmt: skip
    assert remove == {**envelope, **phone, "occurred_at": OCTOBER + 9_000, "action": "remove"}
    assert purchase == {
        **envelope,
        "occurred_at": OCTOBER + 60_000,
        "action": "placed",
        "order_id": ids[3],
        "lines": [priced],
        "total": "254.82",
        "currency": "USD",
    }
    assert not refusals(records)


def test_the_columns_may_stand_in_another_order_or_without_a_header(path: Path) -> None:
    straight = read(path, HEADER + ROWS)
    assert read(path, ROWS) == straight
    turned = [b",".join(reversed(row.split(b","))) for row in (HEADER + ROWS).splitlines()]
    again = bodies(read(path, b"\n".join(turned)))
    for one, other in zip(bodies(straight), again, strict=True):
        # The id is of the line's content, and the line is another one.
        assert {**one, "event_id": "", "order_id": ""} == {**other, "event_id": "", "order_id": ""}


def test_quoted_fields_are_read(path: Path) -> None:
    [body] = bodies(read(path, HEADER + b'2019-10-01 00:00:00 UTC,view,1,2,"a, b",x,1.00,7,s\n'))
    assert (body["category"], body["customer_id"]) == ("a, b", "7")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"2019-10-01 00:00:00 UTC,wish,1,2,a,b,1.00,7,s", b"7"),
        (b"yesterday,view,1,2,a,b,1.00,7,s", b"7"),
        (b"2019-10-01 00:00:00 UTC,view,,2,a,b,1.00,7,s", b"7"),
        (b"2019-10-01 00:00:00 UTC,cart,1,2,a,b,cheap,7,s", b"7"),
        (b"2019-10-01 00:00:00 UTC,cart,1,2,a,b,NaN,7,s", b"7"),
        (b"2019-10-01 00:00:00 UTC,view,1,2,a,b,1.00,,s", None),
        (b"2019-10-01 00:00:00 UTC,view,1,2,a,b,1.00,7", b"7"),
        (b"2019-10-01 00:00:00 UTC,view,1,2,a", None),
        (b'2019-10-01 00:00:00 UTC,view,"1,2,a,b,1.00,7,s', None),
        (b"2019-10-01 00:00:00 UTC,view,1,2,a,\xff,1.00,7,s", None),
    ],
)
def test_a_line_that_is_no_event_goes_to_visits_as_it_came(
    path: Path, line: bytes, key: bytes | None
) -> None:
    records = read(path, HEADER + ROWS + line + b"\n" + ROWS)
    assert len(records) == 9
    assert (records[4].topic.name, records[4].key, records[4].value) == ("visits", key, line)
    assert sum(refusals(records).values()) == 1


def test_a_negative_price_is_sent_and_refused_by_the_contract(path: Path) -> None:
    records = read(path, HEADER + b"2019-10-01 00:00:00 UTC,purchase,1,2,a,b,-79.37,7,s\n")
    assert records[0].topic.name == "orders"
    assert refusals(records) == {"invalid_field": 1}


def test_a_look_at_a_negative_price_is_a_look_without_one(path: Path) -> None:
    records = read(path, HEADER + b"2019-10-01 00:00:00 UTC,view,1,2,a,b,-79.37,7,s\n")
    assert not refusals(records)
    assert "price" not in bodies(records)[0]


def test_shuffling_keeps_every_record_and_repetition_is_the_same_event(path: Path) -> None:
    rows = ROWS.splitlines(keepends=True) * 3
    straight = Counter(read(path, HEADER + b"".join(rows)))
    random.Random(1).shuffle(rows)
    assert Counter(read(path, HEADER + b"".join(rows))) == straight
    assert len(straight) == 4


def test_another_shop_can_be_named(path: Path) -> None:
    assert {b["shop_id"] for b in bodies(read(path, HEADER + ROWS, "cosmetics"))} == {"cosmetics"}


def test_a_file_of_another_format_is_refused_in_one_sentence(path: Path) -> None:
    with pytest.raises(SourceError, match="not in the rees46 format: no column event_type, user_id"):
        read(path, b"event_time,product_id\n")


def test_an_empty_file_is_no_record(path: Path) -> None:
    assert read(path, b"") == read(path, HEADER) == []

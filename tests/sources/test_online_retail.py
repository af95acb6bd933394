"""UCI's Online Retail: invoices become orders, what comes back amends the order it came from."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.events import MAX_LINES
from streams.sources.record import SourceError, SourceRecord
from streams.sources.registry import FileSource
from tests.sources.reading import bodies, refusals
from tests.sources.real_data import real_file

Row = tuple[Any, ...]
NAMES = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
WINTER = datetime(2010, 12, 1, 8, 26)  # noqa: DTZ001 - the file has London's wall clock
SUMMER = datetime(2011, 7, 1, 8, 26)  # noqa: DTZ001
ROWS: list[Row] = [
    ("536365", "85123A", 6, WINTER, 2.55, "17850"),
    ("536365", "71053", 6, WINTER, 3.39, "17850"),
    ("536366", "71053", 2, WINTER, 3.39, None),
    ("C536379", "85123A", -4, WINTER, 2.55, "17850"),
    ("536380", "85123A", 1, SUMMER, 2.55, "17850"),
    ("C536381", "85123A", -4, SUMMER, 2.55, "17850"),
    ("C536382", "D", -1, SUMMER, 27.5, "17850"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "retail.parquet"


def write(path: Path, rows: list[Row], names: tuple[str, ...] = NAMES) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)


def read(path: Path, rows: list[Row], names: tuple[str, ...] = NAMES) -> list[SourceRecord]:
    write(path, rows, names)
    source = FileSource(path, "online-retail")
    records = list(source)
    assert source.fraction == 1.0
    return records


def test_an_invoice_is_one_order_with_its_lines_and_their_sum(path: Path) -> None:
    [record] = read(path, ROWS[:2])
    assert (record.topic.name, record.key) == ("orders", b"17850")
    [body] = bodies([record])
    assert body == {
        "event_id": "placed-536365",
        "occurred_at": int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp()) * 1000,
        "customer_id": "17850",
        "shop_id": "online-retail",
        "action": "placed",
        "order_id": "536365",
        "currency": "GBP",
        "total": "35.64",
        "lines": [
            {"item_id": "71053", "quantity": 6, "price": "3.39"},
            {"item_id": "85123A", "quantity": 6, "price": "2.55"},
        ],
    }


def test_times_are_of_londons_clocks(path: Path) -> None:
    moments = {b["order_id"]: b["occurred_at"] for b in bodies(read(path, ROWS))}
    assert moments["536380"] == int(datetime(2011, 7, 1, 7, 26, tzinfo=UTC).timestamp()) * 1000


def test_what_comes_back_refunds_the_latest_orders_of_that_item_at_that_price(path: Path) -> None:
    refunds = [
        (b["event_id"], b["order_id"], b["refund_amount"], b["lines"][0]["quantity"])
        for b in bodies(read(path, ROWS))
        if b["action"] == "refunded"
    ]
    assert refunds == [
        ("refund-C536379-536365", "536365", "10.2", 4),  # 4 of the 6
        ("refund-C536381-536380", "536380", "2.55", 1),
        ("refund-C536381-536365", "536365", "5.1", 2),  # the 2 that were left of the 6
        ("refund-C536381-C536381", "C536381", "2.55", 1),  # nothing left that it could be
        ("refund-C536382-C536382", "C536382", "27.5", 1),  # a discount on no order
    ]


def test_lines_without_a_customer_are_of_a_guest_of_that_invoice(path: Path) -> None:
    assert {b["customer_id"] for b in bodies(read(path, ROWS))} == {"17850", "guest-536366"}


def test_every_event_is_one_the_contract_takes(path: Path) -> None:
    assert not refusals(read(path, ROWS))


def test_the_order_of_rows_changes_nothing(path: Path) -> None:
    straight = read(path, ROWS)
    shuffled = list(ROWS)
    for seed in range(20):
        random.Random(seed).shuffle(shuffled)
        assert read(path, shuffled) == straight


def test_the_second_edition_and_numbers_for_ids_read_the_same(path: Path) -> None:
    names = ("Invoice", "StockCode", "Quantity", "InvoiceDate", "Price", "Customer ID")
    rows = [(*row[:5], float(row[5]) if row[5] else None) for row in ROWS]
    assert read(path, rows, names) == read(path, ROWS)


def test_an_invoice_of_too_many_lines_keeps_its_total_and_its_greatest_lines(path: Path) -> None:
    count = MAX_LINES + 50
    [record] = read(path, [("1", f"i{n}", 1, WINTER, float(n), "7") for n in range(count)])
    [body] = bodies([record])
    assert Decimal(body["total"]) == sum(range(count))
    assert len(body["lines"]) == MAX_LINES
    assert min(Decimal(line["price"]) for line in body["lines"]) == 50
    assert not refusals([record])


@pytest.mark.parametrize("hole", [0, 1, 2, 3, 4])
def test_a_row_with_a_hole_in_it_is_sent_and_refused(path: Path, hole: int) -> None:
    broken = tuple(None if n == hole else value for n, value in enumerate(ROWS[4]))
    records = read(path, [*ROWS, broken])
    assert sum(refusals(records).values()) == 1
    assert len(records) == len(read(path, ROWS)) + 1


@pytest.mark.parametrize("price", [float("nan"), float("inf")])
def test_a_price_that_is_no_number_is_sent_and_refused(path: Path, price: float) -> None:
    records = read(path, [*ROWS, ("536390", "i", 1, SUMMER, price, "7")])
    assert sum(refusals(records).values()) == 1
    assert len(records) == len(read(path, ROWS)) + 1


def test_what_is_no_such_file_is_told_in_one_sentence(path: Path) -> None:
    path.write_bytes(b"InvoiceNo,StockCode\n")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        list(FileSource(path, "online-retail"))
    write(path, [(1, 2)], ("InvoiceNo", "StockCode"))
    with pytest.raises(SourceError, match="not in the online-retail format: no column Quantity"):
        list(FileSource(path, "online-retail"))
    write(path, [("1", "a", 1, "12/1/2010 8:26", 2.55, "7")])
    with pytest.raises(SourceError, match="InvoiceDate holds string, not timestamps"):
        list(FileSource(path, "online-retail"))


def test_a_file_of_no_rows_is_no_record(path: Path) -> None:
    pq.write_table(pq.read_table(_written(path)).slice(0, 0), path)
    source = FileSource(path, "online-retail")
    assert list(source) == []


def _written(path: Path) -> Path:
    write(path, ROWS)
    return path


@pytest.mark.replay
def test_the_real_file_has_its_known_figures() -> None:
    records = list(FileSource(real_file("online_retail.parquet"), "online-retail"))
    assert not refusals(records)
    assert [r.at for r in records] == sorted(r.at or 0 for r in records)
    events = bodies(records)
    assert len({e["event_id"] for e in events}) == len(events)
    placed = [e for e in events if e["action"] == "placed"]
    refunded = [e for e in events if e["action"] == "refunded"]
    net = sum(Decimal(e["total"]) for e in placed) - sum(Decimal(e["refund_amount"]) for e in refunded)
    assert round(net, 2) == Decimal("9747747.93")
    known = [e for e in placed if not e["customer_id"].startswith("guest-")]
    assert len(known) == 18_536
    assert len({e["customer_id"] for e in known}) == 4_339
    assert len({e["customer_id"] for e in events if not e["customer_id"].startswith("guest-")}) == 4_372
    said = Counter(e["event_id"].split("-")[1] for e in events)
    assert len(said) == 25_900
    assert sum(number.startswith("C") for number in said) == 3_836

"""UCI's Online Retail: order lines of a gift wholesaler, as Parquet, made into orders and refunds.

Lines of one invoice are one order placed, with all its lines and their sum in pounds. An invoice whose
number starts with C takes goods back and names no order: each of its lines is matched to the customer's
latest earlier orders of that item at that price, as far as they were not taken back yet, and becomes a
refund of these orders. What matches none is a refund under the C invoice's own number, which amends no
order but keeps the amount: the sum of all totals less the sum of all refunds is the file's own net sum.
Negative lines of other invoices (stock written off, bad debt) are refunds of their own invoice.

135,080 lines of the known file name no customer. Each such invoice is of a guest, ``guest-<invoice>``, who
never returns: customers are those whose id does not start with ``guest-``. Times are London's.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.events import MAX_LINES, MONEY_DECIMALS
from schemas.topics import ORDERS
from streams.sources.files import SourceFile
from streams.sources.record import SourceError, SourceRecord, event

SHOP: Final = "online-retail"
CURRENCY: Final = "GBP"
GUEST: Final = "guest-"

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of local times
_ZONE: Final = ZoneInfo("Europe/London")
_BATCH_ROWS: Final = 16_384
#: The two editions of the data set name their columns differently.
_NAMES: Final = (
    ("InvoiceNo", "Invoice"),
    ("StockCode",),
    ("Quantity",),
    ("InvoiceDate",),
    ("UnitPrice", "Price"),
    ("CustomerID", "Customer ID"),
)
#: Purchases of one item by one customer that are kept to be matched with what comes back.
_KEPT_PURCHASES: Final = 16


@dataclass(slots=True)
class _Line:
    item: str
    quantity: int
    price: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.price

    @property
    def taken_back(self) -> bool:
        return self.quantity < 0 or self.price < 0


@dataclass(slots=True)
class _Invoice:
    number: str
    customer: str
    at: int
    lines: list[_Line] = field(default_factory=list)

    def __lt__(self, other: _Invoice) -> bool:
        return (self.at, self.number) < (other.at, other.number)


@dataclass(slots=True)
class _Purchase:
    order: str
    price: Decimal
    left: int


def read(file: SourceFile, shop: str | None = None) -> Iterator[SourceRecord]:
    """Orders and refunds by time, then invoice, whatever order the rows are in.

    A row without an invoice, item, time or number goes to ``orders`` as JSON and is refused there. Rows in
    the order of time are streamed; others are sorted in memory first. SourceError where the file is no
    Parquet file of this kind.
    """
    shop = shop or SHOP
    purchases: dict[tuple[str, str], list[_Purchase]] = defaultdict(list)
    try:
        for found in _invoices(file):
            if isinstance(found, _Invoice):
                yield from _events(found, purchases, shop)
            else:
                yield found
    except (pa.ArrowException, OSError) as exc:
        raise SourceError(f"{file.path} cannot be read as Parquet: {' '.join(str(exc).split())}") from None
    file.fraction = 1.0


def _invoices(file: SourceFile) -> Iterator[_Invoice | SourceRecord]:
    """Whole invoices by (time, number): each is held until its last row has come and none can precede it."""
    table = _Table(file)
    rows_left = table.rows_per_invoice
    open_: dict[str, _Invoice] = {}
    ready: list[_Invoice] = []
    for count, row in enumerate(table.rows()):
        number, at = _id(row.invoice), None
        rows_left[number] -= 1
        try:
            at = table.ms(row.time)
            line = _Line(_needed(_id(row.item)), _whole(row.quantity), _amount(row.price))
            invoice = open_.get(_needed(number))
            if invoice is None:
                customer = _id(row.customer) or GUEST + number
                invoice = open_[number] = _Invoice(number, customer, at)
            invoice.at = min(invoice.at, at)
            invoice.lines.append(line)
        except (ValueError, TypeError, ArithmeticError):
            yield _unreadable(row)
        if not rows_left[number] and number in open_:
            heapq.heappush(ready, open_.pop(number))
        if at is not None and ready:
            earliest = min((each.at for each in open_.values()), default=at)
            while ready and ready[0].at < min(earliest, at):
                yield heapq.heappop(ready)
        if not count % _BATCH_ROWS:
            file.fraction = count / table.length
    while ready:
        yield heapq.heappop(ready)


class _Row(NamedTuple):
    invoice: Any
    item: Any
    quantity: Any
    time: Any
    price: Any
    customer: Any


class _Table:
    """The file's rows in the order of time, and how many of them each invoice has; times in us."""

    def __init__(self, file: SourceFile) -> None:
        self._parquet = pq.ParquetFile(file.path)
        self.length = self._parquet.metadata.num_rows
        schema = self._parquet.schema_arrow
        self._columns = []
        for names in _NAMES:
            name = next((name for name in names if name in schema.names), None)
            if name is None:
                raise SourceError(f"{file.path} is not in the online-retail format: no column {names[0]}")
            self._columns.append(name)
        time = schema.field(self._columns[3]).type
        if not pa.types.is_timestamp(time):
            raise SourceError(f"{file.path}: {self._columns[3]} holds {time}, not timestamps")
        self._has_zone = time.tz is not None
        self.rows_per_invoice: Counter[str] = Counter()
        self._sorted = True
        latest = None
        for invoice, at in self._values([self._columns[0], self._columns[3]]):
            self.rows_per_invoice[_id(invoice)] += 1
            if at is not None:
                self._sorted = self._sorted and (latest is None or latest <= at)
                latest = at

    def ms(self, us: int) -> int:
        """Ms since 1970 UTC of a row's time."""
        return us // 1000 if self._has_zone else _london(us)

    def rows(self) -> Iterator[_Row]:
        if self._sorted:
            yield from map(_Row._make, self._values(self._columns))
            return
        table = self._parquet.read(columns=self._columns).sort_by(
            [(self._columns[3], "ascending"), (self._columns[0], "ascending")]
        )
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            yield from map(_Row._make, self._lists(batch))

    def _values(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        for batch in self._parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield from self._lists(batch.select(columns))

    def _lists(self, batch: Any) -> Iterator[tuple[Any, ...]]:
        columns = []
        for column in batch.columns:
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
            columns.append(column.to_pylist())
        return zip(*columns, strict=True)


def _events(
    invoice: _Invoice, purchases: dict[tuple[str, str], list[_Purchase]], shop: str
) -> Iterator[SourceRecord]:
    envelope: dict[str, Any] = {
        "occurred_at": invoice.at,
        "customer_id": invoice.customer,
        "shop_id": shop,
        "currency": CURRENCY,
    }
    sold = [line for line in invoice.lines if not line.taken_back]
    if sold:
        if not invoice.customer.startswith(GUEST):
            for line in sold:
                purchase = _Purchase(invoice.number, line.price, line.quantity)
                kept = purchases[invoice.customer, line.item]
                kept.append(purchase)
                del kept[:-_KEPT_PURCHASES]
        body = {
            "event_id": f"placed-{invoice.number}",
            "action": "placed",
            "order_id": invoice.number,
            "total": _text(sum((line.amount for line in sold), Decimal())),
            "lines": _stated(sold),
        }
        yield event(ORDERS, invoice.at, envelope | body)
    refunds: dict[str, list[_Line]] = defaultdict(list)
    for line in invoice.lines:
        if line.taken_back:
            for order, part in _matched(invoice, line, purchases):
                refunds[order].append(part)
    for order, parts in refunds.items():
        body = {
            "event_id": f"refund-{invoice.number}-{order}",
            "action": "refunded",
            "order_id": order,
            "refund_amount": _text(-sum((part.amount for part in parts), Decimal())),
            "lines": _stated(parts),
        }
        yield event(ORDERS, invoice.at, envelope | body)


def _matched(
    invoice: _Invoice, line: _Line, purchases: dict[tuple[str, str], list[_Purchase]]
) -> Iterator[tuple[str, _Line]]:
    """The orders that a line takes back, latest first, each with its part of the line."""
    left = line.quantity
    if invoice.number.startswith("C"):
        for purchase in reversed(purchases.get((invoice.customer, line.item), ())):
            if purchase.price == line.price and purchase.left and left < 0:
                taken = min(purchase.left, -left)
                purchase.left -= taken
                left += taken
                yield purchase.order, _Line(line.item, -taken, line.price)
    if left:
        yield invoice.number, _Line(line.item, left, line.price)


def _stated(lines: list[_Line]) -> list[dict[str, Any]]:
    """The lines as the contract has them, without a sign. It bounds their number: of a longer invoice the
    lines of the highest amounts are stated, the total is of all."""
    if len(lines) > MAX_LINES:
        lines = sorted(lines, key=lambda line: (-abs(line.amount), line.item))[:MAX_LINES]
    else:
        lines = sorted(lines, key=lambda line: (line.item, line.price, line.quantity))
    return [
        {"item_id": line.item, "quantity": abs(line.quantity), "price": _text(abs(line.price))}
        for line in lines
    ]


def _unreadable(row: _Row) -> SourceRecord:
    value = {name: each for name, each in zip(_Row._fields, row, strict=True) if each is not None}
    customer = _id(row.customer)
    return SourceRecord(ORDERS, customer.encode() or None, msgspec.json.encode(value))


def _id(value: Any) -> str:
    """An id as text; "" for none. A column with gaps may hold 17850.0 where 17850 is meant."""
    if type(value) is str:
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _needed(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _whole(value: Any) -> int:
    number = int(value)
    if number != value:
        raise ValueError
    return number


@lru_cache(maxsize=65_536)
def _amount(value: Any) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError
    return round(amount, MONEY_DECIMALS)


def _text(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


@lru_cache(maxsize=4096)
def _london(wall_us: int) -> int:
    """Ms since 1970 UTC of a time by London's clocks, itself given as us since 1970 by these clocks."""
    return round((_EPOCH + timedelta(microseconds=wall_us)).replace(tzinfo=_ZONE).timestamp() * 1000)

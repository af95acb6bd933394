"""Columns of our ClickHouse tables: the Arrow types they have, and how values become arrays of them.

A time or day outside of what ClickHouse can hold becomes the nearest it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import ConsumerRecord
from msgspec.structs import astuple

F = TypeVar("F", bound=msgspec.Struct)

MS: Final = pa.timestamp("ms", tz="UTC")
DAY: Final = pa.date32()
MONEY: Final = pa.decimal128(18, 4)
#: Of sums: a million pieces at a price of twelve digits are more than MONEY holds.
SUM: Final = pa.decimal128(38, 4)
TEXT: Final = pa.string()
#: XXH3 128 in hexadecimal.
ID32: Final = pa.binary(32)
#: 1900-01-01 and the last millisecond of 2299: the range of DateTime64, and in days of Date32.
_FIRST_MS: Final = -2_208_988_800_000
_LAST_MS: Final = 10_413_791_999_999
_FIRST_DAY: Final = -25_567
_LAST_DAY: Final = 120_529


class UndecodableFact(ValueError):
    """A record of a fact topic is not what our own agents write there; one sentence for the operator."""


def decoded(decoder: msgspec.json.Decoder[Any], records: Sequence[ConsumerRecord]) -> list[Iterable[Any]]:
    """The fields of the records' JSON, column by column in the order of the decoder's type."""
    return list(zip(*map(astuple, facts(decoder, records)), strict=True))


def facts(decoder: msgspec.json.Decoder[F], records: Sequence[ConsumerRecord]) -> list[F]:
    """The records' JSON, decoded; UndecodableFact if one is none of the decoder's type."""
    decode = decoder.decode
    found = []
    for record in records:
        try:
            found.append(decode(record.value))
        except (msgspec.MsgspecError, TypeError) as exc:
            kind = decoder.type.__name__.lstrip("_")
            raise UndecodableFact(f"{place(record)} is no {kind} of ours: {exc}") from exc
    return found


def partitions(records: Sequence[ConsumerRecord]) -> list[int]:
    """The column ``partition``: a fact of a customer lies in the customer's partition of every topic."""
    return [record.partition for record in records]


def table(schema: pa.Schema, columns: Sequence[Iterable[Any]]) -> pa.Table:
    """The columns as one table of ``schema``."""
    arrays = [array(column, field.type) for field, column in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def array(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """The values, as facts and events hold them, as an array of ``kind``."""
    if kind == MS:
        return _within(pa.array(values, pa.int64()), _FIRST_MS, _LAST_MS).cast(MS)
    if kind == DAY:
        days = pa.array(values, DAY).cast(pa.int32())
        return _within(days, _FIRST_DAY, _LAST_DAY).cast(DAY)
    if kind == SUM:
        return pa.array(values, TEXT).cast(SUM)
    if pa.types.is_map(kind):
        return pa.array([list(value.items()) for value in values], kind)
    if kind == pa.uint8():
        # Small numbers, or the bools that a tombstone's flag is.
        return pa.array(values).cast(kind)
    return pa.array(values, kind)


def structs(of_rows: Iterable[Sequence[Any]], kind: pa.StructType) -> pa.Array:
    """Of each row its structs, as a list array; they have the fields of ``kind``."""
    offsets = [0]
    flat: list[Any] = []
    for row in of_rows:
        flat.extend(row)
        offsets.append(len(flat))
    children = [array([getattr(one, field.name) for one in flat], field.type) for field in kind]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.StructArray.from_arrays(children, fields=list(kind)),
        type=pa.list_(kind),
    )


def _within(numbers: pa.Array, first: int, last: int) -> pa.Array:
    low, high = pa.scalar(first, numbers.type), pa.scalar(last, numbers.type)
    numbers = pc.max_element_wise(numbers, low, skip_nulls=False)
    return pc.min_element_wise(numbers, high, skip_nulls=False)


def place(record: ConsumerRecord) -> str:
    """Where the record stands, for a person."""
    return f"Record {record.offset} of {record.topic}[{record.partition}]"

"""Blocks of the Native format for clients that say which protocol they speak, as the Go driver does.

The engine writes blocks as for a client of revision 0. From revision 54454 on a block begins with a block
info, and a byte before each column's data says that it is written as its type always is. To put these in,
it has to be known where a column ends, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from streams.embedded.clickhouse_engine import EngineError

#: The first revision whose columns have that byte. Older ones, whose blocks have an info, are served as 0.
REVISION: Final = 54454
_BLOCK_INFO: Final = bytes.fromhex("01 00 02 ff ff ff ff 00")  # no overflow row, no bucket
_USUAL: Final = b"\0"

#: Bytes of one value.
_SIZES: Final = {
    **dict.fromkeys(("Bool", "Int8", "UInt8", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "IPv4", "Time"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Time64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6", "Point"), 16),
    **dict.fromkeys(("Int256", "UInt256"), 32),
}
_DECIMALS: Final = ((9, 4), (18, 8), (38, 16), (76, 32))  # digits up to, bytes
_PART: Final = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|.", re.DOTALL)
_NAMED: Final = re.compile(r"^(?:`(?:[^`\\]|\\.)*`|\w+) (?=\w)")


def revised(blocks: bytes) -> bytes:
    """Whole blocks of revision 0, as blocks of REVISION. EngineError for columns whose end cannot be told."""
    source = _Source(blocks)
    out = []
    while source.at < len(blocks):
        out.append(_BLOCK_INFO)
        start = source.at
        columns, rows = source.number(), source.number()
        for _ in range(columns):
            source.text()
            type_name = source.text().decode()
            out += blocks[start : source.at], _USUAL
            start = source.at
            if rows:
                # The versions of dictionaries come first, however deep in the type these are.
                source.at += 8 * type_name.count("LowCardinality(")
                source.column(type_name, rows)
        out.append(blocks[start : source.at])
    return b"".join(out)


class _Source:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def number(self) -> int:
        """A number of seven bits a byte."""
        number = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def text(self) -> bytes:
        length = self.number()
        self.at += length
        return self._data[self.at - length : self.at]

    def column(self, type_name: str, rows: int) -> None:
        """Passes over the values of so many rows. EngineError if the type's size is not known."""
        if rows == 0:
            return
        name, arguments = _parts(type_name)
        size = _size(name, arguments)
        if size is not None:
            self.at += size * rows
        elif name == "String":
            for _ in range(rows):
                length = self.number()
                self.at += length
        elif name == "Nullable":
            self.at += rows
            self.column(arguments[0], rows)
        elif name == "LowCardinality":
            self._dictionary(arguments[0])
        elif name in ("Array", "Map", "Nested", "Tuple"):
            if name != "Tuple":
                self.at += 8 * rows
                rows = self._uint64(-8)  # where the last row's elements end
            for argument in arguments:
                self.column(_NAMED.sub("", argument), rows)
        elif name == "SimpleAggregateFunction":
            self.column(arguments[1], rows)
        else:
            raise EngineError(
                48,
                f"DB::Exception: Columns of type {type_name} cannot be sent in Native to clients of"
                f" protocol {REVISION} or newer; ask for them as text, like toString(…). (NOT_IMPLEMENTED)",
            )

    def _dictionary(self, of: str) -> None:
        width = 1 << (self._uint64(0) & 0xFF)
        keys = self._uint64(8)
        self.at += 16
        name, arguments = _parts(of)
        self.column(arguments[0] if name == "Nullable" else of, keys)
        self.at += 8 + width * self._uint64(0)

    def _uint64(self, offset: int) -> int:
        at = self.at + offset
        return int.from_bytes(self._data[at : at + 8], "little")


def _size(name: str, arguments: tuple[str, ...]) -> int | None:
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        return next(size for digits, size in _DECIMALS if int(arguments[0]) <= digits)
    return 8 if name.startswith("Interval") else _SIZES.get(name)


@lru_cache(maxsize=256)
def _parts(type_name: str) -> tuple[str, tuple[str, ...]]:
    """``Map(String, Array(UInt8))``: its name, and its arguments as they are written."""
    name, opened, rest = type_name.partition("(")
    return name, tuple(_arguments(rest[:-1])) if opened else ()


def _arguments(text: str) -> Iterator[str]:
    depth, argument = 0, ""
    for part in _PART.findall(text):
        if part == "," and depth == 0:
            yield argument.strip()
            argument = ""
            continue
        depth += (part == "(") - (part == ")")
        argument += part
    yield argument.strip()

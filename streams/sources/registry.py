"""The formats that can be replayed, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from streams.sources import jsonl, online_retail, rees46, userbehavior
from streams.sources.files import SourceFile
from streams.sources.record import SourceError, SourceRecord

#: Reads an open file to its end, once; the second argument overrides the format's own shop.
Reader = Callable[[SourceFile, str | None], Iterator[SourceRecord]]

FORMATS: Final[dict[str, Reader]] = {
    "userbehavior": userbehavior.read,
    "rees46": rees46.read,
    "online-retail": online_retail.read,
    "jsonl": jsonl.read,
}


class FileSource:
    """A file of a known format as a source: iterate it once.

    SourceError where the format is not known or the file cannot be read.
    """

    def __init__(self, path: Path, format_name: str, *, shop: str | None = None) -> None:
        reader = FORMATS.get(format_name)
        if reader is None:
            raise SourceError(f"there is no format {format_name!r}; it is one of {', '.join(FORMATS)}")
        self._reader = reader
        self._file = SourceFile(path)
        self._shop = shop

    def __iter__(self) -> Iterator[SourceRecord]:
        return self._reader(self._file, self._shop)

    @property
    def fraction(self) -> float:
        """The share of the file that was read, 0 to 1."""
        return self._file.fraction

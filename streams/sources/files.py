"""Files as streams: plain, gzip or Zstandard, line by line, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from streams.sources.record import MAX_VALUE_BYTES, SourceError

_CHUNK: Final = 1 << 20
_MAGIC: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_BOM: Final = b"\xef\xbb\xbf"


class SourceFile:
    """One file being read, and how far.

    Compression is told by the first bytes, not by the name. SourceError where the file is missing,
    a directory or not readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.is_dir():
                raise SourceError(f"{path} is a directory, not a file")
            self.size = path.stat().st_size
            with path.open("rb") as head:
                magic = head.read(4)
        except FileNotFoundError:
            raise SourceError(f"there is no file {path}") from None
        except OSError as exc:
            raise SourceError(f"{path} cannot be read: {exc.strerror}") from None
        self._compression = next((name for start, name in _MAGIC if magic.startswith(start)), None)
        #: The share of the file that was read, 0 to 1: of its bytes on disk unless the reader knows better.
        self.fraction = 0.0

    def lines(self) -> Iterator[bytes]:
        """Every line that has anything but white space in it, without its line end.

        A line longer than a record may be comes cut to MAX_VALUE_BYTES, its rest is skipped. SourceError
        where the compressed data is damaged, after the lines before the damage.
        """
        rest = b""
        for chunk in self._chunks():
            block = rest + chunk
            cut = block.rfind(b"\n")
            if cut < 0:
                # Still inside one line: what is beyond a record's size is not kept, however long it gets.
                rest = block[:MAX_VALUE_BYTES]
                continue
            rest = block[cut + 1 :]
            for line in block[:cut].split(b"\n"):
                if line and not line.isspace():
                    yield line[:MAX_VALUE_BYTES].removesuffix(b"\r")
        if rest and not rest.isspace():
            yield rest[:MAX_VALUE_BYTES].removesuffix(b"\r")

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as raw:
                data = pa.CompressedInputStream(raw, self._compression) if self._compression else raw
                first = True
                while chunk := data.read(_CHUNK):
                    self.fraction = raw.tell() / self.size
                    yield chunk.removeprefix(_BOM) if first else chunk
                    first = False
        except OSError as exc:
            how = f"as {self._compression} data" if self._compression else "to its end"
            raise SourceError(f"{self.path} cannot be read {how}: {_one_line(exc)}") from None
        self.fraction = 1.0


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200]

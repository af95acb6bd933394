"""The words of the ClickHouse HTTP interface: encodings, formats, statuses, parameters, errors."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cramjam

from streams.embedded.clickhouse_engine import EngineError

#: URL parameters that are not settings of the query.
RESERVED = frozenset(
    {
        "buffer_size", "client_protocol_version", "close_session", "compress", "database", "decompress",
        "default_format", "format", "password", "query", "query_id", "quota_key", "role", "session_check",
        "session_id", "session_timeout", "stacktrace", "user", "wait_end_of_query",
    }
)  # fmt: skip

#: Formats whose pieces, one a block, are a valid whole when joined. The engine repeats header and footer of
#: every other format in each piece, so those are answered from one finished result.
JOINABLE = frozenset(
    {
        "Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "JSONEachRow",
        "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow", "LineAsString", "Values",
    }
)  # fmt: skip

_CONTENT_TYPES = (
    (
        ("JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow"),
        "application/x-ndjson",
    ),
    (("JSON",), "application/json"),
    (("CSVWithNames",), "text/csv; header=present"),
    (("CSV",), "text/csv; header=absent"),
    (("TabSeparated", "TSV"), "text/tab-separated-values"),
    (("Native", "RowBinary", "Arrow", "Parquet", "ORC", "Avro", "MsgPack"), "application/octet-stream"),
)

_STATUS: dict[int, int] = {
    **dict.fromkeys((194,), 401),
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 73, 81, 115, 128), 404),
    159: 408,
    307: 413,
    48: 501,
    202: 503,
}
#: Errors in what was asked, as opposed to failures of the server.
_BAD_REQUEST = frozenset(
    {
        6, 8, 10, 15, 16, 20, 25, 26, 27, 33, 36, 38, 41, 42, 43, 44, 51, 52, 53, 57, 62, 63, 69, 70, 72, 80,
        82, 117, 131, 164, 179, 184, 207, 215, 349, 386, 395, 456, 457, 472, 474,
    }
)  # fmt: skip

_CODECS = {
    "gzip": cramjam.gzip,
    "deflate": cramjam.deflate,
    "lz4": cramjam.lz4,
    "zstd": cramjam.zstd,
    "br": cramjam.brotli,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read: what to run, on what, and how the answer is wanted."""

    text: bytes
    database: str
    default_format: str
    query_id: str
    wait_end: bool
    encoding: str | None
    settings: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    #: Of the protocol that the client speaks; 0 if it does not say.
    revision: int = 0
    #: Asked by the user who may only read.
    is_reader: bool = False


def content_type(format_name: str) -> str:
    for prefixes, kind in _CONTENT_TYPES:
        if format_name.startswith(prefixes):
            return kind if kind.startswith("application/octet") else f"{kind}; charset=UTF-8"
    return "text/plain; charset=UTF-8"


def http_status(code: int) -> int:
    """The HTTP status ClickHouse answers an error code with, nearly: 4xx for the asker's, 5xx for ours."""
    return _STATUS.get(code, 400 if code in _BAD_REQUEST else 500)


def error_text(error: EngineError, version: str) -> str:
    text = f"Code: {error.code}. {error.message}"
    return text if "(version " in text else f"{text} (version {version})"


def exception_block(text: str, tag: str) -> bytes:
    """How ClickHouse tells of an error after the status line has gone out."""
    return (
        f"\r\n__exception__\r\n{tag}\r\n{text}\n{len(text.encode()) + 1} {tag}\r\n__exception__\r\n".encode()
    )


def decode_body(body: bytes, encoding: str) -> bytes:
    """The request body without its Content-Encoding."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in _CODECS:
            raise EngineError(48, f"DB::Exception: Unknown Content-Encoding {name!r}. (NOT_IMPLEMENTED)")
        try:
            if name == "deflate":
                # HTTP's deflate has a zlib header; some send the bare stream.
                body = zlib.decompress(body, zlib.MAX_WBITS if body[:1] == b"\x78" else -zlib.MAX_WBITS)
            else:
                body = bytes(_CODECS[name].decompress(body))
        except (cramjam.DecompressionError, zlib.error) as exc:
            raise EngineError(
                354, f"DB::Exception: The body is not {name} data: {exc}. (ZLIB_INFLATE_FAILED)"
            ) from exc
    return body


def choose_encoding(accepted: str, settings: Mapping[str, str]) -> str | None:
    """The first accepted encoding we have, if the request turned compression on."""
    if settings.get("enable_http_compression", "0").lower() not in ("1", "true"):
        return None
    for part in accepted.split(","):
        name, _, quality = part.strip().lower().partition(";")
        if name in _CODECS and quality.replace(" ", "") not in ("q=0", "q=0.0"):
            return name
    return None


class Encoder:
    """Compresses an answer piece by piece; each piece can be read as soon as it is sent."""

    def __init__(self, encoding: str | None) -> None:
        self._zlib = zlib.compressobj(1) if encoding == "deflate" else None
        self._other: Any = None
        if encoding is not None and self._zlib is None:
            self._other = _CODECS[encoding].Compressor()

    def add(self, piece: bytes) -> bytes:
        if self._zlib is not None:
            return self._zlib.compress(piece) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        if self._other is None:
            return piece
        self._other.compress(piece)
        return bytes(self._other.flush())

    def finish(self) -> bytes:
        if self._zlib is not None:
            return self._zlib.flush()
        return b"" if self._other is None else bytes(self._other.finish())

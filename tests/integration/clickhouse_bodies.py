"""Three rows of (id UInt64, name String) in every format an insert may bring, and the encodings of a body."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable

import cramjam
import pyarrow as pa

ROWS = [(1, "one"), (2, "two"), (3, "drei, \"vier\"\n'fünf'")]


def arrow_table() -> pa.Table:
    return pa.table({"id": pa.array([r[0] for r in ROWS], pa.uint64()), "name": [r[1] for r in ROWS]})


def arrow_bytes(*, stream: bool) -> bytes:
    out = io.BytesIO()
    table = arrow_table()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def varint_text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 128
    return bytes([len(data)]) + data


JSON_ROWS = "".join(json.dumps({"id": i, "name": n}) + "\n" for i, n in ROWS).encode()
BODIES: dict[str, bytes] = {
    "Arrow": arrow_bytes(stream=False),
    "ArrowStream": arrow_bytes(stream=True),
    "JSONEachRow": JSON_ROWS,
    "CSV": b'1,one\n2,two\n3,"drei, ""vier""\n\'f\xc3\xbcnf\'"\n',
    "TabSeparated": "1\tone\n2\ttwo\n3\tdrei, \"vier\"\\n'fünf'\n".encode(),
    "RowBinary": b"".join(i.to_bytes(8, "little") + varint_text(n) for i, n in ROWS),
    "Native": (
        b"\x02\x03"
        + varint_text("id")
        + varint_text("UInt64")
        + b"".join(i.to_bytes(8, "little") for i, _ in ROWS)
        + varint_text("name")
        + varint_text("String")
        + b"".join(varint_text(n) for _, n in ROWS)
    ),
    "Values": "(1, 'one'), (2, concat('t', 'wo')), (3, 'drei, \"vier\"\\n\\'fünf\\'')".encode(),
}
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: bytes(cramjam.zstd.compress(data)),
    "lz4": lambda data: bytes(cramjam.lz4.compress(data)),
}
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda data: bytes(cramjam.zstd.decompress(data)),
    "lz4": lambda data: bytes(cramjam.lz4.decompress(data)),
}

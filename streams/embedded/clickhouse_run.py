"""One request run on the engine: checked, on a fresh handle, as a whole or piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from chdb.state import sqlitelike

from streams.embedded.clickhouse_engine import DATABASE, Engine, EngineError, Result
from streams.embedded.clickhouse_http import JOINABLE, Call
from streams.embedded.clickhouse_native import REVISION, revised
from streams.embedded.clickhouse_reader import USER, bounded, check
from streams.embedded.clickhouse_sql import (
    ACCESS_DENIED,
    InsertHead,
    Refused,
    Statement,
    check_parameters,
    check_values,
    split_insert,
)

_INSERT_PIECE = 1 << 20  # bytes handed to the engine's parser at once


@dataclass(slots=True)
class Answer:
    """A finished result, or the first piece of one still running (``stream`` on its ``handle``)."""

    data: bytes
    format: str
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    stream: sqlitelike.StreamingResult | None = None
    handle: sqlitelike.Connection | None = None
    #: How the engine's bytes are written for this client.
    written_as: Callable[[bytes], bytes] = bytes

    def fetch(self) -> bytes | None:
        """The next piece; None after the last."""
        piece = None if self.stream is None else self.stream.fetch()
        return None if piece is None else self.written_as(piece.bytes())

    def close(self) -> None:
        """Ends a running query and its handle."""
        try:
            if self.stream is not None:
                self.stream.cancel()
        finally:
            if self.handle is not None:
                self.handle.close()


def run(engine: Engine, call: Call, *, read_only: bool) -> Answer:
    """Checks the statement and runs it; an answer with a ``stream`` is the caller's to close.

    EngineError for any failure, also of statements this endpoint refuses.
    """
    settings = call.settings
    if call.is_reader:
        return _read(engine, call)
    if read_only:
        settings = {**settings, "readonly": settings.get("readonly", "2")}
    try:
        insert = split_insert(call.text)
        if insert is not None:
            return _insert(engine, call, settings, insert)
        return _query(engine, call, settings)
    except UnicodeDecodeError as exc:
        raise EngineError(36, "DB::Exception: The query is not UTF-8 text. (BAD_ARGUMENTS)") from exc
    except Exception as exc:
        raise EngineError.of(exc) from exc


def _read(engine: Engine, call: Call) -> Answer:
    """What the reader asks, if it is theirs to ask."""
    try:
        settings = bounded(call.settings)
        # An INSERT that brings its data is no statement to the parser, and no reading either.
        if split_insert(call.text) is not None:
            raise Refused(
                ACCESS_DENIED, f"Not allowed to the user {USER}: INSERT is no reading. (ACCESS_DENIED)"
            )
        others = {name.lower() for name in engine.databases()} - {DATABASE}
        check(engine.read(call.text.decode()), call.database, others)
        return _query(engine, replace(call, settings=settings), settings)
    except UnicodeDecodeError as exc:
        raise EngineError(36, "DB::Exception: The query is not UTF-8 text. (BAD_ARGUMENTS)") from exc
    except Exception as exc:
        raise EngineError.of(exc) from exc


def _insert(engine: Engine, call: Call, settings: dict[str, str], insert: InsertHead) -> Answer:
    head = insert.sql.decode()
    engine.read(f"{head} FORMAT {insert.format}")
    data = memoryview(call.text)[insert.data_at :]
    if insert.format.lower() == "values":
        check_values(bytes(data), engine.denied)
    with engine.handle(call.database, settings, call.parameters) as handle:
        inserter = handle.send_insert(head, insert.format)
        try:
            for start in range(0, len(data), _INSERT_PIECE):
                inserter.append(data[start : start + _INSERT_PIECE])
            written = inserter.finish()
        except BaseException:
            inserter.cancel()
            raise
    return Answer(b"", "TabSeparated", written_rows=written.rows_written, written_bytes=written.bytes_written)


def _query(engine: Engine, call: Call, settings: dict[str, str]) -> Answer:
    sql = call.text.decode()
    statement = engine.read(sql)
    check_parameters(statement, call.parameters, engine.denied)
    format_name = statement.format or call.default_format
    handle = engine.open(call.database, settings, call.parameters)
    answer = None
    try:
        if statement.is_select and not call.wait_end and format_name in JOINABLE:
            answer = _start(handle, sql, format_name)
        else:
            answer = _finished(handle.query(sql, format_name), format_name)
        if format_name == "Native" and not answer.data and statement.is_select:
            answer.data = _native_header(engine, call, sql, statement)
        if format_name == "Native" and call.revision >= REVISION:
            answer.written_as = revised
            try:
                answer.data = revised(answer.data)
            except EngineError:
                answer.close()
                raise
        return answer
    finally:
        if answer is None or answer.stream is None:
            handle.close()


def _start(handle: sqlitelike.Connection, sql: str, format_name: str) -> Answer:
    """The first two pieces of a result, and the stream others come from if there were two."""
    stream = handle.send_query(sql, format_name)
    first = stream.fetch()
    if first is None:
        return Answer(b"", format_name)
    data = first.bytes()
    second = stream.fetch()
    if second is None:
        return Answer(data, format_name)
    return Answer(data + second.bytes(), format_name, stream=stream, handle=handle)


def _native_header(engine: Engine, call: Call, sql: str, statement: Statement) -> bytes:
    """The block of no rows by which the real server, and not chDB, tells the columns of an empty result."""
    subquery = sql.rstrip().rstrip(";")
    if statement.format is not None:
        subquery = subquery[: subquery.upper().rindex("FORMAT")]
    with engine.handle(call.database, call.settings, call.parameters) as handle:
        try:
            described = handle.query(f"DESCRIBE TABLE ({subquery}\n)", "JSONCompactEachRow").bytes()
        except Exception:
            return b""  # a client then sees a result without columns
    columns = [json.loads(line)[:2] for line in described.splitlines()]
    block = _varint(len(columns)) + _varint(0)
    for text in (part.encode() for column in columns for part in column):
        block += _varint(len(text)) + text
    return block


def _finished(result: Result, format_name: str) -> Answer:
    return Answer(
        result.bytes(),
        format_name,
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

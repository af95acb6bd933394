"""The chDB database behind the embedded ClickHouse endpoint: opened once, one fresh handle per request.

A handle is never used again: after a query that failed halfway, the engine prepends what is left of its
output to the next result on the same handle, without an error.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from chdb.state import sqlitelike

from streams.embedded.clickhouse_sql import Denied, Refused, Statement, read_statement

DATABASE = "ebbtide"
_CODE = re.compile(r"Code: (\d+)\. (DB::.*)", re.DOTALL)
_PARSE_SCOPE = re.compile(r": In scope SELECT formatQuerySingleLine\(.*(?=\. \([A-Z_]+\))", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")
_CACHED_STATEMENT = 32_768  # characters
_RIGHTS = Path(__file__).with_name("clickhouse_rights.xml")


class EngineError(Exception):
    """An error of ClickHouse: its number and its text from ``DB::Exception`` on."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def of(cls, error: Exception) -> EngineError:
        """From whatever chDB raised; code 1002 (unknown exception) when it states none."""
        if isinstance(error, EngineError):
            return error
        if isinstance(error, Refused):
            return cls(error.code, f"DB::Exception: {error}")
        match = _CODE.search(str(error))
        if match is None:
            return cls(
                1002, f"DB::Exception: {str(error).strip() or type(error).__name__}. (UNKNOWN_EXCEPTION)"
            )
        return cls(int(match[1]), _PARSE_SCOPE.sub("", match[2]).strip())


def quote(value: str) -> str:
    """A ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Engine:
    """One open database directory. Handles of it may be used from several threads at once.

    Never fork a process that holds one: the child hangs. No second process can open the same directory.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._address = f"{path}?config-file={_RIGHTS}&users_config={_RIGHTS}"
        kept_uuid = _uuid_of_default_database(path)
        # The engine ends when its last handle closes, so this one stays open.
        try:
            self._anchor = sqlitelike.connect(self._address)
        except RuntimeError as exc:
            # The engine prints the cause, and raises without it.
            raise RuntimeError(
                f"the database in {path} cannot be opened; most likely another process has it open"
            ) from exc
        self._parser_lock = threading.Lock()
        self._replace_default_database(kept_uuid)
        self._ask(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
        self.version = self._ask("SELECT version()")
        self.timezone = self._ask("SELECT timezone()")
        self.denied = Denied.of(
            self._ask("SELECT lower(name) FROM system.table_functions").split(),
            self._ask("SELECT lower(name) FROM system.functions").split(),
        )
        self._parser = sqlitelike.connect(self._address)
        self._parser.query("SET max_query_size = 1000000000, max_parser_depth = 1000")
        self._read_cached = lru_cache(maxsize=512)(self._read)

    def close(self) -> None:
        self._parser.close()
        self._anchor.close()

    def databases(self) -> frozenset[str]:
        """Names of what it has but for those of ClickHouse itself, from where the engine keeps them."""
        return frozenset(unquote(path.stem) for path in (self._path / "metadata").glob("*.sql"))

    def read(self, sql: str) -> Statement:
        """What ``sql`` is; EngineError if it is not one statement, or one not allowed here."""
        return self._read_cached(sql) if len(sql) <= _CACHED_STATEMENT else self._read(sql)

    @contextmanager
    def handle(
        self, database: str, settings: Mapping[str, str], parameters: Mapping[str, str]
    ) -> Iterator[sqlitelike.Connection]:
        """A fresh handle with its database, settings and query parameters (in HTTP's escaping) set."""
        connection = self.open(database, settings, parameters)
        try:
            yield connection
        finally:
            connection.close()

    def open(
        self, database: str, settings: Mapping[str, str], parameters: Mapping[str, str]
    ) -> sqlitelike.Connection:
        """As ``handle``; the caller closes it."""
        changes = {**settings, **{f"param_{name}": value for name, value in parameters.items()}}
        for name in changes:
            if _NAME.fullmatch(name) is None:
                raise EngineError(115, f"DB::Exception: Unknown setting {quote(name)}. (UNKNOWN_SETTING)")
        prelude = f"USE `{database.replace(chr(92), chr(92) * 2).replace('`', chr(92) + '`')}`"
        if changes:
            prelude += "; SET " + ", ".join(f"{name} = {quote(value)}" for name, value in changes.items())
        connection = sqlitelike.connect(self._address)
        try:
            connection.query(prelude)
        except Exception as exc:
            connection.close()
            raise EngineError.of(exc) from exc
        return connection

    def _read(self, sql: str) -> Statement:
        escaped = sql
        for plain, code in (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"), ("\0", "\\0")):
            escaped = escaped.replace(plain, code)
        try:
            with self._parser_lock:
                canonical = self._parser.query(
                    "SELECT formatQuerySingleLine({sql:String})", "TSVRaw", params={"sql": escaped}
                )
            return read_statement(canonical.bytes().decode(), self.denied)
        except Exception as exc:
            raise EngineError.of(exc) from exc

    def _ask(self, sql: str) -> str:
        result: bytes = self._anchor.query(sql, "TSVRaw").bytes()
        return result.decode().strip()

    def _replace_default_database(self, kept_uuid: str | None) -> None:
        """chDB's ``default`` shows every file of the machine as a table; a plain one takes its place."""
        if kept_uuid is None:
            self._ask("DROP DATABASE default")
            self._ask("CREATE DATABASE default ENGINE = Atomic")
        else:
            self._ask("DETACH DATABASE default")
            self._ask(f"ATTACH DATABASE default UUID '{kept_uuid}' ENGINE = Atomic")


def _uuid_of_default_database(path: Path) -> str | None:
    """The id of a ``default`` database that holds tables from an earlier run."""
    link = path / "metadata" / "default"  # there once the database has had a table
    return link.readlink().name if link.is_symlink() else None


Result = Any  #: chDB's result object: bytes(), rows_read(), bytes_read(), storage_rows_read()

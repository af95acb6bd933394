"""What Ebbtide and its users need of a ClickHouse HTTP endpoint, real or embedded.

Every test takes only ``clickhouse_url``; the same functions run against whatever stands behind it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_migrations.clickhouse_cluster import ClickhouseCluster

from tests.integration.clickhouse_bodies import BODIES, DECODERS, ENCODERS, ROWS, arrow_table


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Raw:
    """The interface without a client library in between."""

    url: str

    def send(
        self,
        method: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        path: str = "/",
        **params: str,
    ) -> Reply:
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        token = b64encode(f"{unquote(parts.username or 'default')}:{unquote(parts.password or '')}".encode())
        fields = {"database": parts.path.strip("/"), **params}
        fields = {name: value for name, value in fields.items() if value}
        try:
            connection.request(
                method,
                f"{path}?{urlencode(fields)}",
                body or None,
                {"Authorization": f"Basic {token.decode()}", **(headers or {})},
            )
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="session")
def clickhouse_url(clickhouse: str) -> str:
    return clickhouse


@pytest.fixture
def raw(clickhouse_url: str) -> Raw:
    return Raw(clickhouse_url)


@pytest.fixture
def client(clickhouse_url: str) -> Iterator[Client]:
    client = clickhouse_connect.get_client(dsn=clickhouse_url)
    yield client
    client.close()


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    name = f"contract_{uuid.uuid4().hex}"
    client.command(f"CREATE TABLE {name} (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
    yield name
    client.command(f"DROP TABLE {name} SYNC")


def rows_of(client: Client, table: str) -> list[tuple[int, str]]:
    return [tuple(row) for row in client.query(f"SELECT id, name FROM {table} ORDER BY id").result_rows]


def test_ping_answers_ok(raw: Raw) -> None:
    assert raw.send("GET", path="/ping").body == b"Ok.\n"


def test_a_query_may_be_in_the_url_in_the_body_or_in_both(raw: Raw) -> None:
    assert raw.send("GET", query="SELECT 1").body == b"1\n"
    assert raw.send("POST", b"SELECT 1").body == b"1\n"
    assert raw.send("POST", b"+ 1", query="SELECT 1").body == b"2\n"


def test_the_answer_names_query_timezone_format_and_summary(raw: Raw) -> None:
    reply = raw.send("POST", b"SELECT 1", query_id="mine", default_format="JSONEachRow")
    assert reply.body == b'{"1":1}\n'
    assert reply.headers["x-clickhouse-query-id"] == "mine"
    assert reply.headers["x-clickhouse-format"] == "JSONEachRow"
    assert reply.headers["x-clickhouse-timezone"]
    assert "read_rows" in json.loads(reply.headers["x-clickhouse-summary"])


def test_a_format_clause_wins_over_the_default_format(raw: Raw) -> None:
    reply = raw.send("POST", b"SELECT 1 AS x FORMAT JSON", default_format="CSV")
    assert json.loads(reply.body)["data"] == [{"x": 1}]
    assert reply.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("form", ["parameter", "header"])
def test_the_database_comes_from_parameter_or_header(raw: Raw, form: str) -> None:
    if form == "parameter":
        reply = raw.send("POST", b"SELECT currentDatabase()", database="system")
    else:
        reply = raw.send(
            "POST", b"SELECT currentDatabase()", {"X-ClickHouse-Database": "system"}, database=""
        )
    assert reply.body == b"system\n"


def test_server_side_parameters_keep_quotes_tabs_and_backslashes(client: Client) -> None:
    text = 'a\tb\'c\\d\n"e" %s {x:String}'
    row = client.query(
        "SELECT {text:String}, {list:Array(String)}, {none:Nullable(String)}, {table:Identifier}.one.dummy"
        " FROM {table:Identifier}.one",
        parameters={"text": text, "list": [text, ""], "none": None, "table": "system"},
    ).result_rows[0]
    assert row == (text, [text, ""], None, 0)


def test_settings_in_the_url_apply_to_that_query_alone(raw: Raw) -> None:
    ask = b"SELECT getSetting('max_block_size')"
    plain = raw.send("POST", ask).body
    assert raw.send("POST", ask, max_block_size="777").body == b"777\n"
    assert raw.send("POST", ask).body == plain


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT nope", 47, 404),
        ("SELECT FROM WHERE", 62, 400),
        ("SELECT * FROM no_such_table", 60, 404),
        ("SELECT toUInt8('x')", 6, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT 1 FORMAT NoSuchFormat", 73, 404),
    ],
)
def test_an_error_has_its_code_in_header_and_body(raw: Raw, sql: str, code: int, status: int) -> None:
    reply = raw.send("POST", sql.encode())
    assert reply.headers["x-clickhouse-exception-code"] == str(code)
    assert reply.body.startswith(f"Code: {code}. DB::".encode())
    assert reply.status == status


def test_an_unknown_setting_is_an_error(raw: Raw) -> None:
    assert raw.send("POST", b"SELECT 1", no_such_setting="1").headers["x-clickhouse-exception-code"] == "115"


def test_an_unknown_database_is_an_error(raw: Raw) -> None:
    reply = raw.send("POST", b"SELECT 1", database="no_such_database")
    assert reply.headers["x-clickhouse-exception-code"] == "81"


def test_get_does_not_write(raw: Raw, table: str, client: Client) -> None:
    reply = raw.send("GET", query=f"INSERT INTO {table} VALUES (1, 'x')")
    assert reply.headers["x-clickhouse-exception-code"] == "164"
    assert rows_of(client, table) == []


@pytest.mark.parametrize("format_name", list(BODIES))
@pytest.mark.parametrize("statement_in", ["url", "body"])
def test_an_insert_takes_its_rows_in_any_format(
    raw: Raw, client: Client, table: str, format_name: str, statement_in: str
) -> None:
    statement = f"INSERT INTO {table} (id, name) FORMAT {format_name}"
    if statement_in == "url":
        reply = raw.send("POST", BODIES[format_name], query=statement)
    else:
        reply = raw.send("POST", statement.encode() + b"\n" + BODIES[format_name])
    assert reply.status == 200, reply.body
    assert rows_of(client, table) == ROWS
    assert json.loads(reply.headers["x-clickhouse-summary"])["written_rows"] == str(len(ROWS))


def test_insert_values_runs_in_one_statement(client: Client, table: str) -> None:
    client.command(f"INSERT INTO {table} (id, name) VALUES (1, 'one'), (2, upper('two'))")
    assert rows_of(client, table) == [(1, "one"), (2, "TWO")]


def test_insert_select_runs(client: Client, table: str) -> None:
    client.command(f"INSERT INTO {table} SELECT number, 'x' FROM numbers({{n:UInt8}})", parameters={"n": 3})
    assert rows_of(client, table) == [(0, "x"), (1, "x"), (2, "x")]


def test_an_insert_names_its_table_by_parameter_and_takes_settings(
    raw: Raw, client: Client, table: str
) -> None:
    reply = raw.send(
        "POST",
        BODIES["CSV"],
        query="/* why */ INSERT INTO {t:Identifier} SETTINGS async_insert = 0 FORMAT CSV",
        param_t=table,
    )
    assert reply.status == 200, reply.body
    assert rows_of(client, table) == ROWS


@pytest.mark.parametrize("encoding", list(ENCODERS))
def test_an_insert_may_be_compressed(raw: Raw, client: Client, table: str, encoding: str) -> None:
    body = ENCODERS[encoding](BODIES["ArrowStream"])
    reply = raw.send(
        "POST", body, {"Content-Encoding": encoding}, query=f"INSERT INTO {table} FORMAT ArrowStream"
    )
    assert reply.status == 200, reply.body
    assert rows_of(client, table) == ROWS


@pytest.mark.parametrize("encoding", list(DECODERS))
@pytest.mark.parametrize("wait", ["0", "1"])
def test_an_answer_is_compressed_when_asked_for(raw: Raw, encoding: str, wait: str) -> None:
    reply = raw.send(
        "POST",
        b"SELECT number FROM numbers(200000)",
        {"Accept-Encoding": encoding},
        enable_http_compression="1",
        wait_end_of_query=wait,
    )
    assert reply.headers["content-encoding"] == encoding
    assert DECODERS[encoding](reply.body) == "".join(f"{n}\n" for n in range(200_000)).encode()
    plain = raw.send("POST", b"SELECT 1", {"Accept-Encoding": encoding})
    assert (plain.body, "content-encoding" in plain.headers) == (b"1\n", False)


@pytest.mark.parametrize(
    "format_name", ["CSVWithNames", "JSON", "JSONCompact", "RowBinary", "ArrowStream", "Native"]
)
@pytest.mark.parametrize("wait", ["0", "1"])
def test_a_result_of_many_blocks_is_one_document(raw: Raw, format_name: str, wait: str) -> None:
    """Header and footer come once, however many blocks the engine works in."""
    reply = raw.send(
        "POST",
        f"SELECT number AS n FROM numbers(200000) FORMAT {format_name}".encode(),
        wait_end_of_query=wait,
    )
    body = reply.body
    if format_name == "CSVWithNames":
        assert body.splitlines()[0] == b'"n"'
        numbers = [int(line) for line in body.splitlines()[1:]]
    elif format_name == "JSON":
        numbers = [int(row["n"]) for row in json.loads(body)["data"]]
    elif format_name == "JSONCompact":
        numbers = [int(row[0]) for row in json.loads(body)["data"]]
    elif format_name == "RowBinary":
        numbers = list(memoryview(body).cast("Q"))
    elif format_name == "ArrowStream":
        numbers = pa.ipc.open_stream(body).read_all()["n"].to_pylist()
    else:
        return  # the clients below read Native
    assert numbers == list(range(200_000))


def test_an_empty_result_still_tells_its_columns(client: Client) -> None:
    result = client.query("SELECT 1 AS a, 'x' AS b WHERE 0")
    assert (result.column_names, result.row_count) == (("a", "b"), 0)
    assert client.query_arrow("SELECT 1 AS a, 'x' AS b WHERE 0").column_names == ["a", "b"]


def test_the_client_writes_and_reads_rows_columns_and_arrow(client: Client, table: str) -> None:
    client.insert(table, ROWS, column_names=["id", "name"])
    assert rows_of(client, table) == ROWS
    summary = client.insert_arrow(table, arrow_table())
    assert summary.written_rows == len(ROWS)
    read = client.query_arrow(f"SELECT id, name FROM {table} ORDER BY id", use_strings=True)
    assert read.num_rows == 2 * len(ROWS)
    assert client.command(f"SELECT count() FROM {table}") == 2 * len(ROWS)


@pytest.mark.parametrize("compress", [True, "gzip", "zstd", "lz4", False])
def test_the_client_may_compress_either_way(clickhouse_url: str, table: str, compress: bool | str) -> None:
    client = clickhouse_connect.get_client(dsn=clickhouse_url, compress=compress)
    try:
        client.insert(table, [(n, "x" * 50) for n in range(5_000)], column_names=["id", "name"])
        assert client.query(f"SELECT sum(id), count() FROM {table}").result_rows == [(12_497_500, 5_000)]
        assert len(client.query(f"SELECT * FROM {table}").result_rows) == 5_000
    finally:
        client.close()


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client: Client) -> None:
    sql = "SELECT number, throwIf(number = 900000, 'in the middle') FROM numbers(1000000)"
    seen = 0

    def read() -> None:
        nonlocal seen
        with client.query_rows_stream(sql, settings={"max_threads": 1}) as rows:
            for _ in rows:
                seen += 1

    with pytest.raises((StreamFailureError, DatabaseError), match="in the middle"):
        read()
    assert 0 < seen < 1_000_000


def test_an_error_in_the_middle_of_a_stream_breaks_the_answer(raw: Raw) -> None:
    """A client that knows nothing of ClickHouse does not take the beginning for the whole."""
    sql = b"SELECT throwIf(number = 900000, 'in the middle') FROM numbers(1000000)"
    with pytest.raises(HTTPException):
        raw.send("POST", sql, max_threads="1")
    reply = raw.send("POST", sql, wait_end_of_query="1")
    assert reply.status >= 400
    assert reply.headers["x-clickhouse-exception-code"] == "395"


def test_the_async_client_runs_queries_at_once(clickhouse_url: str, table: str) -> None:
    async def work() -> list[object]:
        client = await clickhouse_connect.get_async_client(dsn=clickhouse_url)
        try:
            await client.insert_arrow(table, arrow_table())
            sums = [client.query(f"SELECT sum(number) + {n} FROM numbers(100000)") for n in range(8)]
            results = await asyncio.gather(*sums)
            counted = await client.query(f"SELECT count() FROM {table}")
            return [*(r.result_rows[0][0] for r in results), counted.result_rows[0][0]]
        finally:
            await client.close()

    assert asyncio.run(work()) == [*(4_999_950_000 + n for n in range(8)), len(ROWS)]


def test_a_long_query_does_not_hold_up_a_short_one(raw: Raw) -> None:
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(raw.send, "POST", b"SELECT sleep(1.5)")
        assert raw.send("POST", b"SELECT 1").body == b"1\n"
        assert not long.done()
        assert long.result().body == b"0\n"


def test_wrong_credentials_are_refused(clickhouse_url: str, raw: Raw) -> None:
    reply = raw.send("POST", b"SELECT 1", {"Authorization": f"Basic {b64encode(b'nobody:wrong').decode()}"})
    assert reply.status in (401, 403)
    assert reply.headers["x-clickhouse-exception-code"] in ("516", "192", "193", "194")


def test_migrations_run_and_are_remembered(clickhouse_url: str, client: Client, tmp_path: Path) -> None:
    parts = urlsplit(clickhouse_url)
    database = f"contract_{uuid.uuid4().hex}"
    (tmp_path / "001_one.sql").write_text(
        "-- grain: one\nCREATE TABLE one (id UInt64) ENGINE = ReplacingMergeTree ORDER BY id;"
    )
    (tmp_path / "002_two.sql").write_text("CREATE VIEW two AS SELECT id FROM one FINAL WHERE id != 1;")
    cluster = ClickhouseCluster(
        db_host=parts.hostname,
        db_port=str(parts.port),
        db_user=unquote(parts.username or "default"),
        db_password=unquote(parts.password or ""),
        driver="clickhouse-connect",
    )
    try:
        first = cluster.migrate(database, tmp_path, cluster_name=None, create_db_if_no_exists=True)
        second = cluster.migrate(database, tmp_path, cluster_name=None, create_db_if_no_exists=True)
        assert (len(first), len(second)) == (2, 0)
        assert client.query(f"SHOW TABLES FROM {database}").result_rows == [
            ("one",),
            ("schema_versions",),
            ("two",),
        ]
        assert client.command(f"SELECT engine FROM system.databases WHERE name = '{database}'") == "Atomic"
    finally:
        client.command(f"DROP DATABASE IF EXISTS {database} SYNC")

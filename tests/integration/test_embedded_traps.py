"""What goes wrong with an embedded ClickHouse engine when it is served carelessly, each held by a test."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path

import pytest

from streams.embedded.clickhouse import ClickHouse
from streams.embedded.process import StackError


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    directory = tmp_path_factory.mktemp("endpoint")
    with ClickHouse(directory / "data", directory) as clickhouse:
        yield clickhouse


def ask(endpoint: ClickHouse, sql: str, headers: dict[str, str] | None = None, **params: str) -> str:
    """The text of the answer; HTTPError for a refusal, as an error of ClickHouse is."""
    url = f"http://127.0.0.1:{endpoint.process.port}/?{urllib.parse.urlencode(params)}"
    request = urllib.request.Request(url, sql.encode(), headers or {})
    with urllib.request.urlopen(request, timeout=60) as response:
        body: bytes = response.read()
        return body.decode()


def refusal(endpoint: ClickHouse, sql: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, ClickHouse's code and text of an answer that must be an error."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(endpoint, sql, headers)
    with caught.value as error:
        return error.code, error.headers["X-ClickHouse-Exception-Code"], error.read().decode()


# 1. A query that failed halfway leaves its output on the handle it ran on.


@pytest.mark.parametrize("wait", ["0", "1"])
def test_a_query_that_fails_halfway_leaves_nothing_to_the_next(endpoint: ClickHouse, wait: str) -> None:
    failing = "SELECT number, throwIf(number = 130000) FROM numbers(1000000) FORMAT TSV"
    for _ in range(5):
        with pytest.raises((urllib.error.HTTPError, HTTPException)):
            ask(endpoint, failing, max_threads="1", max_block_size="1000", wait_end_of_query=wait)
        assert ask(endpoint, "SELECT number FROM numbers(3)", wait_end_of_query=wait) == "0\n1\n2\n"


def test_a_reader_that_leaves_halfway_leaves_nothing_to_the_next(endpoint: ClickHouse) -> None:
    url = f"http://127.0.0.1:{endpoint.process.port}/"
    for _ in range(3):
        with urllib.request.urlopen(url, b"SELECT number FROM numbers(50000000)", timeout=60) as response:
            assert response.read(2) == b"0\n"
        assert ask(endpoint, "SELECT number FROM numbers(3)") == "0\n1\n2\n"


# 2 and 6. Statements that reach outside of the database; ENGINE = Kafka makes the directory unusable.


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE k (a Int32) ENGINE = Kafka('127.0.0.1:9092', 't', 'g', 'CSV')",
        "CREATE TABLE k (a Int32) ENGINE = File(CSV, '{file}')",
        "CREATE TABLE k (a Int32) ENGINE = URL('http://127.0.0.1/', CSV)",
        "CREATE TABLE k (a Int32) ENGINE = S3('http://127.0.0.1/b', CSV)",
        "CREATE TABLE k ENGINE MySQL('127.0.0.1:3306', 'd', 't', 'u', 'p')",
        "CREATE MATERIALIZED VIEW k ENGINE = File(CSV) AS SELECT 1",
        "CREATE TABLE k (a Int32) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local)",
        "CREATE DATABASE k ENGINE = Filesystem('/')",
        "CREATE DATABASE k ENGINE = SQLite('{file}')",
        "CREATE TABLE k AS file('{file}')",
        "CREATE FUNCTION k AS (x) -> file(x)",
        "CREATE DICTIONARY k (a UInt64) PRIMARY KEY a SOURCE(FILE(PATH '{file}' FORMAT 'CSV')) LAYOUT(FLAT())"
        " LIFETIME(1)",
        "CREATE DICTIONARY k (a UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST '10.0.0.1' TABLE 't'))"
        " LAYOUT(FLAT()) LIFETIME(1)",
        "ATTACH TABLE k FROM '{file}' (a Int32) ENGINE = MergeTree ORDER BY a",
        "SELECT * FROM file('{file}', 'LineAsString')",
        "SELECT * FROM FILE ('{file}')",
        "SELECT * FROM `file`('{file}')",
        "SELECT * FROM `fi\\x6ce`('{file}')",
        "SELECT * FROM /* ( */ file -- '\n/* /* */ */ ('{file}')",
        "SELECT /* ' */ * FROM file('{file}') -- '",
        "WITH x AS (SELECT * FROM file('{file}')) SELECT * FROM x",
        "SELECT (SELECT count() FROM (SELECT * FROM fileCluster('c', '{file}')))",
        "DESCRIBE TABLE file('{file}')",
        "EXPLAIN SELECT * FROM file('{file}')",
        "SELECT * FROM loop(file('{file}'))",
        "SELECT * FROM url('http://127.0.0.1/', CSV)",
        "SELECT * FROM s3('http://127.0.0.1/b', CSV)",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM mysql('127.0.0.1:3306', 'd', 't', 'u', 'p')",
        "SELECT * FROM sqlite('{file}', 't')",
        "SELECT * FROM python(x)",
        "SELECT * FROM executable('id', TSV, 'x String')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT * FROM deltaLakeLocal('{file}')",
        "SELECT file('{file}')",
        "SELECT * APPLY(file) FROM (SELECT '{file}' AS x)",
        "SELECT * APPLY file FROM (SELECT '{file}' AS x)",
        "SELECT arrayMap(file, ['{file}'])",
        "SELECT * FROM format(Values, 'a String', '(file(\\'{file}\\'))')",
        "INSERT INTO safe SELECT arrayMap(file, ['{file}'])[1]",
        "INSERT INTO safe SELECT * FROM format('Values', 'a String', '(file(\\'{file}\\'))')",
        "INSERT INTO safe VALUES (arrayMap(file, ['{file}'])[1])",
        "CREATE DICTIONARY k (a String) PRIMARY KEY a SOURCE(CLICKHOUSE(QUERY 'SELECT file(\\'{file}\\')'))"
        " LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(1)",
        "SELECT 1 INTO OUTFILE '{file}.out'",
        "INSERT INTO FUNCTION file('{file}.out', 'CSV', 'a Int32') VALUES (1)",
        "INSERT INTO FUNCTION file('{file}.out', 'CSV', 'a Int32') SELECT 1",
        "INSERT INTO TABLE FUNCTION url('http://127.0.0.1/', CSV) SELECT 1",
        "INSERT INTO safe FROM INFILE '{file}' FORMAT CSV",
        "INSERT INTO safe SELECT file('{file}')",
        "INSERT INTO safe VALUES (file('{file}'))",
        "INSERT INTO safe VALUES ('it''s'), (`fi\\x6ce`('{file}'))",
        "INSERT INTO safe VALUES ((SELECT any(x) FROM FILE/**/('{file}', 'CSV', 'x String')))",
        "BACKUP TABLE safe TO File('{file}.out')",
        "RESTORE TABLE safe FROM File('{file}.out')",
        "SYSTEM SHUTDOWN",
    ],
)
def test_a_statement_that_reaches_outside_of_the_database_is_refused(
    endpoint: ClickHouse, tmp_path: Path, sql: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1\n")
    ask(endpoint, "CREATE TABLE IF NOT EXISTS safe (x String) ENGINE = MergeTree ORDER BY x")
    status, code, text = refusal(endpoint, sql.replace("{file}", str(secret)))
    assert (status, code) == (403, "497")
    assert text.startswith("Code: 497. DB::Exception: Not allowed on the embedded endpoint: ")
    assert text.count("\n") == 1
    assert list(tmp_path.iterdir()) == [secret]
    assert ask(endpoint, "SELECT count() FROM safe") == "0\n"


def test_a_parameter_does_not_name_a_function_that_reaches_outside(endpoint: ClickHouse) -> None:
    query = "SELECT arrayMap({f:Identifier}, ['abc'])"
    assert ask(endpoint, query, param_f="length") == "[3]\n"
    for name in ("file", "`file`", "fi\\x6ce"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(endpoint, query, param_f=name)
        assert refused.value.code == 403


_ASK_PAST_THE_ENDPOINT = """
import sys
from pathlib import Path
from streams.embedded.clickhouse_engine import Engine
engine = Engine(Path(sys.argv[1]))
for sql in sys.argv[2:]:
    try:
        with engine.handle("default", {}, {}) as handle:
            print("answered", handle.query(sql, "TSV").bytes().decode().strip())
    except Exception as exc:
        print("denied" if "ACCESS_DENIED" in str(exc) else exc)
"""


def test_the_engine_refuses_sources_outside_even_where_the_endpoint_would_not(tmp_path: Path) -> None:
    """What reading statements might miss, the engine's own grants hold; a process of its own, as always."""
    outside = [
        "SELECT * FROM url('http://127.0.0.1:1/x', 'CSV', 'a String')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1:9000', 'system', 'one')",
        "INSERT INTO FUNCTION file('x.csv', 'CSV', 'a Int32') SELECT 1",
        "CREATE TABLE f (a String) ENGINE = URL('http://127.0.0.1:1/x', 'CSV')",
        "CREATE USER someone",
    ]
    asked = [sys.executable, "-c", _ASK_PAST_THE_ENDPOINT, str(tmp_path / "data"), *outside, "SELECT 1"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["denied"] * len(outside) + ["answered 1"]


def test_the_refusals_of_one_endpoint_leave_its_directory_usable(endpoint: ClickHouse) -> None:
    refusal(endpoint, "CREATE TABLE k (a Int32) ENGINE = Kafka('127.0.0.1:9092', 't', 'g', 'CSV')")
    endpoint.restart()
    assert ask(endpoint, "SELECT 1") == "1\n"


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT 'file(''x'')' AS file, 1 AS url -- s3('x')", "file(\\'x\\')\t1\n"),
        ("SELECT sum(number) FROM numbers(3)", "3\n"),
        ("SELECT count() FROM (SELECT engine FROM system.tables WHERE engine = name) WHERE 0", "0\n"),
        ("SELECT * FROM values('a UInt8', 1, 2)", "1\n2\n"),
        ("SELECT format('{}-{}', 'a', 'b')", "a-b\n"),
        ("SELECT * FROM VALUES('format String', 'x') FORMAT CSV", '"x"\n'),
        ("INSERT INTO plain VALUES ('see file (1), or url(x)')", ""),
    ],
)
def test_an_innocent_likeness_is_not_refused(endpoint: ClickHouse, sql: str, answer: str) -> None:
    ask(endpoint, "CREATE TABLE IF NOT EXISTS plain (x String) ENGINE = MergeTree ORDER BY x")
    assert ask(endpoint, sql) == answer


# 3. What makes a re-sent insert harmless is the table's engine, not the engine's deduplication tokens.


def test_kills_during_inserts_lose_and_double_nothing_behind_replacing_merge_tree(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path) as endpoint:
        ask(
            endpoint,
            "CREATE TABLE r (id UInt64, v UInt64) ENGINE = ReplacingMergeTree(v)"
            " ORDER BY id PARTITION BY id % 3",
        )
        batches, rows, kills = 40, 5_000, 4
        killed = threading.Event()

        def kill_now_and_then() -> None:
            for number in range(kills):
                killed.wait(0.02 + 0.03 * number)  # somewhere in an insert
                endpoint.kill()
                endpoint.restart()
            killed.set()

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        for batch in range(batches):
            body = "".join(f"{batch * rows + n},1\n" for n in range(rows))
            _until_done(partial(ask, endpoint, "INSERT INTO r FORMAT CSV\n" + body))
        killer.join()
        assert killed.is_set()
        total = batches * rows
        assert (
            ask(endpoint, "SELECT count(), sum(id) FROM r FINAL") == f"{total}\t{total * (total - 1) // 2}\n"
        )


def _until_done(send: Callable[[], object], deadline_s: float = 60) -> None:
    """Sends again until it was answered, as a writer does over an outage."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            send()
        except (OSError, HTTPException):
            time.sleep(0.05)
        else:
            return
    pytest.fail("the endpoint did not come back")


# 4. chDB's own default database shows the files of the machine and fails with refreshable views.


def test_both_databases_are_atomic_and_show_no_files(endpoint: ClickHouse) -> None:
    sql = "SELECT name, engine FROM system.databases WHERE name IN ('default', 'ebbtide') ORDER BY name"
    assert ask(endpoint, sql) == "default\tAtomic\nebbtide\tAtomic\n"
    assert ask(endpoint, "SELECT currentDatabase()") == "ebbtide\n"
    for table in ("default.`/etc/passwd`", "`/etc/passwd`"):
        assert refusal(endpoint, f"SELECT * FROM {table}")[1] == "60"


def test_the_tables_of_both_databases_are_kept(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path) as endpoint:
        for database in ("default", "ebbtide"):
            ask(endpoint, f"CREATE TABLE {database}.kept (a Int32) ENGINE = MergeTree ORDER BY a")
            ask(endpoint, f"INSERT INTO {database}.kept VALUES (7)")
    with ClickHouse(tmp_path / "data", tmp_path) as endpoint:
        for database in ("default", "ebbtide"):
            assert ask(endpoint, f"SELECT a FROM {database}.kept") == "7\n"
        endpoint.kill()
        endpoint.restart()
        assert ask(endpoint, "SELECT a FROM default.kept UNION ALL SELECT a FROM ebbtide.kept") == "7\n7\n"


def test_refreshable_views_refresh(endpoint: ClickHouse) -> None:
    ask(endpoint, "CREATE TABLE src (a Int32) ENGINE = MergeTree ORDER BY a")
    ask(endpoint, "INSERT INTO src VALUES (1), (2)")
    ask(
        endpoint,
        "CREATE MATERIALIZED VIEW agg REFRESH EVERY 1 HOUR ENGINE = MergeTree ORDER BY tuple()"
        " AS SELECT sum(a) AS s FROM src",
    )
    ask(endpoint, "SYSTEM WAIT VIEW agg")
    assert ask(endpoint, "SELECT s FROM agg") == "3\n"
    ask(endpoint, "INSERT INTO src VALUES (4)")
    ask(endpoint, "SYSTEM REFRESH VIEW agg")
    ask(endpoint, "SYSTEM WAIT VIEW agg")
    assert ask(endpoint, "SELECT s FROM agg") == "7\n"


# 5. One process, one directory; the engine is never in a process that forks.


def test_a_second_endpoint_on_the_same_directory_says_why_it_cannot_start(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path) as first:
        second = ClickHouse(tmp_path / "data", tmp_path)
        with pytest.raises(StackError) as caught:
            second.start()
        assert "ended with code 1 while starting" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "another process has it open" in str(caught.value)
        assert ask(first, "SELECT 1") == "1\n"


# Who may ask.


def test_only_the_default_user_without_a_password_is_let_in(endpoint: ClickHouse) -> None:
    assert ask(endpoint, "SELECT 1", {"X-ClickHouse-User": "default", "X-ClickHouse-Key": ""}) == "1\n"
    wrong = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "guess"}
    assert refusal(endpoint, "SELECT 1", wrong)[:2] == (403, "516")
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(endpoint, "SELECT 1", user="somebody")
    caught.value.close()


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_a_web_page_of_another_site_is_not_let_in(endpoint: ClickHouse, header: str) -> None:
    value = {"Host": "evil.example:8123", "Origin": "https://evil.example"}[header]
    assert refusal(endpoint, "SELECT 1", {header: value})[:2] == (403, "497")
    assert ask(endpoint, "SELECT 1", {"Origin": "http://localhost:6066"}) == "1\n"


@pytest.mark.parametrize("framing", ["compress", "decompress"])
def test_what_is_not_supported_is_said(endpoint: ClickHouse, framing: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(endpoint, "SELECT 1", None, **{framing: "1"})
    with caught.value as error:
        assert (error.code, error.headers["X-ClickHouse-Exception-Code"]) == (501, "48")


def test_a_name_that_would_split_a_header_is_not_sent_back(endpoint: ClickHouse) -> None:
    assert ask(endpoint, "SELECT 1", query_id="x\r\nSet-Cookie: a") == "1\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(endpoint, "SELECT 1", default_format="CSV\r\nSet-Cookie: a")
    with caught.value as error:
        assert (error.code, error.headers["Set-Cookie"]) == (404, None)


def test_a_session_id_is_accepted(endpoint: ClickHouse) -> None:
    assert ask(endpoint, "SELECT 1", session_id="s", session_timeout="60") == "1\n"

"""The user of BI tools on the embedded endpoint: reads whatever is the product's, and gets nowhere else."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Endpoint, Store, StoreError, connect, migrate, sql_dir
from streams.dashboard.asking import page_question
from streams.embedded.clickhouse import ClickHouse
from streams.embedded.clickhouse_reader import SETTINGS, SYSTEM_TABLES
from tests.integration.kafka_jars import NoKafkaJars, resolve_jars, why_not
from tests.integration.reader_attacks import ASKED, BODIES, REACHES, WRITES
from tests.integration.stored import store

ROOT: Final = Path(__file__).parents[2]
FACTS: Final = Path(__file__).parents[1] / "golden" / "queries" / "facts.json"


def contents(database: ClickHouse) -> list[tuple[str, int]]:
    """Databases and tables, and how many rows these have."""
    with closing(connect(database.url)) as owner:
        names = [name for (name,) in owner.query("SHOW TABLES").result_rows]
        databases = [(name, 0) for (name,) in owner.query("SHOW DATABASES").result_rows]
        counts = [(name, owner.query(f"SELECT count() FROM {name}").result_rows[0][0]) for name in names]
    return databases + counts


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """An endpoint of its own with the golden facts, and a file beside it that nobody may read."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "secret.csv").write_text("secret,1\n")
    with ClickHouse(folder / "data", folder) as database:
        migrate(database.url)
        with closing(Store(database.url)) as into:
            store(into, json.loads(FACTS.read_text()))
        with closing(connect(database.url)) as owner:
            owner.command("CREATE DATABASE other")
            owner.command("CREATE TABLE other.t ENGINE = MergeTree ORDER BY x AS SELECT 'secret' AS x")
        before = contents(database)
        yield database
        # After all that was tried: nothing has been written, made or dropped.
        assert contents(database) == before
        assert [path.name for path in sorted(folder.iterdir())] == ["clickhouse.log", "data", "secret.csv"]


@pytest.fixture(scope="module")
def reader(database: ClickHouse) -> Iterator[Client]:
    with closing(connect(database.reader_url)) as client:
        yield client


def request(
    endpoint: ClickHouse, query: str, /, *, post: bool = True, body: bytes = b"", **parameters: str
) -> tuple[int, str]:
    """Status and text of a request of the reader's, as it is."""
    given = {"user": "bi", "database": "ebbtide", **parameters}
    if not post or body:
        given["query"] = query
    url = f"http://127.0.0.1:{endpoint.process.port}/?{urllib.parse.urlencode(given)}"
    asked = urllib.request.Request(url, data=(body or query.encode()) if post else None)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode(errors="replace")


@pytest.mark.parametrize("statement", [*WRITES, *REACHES])
def test_what_is_no_reading_of_ours_is_refused_and_does_nothing(database: ClickHouse, statement: str) -> None:
    for post in (True, False):
        status, text = request(database, statement, post=post)
        assert status >= 400, text
        assert text.startswith("Code: "), text
        assert "secret" not in text.replace("secret.csv", "")


def test_a_refusal_says_who_is_refused_and_why(database: ClickHouse) -> None:
    status, text = request(database, "DROP TABLE sessions")
    assert status == 403
    assert text.startswith(
        "Code: 497. DB::Exception: Not allowed to the user bi, who may only read: DROP is no reading."
    )
    assert "(ACCESS_DENIED)" in text


@pytest.mark.parametrize("what", ASKED)
def test_settings_databases_and_names_are_those_on_the_list(database: ClickHouse, what: str) -> None:
    query, parameters = ASKED[what]
    for post in (True, False):
        status, text = request(database, query, post=post, **parameters)
        assert status >= 400, text
        assert text.startswith("Code: ")


@pytest.mark.parametrize("what", BODIES)
def test_a_request_in_another_form_gets_no_further(database: ClickHouse, what: str) -> None:
    headers, body = BODIES[what]
    user = "default" if {"X-ClickHouse-User", "Authorization"} & headers.keys() else "bi"
    asked = urllib.request.Request(
        f"http://127.0.0.1:{database.process.port}/?user={user}", data=body, headers=headers
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=30)
    assert refused.value.read().startswith(b"Code: ")


def test_an_insert_whose_data_is_the_body_is_refused(database: ClickHouse) -> None:
    for query in ("INSERT INTO sessions FORMAT JSONEachRow", "INSERT INTO sessions FORMAT Native"):
        status, text = request(database, query, body=b'{"session_id": "x"}')
        assert status == 403, text


def test_readonly_is_not_the_readers_to_turn_off(database: ClickHouse) -> None:
    for value in ("0", "1", "2"):
        status, text = request(database, "SELECT getSetting('readonly')", readonly=value)
        assert (status, text.strip()) == (200, "2")


def test_another_user_or_a_password_that_is_none_is_refused(database: ClickHouse) -> None:
    for user, password in (("bi", "x"), ("BI", ""), ("nobody", ""), ("bi ", "")):
        status, text = request(database, "SELECT 1", user=user, password=password)
        assert status in (401, 403), text


def test_with_a_password_for_the_reader_the_owner_has_one_too(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path, "p@ss/wörd") as database:
        for user, password in (("bi", ""), ("bi", "x"), ("default", ""), ("default", "p@ss/wörd")):
            status, text = request(database, "SELECT 1", user=user, password=password)
            assert (status, "Authentication failed" in text) == (403, True)
        for url, user in ((database.reader_url, "bi"), (database.url, "default")):
            with closing(connect(url, database="")) as client:
                assert client.query("SELECT 1").result_rows == [(1,)]
            assert Endpoint.parse(url).user == user
        database.restart()
        secrets = sorted(tmp_path.glob("clickhouse-*"))
        assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600, 0o600]
        listed = Path(f"/proc/{database.process.pid}/cmdline")
        if listed.exists():
            assert "wörd" not in listed.read_text()
        assert "wörd" not in (tmp_path / "clickhouse.log").read_text()


# -- what works


def test_every_table_view_and_question_can_be_read(database: ClickHouse, reader: Client) -> None:
    names = [name for (name,) in reader.query("SHOW TABLES").result_rows]
    assert {"sessions", "item_loss", "leak_destinations"} <= set(names)
    for name in names:
        reader.query(f"SELECT * FROM {name} LIMIT 1")
        assert reader.query(f"DESCRIBE TABLE {name}").result_rows
    for folder in ("queries", "page"):
        for path in (sql_dir() / folder).glob("*.sql"):
            question = page_question(path.stem)
            kinds = {"Date32": "2024-03-01", "Bool": "false", "String": "UTC"}
            given = {name: kinds.get(kind, "1") for name, kind in question.parameters.items()}
            reader.query(question.text, parameters=given)


def _snippets() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "README.md", ROOT / "sql" / "BI.md", *(ROOT / "deploy").glob("*.md")):
        for block in re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL):
            for statement in block.split(";\n"):
                if statement.strip():
                    yield path.name, statement


@pytest.mark.parametrize(("file", "statement"), list(_snippets()))
def test_sql_that_a_page_of_ours_shows_runs_as_the_reader(reader: Client, file: str, statement: str) -> None:
    assert reader.query(statement).column_names, file


#: What tools ask when they connect and look around, as they send it.
TOOLS: Final = {
    "clickhouse-connect": "SELECT version(), timezone()",
    "clickhouse-connect's settings": "SELECT name, value, readonly as readonly FROM system.settings",
    "Grafana: databases": "SHOW DATABASES",
    "Grafana: tables": "SELECT name FROM system.tables WHERE database = 'ebbtide'",
    "Grafana: columns": "DESC TABLE `ebbtide`.`sessions`",
    "Grafana: health": "SELECT 1",
    "Grafana: its driver's hello": "SELECT displayName(), version(), revision(), timezone()",
    "Grafana: all tables": "SELECT database, name FROM system.tables ORDER BY database, name",
    "Grafana: all columns": "SELECT database, table, name, type, comment FROM system.columns"
    " WHERE (database, table) IN (('ebbtide', 'sessions')) ORDER BY database, table, position",
    "Grafana: values": "SELECT DISTINCT lost_stage FROM ebbtide.sessions SETTINGS max_execution_time=10",
    "Metabase: tables": "SELECT name, comment FROM system.tables WHERE database = 'ebbtide'",
    "Metabase: columns": "SELECT * FROM system.columns WHERE database = 'ebbtide' AND table = 'sessions'",
    "DBeaver: databases": "SELECT * FROM system.databases ORDER BY name",
    "DBeaver: engines": "SELECT * FROM system.table_engines",
    "DBeaver: functions": "SELECT * FROM system.functions",
    "DBeaver: types": "SELECT * FROM system.data_type_families",
    "DBeaver: size": "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'ebbtide'",
    "Superset: schemas": "SELECT schema_name FROM information_schema.schemata",
    "Superset: tables": "SELECT table_name FROM INFORMATION_SCHEMA.TABLES WHERE table_schema = 'ebbtide'",
    "Superset: create": "SHOW CREATE TABLE ebbtide.sessions",
    "explained": "EXPLAIN SELECT count() FROM sessions FINAL",
    "there or not": "EXISTS TABLE sessions",
    "numbers": "SELECT sum(number) FROM numbers(10)",
    "written otherwise": "SELECT 1 FORMAT JSONCompact SETTINGS output_format_json_quote_64bit_integers = 1",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_finds_its_way(database: ClickHouse, tool: str) -> None:
    for post in (True, False):
        status, text = request(database, TOOLS[tool], post=post, max_execution_time="60")
        assert status == 200, text


#: One of each kind of type: what comes after it in a block is found only where its end is known.
TYPES: Final = [
    "number", "toString(number)", "toFixedString('ab', 3)", "if(number % 2, NULL, 'x')", "true", "NULL", "[]",
    "toLowCardinality(toString(number))", "toLowCardinality(if(number % 2, NULL, 'x'))",
    "[toLowCardinality('a'), 'b']", "map(toLowCardinality('k'), [1, 2], 'z', [])", "[[1], [2, number]]",
    "(1, 'a', toLowCardinality('q'))", "CAST((1, (2, 3)) AS Tuple(a UInt8, b Tuple(c String, `d e` UInt8)))",
    "CAST('a' AS Enum8('a' = 1, 'b,(c' = 2))", "toDecimal32(1, 2)", "toDecimal64(1, 2)", "toDecimal128(1, 2)",
    "toDecimal256(1, 2)", "toDateTime64('2024-01-01 00:00:00', 3, 'UTC')", "toDate32('2024-01-01')",
    "toDateTime('2024-01-01 00:00:00', 'Asia/Shanghai')", "toDate('2024-01-01')", "generateUUIDv7()",
    "toIPv4('1.2.3.4')", "toIPv6('::1')", "toInt256(1)", "INTERVAL 1 DAY", "range(number)", "(1., 2.)::Point",
    "CAST([(1, 'a')] AS Nested(a UInt8, b String))", "1::SimpleAggregateFunction(sum, UInt64)",
]  # fmt: skip


@pytest.mark.parametrize("value", TYPES)
def test_blocks_for_a_protocol_of_today_have_an_info_and_a_byte_a_column(
    database: ClickHouse, value: str
) -> None:
    def native(**parameters: str) -> bytes:
        given = urllib.parse.urlencode({"user": "bi", "default_format": "Native", **parameters})
        url = f"http://127.0.0.1:{database.process.port}/?{given}"
        question = f"SELECT materialize({value}) AS a, 'end' AS b FROM numbers(3)"
        with urllib.request.urlopen(url, question.encode(), timeout=30) as answer:
            return bytes(answer.read())

    plain = native()
    head = plain.index(b"\x01a") + 2
    head += 1 + plain[head]  # the type's name
    name, ends = b"\x01b\x06String", b"\x03end" * 3
    assert plain.endswith(name + ends)
    told = native(client_protocol_version="54460")
    info = b"\x01\x00\x02\xff\xff\xff\xff\x00"
    assert told[: len(info) + head + 1] == info + plain[:head] + b"\x00"
    assert told.endswith(name + b"\x00" + ends)
    assert len(told) == len(plain) + len(info) + 2


def test_a_protocol_of_today_cannot_have_columns_whose_end_is_not_known(database: ClickHouse) -> None:
    for value in ("sumState(1)", "1::Dynamic", "'{}'::JSON"):
        status, text = request(
            database, f"SELECT {value}", default_format="Native", client_protocol_version="54460"
        )
        assert status == 501
        assert "cannot be sent in Native" in text


def test_clickhouse_connect_as_it_is_reads_and_is_refused_as_by_any_clickhouse(database: ClickHouse) -> None:
    with closing(connect(database.reader_url)) as client:
        frame = client.query(
            "SELECT shop_id, count() AS n FROM sessions FINAL GROUP BY shop_id ORDER BY n DESC"
        )
        assert frame.column_names == ("shop_id", "n")
        assert frame.result_rows
    store_ = Store(database.reader_url)
    with pytest.raises(StoreError, match="INSERT is no reading"):
        store(store_, {"segments": [{"segment": "x", "at": "2024-01-01"}]})
    assert Endpoint.parse(database.reader_url).user == "bi"


def test_sqlalchemy_reads_reflects_and_takes_parameters(database: ClickHouse) -> None:
    engine = sqlalchemy.create_engine(f"clickhousedb://bi@127.0.0.1:{database.process.port}/ebbtide")
    with engine.connect() as connection:
        asked = sqlalchemy.text("SELECT count() FROM sessions FINAL WHERE shop_id = :shop")
        assert connection.execute(asked, {"shop": "s1"}).scalar() > 0
        columns = {column["name"] for column in sqlalchemy.inspect(engine).get_columns("sessions")}
        assert {"session_id", "lost_stage", "cart_value"} <= columns
        with pytest.raises(Exception, match="who may only read"):
            connection.execute(sqlalchemy.text("TRUNCATE TABLE sessions"))
    engine.dispose()


def has_looked_around(done: subprocess.CompletedProcess[str]) -> None:
    """What a client of another language has written: what it found, and how it was refused."""
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert int(said["tables"]) > 20
    assert "bounced, browsed, favorited or carted" in said["comment"]
    assert int(said["sessions"]) > 0
    assert "who may only read" in said["refused"]


def test_jdbc_as_it_is_looks_around_asks_and_is_refused(database: ClickHouse) -> None:
    if (why := why_not()) is not None:
        pytest.skip(f"JDBC needs Java 17 and Maven: {why}")
    try:
        jars = resolve_jars(Path(__file__).with_name("jdbc-pom.xml"))
    except NoKafkaJars as exc:
        pytest.skip(str(exc))
    url = f"jdbc:clickhouse://127.0.0.1:{database.process.port}/ebbtide?compress=0"
    source = Path(__file__).with_name("JdbcReader.java")
    done = subprocess.run(
        ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", str(jars / "*"), str(source), url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    has_looked_around(done)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_go_driver_as_it_is_looks_around_asks_and_is_refused(
    database: ClickHouse, compression: str
) -> None:
    """Grafana's data source speaks through it."""
    if (go := shutil.which("go")) is None:
        pytest.skip("the Go driver needs Go, and there is none")
    folder = Path(__file__).with_name("go_reader")
    kept: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    fetched = subprocess.run([go, "mod", "download"], **kept, timeout=120, check=False)
    if fetched.returncode != 0:
        pytest.skip(f"the Go driver cannot be fetched: {fetched.stderr.strip().splitlines()[-1]}")
    address = f"127.0.0.1:{database.process.port}"
    done = subprocess.run([go, "run", ".", address, compression], **kept, timeout=300, check=False)
    has_looked_around(done)


def test_the_lists_name_only_what_this_clickhouse_has(reader: Client) -> None:
    tables = {
        name
        for (name,) in reader.query("SELECT name FROM system.tables WHERE database = 'system'").result_rows
    }
    settings = {name for (name,) in reader.query("SELECT name FROM system.settings").result_rows}
    assert tables >= SYSTEM_TABLES
    assert SETTINGS.keys() <= settings

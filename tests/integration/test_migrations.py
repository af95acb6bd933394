"""Migrations: each makes one object and says why, is applied once, and leaves nothing without a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any, Final

import clickhouse_connect
import pytest
import yaml
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Endpoint, connect, migrate, sql_dir

MIGRATIONS: Final = sorted(path.name for path in (sql_dir() / "migrations").glob("*.sql"))


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    migrate(database)
    with closing(connect(database)) as client:
        yield client


def rows(client: Client, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query).result_rows]


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_makes_one_object_and_says_why(name: str) -> None:
    text = (sql_dir() / "migrations" / name).read_text()
    lines = text.splitlines()
    head = list(takewhile(lambda said: said.startswith("--"), lines))
    # What follows a colon's word may be long, and have paragraphs.
    said = [line.split(":")[0] for line in head if not line.startswith("--  ") and line != "--"]
    assert said == ["-- Grain", "-- Writer", "-- Engine"]
    assert sum(line.endswith(";") for line in lines if not line.lstrip().startswith("--")) == 1
    made = name.removesuffix(".sql").split("_", 1)[1]
    again = rf"(CREATE (TABLE|VIEW) IF NOT EXISTS|CREATE OR REPLACE VIEW) {made}\b"
    if f"\nALTER TABLE {made}\n" in text:
        changes = re.findall(r"^    (ADD COLUMN(?: IF NOT EXISTS)?|[A-Z ]+?) [a-z]", text, re.MULTILINE)
        assert changes
        assert set(changes) <= {"ADD COLUMN IF NOT EXISTS", "MODIFY COLUMN"}, "can be applied again"
    else:
        assert re.search(again, text), "can be applied again"


def test_migrations_apply_once_and_again_after_a_crash_in_the_middle(database: str) -> None:
    assert migrate(database) == MIGRATIONS
    assert migrate(database) == []
    with closing(connect(database)) as client:
        # As if the process had died before it noted the last three.
        client.command("ALTER TABLE schema_versions DELETE WHERE version > 6 SETTINGS mutations_sync = 2")
    assert migrate(database) == MIGRATIONS[6:]


def test_every_table_view_and_column_says_what_it_is(client: Client) -> None:
    silent = rows(
        client,
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
        " UNION ALL SELECT name, '' FROM system.tables WHERE database = currentDatabase() AND comment = ''",
    )
    assert [place for place in silent if place[0] != "schema_versions"] == []


def test_no_comment_is_written_for_what_is_not_there(client: Client) -> None:
    said = yaml.safe_load((sql_dir() / "comments.yaml").read_text())
    columns = rows(client, "SELECT table, name FROM system.columns WHERE database = currentDatabase()")
    there = {name.removesuffix("_with_bots") for _, name in columns} | {f"{t}.{n}" for t, n in columns}
    assert said["tables"].keys() <= {table for table, _ in columns}
    assert said["columns"].keys() <= there


def test_migrate_creates_the_database_that_is_missing(clickhouse: str, database: str) -> None:
    name = Endpoint.parse(database).database
    with closing(clickhouse_connect.get_client(dsn=clickhouse)) as client:
        client.command(f"DROP DATABASE {name}")
        migrate(database)
        engine = rows(client, f"SELECT engine FROM system.databases WHERE name = '{name}'")
    assert engine == [("Atomic",)]


def test_digests_that_final_reads_whatever_the_days_are_stored_as_they_are(client: Client) -> None:
    codecs = "SELECT compression_codec FROM system.columns WHERE database = currentDatabase()"
    assert rows(client, f"{codecs} AND table = 'reasons' AND name = 'reason_id'") == [("CODEC(NONE)",)]

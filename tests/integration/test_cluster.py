"""The schema for a cluster: each migration has a form for it that ClickHouse reads, sharded exactly."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Endpoint, StoreError, connect, migrate, migration_status, sql_dir
from streams.adapters.cluster import ClusterError, clustered, write_clustered

NAME: Final = "shops"
MIGRATIONS: Final = sorted((sql_dir() / "migrations").glob("*.sql"))
#: A cluster's URL, with ?cluster=NAME, where there is one to try.
REAL: Final = os.environ.get("EBBTIDE_TEST_CLUSTER", "")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clustered")
    write_clustered(sql_dir() / "migrations", NAME, folder)
    return folder


def statements(path: Path) -> list[str]:
    return [part.strip() for part in path.read_text().split(";\n") if part.strip()]


def test_every_migration_has_a_form_for_a_cluster_under_its_own_name(written: Path) -> None:
    assert [path.name for path in sorted(written.iterdir())] == [path.name for path in MIGRATIONS]


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_what_is_applied_on_a_cluster_is_read_by_clickhouse_and_is_for_all_machines(
    written: Path, path: Path, clickhouse: str
) -> None:
    with closing(connect(clickhouse, database="default")) as client:
        for statement in statements(written / path.name):
            assert f"ON CLUSTER `{NAME}`" in statement
            client.query(f"EXPLAIN AST {statement}")


def test_a_table_is_replicated_on_each_shard_and_read_and_written_by_its_name(written: Path) -> None:
    local, distributed = statements(written / "0001_sessions.sql")
    assert local.startswith("CREATE TABLE IF NOT EXISTS sessions_local ON CLUSTER `shops`")
    assert (
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/sessions', '{replica}',"
        " version, is_deleted)" in local
    )
    assert "ORDER BY (shop_id, started_at, customer_id)" in local
    assert distributed.endswith("sessions_local, sipHash64(customer_id))")
    assert "ENGINE = Distributed(`shops`, currentDatabase()," in distributed


def _identity(text: str) -> set[str]:
    found = re.search(r"^ORDER BY \(?([^)\n;]*)\)?", text, re.MULTILINE)
    assert found is not None
    return {name.strip() for name in found[1].split(",")}


#: Ids that are digests of, among others, the customer.
_DIGESTS: Final = {"transition_id", "action_id", "leak_id", "reason_id"}


@pytest.mark.parametrize(
    "path",
    [path for path in MIGRATIONS if "ENGINE = Replacing" in path.read_text()],
    ids=lambda path: path.stem,
)
def test_rows_that_replace_one_another_are_of_one_shard(written: Path, path: Path) -> None:
    local, distributed = statements(written / path.name)
    key = re.search(r"sipHash64\(([^)]*)\)", distributed)
    assert key is not None
    sharded_by = {name.strip() for name in key[1].split(",")}
    identity = _identity(local)
    assert sharded_by <= identity or (sharded_by == {"customer_id"} and identity & _DIGESTS)


def test_an_alteration_is_of_what_stores_and_of_what_is_asked(written: Path) -> None:
    names = [statement.split()[2] for statement in statements(written / "0015_sessions.sql")]
    assert names == ["sessions_local", "sessions"]


def test_a_view_is_made_on_all_machines_over_the_tables_names(written: Path) -> None:
    [view] = statements(written / "0026_item_loss.sql")
    assert view.startswith("CREATE OR REPLACE VIEW item_loss ON CLUSTER `shops` AS")
    assert "FROM item_days AS d FINAL" in view


@pytest.mark.parametrize(
    "statement", ["DROP TABLE sessions", "INSERT INTO x VALUES (1)", "CREATE TABLE x AS y"]
)
def test_what_has_no_form_is_refused_and_not_passed_on(statement: str) -> None:
    with pytest.raises(ClusterError, match="no form for a cluster"):
        clustered(statement, NAME)


def test_one_option_of_the_address_chooses_it() -> None:
    endpoint = Endpoint.parse("https://u:p@ch.example:8443/ebbtide?cluster=shops&ca_cert=/etc/ca.crt")
    assert (endpoint.cluster, endpoint.on_cluster) == ("shops", " ON CLUSTER `shops`")
    assert Endpoint.parse("http://ch.example/ebbtide").on_cluster == ""
    with pytest.raises(StoreError, match="cannot be one"):
        Endpoint.parse("http://ch.example/ebbtide?cluster=a%60b")


@pytest.mark.skipif(not REAL, reason="no ClickHouse cluster: EBBTIDE_TEST_CLUSTER names none")
def test_a_real_cluster_takes_all_migrations_and_knows_them_again() -> None:
    assert migrate(REAL) == [path.name for path in MIGRATIONS]
    assert migrate(REAL) == []
    status = migration_status(REAL)
    assert (len(status.applied), status.missing, status.changed) == (len(MIGRATIONS), (), ())
    client: Client
    with closing(connect(REAL)) as client:
        engines = client.query("SELECT DISTINCT engine FROM system.tables WHERE database = currentDatabase()")
        assert {engine for (engine,) in engines.result_rows} >= {
            "Distributed",
            "ReplicatedReplacingMergeTree",
        }

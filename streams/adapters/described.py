"""What tables and columns are, said where BI tools look: comments, from ``sql/comments.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from clickhouse_connect.driver.client import Client

_BOOKKEEPING: Final = frozenset({"schema_versions"})
_ASKED: Final = """
SELECT table, name, comment FROM system.columns WHERE database = currentDatabase()
UNION ALL
SELECT name, '', comment FROM system.tables WHERE database = currentDatabase()
"""


def describe(client: Client, comments: Path, on_cluster: str = "") -> None:
    """Give each table and column of the client's database that has no comment the one that is written for it.

    comments: sql/comments.yaml. on_cluster: what statements say on a cluster, where BI tools see tables whose
    names have no _local; these are told.
    """
    said: dict[str, dict[str, str]] = yaml.safe_load(comments.read_text())
    changes: dict[str, list[str]] = {}
    rows: Any = client.query(_ASKED).result_rows
    for table, column, comment in rows:
        if comment or table in _BOOKKEEPING or table.endswith("_local"):
            continue
        if not column:
            if text := said["tables"].get(table):
                changes.setdefault(table, []).append(f"MODIFY COMMENT {_quoted(text)}")
        elif text := _meaning(said["columns"], table, column):
            changes.setdefault(table, []).append(f"COMMENT COLUMN `{column}` {_quoted(text)}")
    for table, parts in changes.items():
        client.command(f"ALTER TABLE `{table}`{on_cluster} {', '.join(parts)}")


def _meaning(columns: dict[str, str], table: str, column: str) -> str:
    base = column.removesuffix("_with_bots")
    text = columns.get(f"{table}.{base}") or columns.get(base, "")
    return f"{text or base}; with bots" if base != column else text


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""The schema for a ClickHouse cluster: each migration as it is applied on all of its machines.

A table NAME becomes NAME_local, replicated, on each shard, and a Distributed table NAME over these, so that
whoever reads or writes NAME need not know. Rows that replace one another are always of one shard: the
sharding key follows from the identity, so FINAL, which each shard does for itself, is exact. A customer's
rows are together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: What a row is sharded by: the first of these that its identity has, by which it is replaced.
_SHARDED_BY: Final = (
    ("customer_id",),
    ("customer_digest",),
    ("endpoint",),
    ("shop_id",),
    ("topic", "partition"),
    ("rules_version", "partition"),
    ("of_table", "event"),
)
#: An identity with one of these has the customer too: they are digests of, among others, whose it is.
_DIGESTS: Final = frozenset({"transition_id", "action_id", "leak_id", "reason_id"})
_TABLE: Final = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+)\s*(?P<columns>\(.*?\n\))\s*"
    r"ENGINE = ReplacingMergeTree(?:\((?P<by>[^)]*)\))?(?P<rest>.*)",
    re.DOTALL,
)
_VIEW: Final = re.compile(
    r"CREATE (?P<how>OR REPLACE VIEW|VIEW IF NOT EXISTS) (?P<name>\w+)(?P<rest>.*)", re.DOTALL
)
_ALTER: Final = re.compile(r"ALTER TABLE (?P<name>\w+)(?P<rest>.*)", re.DOTALL)
_ORDER: Final = re.compile(r"^ORDER BY (.*)$", re.MULTILINE)
_COMMENTS: Final = re.compile(r"^--.*\n", re.MULTILINE)
#: What an ALTER of a Distributed table cannot say, and need not: it stores nothing.
_STORED_ONLY: Final = re.compile(
    r"\b(MODIFY SETTING|MATERIALIZE|MODIFY TTL|ADD INDEX|MODIFY ORDER BY|CODEC)\b"
)


class ClusterError(ValueError):
    """A migration that this cannot put on a cluster; the text is one sentence."""


def clustered(statement: str, cluster: str) -> list[str]:
    """The statements, without comments before them, that do on ``cluster`` what ``statement`` does on one
    machine.

    Raises ClusterError for a statement of another kind than migrations have.
    """
    text = _COMMENTS.sub("", statement).strip().removesuffix(";")
    on = f"ON CLUSTER `{cluster}`"
    if table := _TABLE.fullmatch(text):
        name = table["name"]
        path = f"/clickhouse/tables/{{shard}}/{{database}}/{name}"
        arguments = ", ".join(filter(None, (f"'{path}'", "'{replica}'", table["by"])))
        return [
            f"CREATE TABLE IF NOT EXISTS {name}_local {on}\n{table['columns']}\n"
            f"ENGINE = ReplicatedReplacingMergeTree({arguments}){table['rest']}",
            f"CREATE TABLE IF NOT EXISTS {name} {on} AS {name}_local\n"
            f"ENGINE = Distributed(`{cluster}`, currentDatabase(), {name}_local,"
            f" {_sharding(name, table['rest'])})",
        ]
    if view := _VIEW.fullmatch(text):
        return [f"CREATE {view['how']} {view['name']} {on}{view['rest']}"]
    if alter := _ALTER.fullmatch(text):
        name, rest = alter["name"], alter["rest"]
        both = [f"ALTER TABLE {name}_local {on}{rest}"]
        if not _STORED_ONLY.search(rest):
            both.append(f"ALTER TABLE {name} {on}{rest}")
        return both
    raise ClusterError(f"a migration that begins {text[:40]!r} has no form for a cluster")


def _sharding(name: str, engine: str) -> str:
    order = _ORDER.search(engine)
    identity = set(re.findall(r"\w+", order[1])) if order else set()
    if identity & _DIGESTS:
        identity.add("customer_id")
    for wanted in _SHARDED_BY:
        if identity.issuperset(wanted):
            return f"sipHash64({', '.join(wanted)})"
    raise ClusterError(f"the table {name} has nothing that its rows could be sharded by")


def write_clustered(folder: Path, cluster: str, into: Path) -> None:
    """Write each migration of ``folder`` for ``cluster``, under its own name, into the folder ``into``."""
    for path in sorted(folder.glob("*.sql")):
        statements = [each for part in _statements(path.read_text()) for each in clustered(part, cluster)]
        (into / path.name).write_text(";\n\n".join(statements) + ";\n")


def _statements(text: str) -> Sequence[str]:
    # A semicolon that ends a line ends a statement: those in comments and texts are within lines.
    return [part for part in re.split(r";[ \t]*(?:\n|\Z)", _COMMENTS.sub("", text)) if part.strip()]

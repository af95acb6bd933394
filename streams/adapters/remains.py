"""What is left of a customer: in the states, in ClickHouse, and in Kafka's own log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord
from clickhouse_connect.driver.client import Client

from schemas.topics import CUSTOMERS_CHANGELOG, DEAD_LETTERS, FACTS, HOOKS_CHANGELOG, INPUTS
from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.kafka.admin import retention
from streams.adapters.kafka.scanning import scan
from streams.settings import Settings

_encode: Final = msgspec.msgpack.Encoder().encode
#: Where states are: of customers, and of what is to be told of them.
_STATES: Final = (CUSTOMERS_CHANGELOG, HOOKS_CHANGELOG)


@dataclass(frozen=True, slots=True)
class InLog:
    """Records of one topic that Kafka still holds: how many, and until when the newest stays (ms; None: until
    they are compacted away or, without retention, for ever)."""

    topic: str
    records: int
    until: int | None


@dataclass(slots=True)
class Remains:
    """state: newest states that are the customer's, or name them. rows: by table. log: what Kafka holds until
    its retention, which no deletion reaches."""

    state: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    log: list[InLog] = field(default_factory=list)

    @property
    def gone(self) -> bool:
        """Whether nothing is left where it must not be."""
        return not self.state and not self.rows


def in_states(settings: Settings, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of each changelog, by its full name: newest values that are, or name, one of ``ids``, and all records
    that do, these and deletions among them, which its log still holds. Raises AdminError."""
    keys = {one.encode() for one in ids}
    # What is to be told is kept as the fact's JSON.
    told = [form for one in ids for form in (_encode(one), json.dumps(one, ensure_ascii=False).encode())]
    newest: dict[tuple[str, int, bytes], bool] = {}
    records: Counter[str] = Counter()

    def take(record: ConsumerRecord) -> None:
        key, value = record.key or b"", record.value
        names = key in keys or (value is not None and any(one in value for one in told))
        records[record.topic] += names
        if names and value is not None:
            newest[record.topic, record.partition, key] = True
        else:
            newest.pop((record.topic, record.partition, key), None)

    changelogs = [settings.topic(topic.name) for topic in _STATES]
    scan(settings, changelogs, take)
    standing = Counter(topic for topic, _, _ in newest)
    return {name: (standing[name], records[name]) for name in changelogs}


def in_tables(url: str, ids: Sequence[str]) -> dict[str, int]:
    """Rows of each table in which a text is one of ``ids``, or has it as JSON does. Raises StoreError."""
    with closing(connect(url)) as client, explained(Endpoint.parse(url), "looking for a customer"):
        return {table: rows for table, rows in _counted(client, ids) if rows}


def _counted(client: Client, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    columns = client.query(
        "SELECT table, groupArray(name) FROM system.columns WHERE database = currentDatabase()"
        " AND match(type, '^(LowCardinality\\(|Nullable\\()*(String|FixedString)')"
        " AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase()"
        " AND engine LIKE '%MergeTree') GROUP BY table ORDER BY table"
    ).result_rows
    given = {
        f"{kind}{number}": text
        for number, one in enumerate(ids)
        for kind, text in (
            ("id", one),
            ("json", json.dumps(one, ensure_ascii=False)),
            ("ascii", json.dumps(one)),
        )
    }
    for table, names in columns:
        found = " OR ".join(
            f"ifNull(`{name}` = {{id{number}:String}}"
            f" OR position(toString(`{name}`), {{json{number}:String}}) > 0"
            f" OR position(toString(`{name}`), {{ascii{number}:String}}) > 0, 0)"
            for name in names
            for number in range(len(ids))
        )
        rows: Any = client.query(f"SELECT count() FROM `{table}` WHERE {found}", parameters=given).result_rows
        yield table, rows[0][0]


def in_log(settings: Settings, ids: Sequence[str], partition: int) -> list[InLog]:
    """What input and fact topics still hold of the customer, whose partition this is; refused records, which
    may be anywhere, are looked for in all. Raises AdminError."""
    keys = {one.encode() for one in ids}
    counted: Counter[str] = Counter()
    newest: dict[str, int] = {}

    def take(record: ConsumerRecord) -> None:
        value = record.value or b""
        if record.key in keys or (record.topic == letters and any(key in value for key in keys)):
            counted[record.topic] += 1
            newest[record.topic] = max(newest.get(record.topic, 0), record.timestamp)

    letters = settings.topic(DEAD_LETTERS.name)
    names = [settings.topic(topic.name) for topic in (*INPUTS, *FACTS)]
    scan(settings, [name for name in names if name != letters], take, partition)
    scan(settings, [letters], take)
    kept = retention(settings, sorted(counted))
    return [
        InLog(name, counted[name], None if (ms := kept.get(name)) is None else newest[name] + ms)
        for name in names
        if counted[name]
    ]


def remains(settings: Settings, url: str, ids: Sequence[str], partition: int) -> Remains:
    """All that is left of whoever has one of ``ids``. Raises AdminError or StoreError."""
    states = in_states(settings, ids)
    standing = sum(state for state, _ in states.values())
    found = Remains(standing, in_tables(url, ids), in_log(settings, ids, partition))
    found.log += [
        InLog(name, records - state, None) for name, (state, records) in states.items() if records > state
    ]
    return found

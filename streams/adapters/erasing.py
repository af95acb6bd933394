"""Erasing customers from ClickHouse, and keeping them out: by digest, for no name is told.

A deletion is a mutation: the parts that hold the customer are written anew, and this waits for it on every
replica. The parts before it stay on disk until ClickHouse drops them, eight minutes as a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
import xxhash
from aiokafka import ConsumerRecord
from clickhouse_connect.driver.client import Client

from schemas.topics import DEAD_LETTERS, ERASED, IDENTITIES, INGEST, INPUTS, LATE_EVENTS, SEGMENT_RUNS, SHOPS
from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.columns import MS, TEXT, decoded, partitions, table
from streams.adapters.door import known_as, take_in
from streams.domain.erasure import digest, names_erased
from streams.domain.events import Input
from streams.settings import Settings

ERASED_SCHEMA: Final = pa.schema(
    [("customer_digest", pa.binary(64)), ("erased_at", MS), ("at", MS), ("partition", pa.uint32())]
)
RECORDS_SCHEMA: Final = pa.schema(
    [
        ("of_table", TEXT),
        ("topic", TEXT),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("event", pa.uint64()),
    ]
)
#: Who is erased with one mutation of each table, at most.
_AT_ONCE: Final = 100
#: A mutation writes parts of any size anew.
_TIMEOUT_S: Final = 3600.0
#: Topics whose records are of no customer.
_OF_NOBODY: Final = frozenset({INGEST.name, SEGMENT_RUNS.name, SHOPS.name, ERASED.name})
_INDEX: Final = {topic.name: index for index, topic in enumerate(INPUTS)}
#: SQL: whom an identify event names, and nobody's id where it is none.
_HEIR: Final = "ifNull(identified_as, '')"
BLANK_DETAIL: Final = "names a customer who was erased"

_FIELDS: Final = "customer_id|identified_as|user_?[Ii]d|anonymous_?[Ii]d"
_NAMED: Final = rf"""extractAll(ifNull(value, ''), '"(?:{_FIELDS})"\\s*:\\s*"((?:[^"\\\\]|\\\\.)*)"')"""
#: SQL: every name that a refused record may be of, as ``streams.domain.erasure.names`` finds them.
NAMES: Final = rf"""arrayConcat(
    [ifNull(key, '')],
    {_NAMED},
    arrayMap(name -> JSONExtractString(concat('["', name, '"]'), 1), {_NAMED}),
    splitByRegexp('[\\s,;"\':{{}}\\[\\]]+', substring(ifNull(value, ''), 1, 8192))
)"""


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose events until ``erased_at``, and whose facts sent until ``at``, are gone; both in ms."""

    erased_at: int
    at: int

    @property
    def version(self) -> int:
        return self.at


class _Erased(msgspec.Struct, gc=False):
    customer_digest: str
    erased_at: int
    at: int


_ERASED: Final = msgspec.json.Decoder(_Erased)


def erased_rows(records: Sequence[ConsumerRecord], _settings: Settings) -> pa.Table:
    """Rows of ``erased``."""
    return table(ERASED_SCHEMA, [*decoded(_ERASED, records), partitions(records)])


def decode_erased(_key: bytes, value: bytes) -> Erasure:
    """What a record of the topic ``erased`` says; ValueError if it is none."""
    try:
        said = _ERASED.decode(value)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not an erasure: {exc}") from None
    return Erasure(said.erased_at, said.at)


def erasures_in(records: Iterable[ConsumerRecord]) -> dict[bytes, Erasure]:
    """Who is erased by records of the topic ``erased``, by digest; ValueError if one is none of these."""
    return {
        bytes.fromhex(_ERASED.decode(record.value).customer_digest): decode_erased(b"", record.value)
        for record in records
    }


def sifted(
    topic: str, records: Sequence[ConsumerRecord], erased: Mapping[bytes, Erasure], settings: Settings
) -> tuple[Sequence[ConsumerRecord], pa.Table]:
    """What may be stored of the records of ``topic`` (without prefix), and rows of ``erased_records``."""
    if not erased or topic in _OF_NOBODY:
        return records, RECORDS_SCHEMA.empty_table()
    if topic == DEAD_LETTERS.name:
        return [_blanked(each, erased) for each in records], RECORDS_SCHEMA.empty_table()
    known: dict[bytes, Erasure | None] = {}
    suspects = []
    for record in records:
        key = record.key or b""
        if key not in known:
            name = key
            if topic in _INDEX:
                name = known_as(settings, key.decode(errors="replace")).encode()
            known[key] = erased.get(digest(name))
        # An identify event may name somebody else than its key.
        if known[key] is not None or topic == IDENTITIES.name:
            suspects.append(record)
    if topic in _INDEX:
        gone = dict(_gone(topic, suspects, erased, settings))
    elif topic == LATE_EVENTS.name:
        gone = dict(_gone_late(suspects, known))
    else:
        sent = [(each, known[each.key]) for each in suspects]
        gone = {_place(each): None for each, erasure in sent if erasure and each.timestamp <= erasure.at}
    rows = [row for row in gone.values() if row is not None]
    told = table(RECORDS_SCHEMA, list(zip(*rows, strict=True)) or [[]] * len(RECORDS_SCHEMA))
    return [record for record in records if _place(record) not in gone], told


_Place = tuple[int, int]
_Row = tuple[str, str, int, int, int]


def _place(record: ConsumerRecord) -> _Place:
    return record.partition, record.offset


def _gone(
    topic: str,
    suspects: Sequence[ConsumerRecord],
    erased: Mapping[bytes, Erasure],
    settings: Settings,
) -> Iterator[tuple[_Place, _Row | None]]:
    """Of raw events those that happened until their customer was erased."""
    for partition, group in groupby(suspects, key=attrgetter("partition")):
        found, _ = take_in(_INDEX[topic], list(group), settings)
        for event in found:
            body = event.body
            customer = digest(body.customer_id.encode())
            ends = [erased[one].erased_at for one in (customer, _heir(event)) if one in erased]
            if ends and event.t <= max(ends):
                shop_id = body.shop_id or ""
                name = b"\0".join((customer, shop_id.encode(), body.event_id.encode()))
                identity = xxhash.xxh3_64_intdigest(name)
                yield (partition, event.offset), ("events", topic, partition, event.offset, identity)


def _heir(event: Input) -> bytes:
    """The digest of whom an identify event names, else nothing."""
    heir = getattr(event.body, "identified_as", None)
    return b"" if heir is None else digest(heir.encode())


class _Late(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    occurred_at: int


def _gone_late(
    suspects: Sequence[ConsumerRecord], known: Mapping[bytes, Erasure | None]
) -> Iterator[tuple[_Place, _Row | None]]:
    for record in suspects:
        erasure = known[record.key]
        late = msgspec.json.decode(record.value, type=_Late)
        if erasure is not None and late.occurred_at <= erasure.erased_at:
            row = (LATE_EVENTS.name.replace("-", "_"), late.topic, late.partition, late.offset, late.offset)
            yield _place(record), row


def _blanked(letter: ConsumerRecord, erased: Mapping[bytes, Erasure]) -> ConsumerRecord:
    if not names_erased(letter.key, letter.value, erased):
        return letter
    headers = tuple(
        (name, BLANK_DETAIL.encode() if name == "ebbtide-detail" else value) for name, value in letter.headers
    )
    return replace(letter, key=None, value=None, headers=headers)


class Eraser:
    """Deletes what ClickHouse has of customers. Blocking: call it from a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._endpoint = Endpoint.parse(url)

    def noted(self) -> dict[bytes, Erasure]:
        """Who has been erased here, by digest. Raises StoreUnavailable or StoreError."""
        with closing(connect(self._url)) as client, explained(self._endpoint, "reading who was erased"):
            rows = client.query(
                "SELECT lower(hex(unhex(toString(customer_digest)))), toUnixTimestamp64Milli(erased_at),"
                " toUnixTimestamp64Milli(at) FROM erased FINAL"
            ).result_rows
        return {bytes.fromhex(name): Erasure(erased_at, at) for name, erased_at, at in rows}

    def erase(self, erasures: Mapping[bytes, Erasure]) -> None:
        """Delete them from every table; done again it changes nothing. Raises StoreUnavailable or StoreError.

        The caller notes them in ``erased`` afterwards.
        """
        everybody = list(erasures.items())
        with (
            closing(connect(self._url, timeout_s=_TIMEOUT_S)) as client,
            explained(self._endpoint, "erasing customers"),
        ):
            tables = customer_tables(client)
            for start in range(0, len(everybody), _AT_ONCE):
                _erase(client, tables, everybody[start : start + _AT_ONCE], self._endpoint)


def customer_tables(client: Client) -> dict[str, bool]:
    """Every table with rows of customers, and whether these have a time of event of their own."""
    rows = client.query(
        "SELECT table, countIf(name = 'occurred_at') FROM system.columns"
        " WHERE database = currentDatabase() AND table IN ("
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')"
        " GROUP BY table HAVING countIf(name = 'customer_id') > 0 ORDER BY table"
    ).result_rows
    return {name: bool(timed) for name, timed in rows}


def _erase(
    client: Client, tables: Mapping[str, bool], some: Sequence[tuple[bytes, Erasure]], endpoint: Endpoint
) -> None:
    # On a cluster what stores rows is of each machine, and what all machines have is asked by the name.
    suffix, on_cluster = ("_local", endpoint.on_cluster) if endpoint.cluster else ("", "")
    anybody = ", ".join(f"unhex('{name.hex()}')" for name, _ in some)
    whoever = f"SHA256(customer_id) IN ({anybody})"
    until = " OR ".join(
        f"(SHA256(customer_id) = unhex('{name.hex()}')"
        f" AND occurred_at <= fromUnixTimestamp64Milli({each.erased_at}))"
        for name, each in some
    )
    in_events = f"{until} OR {until.replace('customer_id', _HEIR)}"
    client.command(
        "INSERT INTO erased_records (of_table, topic, partition, offset, event)"
        " SELECT 'events', topic, partition, offset,"
        " xxh3(concat(SHA256(customer_id), '\\0', shop_id, '\\0', event_id)) FROM events"
        f" WHERE {in_events}"
    )
    client.command(
        "INSERT INTO erased_records (of_table, topic, partition, offset, event)"
        f" SELECT 'late_events', topic, partition, offset, offset FROM late_events WHERE {until}"
    )
    for stored, timed in tables.items():
        name = stored.removesuffix(suffix)
        which = in_events if name == "events" else until if timed else whoever
        if _found(client, name, which):
            client.command(
                f"ALTER TABLE `{stored}`{on_cluster} DELETE WHERE {which} SETTINGS mutations_sync = 2"
            )
    letters = f"arrayExists(name -> SHA256(name) IN ({anybody}), {NAMES})"
    if _found(client, DEAD_LETTERS.name.replace("-", "_"), letters):
        client.command(
            f"ALTER TABLE dead_letters{suffix}{on_cluster}"
            f" UPDATE key = NULL, value = NULL, detail = '{BLANK_DETAIL}'"
            f" WHERE {letters} SETTINGS mutations_sync = 2"
        )


def _found(client: Client, name: str, which: str) -> bool:
    """Whether a table has such rows: a mutation for nothing goes through all parts as well."""
    rows: Any = client.query(f"SELECT 1 FROM `{name}` WHERE {which} LIMIT 1").result_rows
    return bool(rows)

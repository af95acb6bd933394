"""Refused records: which there are, what exactly came, and sending them in again.

A letter is never changed or deleted: it says what was refused, once, and stays true. A record sent again
is a new record with a place of its own; if it is refused again there is a second letter.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client

from schemas.facts import RejectReason
from schemas.topics import INPUTS, TICKS
from streams.adapters.clickhouse import Endpoint, connect, explained
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.commands import options
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.settings import Settings

#: Letters read from ClickHouse at once: each may hold a mebibyte.
_PAGE: Final = 50
#: A refused body may be larger than what the client sends by default.
_MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
_COLUMNS: Final = (
    "topic, partition, offset, reason, detail, arrived_at,"
    " hex(key), isNull(key), length(value), isNull(value)"
)
_TOPICS: Final = [topic.name for topic in (*INPUTS, TICKS)]


class Place(NamedTuple):
    """Where a refused record stands: the input topic's name without prefix, partition, offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


def _place(text: str) -> Place:
    match = re.fullmatch(r"([a-z-]+):(\d{1,9}):(\d{1,18})", text)
    if match is None or match[1] not in _TOPICS:
        raise click.BadParameter(
            f"{text!r} is no TOPIC:PARTITION:OFFSET with a topic of {', '.join(_TOPICS)}"
        )
    return Place(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused record without its body; ``size`` is the body's in bytes, None where there was none."""

    place: Place
    reason: str
    detail: str
    arrived_at: datetime
    key: bytes | None
    size: int | None

    def as_json(self) -> dict[str, Any]:
        """The letter as one JSON object; bytes as Base64, because they need not be text."""
        return {
            **self.place._asdict(),
            "reason": self.reason,
            "detail": self.detail,
            "arrived_at": self.arrived_at.isoformat(timespec="milliseconds"),
            "key_base64": None if self.key is None else base64.b64encode(self.key).decode(),
            "size": self.size,
        }


class Letters:
    """The dead letters that ClickHouse holds. Raises StoreError or StoreUnavailable."""

    def __init__(self, client: Client, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    def count(self, reason: str | None = None, topic: str | None = None) -> int:
        """How many there are of this reason and topic."""
        return int(self._ask("count()", _where(reason, topic), _given(reason, topic))[0][0])

    def newest(self, reason: str | None, topic: str | None, limit: int) -> list[Letter]:
        """The last to arrive, newest first."""
        newest = " ORDER BY arrived_at DESC, topic, partition, offset DESC LIMIT {n:UInt32}"
        rows = self._ask(_COLUMNS, _where(reason, topic) + newest, {**_given(reason, topic), "n": limit})
        return [_letter(row) for row in rows]

    def at(self, place: Place) -> Letter | None:
        """The letter of the record that was refused there."""
        rows = self._ask(_COLUMNS, _AT, place._asdict())
        return _letter(rows[0]) if rows else None

    def body(self, place: Place) -> bytes | None:
        """The refused bytes as they came."""
        ((found, is_null),) = self._ask("hex(value), isNull(value)", _AT, place._asdict())
        return None if is_null else bytes.fromhex(found)

    def all_of(self, reason: str) -> Iterator[Letter]:
        """Every letter of this reason, by place."""
        last = Place("", 0, 0)
        while True:
            tail = (
                "WHERE reason = {reason:String}"
                " AND (topic, partition, offset) > ({topic:String}, {partition:UInt32}, {offset:UInt64})"
                " ORDER BY topic, partition, offset LIMIT {n:UInt32}"
            )
            rows = self._ask(_COLUMNS, tail, {**last._asdict(), "reason": reason, "n": _PAGE})
            for row in rows:
                letter = _letter(row)
                last = letter.place
                yield letter
            if len(rows) < _PAGE:
                return

    def _ask(self, columns: str, tail: str, given: dict[str, Any]) -> Sequence[Sequence[Any]]:
        query = f"SELECT {columns} FROM dead_letters FINAL {tail}"
        with explained(self._endpoint, "reading the dead letters"):
            return self._client.query(query, parameters=given).result_rows


_AT: Final = (
    "WHERE topic = {topic:String} AND partition = {partition:UInt32} AND offset = {offset:UInt64} LIMIT 1"
)


def _where(reason: str | None, topic: str | None) -> str:
    parts = [f"{name} = {{{name}:String}}" for name in _given(reason, topic)]
    return "WHERE " + " AND ".join(parts) if parts else ""


def _given(reason: str | None, topic: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("reason", reason), ("topic", topic)) if value is not None}


def _letter(row: Sequence[Any]) -> Letter:
    topic, partition, offset, reason, detail, arrived_at, key, no_key, size, no_value = row
    return Letter(
        Place(topic, partition, offset),
        reason,
        detail,
        arrived_at.replace(tzinfo=UTC),
        None if no_key else bytes.fromhex(key),
        None if no_value else size,
    )


@contextmanager
def opened(settings: Settings, data_dir: Path | None = None) -> Iterator[Letters]:
    """The letters of the settings' ClickHouse, or of what a demo kept in ``data_dir``."""
    with clickhouse_url(settings, data_dir) as url, closing(connect(url)) as client:
        yield Letters(client, Endpoint.parse(url))


# -- shown safely: what was refused may be anything, terminal control sequences included


def shown(raw: bytes | None) -> str:
    """Bytes for a terminal: their text with what is unprintable escaped, or a hex dump if they are none."""
    if raw is None:
        return "(none)"
    try:
        return _printable(raw.decode(), keep="\n")
    except UnicodeDecodeError:
        return "\n".join(_hex_lines(raw))


def one_line(raw: bytes | None) -> str:
    """As ``shown``, on one line; bytes that are no text as escapes."""
    return "(none)" if raw is None else _printable(raw.decode(errors="backslashreplace"))


def _printable(text: str, keep: str = "") -> str:
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _hex_lines(raw: bytes) -> Iterator[str]:
    for start in range(0, len(raw), 16):
        row = raw[start : start + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{start:08x}  {row.hex(' '):<47}  {text}"


# -- sending again


class Outgoing(NamedTuple):
    """A letter's record on its way back to its input topic."""

    place: Place
    key: bytes
    value: bytes


async def send_again(settings: Settings, records: Iterator[Outgoing]) -> int:
    """Send each to its topic, where its key belongs, and say so; gives how many. Raises ClickException."""
    producer = AIOKafkaProducer(
        **aiokafka_kwargs(settings), acks="all", max_request_size=_MAX_REQUEST_BYTES, linger_ms=0
    )
    sent = 0
    try:
        await producer.start()
        for record in records:
            topic = settings.topic(record.place.topic)
            headers = [("ebbtide-retry-of", str(record.place).encode())]
            at = await producer.send_and_wait(topic, record.value, record.key, headers=headers)
            now = Place(record.place.topic, at.partition, at.offset)
            click.echo(f"sent {record.place} again: it is {now} now")
            sent += 1
    except KafkaError as exc:
        text = " ".join(str(exc).split()) or type(exc).__name__
        raise click.ClickException(
            f"Kafka at {settings.kafka} did not take a record ({text}); {sent} were sent before it"
        ) from exc
    finally:
        await producer.stop()
    return sent


# -- the commands


@click.group("dead-letters", epilog=options.epilog("ebbtide dead-letters list"))
def dead_letters() -> None:
    """Refused records: list them, look at one, send them in again."""


@dead_letters.command(
    "list",
    epilog=options.epilog(
        "ebbtide dead-letters list",
        "ebbtide dead-letters list --reason key_mismatch --topic orders --limit 100",
        "ebbtide dead-letters list --data-dir ./demo-data --json",
    ),
)
@click.option("--reason", type=click.Choice([str(reason) for reason in RejectReason]), help="Only these.")
@click.option("--topic", type=click.Choice(_TOPICS), help="Only of this input topic.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many.")
@options.clickhouse
@options.data_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@told
def list_command(
    reason: str | None, topic: str | None, limit: int, data_dir: Path | None, as_json: bool, **given: Any
) -> None:
    """List refused records, the newest first."""
    with opened(Settings.from_env(**given), data_dir) as letters:
        found = letters.newest(reason, topic, limit)
        total = letters.count(reason, topic)
    if as_json:
        for letter in found:
            click.echo(json.dumps(letter.as_json()))
        return
    if not found:
        click.echo("no dead letters")
        return
    rows = [("PLACE", "REASON", "ARRIVED", "KEY", "DETAIL")]
    for letter in found:
        arrived = f"{letter.arrived_at:%Y-%m-%d %H:%M:%S}"
        rows.append(
            (
                str(letter.place),
                letter.reason,
                arrived,
                _cut(one_line(letter.key), 24),
                _cut(_printable(letter.detail), 100),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        click.echo("  ".join([*cells, row[4]]))
    if total > len(found):
        click.echo(f"{len(found):,} of {total:,}; --limit shows more")


@dead_letters.command("show", epilog=options.epilog("ebbtide dead-letters show visits:3:1042"))
@click.argument("place", type=_place, metavar="TOPIC:PARTITION:OFFSET")
@options.clickhouse
@options.data_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; the bytes are Base64.")
@told
def show_command(place: Place, data_dir: Path | None, as_json: bool, **given: Any) -> None:
    """Show one refused record: why it was refused, and its bytes.

    Bytes that are UTF-8 are shown as text with unprintable characters escaped, others as a hex dump.
    """
    with opened(Settings.from_env(**given), data_dir) as letters:
        letter = letters.at(place)
        if letter is None:
            raise click.ClickException(f"there is no dead letter {place}")
        body = letters.body(place)
    if as_json:
        encoded = None if body is None else base64.b64encode(body).decode()
        click.echo(json.dumps({**letter.as_json(), "value_base64": encoded}))
        return
    size = "none" if letter.size is None else f"{letter.size:,} bytes"
    click.echo(f"place    {letter.place}")
    click.echo(f"reason   {letter.reason}")
    click.echo(f"detail   {_printable(letter.detail)}")
    click.echo(f"arrived  {letter.arrived_at:%Y-%m-%d %H:%M:%S.%f} UTC")
    click.echo(f"key      {one_line(letter.key)}")
    click.echo(f"value    {size}")
    click.echo()
    click.echo(shown(body))


@dead_letters.command(
    "retry",
    epilog=options.epilog(
        "ebbtide dead-letters retry visits:3:1042 visits:3:1043",
        "ebbtide dead-letters retry orders:0:17 --key c-4711 --value-file mended.json",
        "ebbtide dead-letters retry --reason timestamp_ahead --all",
    ),
)
@click.argument("places", type=_place, nargs=-1, metavar="[TOPIC:PARTITION:OFFSET]...")
@click.option("--reason", type=click.Choice([str(reason) for reason in RejectReason]), help="With --all.")
@click.option("--all", "everything", is_flag=True, help="Every letter of --reason.")
@click.option("--key", metavar="TEXT", help="Send it with this key: for one letter.")
@click.option(
    "--value-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send these bytes in its place: for one letter.",
)
@options.kafka
@options.clickhouse
@options.prefix
@told
def retry_command(
    places: tuple[Place, ...],
    reason: str | None,
    everything: bool,
    key: str | None,
    value_file: Path | None,
    **given: Any,
) -> None:
    """Send refused records to their input topic again, bytes and key as they came.

    They are judged anew, like any record; an event that was taken in before counts as a duplicate. The
    letter itself is kept: it tells what was refused then. A record refused again becomes another letter.
    """
    if everything != (reason is not None) or everything == bool(places):
        raise click.UsageError("name the letters as TOPIC:PARTITION:OFFSET, or give --reason R --all")
    if (key is not None or value_file is not None) and len(places) != 1:
        raise click.UsageError("--key and --value-file are for exactly one letter")
    settings = Settings.from_env(**given)
    mended = None if value_file is None else value_file.read_bytes()
    problems: list[str] = []

    def outgoing(letters: Letters) -> Iterator[Outgoing]:
        found = letters.all_of(str(reason)) if everything else map(letters.at, places)
        for number, letter in enumerate(found):
            if letter is None:
                problems.append(f"there is no dead letter {places[number]}")
                continue
            place = letter.place
            record_key = letter.key if key is None else key.encode()
            value = mended if mended is not None else letters.body(place)
            if place.topic == TICKS.name:
                problems.append(f"{place} is a tick: the pipeline sends its own")
            elif record_key is None:
                problems.append(f"{place} has no key and would be refused again; retry it alone, with --key")
            elif value is None:
                problems.append(f"{place} has no body and would be refused again; give --value-file")
            else:
                yield Outgoing(place, record_key, value)

    with opened(settings) as letters:
        sent = asyncio.run(send_again(settings, outgoing(letters)))
    click.echo(f"{sent:,} sent; their letters are kept" if sent else "nothing was sent")
    for problem in problems:
        click.echo(f"not sent: {problem}", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

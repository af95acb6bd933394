"""``ebbtide erase``: a customer is forgotten, and it is shown that nothing is left."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.topics import ERASURES
from streams.adapters.codec import encode_erasure
from streams.adapters.door import known_as
from streams.adapters.erasing import Eraser
from streams.adapters.kafka.admin import AdminError, check_topics
from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.adapters.remains import Remains, remains
from streams.commands import options
from streams.commands.errors import told
from streams.domain.erasure import digest
from streams.settings import Settings

_LOOK_S: Final = 0.25


@click.command(
    epilog=options.epilog(
        "ebbtide erase c-4711",
        "ebbtide erase c-4711 --wait 0",
        "ebbtide erase --verify c-4711",
    )
)
@click.argument("customer")
@options.kafka
@options.clickhouse
@options.prefix
@click.option("--verify", is_flag=True, help="Erase nothing: say where the customer still is; exit 1 if so.")
@click.option(
    "--wait", default=120.0, show_default=True, metavar="SECONDS", help="For the workers to be done with it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told
def erase(customer: str, verify: bool, wait: float, as_json: bool, **given: Any) -> None:
    """Forget a customer: the state, its changelog, and every row in ClickHouse.

    The order goes through the log, so it holds for workers that are not running now, and for whoever reads
    the inputs from their beginning again: what happened until now does not bring the customer back.
    """
    settings = Settings.from_env(**given)
    if verify:
        names = list(dict.fromkeys([customer, known_as(settings, customer)]))
        found = remains(settings, settings.clickhouse, names, partition_of(settings, customer))
        _say_remains(found, as_json)
        sys.exit(0 if found.gone else 1)
    if problems := check_topics(settings, [ERASURES]):
        raise click.ClickException(problems[0])
    erased_at = time.time_ns() // 1_000_000
    asyncio.run(send(settings, customer, erased_at))
    done = _waited(settings, customer, erased_at, wait)
    if as_json:
        click.echo(json.dumps({"erased_at": erased_at, "done": done}))
    elif done:
        click.echo("erased: the state is dropped and the rows are deleted; see with: ebbtide erase --verify")
    else:
        click.echo(
            "the order stands in the log, and is carried out as soon as the workers customers and sink run;"
            f" they were not done with it within {wait:g} s"
            if wait
            else "the order stands in the log"
        )
    sys.exit(0 if done or not wait else 1)


def partition_of(settings: Settings, customer: str) -> int:
    """Where the customer's records are: as the Java client, and every other, partitions by key."""
    found: int = (murmur2(customer.encode()) & 0x7FFFFFFF) % settings.partitions
    return found


async def send(settings: Settings, customer: str, erased_at: int) -> None:
    """Put the order into the log; ``erased_at`` in ms. Raises AdminError."""
    producer = AIOKafkaProducer(**aiokafka_kwargs(settings), client_id="ebbtide-erase", acks="all")
    record = encode_erasure(digest(known_as(settings, customer).encode()), erased_at)
    try:
        await producer.start()
        partition = partition_of(settings, customer)
        await send_records(producer, settings.topic(ERASURES.name), partition, [record])
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} did not take the order: {said}") from exc
    finally:
        await producer.stop()


def _waited(settings: Settings, customer: str, erased_at: int, wait: float) -> bool:
    """Whether the sink has deleted the customer within ``wait`` seconds."""
    eraser, name = Eraser(settings.clickhouse), digest(known_as(settings, customer).encode())
    deadline = time.monotonic() + wait
    while wait:
        noted = eraser.noted().get(name)
        if noted is not None and noted.erased_at >= erased_at:
            return True
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    return False


def _say_remains(found: Remains, as_json: bool) -> None:
    if as_json:
        log = [{"topic": each.topic, "records": each.records, "until": each.until} for each in found.log]
        told = {"gone": found.gone, "state": found.state, "rows": found.rows, "log": log}
        click.echo(json.dumps(told))
        return
    if found.state:
        click.echo(f"left: {found.state} state(s) in the changelog")
    for table, rows in found.rows.items():
        click.echo(f"left: {rows:,} row(s) in the table {table}")
    if found.gone:
        click.echo("nothing is left in the states and in ClickHouse")
    else:
        click.echo("whoever used the id again after the erasure is somebody new, and stands here too")
    for each in found.log:
        until = "until it is compacted" if each.until is None else f"until {_day(each.until)} at the earliest"
        click.echo(f"Kafka's log still holds {each.records:,} record(s) of {each.topic}, {until}")


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Bytewax with its own session windows: an event-time clock a key, a 30-minute gap, a fold; Kafka in and out,
and recovery as in ``bytewax_flow``. These windows also take events out of order and merge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from bytewax import operators as op
from bytewax._bytewax import cli_main
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from confluent_kafka import OFFSET_BEGINNING

from tests.benchmarks.subjects.bytewax_flow import recovery
from tests.benchmarks.subjects.sessionizing import GAP_MS, KINDS
from tests.benchmarks.subjects.telling import Options, Teller

Session = dict[str, Any]
Value = tuple[str, datetime, dict[str, Any]]


def add(session: Session, value: Value) -> Session:
    kind, at, event = value
    if not session:
        session.update(customer_id=event["customer_id"], shop_id=event["shop_id"], started_at=at, ended_at=at)
        session.update(dict.fromkeys(KINDS, 0))
    session["started_at"] = min(session["started_at"], at)
    session["ended_at"] = max(session["ended_at"], at)
    session[kind] += 1
    return session


def merge(one: Session, other: Session) -> Session:
    one["started_at"] = min(one["started_at"], other["started_at"])
    one["ended_at"] = max(one["ended_at"], other["ended_at"])
    for kind in KINDS:
        one[kind] += other[kind]
    return one


def main(options: Options) -> None:
    kinds = dict(zip(options.inputs, KINDS, strict=False))
    tell = Teller()
    count = 0

    def decode(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, Value]:
        event = orjson.loads(message.value)
        return message.key.decode(), (
            kinds[message.topic],
            datetime.fromisoformat(event["occurred_at"]).astimezone(UTC),
            event,
        )

    def fold(session: Session, value: Value) -> Session:
        nonlocal count
        count += 1
        if not count % 200:
            tell(count, last=count == options.events)
        return add(session, value)

    def encode(item: tuple[str, tuple[int, Session]]) -> KafkaSinkMessage[bytes, bytes]:
        key, (_, session) = item
        session["outcome"] = "converted" if session["orders"] else "lost"
        return KafkaSinkMessage(key.encode(), orjson.dumps(session))

    flow = Dataflow("sessions")
    brokers = [options.kafka]
    source = kop.input("in", flow, brokers=brokers, topics=list(kinds), starting_offset=OFFSET_BEGINNING)
    keyed = op.map("decode", source.oks, decode)
    # Topics are read at different speeds: an event may be an hour behind another of its customer.
    clock = win.EventClock(lambda value: value[1], wait_for_system_duration=timedelta(hours=1))
    windower = win.SessionWindower(gap=timedelta(milliseconds=GAP_MS))
    closed = win.fold_window("sessions", keyed, clock, windower, dict, fold, merge, ordered=False).down
    kop.output("out", op.map("encode", closed, encode), brokers=brokers, topic=f"{options.run}-sessions")
    cli_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=recovery(options))


if __name__ == "__main__":
    main(Options.from_argv())

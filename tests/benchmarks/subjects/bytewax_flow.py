"""Bytewax: Kafka in, a stateful step, Kafka out, with recovery on (SQLite, a snapshot every 10 s, Bytewax's
own default); JSON by orjson."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from bytewax import operators as op
from bytewax._bytewax import cli_main
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from confluent_kafka import OFFSET_BEGINNING

from tests.benchmarks.subjects.sessionizing import KINDS, State, step
from tests.benchmarks.subjects.telling import Options, Teller


def recovery(options: Options) -> RecoveryConfig:
    """A recovery store of the run's own, on disk."""
    folder = Path(options.folder) / f"{options.run}-recovery"
    folder.mkdir()
    init_db_dir(folder, 1)
    return RecoveryConfig(str(folder))


def main(options: Options) -> None:
    kinds = dict(zip(options.inputs, KINDS, strict=False))
    tell = Teller()
    count = 0

    def decode(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, tuple[str, dict[str, Any]]]:
        return message.key.decode(), (kinds[message.topic], orjson.loads(message.value))

    def sessionize(
        state: State | None, value: tuple[str, dict[str, Any]]
    ) -> tuple[State, list[dict[str, Any]]]:
        nonlocal count
        state, closed = step(state, *value)
        count += 1
        if not count % 200:
            tell(count, last=count == options.events)
        return state, [] if closed is None else [closed]

    def encode(item: tuple[str, dict[str, Any]]) -> KafkaSinkMessage[bytes, bytes]:
        return KafkaSinkMessage(item[0].encode(), orjson.dumps(item[1]))

    flow = Dataflow("sessions")
    brokers = [options.kafka]
    source = kop.input("in", flow, brokers=brokers, topics=list(kinds), starting_offset=OFFSET_BEGINNING)
    keyed = op.map("decode", source.oks, decode)
    closed = op.stateful_flat_map("sessionize", keyed, sessionize)
    kop.output("out", op.map("encode", closed, encode), brokers=brokers, topic=f"{options.run}-sessions")
    cli_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=recovery(options))


if __name__ == "__main__":
    main(Options.from_argv())

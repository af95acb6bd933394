"""A worker process for the tests of the transport: counts events by key, and notes each bundle it was given.

Run as ``python -m tests.agents.transport_worker JSON``; each line of its log is a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiokafka.errors import UnknownError
from faust.types import TP

from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.worker import make_faust_app, run_worker
from streams.settings import Settings


def guard_of(state: bytes) -> tuple[int, ...]:
    """Events counted, then per topic the offset after the last one counted."""
    return struct.unpack(f"<{len(state) // 8}q", state)


def _pack(state: list[int]) -> bytes:
    return struct.pack(f"<{len(state)}q", *state)


def main(options: dict[str, Any]) -> int:
    settings = Settings(
        kafka=options["kafka"],
        topic_prefix=options["prefix"],
        batch_records=options.get("batch_records", 500),
        session_timeout_s=options.get("session_s", 8.0),
        watchdog_s=options.get("watchdog_s", 30.0),
        recovery_deadline_s=options.get("recovery_s", 60.0),
    )
    out = os.open(Path(options["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, **more: Any) -> None:
        line = {"event": event, "at": time.monotonic(), **more}
        os.write(out, (json.dumps(line) + "\n").encode())

    app = make_faust_app(settings, "probe")
    topics = [settings.topic(name) for name in options["topics"]]
    index = {name: 1 + at for at, name in enumerate(topics)}
    table: StateTable | None = None
    if options.get("stateful", True):

        def on_assigned(owned: frozenset[int]) -> None:
            keys = sum(1 for partition in owned for _ in table.items(partition)) if table else 0
            note("assigned", partitions=sorted(owned), keys=keys, seconds=app.tables.recovery.seconds)

        table = StateTable(
            app,
            name="probe",
            changelog=settings.topic("customers-state"),
            is_stale=lambda old, new: any(
                a > b for a, b in zip(guard_of(old)[1:], guard_of(new)[1:], strict=True)
            ),
            on_assigned=on_assigned,
            on_revoked=lambda owned: note("revoked", partitions=sorted(owned)),
        )

    async def count(partition: int, which: int, bundle: list[Any]) -> None:
        assert table is not None
        touched: dict[bytes, list[int]] = {}
        for record in bundle:
            state = touched.get(record.key)
            if state is None:
                old = table.get(partition, record.key)
                state = touched[record.key] = list(guard_of(old)) if old else [0] * (1 + len(topics))
            if record.offset >= state[which]:
                state[0] += 1
                state[which] = record.offset + 1
        await table.write(partition, {key: _pack(state) for key, state in touched.items()})

    @app.agent(app.bundles(*topics), concurrency=1)
    async def probe(stream: Any) -> None:
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            bundle, message = event.value, event.message
            where = {
                "topic": message.topic.removeprefix(settings.topic_prefix),
                "partition": message.partition,
                "first": bundle[0].offset,
                "last": bundle[-1].offset,
            }
            note("bundle", **where, n=len(bundle), queued=app.consumer.queued)
            if bundle[-1].offset == options.get("fail_at"):
                raise RuntimeError("told to fail")
            await asyncio.sleep(options.get("slow_s", 0.0))
            if table is not None:
                await count(message.partition, index[message.topic], bundle)
            note("done", **where)
            if not options.get("never_ack"):
                event.ack()

    @app.task
    async def watch_caught_up() -> None:
        # Notes each change of what the consumer says of the first topic's partition 0.
        before = None
        while options.get("watch") and not app.should_stop:
            now = app.consumer.caught_up(TP(topics[0], 0), time.monotonic() - 1.0)
            if now != before:
                note("caught_up", now=now)
            before = now
            await asyncio.sleep(0.02)

    @app.task
    async def break_commits() -> None:
        if options.get("break_commits"):

            async def refuse(_offsets: Any) -> bool:
                raise UnknownError("told to fail")

            app.consumer._thread.commit_offsets = refuse

    note("start")
    code = run_worker(app, options.get("loglevel", "WARNING"))
    note("end", code=code)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

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

from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.worker import make_faust_app, run_worker
from streams.settings import Settings

STATE = struct.Struct("<qq")  # events counted, offset after the last one of the guard


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

    def note(**line: Any) -> None:
        os.write(out, (json.dumps({"pid": os.getpid(), "at": time.monotonic(), **line}) + "\n").encode())

    app = make_faust_app(settings, "probe")
    slow_s = options.get("slow_s", 0.0)
    table: StateTable | None = None
    topics = [settings.topic(name) for name in options["topics"]]
    index = {name: at for at, name in enumerate(topics)}
    guards = struct.Struct("<" + "q" * (len(topics) + 1))
    empty = guards.pack(*[0] * (len(topics) + 1))

    if options.get("stateful", True):
        table = StateTable(
            app,
            name="probe",
            changelog=settings.topic("customers-state"),
            on_assigned=lambda owned: note(
                event="assigned",
                partitions=sorted(owned),
                keys=len(table or ()),
                s=app.tables.recovery.seconds,
            ),
            on_revoked=lambda owned: note(event="revoked", partitions=sorted(owned)),
        )

    @app.agent(app.bundles(*topics), concurrency=1)
    async def probe(stream: Any) -> None:
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            bundle, message = event.value, event.message
            which = index[message.topic]
            note(
                event="bundle",
                topic=message.topic.removeprefix(settings.topic_prefix),
                partition=message.partition,
                first=bundle[0].offset,
                last=bundle[-1].offset,
                n=len(bundle),
            )
            if options.get("fail_at") == bundle[-1].offset:
                raise RuntimeError("told to fail")
            if slow_s:
                await asyncio.sleep(slow_s)
            if table is not None:
                touched: dict[bytes, list[int]] = {}
                for record in bundle:
                    state = touched.get(record.key)
                    if state is None:
                        old = table.get(message.partition, record.key)
                        state = touched[record.key] = list(guards.unpack(old or empty))
                    if record.offset >= state[1 + which]:
                        state[0] += 1
                        state[1 + which] = record.offset + 1
                await table.write(
                    message.partition, {key: guards.pack(*state) for key, state in touched.items()}
                )
            event.ack()

    note(event="start")
    code = run_worker(app, options.get("loglevel", "WARNING"))
    note(event="end", code=code)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

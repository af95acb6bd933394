"""Stock Faust: an agent over the four topics, a Table of open sessions (in memory, with its changelog), JSON
by orjson, Faust's own defaults for the rest: at least once, commits every 2.8 s, the web server off."""

from __future__ import annotations

import logging
from typing import Any

import faust

from tests.benchmarks.subjects.sessionizing import KINDS, step
from tests.benchmarks.subjects.telling import SESSION_TIMEOUT_S, Options, Teller

if __name__ == "__main__":
    options = Options.from_argv()
    kinds = dict(zip(options.inputs, KINDS, strict=False))
    app = faust.App(
        f"{options.run}-app",
        broker=f"kafka://{options.kafka}",
        store="memory://",
        topic_partitions=options.partitions,
        topic_replication_factor=1,
        web_enabled=False,
        datadir=f"{options.folder}/{options.run}-data",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_TIMEOUT_S,
    )
    events = app.topic(*kinds, key_type=bytes, value_serializer="json")
    sessions = app.topic(f"{options.run}-sessions", key_type=bytes, value_serializer="json")
    open_sessions = app.Table("open-sessions", key_type=bytes, partitions=options.partitions)
    tell = Teller()

    @app.agent(events)
    async def sessionize(stream: Any) -> None:
        count = 0
        async for event in stream.events():
            key = event.key
            state, closed = step(open_sessions.get(key), kinds[event.message.topic], event.value)
            open_sessions[key] = state
            if closed is not None:
                await sessions.send(key=key, value=closed)
            count += 1
            if not count % 50:
                tell(count)

    app.Worker(loglevel=logging.WARNING, redirect_stdouts=False, quiet=True).execute_from_commandline()

"""Quix Streams: the four topics concatenated, a stateful function on RocksDB with its changelog topic, and
sessions to a topic; Quix's own defaults: at least once, a checkpoint every 5 s. The last checkpoint is in the
time."""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from tests.benchmarks.subjects.sessionizing import KINDS, step
from tests.benchmarks.subjects.telling import SESSION_TIMEOUT_S, Options, Teller


class Progress:
    """Counts the messages processed, and ends the run."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.count = 0
        self.tell = Teller()
        self.app: Application | None = None

    def __call__(self, _topic: str, _partition: int, _offset: int) -> None:
        self.count += 1
        if self.count == self.events and self.app is not None:
            self.app.stop()
        elif self.count < self.events and not self.count % 200:
            self.tell(self.count)


def sessionize(value: tuple[str, dict[str, Any]], state: State) -> dict[str, Any] | None:
    new, closed = step(state.get("session"), *value)
    state.set("session", new)
    return closed


def main(options: Options) -> None:
    progress = Progress(options.events)
    app = progress.app = Application(
        options.kafka,
        consumer_group=f"{options.run}-group",
        auto_offset_reset="earliest",
        state_dir=f"{options.folder}/{options.run}-state",
        consumer_extra_config={"session.timeout.ms": SESSION_TIMEOUT_S * 1000},
        loglevel="WARNING",
        on_message_processed=progress,
    )
    frames = []
    for name, kind in zip(options.inputs, KINDS, strict=False):
        topic = app.topic(name, key_deserializer="bytes", value_deserializer="json")
        frames.append(app.dataframe(topic).apply(lambda event, kind=kind: (kind, event)))
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.concat(frame)
    closed = merged.apply(sessionize, stateful=True).filter(lambda fact: fact is not None)
    closed.to_topic(app.topic(f"{options.run}-sessions", key_serializer="bytes", value_serializer="json"))
    app.run()
    progress.tell(progress.count, last=True)


if __name__ == "__main__":
    main(Options.from_argv())

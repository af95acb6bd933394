"""Where in the batch loop a kill has struck, told from what the broker holds, and nothing else.

While no worker lives, the broker stands still. Per partition: the last marker in the changelog says which
records a completed batch covers. What is covered and not committed will be delivered again (killed between
steps 3 and 5). Counts not yet sent of what is covered: killed before the end of step 4. Rows beyond the last
marker: killed inside of step 3. Dead letters of what is not covered: killed between steps 1 and 3.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from schemas import topics
from streams.adapters.kafka.admin import committed_offsets
from streams.domain.progress import MARKER_KEY, Progress, decode_marker
from streams.settings import Settings

_DEADLINE_S = 20.0
WORKING_S = 90.0


@dataclass
class Autopsy:
    """Reads the changelog, the counts and the dead letters as they grow."""

    settings: Settings
    #: Partitions found in each condition, over all examinations.
    found: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=self.settings.kafka,
            group_id=None,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            max_poll_records=20_000,
        )
        names = (topics.CUSTOMERS_CHANGELOG, topics.INGEST, topics.DEAD_LETTERS)
        self._tps = [
            TopicPartition(self.settings.topic(topic.name), partition)
            for topic in names
            for partition in range(self.settings.partitions)
        ]
        self._consumer.assign(self._tps)
        #: Per partition: markers seen, offsets done by input topic as of the last, rows after it.
        self.markers: Counter[int] = Counter()
        self._done: dict[int, list[int]] = {}
        self._last: dict[int, Progress] = {}
        self._rows_after: Counter[int] = Counter()
        self._counted: dict[tuple[str, int], int] = {}
        self._letters: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        self._consumer.close()

    def read(self, timeout_ms: int = 50) -> bool:
        """Take in what is new; False if nothing was there."""
        polled = self._consumer.poll(timeout_ms=timeout_ms)
        for tp, records in polled.items():
            if tp.topic == self.settings.topic(topics.CUSTOMERS_CHANGELOG.name):
                for record in records:
                    self._row(tp.partition, record)
            elif tp.topic == self.settings.topic(topics.INGEST.name):
                for record in records:
                    count = json.loads(record.value)
                    place = count["topic"], tp.partition
                    self._counted[place] = max(count["next_offset"], self._counted.get(place, 0))
            else:
                for record in records:
                    said = dict(record.headers)
                    place = said["ebbtide-topic"].decode(), tp.partition
                    offset = int(said["ebbtide-offset"])
                    self._letters[place] = max(offset, self._letters.get(place, -1))
        return bool(polled)

    def _row(self, partition: int, record: Any) -> None:
        if record.key == MARKER_KEY:
            self.markers[partition] += 1
            self._last[partition] = decode_marker(record.value)
            self._done[partition] = self._last[partition].done
            self._rows_after[partition] = 0
        else:
            self._rows_after[partition] += 1

    def read_for(self, seconds: float) -> None:
        """Let time pass, reading."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.read(max(1, min(50, int(left * 1000))))

    def wait_until_working(self, share: float = 0.6, deadline_s: float = WORKING_S) -> None:
        """Until this share of the partitions has completed a batch since the call, or AssertionError."""
        before = dict(self.markers)
        partitions = range(self.settings.partitions)
        ends = time.monotonic() + deadline_s
        while sum(self.markers[p] > before.get(p, 0) for p in partitions) < len(partitions) * share:
            self.read()
            if time.monotonic() > ends:
                raise AssertionError(f"no work was done for {deadline_s:g} s")

    def examine(self) -> Counter[str]:
        """To be called while no customers worker lives: partitions by condition."""
        self._read_to_end()
        committed = committed_offsets(self.settings, self.settings.group("customers"))
        now: Counter[str] = Counter()
        for partition in range(self.settings.partitions):
            done = self._done.get(partition, [-1] * len(topics.INPUTS))
            conditions = set()
            if self._rows_after[partition]:
                conditions.add("cut inside a state write")
            for i, topic in enumerate(topics.INPUTS):
                if done[i] + 1 > committed.get((self.settings.topic(topic.name), partition), 0):
                    conditions.add("states written, batch not acked")
                if done[i] + 1 > self._counted.get((topic.name, partition), 0):
                    conditions.add("states written, facts owed")
                if self._letters.get((topic.name, partition), -1) > done[i]:
                    conditions.add("dead letters sent, states not written")
            now.update(conditions or {"between batches"})
        self.found += now
        return now

    def standing(self) -> list[str]:
        """Where each partition stands by its last marker; for the diagnosis of a failure."""
        self._read_to_end()
        return [f"partition {p}: {self._last[p]}" for p in sorted(self._last)]

    def _read_to_end(self) -> None:
        ends = time.monotonic() + _DEADLINE_S
        quiet = 0
        while quiet < 3:
            # An empty answer from every leader, thrice: the embedded broker's own word on ends is wrong.
            quiet = 0 if self.read(60) else quiet + 1
            if time.monotonic() > ends:
                raise AssertionError("the broker does not stand still although no worker lives")

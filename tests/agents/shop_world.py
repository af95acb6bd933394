"""A broker in memory for the shops agent: logs by topic and partition that survive crashes, and its workers.

The log is as unkind as Kafka may be: what is written or sent at once may be cut after any record, what is not
acked comes again cut into other batches, and states are rebuilt from the changelog alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas import topics
from streams.agents.customers import Bundle
from streams.agents.shop_partition import is_stale
from streams.agents.shops import AFTERWARDS, CLOCKED, Shops
from streams.domain.alert_facts import AlertFact, LossWindowFact
from streams.domain.alert_rules import AlertRules
from streams.domain.facts import SessionFact
from streams.domain.policy import MINUTE
from streams.settings import Settings
from tests.builders import record

NEVER: Final = 10**9
#: 2026-03-02T00:00:00Z, a Monday.
MONDAY: Final = 1_772_409_600_000
_READ: Final = tuple(topic.name for topic in (*CLOCKED, *AFTERWARDS))
_LATER: Final = frozenset(topic.name for topic in AFTERWARDS)
_encode: Final = msgspec.json.Encoder().encode


class Crash(Exception):
    """The process is gone."""


@dataclass
class Broker:
    """Topics, changelog and acks; ``fuse`` counts the records until the next crash."""

    partitions: int
    fuse: int = NEVER
    logs: defaultdict[tuple[str, int], list[Any]] = field(default_factory=lambda: defaultdict(list))
    changelog: defaultdict[int, list[tuple[bytes, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    acked: defaultdict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def burn(self) -> None:
        """One record more; Crash when the fuse is down."""
        self.fuse -= 1
        if self.fuse < 0:
            raise Crash

    def put(self, topic: str, partition: int, value: bytes, key: bytes | None = b"k", at: int = 0) -> None:
        """A record of somebody else."""
        log = self.logs[topic, partition]
        made = record(topic, value, key=key, offset=len(log), partition=partition, arrived=at)
        log.append(made)

    async def send(self, records: Mapping[tuple[str, int], Sequence[tuple[bytes | None, bytes]]]) -> None:
        """As the agent's producer does it."""
        for (topic, partition), each in records.items():
            for key, value in each:
                self.burn()
                self.put(topic, partition, value, key)

    def left(self, partition: int) -> list[str]:
        """Topics with records that are not acked."""
        return [name for name in _READ if self.acked[name, partition] < len(self.logs[name, partition])]

    # -- what is told

    def session(self, partition: int, fact: SessionFact) -> None:
        """A fact of a session."""
        self.put(topics.SESSIONS.name, partition, _encode(fact))

    def event(self, partition: int, topic: str, event: Mapping[str, Any]) -> None:
        """An event of an input topic."""
        key = str(event["customer_id"]).encode()
        at = int(event["occurred_at"])
        self.put(topic, partition, json.dumps(event).encode(), key, at)

    def watermark(self, at: int, partitions: Iterable[int] | None = None) -> None:
        """The customers agent has settled all up to ``at`` (ms)."""
        for partition in range(self.partitions) if partitions is None else partitions:
            self.put(topics.INGEST.name, partition, json.dumps({"watermark": at}).encode())

    # -- what has come of it

    def windows(self) -> dict[tuple[str, str, str, int], LossWindowFact]:
        """Of each window the highest version, by shop, scope, its value, and minute since 1970."""
        found: dict[tuple[str, str, str, int], LossWindowFact] = {}
        for fact in self._facts(topics.LOSS_WINDOWS.name, LossWindowFact):
            key = fact.shop_id, fact.scope, fact.scope_value, fact.minute // MINUTE
            if key not in found or found[key].version <= fact.version:
                found[key] = fact
        return found

    def alerts(self) -> list[AlertFact]:
        """All revisions told, in their order, each once."""
        found: dict[tuple[str, int], AlertFact] = {}
        for fact in self._facts(topics.ALERTS.name, AlertFact):
            found.setdefault((fact.alert_id, fact.version), fact)
        return list(found.values())

    def _facts(self, topic: str, kind: Any) -> Iterable[Any]:
        for partition in range(self.partitions):
            for each in self.logs[topic, partition]:
                yield msgspec.json.decode(each.value, type=kind)


class States:
    """One worker's tables over the changelogs: what ``StateTable`` promises, without Kafka."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stores: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        for partition, rows in broker.changelog.items():
            store = self._stores[partition]
            for key, value in rows:
                old = store.get(key)
                if value is None:
                    store.pop(key, None)
                elif old is None or not is_stale(old, value):
                    store[key] = value

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self._stores[partition].get(key)

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        return list(self._stores[partition].items())

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            self._broker.burn()
            self._broker.changelog[partition].append((key, value))
        store = self._stores[partition]
        for key, value in changes.items():
            if value is None:
                store.pop(key, None)
            else:
                store[key] = value


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end what never really waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the log in memory never makes anyone wait")


def work(
    broker: Broker,
    rules: AlertRules | None = None,
    sizes: Sequence[int] = (),
    settings: Settings | None = None,
) -> None:
    """A worker's life: recover all partitions, then handle batches until nothing is left, or it crashes."""
    settings = settings or Settings(partitions=broker.partitions, ticks="off")

    def caught_up(partition: int, topic: int, since: float) -> bool:
        name = CLOCKED[topic].name
        return broker.acked[name, partition] >= len(broker.logs[name, partition])

    worker = Shops(settings, rules or AlertRules(), States(broker), broker.send, caught_up)
    for partition in range(broker.partitions):
        worker.assign(partition)
    drawn = iter(sizes)
    while any(broker.left(partition) for partition in range(broker.partitions)):
        for partition in range(broker.partitions):
            left = broker.left(partition)
            first = [name for name in left if name not in _LATER] or left
            bundles: list[Bundle] = []
            for name in first:
                start = broker.acked[name, partition]
                records = broker.logs[name, partition][start : start + next(drawn, 1000)]
                bundles.append(Bundle(name, records, 0.0))
            if not bundles:
                continue
            run(worker.handle(partition, bundles))
            for done in bundles:
                broker.acked[done.topic, partition] += len(done.records)

"""Crash anywhere: the batch loop is cut at any record it writes, again and again, and ends in the same facts.

The log is in memory and as unkind as Kafka may be: a write of several records may be cut after any of them,
what is not acked comes again cut into other batches, and states are rebuilt from the changelog alone.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.facts import IngestCount, LateEvent, SessionFact
from streams.adapters.codec import encode_tick
from streams.agents.customers import Bundle, Customers
from streams.agents.partition import DEADLINE_GRANULE_MS
from streams.domain.events import Cart, Favorite, Feedback, Input, Order, Visit
from streams.domain.progress import is_stale
from streams.settings import Settings
from tests.domain import loss_reference
from tests.domain.loss_worker import ordered as by_content
from tests.domain.reference import sessions
from tests.domain.stories import POLICY, deliver, make, story
from tests.domain.test_laws import Run, end_of, laws, ordered, standing_buyers

SETTINGS = Settings(policy=POLICY, ticks="off", partitions=1)
NEVER = 10**9


class Crash(Exception):
    """The process is gone."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the decoder and the agent read of a Kafka record."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Log:
    """One partition's broker side: it survives crashes. ``fuse`` counts the records until the next one."""

    fuse: int = NEVER
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    sent: list[tuple[str, bytes | None, bytes | None]] = field(default_factory=list)
    letters: dict[tuple[str, str], str] = field(default_factory=dict)

    def burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise Crash

    async def send(self, partition: int, records: Mapping[str, Sequence[Any]]) -> None:
        for topic, each in records.items():
            for key, value, headers in each:
                self.burn()
                if topic == topics.DEAD_LETTERS.name:
                    said = {name: text.decode() for name, text in headers}
                    self.letters[said["ebbtide-topic"], said["ebbtide-offset"]] = said["ebbtide-reason"]
                else:
                    self.sent.append((topic, key, value))


class States:
    """A worker's states over the log's changelog: what ``StateTable`` promises, without Kafka."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.store: dict[bytes, bytes] = {}
        for key, value in log.changelog:
            old = self.store.get(key)
            if value is None:
                self.store.pop(key, None)
            elif old is None or not is_stale(old, value):
                self.store[key] = value

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.store.get(key)

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        return self.store.items()

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            self._log.burn()
            self._log.changelog.append((key, value))
        for key, value in changes.items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value


@dataclass
class Feed:
    """The input topics and the ticks of one partition, and what of them is acked."""

    records: dict[str, list[Record]]
    acked: dict[str, int] = field(default_factory=dict)

    def left(self) -> list[str]:
        return [t for t, records in self.records.items() if self.acked.get(t, 0) < len(records)]


def feed_of(delivery: Sequence[Input], bad: Sequence[bytes], ticks: Sequence[int]) -> Feed:
    """The records of ``delivery``, with undecodable bytes after them on each topic."""
    records: dict[str, list[Record]] = {t.name: [] for t in (*topics.INPUTS, topics.TICKS)}
    for event in delivery:
        topic = topics.INPUTS[event.topic].name
        key, value = event.body.customer_id.encode(), _json(event).encode()
        records[topic].append(Record(len(records[topic]), key, value, 10**12))
    for value in bad:
        records["visits"].append(Record(len(records["visits"]), b"c", value, 10**12))
    for at in ticks:
        records["ticks"].append(Record(len(records["ticks"]), None, encode_tick(at), 10**12))
    return Feed(records)


def _json(event: Input) -> str:
    fields = {k: v for k, v in msgspec.to_builtins(event.body).items() if v is not None}
    return json.dumps(fields)


#: Stories happen in 2001 here: the contract refuses what is stamped before 1990.
EPOCH = 10**12 - 10**10


def shifted(events: Sequence[Input]) -> list[Input]:
    """The story's events, as the decoder will read them back."""
    out = []
    for event in events:
        body = msgspec.structs.replace(event.body, occurred_at=event.t + EPOCH)
        out.append(msgspec.structs.replace(event, t=event.t + EPOCH, body=body))
    return out


async def _worker(log: Log, feed: Feed, sizes: Iterable[int], order: Iterable[int]) -> None:
    """A worker's life: recover, then handle batches until there is nothing left, or it crashes."""
    states = States(log)

    def caught_up(partition: int, topic: int, since: float) -> bool:
        return topics.INPUTS[topic].name not in feed.left()

    worker = Customers(SETTINGS, states, log.send, caught_up)
    worker.assign(0)
    size, turn = iter(sizes), iter(order)
    while left := feed.left():
        drawn = next(turn, 0)
        # From five on, bundles of two topics make one batch.
        chosen = {left[(drawn + n) % len(left)] for n in range(1 + drawn // 5)} - {topics.TICKS.name}
        bundles = []
        for topic in sorted(chosen) or [topics.TICKS.name]:
            start = feed.acked.get(topic, 0)
            bundles.append(Bundle(topic, feed.records[topic][start : start + next(size, 3)], 0.0))
        await worker.handle(0, bundles)
        for topic, records, _ in bundles:
            feed.acked[topic] = feed.acked.get(topic, 0) + len(records)
    # Ticks go on coming when all else is read; two, so that what the first one owed is dropped.
    for at in feed.records[topics.TICKS.name][-1:] * 2:
        await worker.handle(0, [Bundle(topics.TICKS.name, [at], 0.0)])


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end what never really waits: no event loop, so thousands of lives take seconds."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the log in memory never makes anyone wait")


def live(log: Log, feed: Feed, crashes: Sequence[int], sizes: list[int], order: list[int]) -> None:
    """Run workers one after the other, each cut after so many records, the last one to the end."""
    for fuse in (*crashes, NEVER):
        log.fuse = fuse
        try:
            _run(_worker(log, feed, sizes, order))
        except Crash:
            sizes, order = sizes[::-1], order[::-1]


def rows(log: Log) -> list[dict[str, Any]]:
    """The sessions that stand in the log, the highest version of each id."""
    standing: dict[str, SessionFact] = {}
    for topic, _, value in log.sent:
        if topic == topics.SESSIONS.name:
            fact = SessionFact.model_validate_json(value or b"")
            before = standing.get(fact.session_id)
            if before is None or fact.version >= before.version:
                standing[fact.session_id] = fact
    return [
        {**f.model_dump(), "cart_value": f"{f.cart_value:.4f}", "revenue": f"{f.revenue:.4f}"}
        for f in standing.values()
        if not f.is_deleted
    ]


def buyers(log: Log) -> dict[str, dict[str, Any]]:
    """The profiles and stages that stand in the log."""
    told = (topics.CUSTOMERS.name, topics.TRANSITIONS.name)
    return standing_buyers(json.loads(value or b"") for topic, _, value in log.sent if topic in told)


#: What names one of them, and what is not compared.
_LOSSES = {
    topics.PURCHASES.name: (("shop_id", "customer_id", "order_id"), {"is_deleted"}),
    topics.ITEM_DAYS.name: (("shop_id", "customer_id", "day"), {"is_deleted", "version"}),
    topics.LEAKS.name: (("leak_id",), {"is_deleted", "version"}),
}


def losses(log: Log) -> dict[str, list[dict[str, Any]]]:
    """The purchases, item-days and leaks that stand in the log."""
    latest: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {name: {} for name in _LOSSES}
    for topic, _, value in log.sent:
        if topic in _LOSSES:
            fact = json.loads(value or b"")
            key = tuple(fact[name] for name in _LOSSES[topic][0])
            if fact["version"] >= latest[topic].get(key, fact)["version"]:
                latest[topic][key] = fact
    return {
        topic: by_content(
            {name: each for name, each in fact.items() if name not in _LOSSES[topic][1]}
            for fact in facts.values()
            if not fact["is_deleted"]
        )
        for topic, facts in latest.items()
    }


def defined_losses(events: Sequence[Input]) -> dict[str, list[dict[str, Any]]]:
    """What the definitions say of ``events``."""
    return {
        topics.PURCHASES.name: by_content(loss_reference.purchases(events, POLICY, {})),
        topics.ITEM_DAYS.name: by_content(loss_reference.item_days(events, POLICY, {})),
        topics.LEAKS.name: by_content(loss_reference.leaks(events, POLICY, {})),
    }


def counts(log: Log) -> dict[str, IngestCount]:
    """The latest count of each topic."""
    latest: dict[str, IngestCount] = {}
    for topic, _, value in log.sent:
        if topic == topics.INGEST.name:
            count = IngestCount.model_validate_json(value or b"")
            if count.topic not in latest or count.next_offset >= latest[count.topic].next_offset:
                latest[count.topic] = count
    return latest


def late_of(log: Log) -> set[tuple[str, int]]:
    return {
        (event.topic, event.offset)
        for topic, _, value in log.sent
        if topic == topics.LATE_EVENTS.name and (event := LateEvent.model_validate_json(value or b""))
    }


def check(log: Log, feed: Feed, events: Sequence[Input], duplicates: int, bad: int) -> None:
    """Everything that must be exact, is."""
    assert ordered(rows(log)) == ordered(sessions(events, POLICY))
    ingest = counts(log)
    received = sum(len(feed.records[t.name]) for t in topics.INPUTS)
    classes = ("received", "applied", "duplicate", "late", "rejected")
    total = {name: sum(getattr(c, name) for c in ingest.values()) for name in classes}
    assert total["received"] == received
    assert total["applied"] == len(events)
    assert total["duplicate"] == duplicates
    assert total["rejected"] == bad == len(log.letters)
    assert total["late"] == 0 == len(late_of(log))


batches = st.lists(st.integers(1, 8), max_size=12)
turns = st.lists(st.integers(0, 9), max_size=40)


@laws
@given(
    story(10),
    st.lists(st.integers(0, 9), max_size=3),
    st.lists(st.sampled_from([b"{", b"\xff", b"[1]"]), max_size=2),
    st.lists(st.integers(0, 60), max_size=4),
    batches,
    turns,
)
def test_a_crash_at_any_record_written_changes_nothing(
    events: list[Input],
    again: list[int],
    bad: list[bytes],
    crashes: list[int],
    sizes: list[int],
    order: list[int],
) -> None:
    """Cut anywhere, redelivered in other batches, duplicated: facts, counts and dead letters are exact."""
    told = shifted(events)
    delivery = told + [told[i] for i in again if i < len(told)]
    end = end_of(told) + DEADLINE_GRANULE_MS
    feed = feed_of(delivery, bad, [end - 1, end, end])
    log = Log()
    live(log, feed, crashes, sizes, order)
    check(log, feed, told, len(delivery) - len(told), len(bad))
    whole = Run()
    whole.step(deliver(told), -1)
    whole.settle(end)
    assert buyers(log) == whole.buyers()
    assert losses(log) == defined_losses(told)


@settings(laws, max_examples=50)
@given(story(10), batches, turns)
def test_events_older_than_the_horizon_are_counted_and_kept_as_late(
    events: list[Input], sizes: list[int], order: list[int]
) -> None:
    """Once time has passed them by more than the horizon, all events are late, and none is lost."""
    told = shifted(events)
    far = end_of(told) + POLICY.horizon + 1
    log = Log()
    live(log, feed_of([], [], [far]), [], [], [])
    feed = feed_of(told, [], [])
    live(log, feed, [3, 5], sizes, order)
    ingest = counts(log)
    assert rows(log) == []
    assert sum(c.late for c in ingest.values()) == len(told) == len(late_of(log))
    assert sum(c.received for c in ingest.values()) == len(told)


def test_what_is_first_in_time_is_not_late_for_being_read_last() -> None:
    """A worker that starts beside a replay may find the topics in any order, the fullest one first."""
    now = 10**9 + 3 * POLICY.horizon
    others = [
        make(now, "v", Visit),
        make(now, "f", Favorite, action="add", target="shop"),
        make(now, "c", Cart, action="clear"),
        make(now, "o", Order, action="placed", order_id="o1"),
    ]
    told = shifted([*others, make(10**9, "r", Feedback, action="review", rating=1)])
    log = Log()
    # Feedback comes after all others, and ticks after it.
    live(log, feed_of(told, [], [end_of(told)]), [], [], [])
    assert late_of(log) == set()
    assert sum(c.applied for c in counts(log).values()) == len(told)


def test_a_customer_with_too_many_events_is_bounded_and_the_rest_is_dead_lettered() -> None:
    """Beyond the policy's bound nothing is kept in state and nothing is lost."""
    global SETTINGS
    before, SETTINGS = SETTINGS, replace(SETTINGS, policy=replace(POLICY, max_events=5))
    try:
        told = shifted([make(10**9 + i, f"e{i}", Visit) for i in range(9)])
        log = Log()
        feed = feed_of(told, [], [])
        live(log, feed, [4, 2], [2, 3], [])
    finally:
        SETTINGS = before
    assert set(log.letters.values()) == {"too_many_events"}
    assert len(log.letters) == 4
    assert counts(log)["visits"].rejected == 4
    assert counts(log)["visits"].applied == 5

"""The customers agent: the batch loop that moves events through the rules. It decides nothing itself.

The order is the guarantee (any failure ends the process; whatever was not acked comes again):

1. decode; refused records go to dead-letters, awaited;
2. advance each touched customer, then those whose deadline has passed; late events go to late-events;
3. write the states and, last, the partition's marker to the changelog, awaited;
4. send the facts, and what guests hand over to customers of any partition, awaited;
5. the caller acks the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, Self

import msgspec
from faust.types import TP

from schemas import topics
from schemas.facts import RejectReason
from streams.adapters.codec import (
    Rejected,
    dead_letter_headers,
    decode_tick,
)
from streams.adapters.door import take_in
from streams.adapters.handovers import encode_handover
from streams.adapters.kafka.lanes import Lanes
from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.worker import WorkerApp
from streams.adapters.telemetry import count_facts, count_reasons
from streams.agents import erasing
from streams.agents.gauges import of_customers
from streams.agents.partition import Partition, Step
from streams.agents.published import Take, take_models, take_rules, take_shops
from streams.agents.rule_run import RuleRun
from streams.agents.telling import counted, late_event, no_guest, too_many
from streams.domain.events import Handover, Input
from streams.domain.facts import ActionFact, ProfileFact, SessionFact, TransitionFact
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact, ReasonFact, SegmentFact
from streams.domain.progress import MARKER_KEY, RUN_KEY, encode_marker, encode_run, is_stale
from streams.domain.settle import Fact
from streams.domain.state import header
from streams.domain.visitor import LATE, NOT_A_GUEST, advance
from streams.settings import Settings

Headers = list[tuple[str, bytes]]
#: key, value, headers
Outgoing = tuple[bytes | None, bytes | None, Headers]

_INPUTS = len(topics.INPUTS)
_HANDOVERS = topics.READ.index(topics.HANDOVERS)
#: What every worker reads all of.
_PUBLISHED: dict[topics.Topic, Take] = {
    topics.MODELS: take_models,
    topics.SEGMENT_RULES: take_rules,
    topics.SHOPS: take_shops,
}
_NO_HEADERS: Headers = []
_TOPIC_OF: dict[type[Fact], str] = {
    SessionFact: topics.SESSIONS.name,
    ProfileFact: topics.CUSTOMERS.name,
    TransitionFact: topics.TRANSITIONS.name,
    ActionFact: topics.ACTIONS.name,
    PurchaseFact: topics.PURCHASES.name,
    ItemDaysFact: topics.ITEM_DAYS.name,
    LeakFact: topics.LEAKS.name,
    ReasonFact: topics.REASONS.name,
    SegmentFact: topics.SEGMENTS.name,
}
_encode = msgspec.json.Encoder().encode


class States(Protocol):
    """Where customer states live: one store a partition, behind a changelog."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The state of ``key``, or None."""

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """All of a partition, in any order."""

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        """Store ``changes``, in their order, and return once the broker has them; None deletes."""


class Send(Protocol):
    """Sends records to one partition of several topics; returns once the broker has all, raises otherwise."""

    async def __call__(self, partition: int, records: Mapping[str, Sequence[Outgoing]]) -> None: ...


#: (partition, topic index, since) -> whether all that the topic-partition held at ``since`` has been read.
CaughtUp = Callable[[int, int, float], bool]


class Bundle(NamedTuple):
    """Records of one topic-partition; ``received``: when, by the clock that ``caught_up`` goes by, in s."""

    topic: str
    records: Sequence[Any]
    received: float

    @classmethod
    def of(cls, event: Any) -> Self:
        """The bundle in a Faust event."""
        return cls(event.message.topic, event.value, event.message.received_at)


class Customers:
    """The batch loop over the partitions that this worker owns."""

    def __init__(self, settings: Settings, states: States, send: Send, caught_up: CaughtUp) -> None:
        self._settings = settings
        self._policy = settings.policy
        self._states = states
        self._send = send
        self._caught_up = caught_up
        self._partitions: dict[int, Partition] = {}
        self._index = {settings.topic(t.name): i for i, t in enumerate(topics.READ)}
        self._published = {settings.topic(topic.name): topic for topic in _PUBLISHED}
        #: By partition, states that must go before anything else is done.
        self._revived: dict[int, list[bytes]] = {}
        #: By partition, the run of rules that not everyone has been looked at by yet.
        self._runs: dict[int, RuleRun] = {}
        self._erasures = settings.topic(topics.ERASURES.name)
        self._topic_of = {kind: settings.topic(name) for kind, name in _TOPIC_OF.items()}

    @property
    def partitions(self) -> Mapping[int, Partition]:
        """The partitions that are ours now."""
        return self._partitions

    def assign(self, partition: int) -> None:
        """Take over a partition whose states have been recovered: rebuild its clock and deadlines."""
        marker = self._states.get(partition, MARKER_KEY)
        taken = self._partitions[partition] = Partition(self._states.items(partition), marker, self._policy)
        self._revived[partition] = taken.revived(self._states.items(partition))
        if self._policy.buyers:
            self._begin_run(partition, taken)

    def revoke(self, partition: int) -> None:
        """Forget a partition that another worker takes over."""
        self._partitions.pop(partition, None)
        self._revived.pop(partition, None)
        self._runs.pop(partition, None)

    async def handle(self, number: int, bundles: Sequence[Bundle]) -> None:
        """Steps 1 to 4 for a batch: bundles of one partition, those of a topic in offset order.

        Returns once they may be acked.
        """
        partition = self._partitions[number]
        if revived := self._revived.pop(number, None):
            await self._states.write(number, dict.fromkeys(revived))
        # Before all else: what is of the erased in this very batch is refused.
        for topic, records, _ in bundles:
            if topic == self._erasures:
                await self._erase(number, partition, records)
        step = Step(partition, self._policy)
        inputs: list[Input] = []
        for topic, records, received in bundles:
            index = self._index.get(topic)
            if index is None:
                if published := self._published.get(topic):
                    await self._take_published(published, number, step, records)
                elif topic != self._erasures:
                    await self._tick(number, partition, records, received)
                continue
            found, rejected = take_in(index, records, self._settings)
            letters = rejected
            if partition.erased:
                found, rejected, letters = erasing.sifted(partition, index, found, rejected)
            if letters:
                await self._dead_letters(topics.READ[index].name, number, letters)
            step.count(partition.progress, index, records, found, rejected)
            inputs += found
        self._advance(number, step, inputs)
        await self._finish(number, partition, step)

    async def _erase(self, number: int, partition: Partition, records: Sequence[Any]) -> None:
        """Forget those whom ``records`` name: their states first, then whoever reads facts is told."""

        def keys() -> Iterable[bytes]:
            return (key for key, _ in self._states.items(number))

        done = erasing.begin(partition, keys, records)
        if done.refused:
            await self._dead_letters(topics.ERASURES.name, number, done.refused)
        if done.changes:
            await self._states.write(number, done.changes)
            told: list[Outgoing] = [(key, value, _NO_HEADERS) for key, value in done.facts]
            await self._send(number, {self._settings.topic(topics.ERASED.name): told})

    async def _tick(self, number: int, partition: Partition, records: Sequence[Any], received: float) -> None:
        refused = []
        latest = None
        for record in records:
            try:
                at = decode_tick(record.value)
            except ValueError as exc:
                reason, key, value = RejectReason.INVALID_FIELD, record.key, record.value
                refused.append(Rejected(record.offset, record.timestamp, reason, str(exc), key, value))
            else:
                latest = at if latest is None else max(latest, at)
        if refused:
            await self._dead_letters(topics.TICKS.name, number, refused)
        if latest is not None:
            partition.clock.tick(latest, received)

    async def _take_published(
        self, topic: topics.Topic, number: int, step: Step, records: Sequence[Any]
    ) -> None:
        partition = self._partitions[number]
        before = partition.rules
        refused = _PUBLISHED[topic](partition, step, records)
        if partition.rules is not before and self._policy.buyers:
            run = self._begin_run(number, partition)
            step.changes[RUN_KEY] = encode_run(run.run)
        if refused:
            await self._dead_letters(topic.name, number, refused)

    def _begin_run(self, number: int, partition: Partition) -> RuleRun:
        """Have everyone looked at by the partition's rules, unless the run that was kept has done so."""
        keys = (key for key, _ in self._states.items(number))
        run = self._runs[number] = RuleRun.start(partition.rules.version, keys, partition.run)
        return run

    def _advance(self, number: int, step: Step, inputs: Sequence[Input]) -> None:
        by_customer: dict[str, list[Input]] = {}
        for event in inputs:
            customer_id = event.body.customer_id
            events = by_customer.get(customer_id)
            if events is None:
                by_customer[customer_id] = [event]
            else:
                events.append(event)
        get, context = self._states.get, step.context
        for customer_id, events in by_customer.items():
            key = customer_id.encode()
            before = get(number, key)
            step.take(key, before, advance(customer_id, before, events, context))

    async def _finish(self, number: int, partition: Partition, step: Step) -> None:
        """The second half of step 2, then 3 and 4, once the batch's own events have been taken in.

        Lateness is judged by the watermark that the last marker kept: a crash cannot take it back, so
        what was late once is late whenever it comes again.
        """
        clock, progress = partition.clock, partition.progress
        step.close(clock, progress)
        watermark = clock.advance(lambda topic, since: self._caught_up(number, topic, since))
        self._wake(number, partition, step, watermark)
        if (run := self._runs.get(number)) is not None:
            limit = self._settings.segments_per_batch
            run.go_on(partial(self._states.get, number), step, watermark, limit)
        if step.answers:
            await self._answer(number, step, watermark)
        for key, wake_at in step.wakes:
            partition.deadlines.add(key, wake_at)
        announce = partition.settle(watermark)
        if step.changes or step.ends or announce:
            progress.times, progress.watermark = list(clock.times), watermark
            progress.batch = partition.next_batch
            step.changes[MARKER_KEY] = encode_marker(progress)
            await self._states.write(number, step.changes)
            partition.next_batch += 1
        if step.facts:
            await self._send(number, self._by_topic(step.facts))
        if step.handovers:
            await self._hand_over(step.handovers)
        if announce or step.ends:
            told = range(_INPUTS) if announce else sorted(step.ends.keys() - {_HANDOVERS})
            await self._ingest(number, partition, told)
        if run is not None:
            await self._report(number, run)
        partition.paid = progress.batch

    def _wake(self, number: int, partition: Partition, step: Step, watermark: int) -> None:
        """Advance those who owe facts since before a crash, and those whose deadline has passed: of these a
        bounded number, the rest follow with the next batch."""
        unpaid, partition.unpaid = partition.unpaid, set()
        context = msgspec.structs.replace(step.context, watermark=watermark)
        due = partition.deadlines.due(watermark, self._settings.due_per_batch)
        for key in chain(unpaid, due):
            state = self._states.get(number, key)
            if key in step.changes:
                pass  # advanced a moment ago: its turn comes with the next batch
            elif state is not None and (header(state)[0] <= watermark or key in unpaid):
                step.take(key, state, advance(key.decode(), state, (), context))
            state = step.changes.get(key, state)
            if state is not None:
                step.wakes.append((key, header(state)[0]))

    async def _answer(self, number: int, step: Step, watermark: int) -> None:
        late = [event for event, kind in step.answers if kind == LATE]
        if late:
            records: list[Outgoing] = [
                (event.body.customer_id.encode(), late_event(event, number, watermark), _NO_HEADERS)
                for event in late
            ]
            await self._send(number, {self._settings.topic(topics.LATE_EVENTS.name): records})
        for event, kind in step.answers:
            if kind != LATE:
                letter = no_guest(event) if kind == NOT_A_GUEST else too_many(event, self._policy)
                await self._dead_letters(topics.READ[event.topic].name, number, [letter])

    async def _hand_over(self, handovers: Iterable[Handover]) -> None:
        topic = self._settings.topic(topics.HANDOVERS.name)
        for each in handovers:
            record = (each.customer_id.encode(), encode_handover(each), _NO_HEADERS)
            await self._send(each.partition, {topic: [record]})

    async def _ingest(self, number: int, partition: Partition, indexes: Iterable[int]) -> None:
        """Send the counts so far of the topics at ``indexes``."""
        records: list[Outgoing] = [(*counted(number, partition, index), _NO_HEADERS) for index in indexes]
        await self._send(number, {self._settings.topic(topics.INGEST.name): records})

    async def _report(self, number: int, run: RuleRun) -> None:
        if run.run.finished:
            del self._runs[number]
        if (told := run.report(number)) is not None:
            records: list[Outgoing] = [(b"%d" % number, _encode(told), _NO_HEADERS)]
            await self._send(number, {self._settings.topic(topics.SEGMENT_RUNS.name): records})

    def _by_topic(self, facts: Iterable[tuple[bytes, Fact]]) -> dict[str, list[Outgoing]]:
        found: dict[str, list[Outgoing]] = {topic: [] for topic in self._topic_of.values()}
        for key, fact in facts:
            found[self._topic_of[type(fact)]].append((key, _encode(fact), _NO_HEADERS))
        some = {topic: records for topic, records in found.items() if records}
        return count_facts(self._settings.topic_prefix, some)

    async def _dead_letters(self, name: str, number: int, rejected: Sequence[Rejected]) -> None:
        count_reasons(name, (r.reason for r in rejected))
        records = [(r.key, r.value, dead_letter_headers(r, name, number)) for r in rejected]
        await self._send(number, {self._settings.topic(topics.DEAD_LETTERS.name): records})


def register(app: WorkerApp, settings: Settings) -> Customers:
    """Make the agent and its table in ``app``: all input topics and the ticks, one batch at a time."""
    inputs = [settings.topic(topic.name) for topic in topics.READ]
    ticks = settings.topic(topics.TICKS.name)

    def caught_up(partition: int, topic: int, since: float) -> bool:
        return app.consumer.caught_up(TP(inputs[topic], partition), since)

    async def send(partition: int, records: Mapping[str, Sequence[Outgoing]]) -> None:
        if len(records) == 1:
            [(topic, only)] = records.items()
            await send_records(app.producer.raw, topic, partition, only)
            return
        raw = app.producer.raw
        await asyncio.gather(*(send_records(raw, topic, partition, each) for topic, each in records.items()))

    def assigned(partitions: Iterable[int]) -> None:
        for partition in partitions:
            customers.assign(partition)

    def revoked(partitions: Iterable[int]) -> None:
        for partition in partitions:
            customers.revoke(partition)

    states = StateTable(
        app,
        name=topics.CUSTOMERS_CHANGELOG.name,
        changelog=settings.topic(topics.CUSTOMERS_CHANGELOG.name),
        is_stale=is_stale,
        on_assigned=assigned,
        on_revoked=revoked,
    )
    customers = Customers(settings, states, send, caught_up)
    app.tells.append(lambda: of_customers(customers.partitions))

    async def work(number: int, events: Sequence[Any]) -> None:
        # Ticks last: they hold once all that came before them is acked.
        of_ticks = [event for event in events if event.message.topic == ticks]
        of_inputs = [event for event in events if event.message.topic != ticks]
        for batch in filter(None, (of_inputs, of_ticks)):
            await customers.handle(number, [Bundle.of(event) for event in batch])
            for event in batch:
                event.ack()

    @app.agent(
        app.bundles(
            *inputs, *(settings.topic(topic.name) for topic in (*_PUBLISHED, topics.ERASURES)), ticks
        ),
        name="customers",
        concurrency=1,
    )
    async def take(stream: Any) -> None:
        async with Lanes(work, app.crash, settings.batch_records) as lanes:
            async for event in stream.noack().events():
                await lanes.put(event.message.partition, event, len(event.value))

    return customers

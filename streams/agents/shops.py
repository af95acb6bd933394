"""The shops agent: sessions, carts and orders to minutes of shops, and these to alerts. It decides nothing
itself.

A partition plays two parts. It tallies what its customers do, and tells the partition that watches a shop;
and it watches the shops that are its own, by what all partitions tell. Both go through one loop:

1. take in the records of a batch;
2. work out what they come to: cells of shops' minutes and a pulse for the watching partitions, windows and
   alerts for all to read;
3. write that, then what has changed, last the marker, to the changelog, awaited;
4. send it, awaited;
5. the caller acks the batch.

What 3 has kept a crash does not take back: it is sent again. Cells and facts have versions that only grow.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from faust.types import TP

from schemas import topics
from streams.adapters.alert_rules import AlertRulesError, load_rules
from streams.adapters.codec import decode_shop_record
from streams.adapters.door import take_in
from streams.adapters.kafka.lanes import Lanes
from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.worker import WorkerApp
from streams.adapters.shop_minutes import (
    CellTold,
    GoOn,
    LevelTold,
    PulseTold,
    TickTold,
    decode_told,
    encode_told,
)
from streams.adapters.telemetry import ALERTS, WINDOWS
from streams.agents.customers import Bundle, CaughtUp, States
from streams.agents.gauges import of_shops
from streams.agents.shop_partition import COUNTED, ZONE_KEY, Outgoing, Partition, is_stale
from streams.domain.alert_rules import AlertRules
from streams.domain.events import Cart, Order
from streams.domain.facts import SessionFact
from streams.domain.loss_facts import LeakFact
from streams.domain.policy import MINUTE
from streams.domain.watch import owner_of
from streams.settings import Settings, SettingsError

#: What a partition is complete by: all of it that was there when the watermark was told has been read.
CLOCKED: Final = (*(topics.INPUTS[index] for index in COUNTED), topics.SESSIONS, topics.LEAKS)
#: Read after these: the watermark, and what partitions tell one another.
AFTERWARDS: Final = (topics.INGEST, topics.SHOPS, topics.SHOP_MINUTES)
#: Minutes judged in one batch, at most; the rest follow in the next.
MOST_MINUTES: Final = 20
_TICK_S: Final = 5.0
_LOOK_S: Final = 0.5
_CARTS: Final = topics.INPUTS.index(topics.CARTS)
_ORDERS: Final = topics.INPUTS.index(topics.ORDERS)


class _Ingest(msgspec.Struct, gc=False):
    watermark: int


_encode: Final = msgspec.json.Encoder().encode
_session: Final = msgspec.json.Decoder(SessionFact).decode
_leak: Final = msgspec.json.Decoder(LeakFact).decode
_ingest: Final = msgspec.json.Decoder(_Ingest).decode


Sent = tuple[bytes | None, bytes]


class Send(Protocol):
    """Sends records by topic and partition; returns once the broker has all, raises otherwise."""

    async def __call__(self, records: Mapping[tuple[str, int], Sequence[Sent]]) -> None: ...


class Shops:
    """The loop over the partitions that this worker owns."""

    def __init__(
        self, settings: Settings, rules: AlertRules, states: States, send: Send, caught_up: CaughtUp
    ) -> None:
        self._settings = settings
        self._gap = settings.policy.gap
        self._rules = rules
        self._states = states
        self._send = send
        self._caught_up = caught_up
        self._partitions: dict[int, Partition] = {}
        self._inputs = {settings.topic(topics.INPUTS[index].name): index for index in COUNTED}
        self._names = {settings.topic(topic.name): topic for topic in (*CLOCKED, *AFTERWARDS)}

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are ours now."""
        return frozenset(self._partitions)

    @property
    def held(self) -> Iterable[Partition]:
        """What is held of each of them."""
        return self._partitions.values()

    @property
    def waiting(self) -> list[int]:
        """Partitions that have been told a watermark which does not hold yet: other records come first."""
        return [number for number, partition in self._partitions.items() if partition.clock.waits]

    def assign(self, number: int) -> None:
        """Take over a partition whose rows have been recovered."""
        stored = self._states.items(number)
        self._partitions[number] = Partition(number, stored, self._settings, self._rules, len(CLOCKED))

    def revoke(self, number: int) -> None:
        """Forget a partition that another worker takes over."""
        self._partitions.pop(number, None)

    async def handle(self, number: int, bundles: Sequence[Bundle]) -> None:
        """Steps 1 to 4 for a batch: bundles of one partition. Returns once they may be acked."""
        partition = self._partitions[number]
        if partition.owed:
            await self._tell(partition.owed)
            partition.owed = []
        changes: dict[bytes, bytes | None] = {}
        for topic, records, received in bundles:
            if (index := self._inputs.get(topic)) is not None:
                self._take_inputs(partition, index, records, changes)
            else:
                self._take_told(partition, self._names[topic], records, received, changes)
        outgoing = self._told(number, partition, changes)
        watch = partition.watch
        out = watch.go_on(MOST_MINUTES, partition.next_batch)
        changes |= out.changes
        outgoing += [
            (topics.LOSS_WINDOWS.name, number, fact.shop_id.encode(), _encode(fact)) for fact in out.windows
        ]
        outgoing += [
            (topics.ALERTS.name, number, fact.shop_id.encode(), _encode(fact)) for fact in out.alerts
        ]
        WINDOWS.inc(len(out.windows))
        for alert in out.alerts:
            ALERTS.labels(alert.kind, alert.status).inc()
        everyone = range(self._settings.partitions)
        for memory in out.level:
            level = encode_told(LevelTold(memory))
            outgoing += [(topics.SHOP_MINUTES.name, each, b"", level) for each in everyone]
        if watch.waits:
            outgoing.append((topics.SHOP_MINUTES.name, number, b"", encode_told(GoOn())))
        if changes or outgoing:
            await self._states.write(number, partition.rows(changes, outgoing))
            await self._tell(outgoing)

    def _take_inputs(
        self, partition: Partition, index: int, records: Sequence[Any], changes: dict[bytes, bytes | None]
    ) -> None:
        found, rejected = take_in(index, records, self._settings)
        name, tally = topics.INPUTS[index].name, partition.tally
        received = Counter([event.t // MINUTE for event in found])
        for minute, count in received.items():
            partition.count(name, minute, count, 0)
        for letter in rejected:
            partition.count(name, max(letter.arrived // MINUTE, tally.floor), 1, 1)
        if index == _CARTS:
            for event in found:
                if isinstance(event.body, Cart):
                    changes.update(tally.cart(event.body.shop_id, event.body.customer_id, event.t))
        elif index == _ORDERS:
            for event in found:
                body = event.body
                if isinstance(body, Order) and body.action in ("placed", "paid"):
                    changes.update(tally.order(body.shop_id, body.order_id, event.t))

    def _take_told(
        self,
        partition: Partition,
        topic: topics.Topic,
        records: Sequence[Any],
        received: float,
        changes: dict[bytes, bytes | None],
    ) -> None:
        tally, watch = partition.tally, partition.watch
        if topic is topics.SESSIONS:
            for record in records:
                changes.update(tally.session(_session(record.value), self._gap))
        elif topic is topics.LEAKS:
            for record in records:
                changes.update(tally.leak(_leak(record.value), self._gap))
        elif topic is topics.INGEST:
            partition.clock.tick(max(_ingest(record.value).watermark for record in records), received)
        elif topic is topics.SHOPS:
            for record in records:
                self._take_shop(partition, record, changes)
        else:
            for record in records:
                told = decode_told(record.value)
                if isinstance(told, CellTold):
                    watch.cell(told.source, told.shop_id, told.version, told.cell)
                elif isinstance(told, PulseTold):
                    watch.pulse(told.source, told.pulse)
                elif isinstance(told, LevelTold):
                    watch.level(told.memory)
                elif isinstance(told, TickTold):
                    watch.tick(told.wall)

    def _take_shop(self, partition: Partition, record: Any, changes: dict[bytes, bytes | None]) -> None:
        try:
            shop = decode_shop_record(record.key, record.value or b"")
        except ValueError:
            return  # the customers agent makes a dead letter of it
        partition.zones[shop.shop_id] = shop.zone
        changes[ZONE_KEY + shop.shop_id.encode()] = shop.zone.encode()

    def _told(self, number: int, partition: Partition, changes: dict[bytes, bytes | None]) -> list[Outgoing]:
        """What the partitions that watch shops are told: cells that have changed, and how far we are."""
        watermark = partition.clock.advance(lambda topic, since: self._caught_up(number, topic, since))
        pulse = partition.complete(watermark)
        partitions = self._settings.partitions
        outgoing: list[Outgoing] = []
        for shop_id, cell in partition.tally.told():
            told = encode_told(CellTold(number, shop_id, partition.next_batch, cell))
            owner = owner_of(shop_id, partitions)
            outgoing.append((topics.SHOP_MINUTES.name, owner, shop_id.encode(), told))
        if pulse is not None:
            changes |= partition.tally.forget()
            told = encode_told(PulseTold(number, pulse))
            outgoing += [(topics.SHOP_MINUTES.name, each, b"", told) for each in range(partitions)]
        return outgoing

    async def _tell(self, outgoing: Iterable[Outgoing]) -> None:
        records: dict[tuple[str, int], list[Sent]] = {}
        for name, number, key, value in outgoing:
            records.setdefault((self._settings.topic(name), number), []).append((key or None, value))
        if records:
            await self._send(records)


def register(app: WorkerApp, settings: Settings) -> Shops:
    """Make the agent and its table in ``app``. Raises SettingsError if alerts.yaml cannot be used."""
    try:
        rules = load_rules(settings)
    except AlertRulesError as exc:
        raise SettingsError(str(exc)) from exc
    clocked = [settings.topic(topic.name) for topic in CLOCKED]
    afterwards = [settings.topic(topic.name) for topic in AFTERWARDS]
    minutes = settings.topic(topics.SHOP_MINUTES.name)

    def caught_up(partition: int, topic: int, since: float) -> bool:
        return app.consumer.caught_up(TP(clocked[topic], partition), since)

    async def send(records: Mapping[tuple[str, int], Sequence[Sent]]) -> None:
        raw = app.producer.raw
        await asyncio.gather(
            *(send_records(raw, topic, partition, each) for (topic, partition), each in records.items())
        )

    def assigned(partitions: Iterable[int]) -> None:
        for partition in partitions:
            shops.assign(partition)

    def revoked(partitions: Iterable[int]) -> None:
        for partition in partitions:
            shops.revoke(partition)

    states = StateTable(
        app,
        name=topics.SHOPS_CHANGELOG.name,
        changelog=settings.topic(topics.SHOPS_CHANGELOG.name),
        is_stale=is_stale,
        on_assigned=assigned,
        on_revoked=revoked,
    )
    shops = Shops(settings, rules, states, send, caught_up)
    app.tells.append(lambda: of_shops(shops.held))

    async def work(number: int, events: Sequence[Any]) -> None:
        # The watermark last: it holds once all that came before it is acked.
        later = [event for event in events if event.message.topic in afterwards]
        first = [event for event in events if event.message.topic not in afterwards]
        for batch in filter(None, (first, later)):
            await shops.handle(number, [Bundle.of(event) for event in batch])
            for event in batch:
                event.ack()

    @app.agent(app.bundles(*clocked, *afterwards), name="shops", concurrency=1)
    async def take(stream: Any) -> None:
        async with Lanes(work, app.crash, settings.batch_records) as lanes:
            async for event in stream.noack().events():
                await lanes.put(event.message.partition, event, len(event.value))

    async def tell_own(numbers: Iterable[int], value: bytes) -> None:
        for number in sorted(numbers):
            await send_records(app.producer.raw, minutes, number, [(None, value)])

    # What a watermark waits for comes on other topics, and nothing need come after it on its own.
    @app.timer(interval=_LOOK_S, name="shop-watermarks")
    async def look() -> None:
        await tell_own(shops.waiting, encode_told(GoOn()))

    if settings.ticks == "wall":

        @app.timer(interval=_TICK_S, name="shop-ticks")
        async def tick() -> None:
            await tell_own(shops.partitions, encode_told(TickTold(time.time_ns() // 1_000_000)))

    return shops

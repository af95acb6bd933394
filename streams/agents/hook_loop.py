"""The loop of the hooks agent: facts to endpoints, at least once, each by its own id.

A batch is taken in like this (any failure ends the process; what was not acked comes again):

1. what its records make of deliveries: new ones, cancelled ones, ones that are to be tried again;
2. the deliveries are told, awaited: what is told twice has a greater version the second time;
3. the rows are written to the changelog, last how far the topics have been taken in, awaited;
4. the couriers are handed what waits, and the caller acks.

An attempt ends likewise, with 2 and 3. A crash between the receiver's answer and 3 makes the message go out
again, with the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from schemas import topics
from schemas.alerts import AlertFact
from schemas.facts import RejectReason
from streams.adapters.codec import Rejected, dead_letter_headers, decode_shop_record
from streams.adapters.erasing import decode_erased, erasures_in
from streams.adapters.hook_facts import (
    TOLD,
    Request,
    Told,
    decode_request,
    decode_told,
    delivery_fact,
    encode_request,
)
from streams.adapters.hook_post import ONE_STATE
from streams.adapters.telemetry import HOOK_ATTEMPTS
from streams.agents.couriers import Clock, Courier, Fail
from streams.agents.hook_partition import OLDEST_MS, Partition
from streams.domain.deliveries import (
    GONE,
    Answer,
    Delivery,
    after,
    again,
    begun,
    beside,
    cancelled,
    given_up,
    hurried,
)
from streams.domain.hook_state import Switch
from streams.domain.notices import decide, when_over
from streams.domain.progress import Calendar

log = logging.getLogger(__name__)

Headers = list[tuple[str, bytes]]
Outgoing = tuple[bytes | None, bytes | None, Headers]

#: What the agent reads, by name without prefix.
READ: Final = (
    *(topic for topic in topics.FACTS if topic.name in TOLD),
    topics.ERASED,
    topics.SHOPS,
    topics.HOOK_REQUESTS,
)
#: Facts of customers that may wait for one endpoint, of one partition; alerts always may.
MOST_WAITING: Final = 20_000
_NO_HEADERS: Headers = []


class Routing(Protocol):
    """Who is told of what."""

    def reads(self, topic: str) -> bool:
        """Whether facts of this topic go to anybody."""

    def endpoints_for(self, fact: Told) -> Sequence[str]:
        """The endpoints that a fact goes to."""

    def quiet_until(self, alert: AlertFact, zone: str | None, now: int) -> int | None:
        """When the quiet hours end that are now (ms), in the zone of the alert's shop; None: none are."""


class Poster(Protocol):
    """What takes a delivery to its endpoint."""

    @property
    def kind(self) -> str: ...

    async def attempt(self, delivery: Delivery) -> Answer:
        """One attempt; never raises, but for being cancelled."""

    async def close(self) -> None: ...


class Rows(Protocol):
    """The table of deliveries, as ``StateTable`` is one."""

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]: ...

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None: ...


class Send(Protocol):
    """Sends records to one partition of a topic (without prefix); returns once the broker has all."""

    async def __call__(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None: ...


class Hooks:
    """Deliveries of the partitions that this worker owns. clock: wall clock in ms."""

    def __init__(
        self,
        routing: Routing,
        posters: Mapping[str, Poster],
        rows: Rows,
        send: Send,
        clock: Clock,
        fail: Fail,
        partitions: int,
    ) -> None:
        self._routing = routing
        self._posters = posters
        self._rows = rows
        self._send = send
        self._clock = clock
        self._all = range(partitions)
        self._partitions: dict[int, Partition] = {}
        self._fresh: set[int] = set()
        self.couriers = {
            name: Courier(poster.attempt, self._settle, clock, fail) for name, poster in posters.items()
        }

    # -- partitions come and go

    def assign(self, number: int) -> None:
        """Take over a partition whose rows have been recovered: what waits goes on waiting."""
        partition = self._partitions[number] = Partition(number, self._rows.items(number))
        self._fresh.add(number)
        for delivery in partition.deliveries.values():
            self._hand_over(partition, delivery)

    def revoke(self, number: int) -> None:
        """Stop sending for a partition that another worker takes over."""
        partition = self._partitions.pop(number, None)
        if partition is not None:
            partition.closed = True
            self._fresh.discard(number)
            for courier in self.couriers.values():
                courier.drop(partition)

    @property
    def partitions(self) -> Mapping[int, Partition]:
        """The partitions that are ours now."""
        return self._partitions

    def waiting(self) -> dict[str, int]:
        """How many wait, by endpoint."""
        held = self._partitions.values()
        return {name: sum(partition.waiting[name] for partition in held) for name in self.couriers}

    # -- records

    async def handle(self, number: int, bundles: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Take in bundles, (topic without prefix, records), of one partition; returns once they may be acked.

        Whom to forget, and where shops are, is known before the facts of the same batch are looked at.
        """
        partition = self._partitions[number]
        first = (topics.ERASED.name, topics.SHOPS.name)
        async with partition.lock:
            refused: list[tuple[str, Rejected]] = []
            for topic, records in sorted(bundles, key=lambda bundle: bundle[0] not in first):
                if topic in TOLD and not self._routing.reads(topic):
                    continue
                since = partition.next_offsets.get(topic, 0)
                for record in records:
                    if record.offset >= since:
                        try:
                            self._take(partition, topic, record)
                        except ValueError as exc:
                            refused.append((topic, _refused(record, exc)))
                partition.taken(topic, records[-1].offset + 1)
            if refused:
                letters: list[Outgoing] = [
                    (each.key, each.value, dead_letter_headers(each, topic, number))
                    for topic, each in refused
                ]
                await self._send(topics.DEAD_LETTERS.name, number, letters)
            await self._commit(partition)

    def _take(self, partition: Partition, topic: str, record: Any) -> None:
        """What one record comes to; ValueError, one sentence, if it is none of its topic's."""
        if topic in TOLD:
            if topic != topics.ALERTS.name and self._is_past(partition, record):
                return
            told = decode_told(topic, record.value, max(0, record.timestamp))
            if isinstance(told.fact, AlertFact):
                self._alert(partition, told.fact, told)
            else:
                self._tell(partition, told)
        elif topic == topics.ERASED.name:
            self._erase(partition, record)
        elif topic == topics.SHOPS.name:
            shop = decode_shop_record(record.key, record.value or b"")
            partition.go_by(Calendar(shop.shop_id, shop.zone, shop.version))
        else:
            self._request(partition, decode_request(record.value))

    def _is_past(self, partition: Partition, record: Any) -> bool:
        """Whether a customer's fact is too old to be told, or of somebody who was erased since."""
        if 0 <= record.timestamp < self._clock() - OLDEST_MS:
            return True
        return partition.is_erased(record.key or b"", record.timestamp)

    def _alert(self, partition: Partition, alert: AlertFact, told: Told) -> None:
        now = self._clock()
        status = "resolved" if alert.is_deleted else alert.status
        decision = decide(
            partition.notices.get(alert.alert_id),
            alert.alert_id,
            alert.version,
            status,
            told.value,
            self._quiet_until(partition, alert),
            now,
        )
        partition.notice(decision.notice)
        if decision.tell:
            self._tell(partition, told)

    def _quiet_until(self, partition: Partition, alert: AlertFact) -> int | None:
        calendar = partition.calendars.get(alert.shop_id)
        zone = None if calendar is None else calendar.zone
        return self._routing.quiet_until(alert, zone, self._clock())

    def _tell(self, partition: Partition, told: Told) -> None:
        """A delivery for each endpoint that the fact goes to, unless there is one already."""
        now = self._clock()
        for endpoint in self._routing.endpoints_for(told):
            delivery = begun(
                endpoint,
                told.topic,
                told.subject_id,
                told.fact.version,
                told.value,
                now,
                sent_at=told.sent_at,
                customer=told.customer,
            )
            if delivery.delivery_id in partition.deliveries:
                continue
            since = partition.disabled_since(endpoint)
            if since is not None:
                partition.put(given_up(delivery, "the endpoint is disabled: it answered 410", now))
            elif told.customer and partition.waiting[endpoint] >= MOST_WAITING:
                partition.tell(given_up(delivery, f"{MOST_WAITING:,} wait for the endpoint already", now))
            else:
                partition.put(delivery)

    def _erase(self, partition: Partition, record: Any) -> None:
        """Forget a customer, and what was to be told of them until then."""
        now = self._clock()
        erasure = decode_erased(b"", record.value or b"")
        (digest,) = erasures_in([record])
        partition.erase(digest, erasure.at)
        for delivery in partition.about(digest.hex()):
            if delivery.fact and delivery.sent_at <= erasure.at:
                partition.put(cancelled(delivery, "the customer was erased", now))

    def _request(self, partition: Partition, request: Request) -> None:
        now = self._clock()
        if request.do != "retry":
            if partition.switch(request.endpoint, Switch(request.do == "disable", request.at)):
                log.warning("endpoint %s is %sd", request.endpoint, request.do)
                if request.do == "disable":
                    self._give_up(partition, request.endpoint)
            return
        for delivery in list(partition.deliveries.values()):
            if request.delivery_id not in ("", delivery.delivery_id):
                continue
            if request.endpoint not in ("", delivery.endpoint) or delivery.endpoint not in self._posters:
                continue
            wanted = ("dead", "waiting") if request.delivery_id else ("dead",)
            if delivery.status in wanted and partition.disabled_since(delivery.endpoint) is None:
                partition.put(again(delivery, now))

    def _give_up(self, partition: Partition, endpoint: str) -> None:
        """What waits for an endpoint that was disabled is dead, and can be had again."""
        now = self._clock()
        for delivery in list(partition.deliveries.values()):
            if delivery.endpoint == endpoint and delivery.status == "waiting":
                partition.put(given_up(delivery, "the endpoint is disabled: it answered 410", now))

    # -- attempts

    async def _settle(self, partition: Partition, delivery: Delivery, answer: Answer, extra: bool) -> None:
        """Keep what has become of an attempt, begun when the delivery was as given; extra: beside its
        schedule."""
        async with partition.lock:
            now = self._clock()
            known = partition.deliveries.get(delivery.delivery_id)
            if partition.closed or known is None or (known.status != "waiting" and not answer.ok):
                return
            if known.status == "cancelled":
                return
            result = (beside if extra else after)(known, answer, now)
            HOOK_ATTEMPTS.labels(result.endpoint, result.status).inc()
            partition.put(result)
            if result.status == "delivered":
                self._arrived(partition, result)
            gone = answer.http_status == GONE and partition.switch(result.endpoint, Switch(True, now))
            if gone:
                log.warning("endpoint %s answered 410 and is disabled", result.endpoint)
                self._give_up(partition, result.endpoint)
            await self._commit(partition)
        if gone:
            key, value = encode_request(Request("disable", now, endpoint=result.endpoint))
            for number in self._all:
                await self._send(topics.HOOK_REQUESTS.name, number, [(key, value, _NO_HEADERS)])

    def _arrived(self, partition: Partition, arrived: Delivery) -> None:
        """Where one revision has arrived, the next goes at once; an older one may be out of date."""
        now = self._clock()
        one_state = self._posters[arrived.endpoint].kind in ONE_STATE
        for other in partition.revisions(arrived.chain):
            if other.revision > arrived.revision:
                partition.put(hurried(other, now))
            elif one_state:
                why = f"revision {arrived.revision} was delivered before it"
                partition.put(cancelled(other, why, now))

    # -- time

    async def tend(self) -> None:
        """Do what the wall clock has made due: alerts that quiet hours kept back, rows to be forgotten."""
        now = self._clock()
        for partition in list(self._partitions.values()):
            timer = partition.next_timer()
            if partition.number in self._fresh or (timer is not None and timer <= now):
                async with partition.lock:
                    if partition.number in self._fresh:
                        self._fresh.discard(partition.number)
                        self._withdraw(partition)
                    self._tend(partition, now)
                    await self._commit(partition)
        for courier in self.couriers.values():
            courier.nudge()

    def _tend(self, partition: Partition, now: int) -> None:
        for notice in list(partition.due(now)):
            try:
                told = decode_told(topics.ALERTS.name, notice.withheld, notice.until or now)
            except ValueError as exc:  # another release's
                log.error("alert %s was withheld, and is %s", notice.alert_id, exc)
                partition.notice(replace(notice, withheld=b"", until=None, at=now))
                continue
            assert isinstance(told.fact, AlertFact)
            decision = when_over(notice, self._quiet_until(partition, told.fact), now)
            partition.notice(decision.notice)
            if decision.tell:
                self._tell(partition, told)

    def _withdraw(self, partition: Partition) -> None:
        """What waits for endpoints that are no longer there."""
        now = self._clock()
        for delivery in list(partition.deliveries.values()):
            if delivery.status == "waiting" and delivery.endpoint not in self._posters:
                partition.put(cancelled(delivery, "alerts.yaml has no such endpoint any more", now))

    # -- what is kept

    async def _commit(self, partition: Partition) -> None:
        """Tell and write what has changed, then hand it to the couriers. The lock is held."""
        told, changes = partition.take_changes()
        if partition.closed or not (told or changes):
            return
        if told:
            records: list[Outgoing] = [(*delivery_fact(delivery), _NO_HEADERS) for delivery in told]
            await self._send(topics.DELIVERIES.name, partition.number, records)
        if partition.closed:  # meanwhile: what was told is true all the same
            return
        if changes:
            await self._rows.write(partition.number, changes)
        for delivery in told:
            self._hand_over(partition, delivery)

    def _hand_over(self, partition: Partition, delivery: Delivery) -> None:
        courier = self.couriers.get(delivery.endpoint)
        if courier is not None and not partition.closed:
            courier.push(partition, delivery)


def _refused(record: Any, exc: ValueError) -> Rejected:
    reason = RejectReason.INVALID_FIELD
    return Rejected(record.offset, record.timestamp, reason, str(exc), record.key, record.value)

"""What the hooks agent holds in memory of one partition, and what the batch in hand has changed of it.

Memory changes at once; whoever changes it holds the lock until the broker has the rows, and the process ends
if it does not get them. Nobody is sent to because of a row that the broker does not have.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final

from streams.domain.deliveries import Delivery, goes_first
from streams.domain.erasure import digest
from streams.domain.hook_state import (
    CALENDAR_KEY,
    ENDPOINT_KEY,
    ERASED_KEY,
    MARKER_KEY,
    NOTICE_KEY,
    CalendarRow,
    DeliveryRow,
    ErasedRow,
    Marker,
    NoticeRow,
    Row,
    Switch,
    decode,
    encode,
)
from streams.domain.notices import Notice
from streams.domain.progress import Calendar

_HOUR_MS: Final = 3_600_000
#: What has ended is remembered for as long as its fact may be sent again by a worker that begins anew.
REMEMBERED_MS: Final = _HOUR_MS
#: What was given up can be had again for so long.
DEAD_KEPT_MS: Final = 14 * 24 * _HOUR_MS
#: Facts of customers that are older are not told, so for a little longer it is known who was erased.
OLDEST_MS: Final = 76 * _HOUR_MS
_ERASED_KEPT_MS: Final = 8 * 24 * _HOUR_MS

Chain = tuple[str, str, str]


class Partition:
    """``closed``: it is another worker's now; nothing may be written or sent."""

    def __init__(self, number: int, stored: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.number = number
        self.closed = False
        self.lock = asyncio.Lock()
        self.deliveries: dict[str, Delivery] = {}
        self.switches: dict[str, Switch] = {}
        self.notices: dict[str, Notice] = {}
        self.erased: dict[bytes, int] = {}
        self.calendars: dict[str, Calendar] = {}
        self.next_offsets: dict[str, int] = {}
        #: How many wait, by endpoint.
        self.waiting: Counter[str] = Counter()
        self._chains: dict[Chain, dict[int, str]] = {}
        self._by_customer: dict[str, set[str]] = {}
        self._timers: list[tuple[int, bytes]] = []
        self._changes: dict[bytes, bytes | None] = {}
        self._told: dict[str, Delivery] = {}
        for key, value in stored:
            self._take(key, decode(value))

    def _take(self, key: bytes, row: Row) -> None:
        if isinstance(row, DeliveryRow):
            self._index(row.delivery)
        elif isinstance(row, Marker):
            self.next_offsets = dict(row.next_offsets)
        elif isinstance(row, Switch):
            self.switches[key.removeprefix(ENDPOINT_KEY).decode()] = row
        elif isinstance(row, NoticeRow):
            self.notices[row.notice.alert_id] = row.notice
            heappush(self._timers, (row.notice.due, key))
        elif isinstance(row, ErasedRow):
            self.erased[key.removeprefix(ERASED_KEY)] = row.at
            heappush(self._timers, (row.at + _ERASED_KEPT_MS, key))
        else:
            self.calendars[row.calendar.shop_id] = row.calendar

    def _index(self, delivery: Delivery) -> None:
        name = delivery.delivery_id
        self._unindex(name)
        self.deliveries[name] = delivery
        if delivery.customer:
            self._by_customer.setdefault(delivery.customer, set()).add(name)
        if delivery.status == "waiting":
            self.waiting[delivery.endpoint] += 1
            self._chains.setdefault(delivery.chain, {})[delivery.revision] = name
        else:
            heappush(self._timers, (_kept_until(delivery), name.encode()))

    def _unindex(self, name: str) -> None:
        known = self.deliveries.pop(name, None)
        if known is None:
            return
        if known.customer:
            self._by_customer[known.customer].discard(name)
            if not self._by_customer[known.customer]:
                del self._by_customer[known.customer]
        if known.status == "waiting":
            self.waiting[known.endpoint] -= 1
            chain = self._chains[known.chain]
            del chain[known.revision]
            if not chain:
                del self._chains[known.chain]

    # -- changes

    def put(self, delivery: Delivery) -> None:
        """A new delivery, or what has become of one; it is to be told."""
        self._index(delivery)
        self._changes[delivery.delivery_id.encode()] = encode(DeliveryRow(delivery))
        self._told[delivery.delivery_id] = delivery

    def tell(self, delivery: Delivery) -> None:
        """Tell of a delivery that is not kept."""
        self._told[delivery.delivery_id] = delivery

    def switch(self, endpoint: str, to: Switch) -> bool:
        """Disable an endpoint, or enable it; False if something newer is known."""
        known = self.switches.get(endpoint)
        if known is not None and known.at >= to.at:
            return False
        self._put(ENDPOINT_KEY + endpoint.encode(), to)
        return True

    def notice(self, notice: Notice) -> None:
        """What is known of an alert."""
        if self.notices.get(notice.alert_id) != notice:
            self._put(NOTICE_KEY + notice.alert_id.encode(), NoticeRow(notice))

    def erase(self, named: bytes, at: int) -> None:
        """Whose facts, sent until ``at``, are told no more; named by their digest."""
        if self.erased.get(named, -1) < at:
            self._put(ERASED_KEY + named, ErasedRow(at))

    def go_by(self, calendar: Calendar) -> None:
        """The zone of a shop."""
        known = self.calendars.get(calendar.shop_id)
        if known is None or known.version < calendar.version:
            self._put(CALENDAR_KEY + calendar.shop_id.encode(), CalendarRow(calendar))

    def taken(self, topic: str, next_offset: int) -> None:
        """Records of ``topic`` below ``next_offset`` are not to be taken in again."""
        if self.next_offsets.get(topic, 0) < next_offset:
            self.next_offsets[topic] = next_offset
            self._changes[MARKER_KEY] = b""

    def _put(self, key: bytes, row: Row) -> None:
        self._take(key, row)
        self._changes[key] = encode(row)

    def _drop(self, key: bytes) -> None:
        self._changes[key] = None
        if key.startswith(NOTICE_KEY):
            self.notices.pop(key.removeprefix(NOTICE_KEY).decode(), None)
        elif key.startswith(ERASED_KEY):
            self.erased.pop(key.removeprefix(ERASED_KEY), None)
        else:
            self._unindex(key.decode())

    def take_changes(self) -> tuple[list[Delivery], dict[bytes, bytes | None]]:
        """What is to be told, and the rows to write; the marker is the last of them."""
        told, self._told = list(self._told.values()), {}
        changes, self._changes = self._changes, {}
        if changes.pop(MARKER_KEY, None) is not None:
            changes[MARKER_KEY] = encode(Marker(dict(self.next_offsets)))
        return told, changes

    # -- questions

    def disabled_since(self, endpoint: str) -> int | None:
        """When the endpoint was disabled; None: it is not."""
        known = self.switches.get(endpoint)
        return known.at if known is not None and known.disabled else None

    def is_erased(self, customer_id: bytes, sent_at: int) -> bool:
        """Whether facts of the customer that were sent then are told no more."""
        return bool(self.erased) and sent_at <= self.erased.get(digest(customer_id), -1)

    def about(self, customer: str) -> list[Delivery]:
        """Deliveries about the customer with this hexadecimal digest, whatever became of them."""
        return [self.deliveries[name] for name in sorted(self._by_customer.get(customer, ()))]

    def revisions(self, chain: Chain) -> list[Delivery]:
        """Those of a chain that wait, the oldest revision first."""
        return [self.deliveries[name] for _, name in sorted(self._chains.get(chain, {}).items())]

    def must_wait(self, delivery: Delivery, now: int) -> bool:
        """Whether an older revision of the same fact goes first."""
        return any(
            older.revision < delivery.revision and goes_first(older, now)
            for older in self.revisions(delivery.chain)
        )

    # -- time

    def next_timer(self) -> int | None:
        """When ``due`` has something to do, in ms of wall clock."""
        return self._timers[0][0] if self._timers else None

    def due(self, now: int) -> Iterator[Notice]:
        """Forget what need not be known any longer; give the notices whose withheld revision is due."""
        while self._timers and self._timers[0][0] <= now:
            at, key = heappop(self._timers)
            if key.startswith(NOTICE_KEY):
                notice = self.notices.get(key.removeprefix(NOTICE_KEY).decode())
                if notice is None or notice.due != at:
                    continue
                if notice.until is not None:
                    yield notice
                else:
                    self._drop(key)
            elif key.startswith(ERASED_KEY):
                if self.erased.get(key.removeprefix(ERASED_KEY), now) + _ERASED_KEPT_MS <= now:
                    self._drop(key)
            else:
                self._forget(key.decode(), now)

    def _forget(self, name: str, now: int) -> None:
        delivery = self.deliveries.get(name)
        if delivery is not None and delivery.status != "waiting" and _kept_until(delivery) <= now:
            self._drop(name.encode())


def _kept_until(delivery: Delivery) -> int:
    """When one that has ended is forgotten, ms."""
    kept = DEAD_KEPT_MS if delivery.status == "dead" else REMEMBERED_MS
    return max(delivery.since, delivery.at or 0) + kept

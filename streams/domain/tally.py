"""The first half of watching shops: what one partition's sessions, carts, orders and leaks add up to, by shop
and minute of event time.

Each thing that counts is kept under its own key until its minute has left the open window, with the version
it was told in; cells are sums of these. So a fact that comes twice changes nothing, a newer version takes the
place of the older one, a tombstone takes it away, and what a crash interrupted is counted again from the same
things.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import nlargest
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_digest, xxh3_128_digest

from streams.domain.contributors import MOST_VALUES
from streams.domain.facts import SessionFact
from streams.domain.loss_facts import LeakFact
from streams.domain.policy import MINUTE
from streams.domain.windows import ALL_SHOPS, Cell

#: Minutes after a partition has completed a minute in which what counts in it is still corrected.
OPEN: Final = 60
#: Items told of one cell: those that lost most.
MOST_ITEMS: Final = 4 * MOST_VALUES

SESSION_KEY: Final = b"s"
CART_KEY: Final = b"c"
ORDER_KEY: Final = b"o"
LEAK_KEY: Final = b"l"
#: What begins so is the tally's.
KEYS: Final = SESSION_KEY + CART_KEY + ORDER_KEY + LEAK_KEY

Place = tuple[str, int]
#: Keys of what is kept, with what is kept; None deletes.
Changes = dict[bytes, bytes | None]


class Counted(Struct, array_like=True, frozen=True, gc=False):
    """Something that counts in ``minute`` of ``shop``; version 0 of what has none. ``gone``: a tombstone."""

    minute: int
    shop: str
    version: int = 0
    gone: bool = False
    is_bot: bool = False
    #: Of a session: None where it converted.
    stage: str | None = None
    channel: str = ""
    item: str = ""
    currency: str = ""
    at_risk: int = 0
    #: Of a leak.
    to_shop: str = ""


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Counted).decode


class Tally:
    """One partition's. ``complete``: all minutes below it are; ``dirty``: cells that have changed since they
    were taken with ``told``."""

    def __init__(self, stored: Iterable[tuple[bytes, bytes]], complete: int) -> None:
        self.complete = complete
        self.dirty: set[Place] = set()
        self._cells: dict[Place, Cell] = {}
        self._kept: dict[bytes, Counted] = {}
        self._by_minute: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, value in stored:
            self._keep(key, _unpack(value))
        # What was complete has been told with the batch that made it so.
        self.dirty = {place for place in self.dirty if place[1] >= complete}

    @property
    def floor(self) -> int:
        """The first minute that is still open."""
        return self.complete - OPEN

    def __len__(self) -> int:
        """How many things are kept."""
        return len(self._kept)

    def session(self, fact: SessionFact, gap: int) -> Changes:
        """Take in what was told of a session; ``gap`` in ms. It counts in the minute it closes in."""
        key = SESSION_KEY + bytes.fromhex(fact.session_id)
        had = self._kept.get(key)
        if had is not None and had.version >= fact.version:
            return {}
        minute = (fact.ended_at + gap) // MINUTE
        if fact.is_deleted:
            minute = minute if had is None else had.minute
            return self._put(key, Counted(minute, fact.shop_id, fact.version, gone=True))
        stage = fact.lost_stage
        at_risk = _amount(fact.cart_value) if stage is not None and fact.currency else 0
        counted = Counted(
            minute,
            fact.shop_id,
            fact.version,
            is_bot=fact.is_bot,
            stage=stage,
            channel=fact.channel or "",
            item=fact.landing_item or "",
            currency=fact.currency or "" if at_risk else "",
            at_risk=at_risk,
        )
        return self._put(key, counted)

    def cart(self, shop_id: str, customer_id: str, at: int) -> Changes:
        """A customer changed their cart at ``at`` (ms): once a minute counts."""
        minute = at // MINUTE
        who = xxh3_64_digest(f"{shop_id}\0{customer_id}".encode())
        key = CART_KEY + minute.to_bytes(5, "big", signed=True) + who
        return {} if key in self._kept else self._put(key, Counted(minute, shop_id))

    def order(self, shop_id: str, order_id: str, at: int) -> Changes:
        """An order was placed at ``at`` (ms), by what is known first of it."""
        minute = at // MINUTE
        key = ORDER_KEY + xxh3_128_digest(f"{shop_id}\0{order_id}".encode())
        had = self._kept.get(key)
        return {} if had is not None and had.minute <= minute else self._put(key, Counted(minute, shop_id))

    def leak(self, fact: LeakFact, gap: int) -> Changes:
        """A lost visitor bought elsewhere: it counts where a session closes that ended with the look."""
        key = LEAK_KEY + bytes.fromhex(fact.leak_id)
        had = self._kept.get(key)
        if had is not None and had.version >= fact.version:
            return {}
        minute = (fact.seen_at + gap) // MINUTE
        gone = fact.is_deleted or fact.is_bot
        return self._put(key, Counted(minute, fact.shop_id, fact.version, gone, to_shop=fact.to_shop_id))

    def advance(self, complete: int) -> None:
        """All minutes below ``complete`` are complete."""
        self.complete = max(self.complete, complete)

    def forget(self) -> Changes:
        """Drop what has left the open window; what of it has changed must have been ``told``."""
        changes: Changes = {}
        for minute in [minute for minute in self._by_minute if minute < self.floor]:
            for key in self._by_minute.pop(minute):
                had = self._kept.get(key)
                if had is not None and had.minute == minute:
                    del self._kept[key]
                    changes[key] = None
        for place in [place for place in self._cells if place[1] < self.floor]:
            del self._cells[place]
            self.dirty.discard(place)
        return changes

    def sessions(self, since: int) -> Iterator[tuple[int, int, int]]:
        """Of complete minutes from ``since`` on: the minute, sessions closed of people, and of machines."""
        for (shop, minute), cell in self._cells.items():
            if shop == ALL_SHOPS and since <= minute < self.complete and (cell.closed or cell.bots):
                yield minute, cell.closed, cell.bots

    def told(self) -> Iterator[tuple[str, Cell]]:
        """The cells of complete minutes that have changed since they were given last, as they are now."""
        ready = [place for place in self.dirty if place[1] < self.complete]
        for place in sorted(ready, key=lambda each: (each[1], each[0])):
            self.dirty.discard(place)
            yield place[0], _short(self._cells[place])

    def _put(self, key: bytes, counted: Counted) -> Changes:
        had = self._kept.get(key)
        if counted.minute < self.floor and had is None:
            return {}
        if had is not None:
            self._count(key, had, -1)
        self._keep(key, counted)
        return {key: _pack(counted)}

    def _keep(self, key: bytes, counted: Counted) -> None:
        self._kept[key] = counted
        self._by_minute[counted.minute].append(key)
        self._count(key, counted, 1)

    def _count(self, key: bytes, counted: Counted, sign: int) -> None:
        if counted.gone or (
            counted.minute < self.floor and (counted.shop, counted.minute) not in self._cells
        ):
            return
        for shop in (counted.shop, ALL_SHOPS):
            place = shop, counted.minute
            cell = self._cells.get(place)
            if cell is None:
                cell = self._cells[place] = Cell(counted.minute)
            _add(cell, key, counted, sign, whole=shop == ALL_SHOPS)
            self.dirty.add(place)


def _add(cell: Cell, key: bytes, counted: Counted, sign: int, whole: bool) -> None:
    """Count it in ``cell``; of all shops together (``whole``) items and destinations would be too many."""
    kind = key[:1]
    if kind == CART_KEY:
        cell.carts += sign
    elif kind == ORDER_KEY:
        cell.orders += sign
    elif kind == LEAK_KEY:
        if not whole:
            _count_in(cell.destinations, counted.to_shop, sign)
    elif counted.is_bot:
        cell.bots += sign
    else:
        lost = sign if counted.stage is not None else 0
        cell.closed += sign
        cell.lost += lost
        _count_pair(cell.channels, counted.channel, sign, lost)
        if not whole:
            _count_pair(cell.items, counted.item, sign, lost)
        if counted.stage is not None:
            _count_in(cell.stages, counted.stage, sign)
        if counted.at_risk:
            _count_in(cell.at_risk, counted.currency, sign * counted.at_risk)


def _amount(value: str) -> int:
    """A fact's amount, which has four decimals, in ten-thousandths."""
    return int(value.replace(".", ""))


def _count_in(counts: dict[str, int], name: str, more: int) -> None:
    count = counts.get(name, 0) + more
    if count:
        counts[name] = count
    else:
        counts.pop(name, None)


def _count_pair(pairs: dict[str, tuple[int, int]], name: str, closed: int, lost: int) -> None:
    had = pairs.get(name, (0, 0))
    if pair := (had[0] + closed, had[1] + lost) if had[0] + closed else None:
        pairs[name] = pair
    else:
        pairs.pop(name, None)


def _short(cell: Cell) -> Cell:
    if len(cell.items) <= MOST_ITEMS:
        return cell
    items = nlargest(MOST_ITEMS, cell.items.items(), key=lambda each: (each[1][1], each[1][0], each[0]))
    return msgspec.structs.replace(cell, items=dict(items))

"""The series that a shop's minutes make up: of the whole shop, of each channel, of each lost stage."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Final, get_args
from zoneinfo import ZoneInfo

from msgspec import Struct

from streams.domain.alerting import WHOLE, Counts, Series
from streams.domain.facts import LostStage
from streams.domain.tally import OPEN
from streams.domain.windows import Cell, Reading

STAGES: Final[tuple[LostStage, ...]] = get_args(LostStage)
#: Channels of a shop that are watched by themselves: the first so many.
MOST_CHANNELS: Final = 16
#: Sessions that end while data is missing close this much later at most, or nearly so.
AFTERMATH: Final = 2 * OPEN


class Doubt(Struct, array_like=True):
    """Minutes of broken data; ``until`` is the last, 0 while it is not over."""

    since: int
    until: int = 0

    def hides_orders(self, minute: int) -> bool:
        """Whether carts and orders of the minute are not to be judged by."""
        return self.since <= minute and (not self.until or minute <= self.until)

    def hides_loss(self, minute: int) -> bool:
        """Whether sessions that closed in the minute are not to be judged by."""
        return self.since <= minute and (not self.until or minute <= self.until + AFTERMATH)


@lru_cache(maxsize=65_536)
def slot_of(minute: int, zone: str) -> int:
    """The minute of the shop's week."""
    local = datetime.fromtimestamp(minute * 60, ZoneInfo(zone))
    return local.weekday() * 24 * 60 + local.hour * 60 + local.minute


def series_of(cell: Cell, known: Collection[Series]) -> list[Series]:
    found: dict[Series, None] = dict.fromkeys(known)
    found[WHOLE] = None
    for stage in STAGES:
        found["stage", stage] = None
    channels = sum(series[0] == "channel" for series in found)
    for name in cell.channels:
        if ("channel", name) not in found and channels < MOST_CHANNELS:
            found["channel", name] = None
            channels += 1
    return list(found)


def reading_of(cell: Cell, series: Series, doubts: list[Doubt]) -> Reading:
    counts = counts_in(cell, series)
    closed, lost, carts, orders = counts.sessions, counts.lost, 0, 0
    if series == WHOLE:
        carts, orders = cell.carts, cell.orders
    for doubt in doubts:
        # While it lasts it is judged by what there is, to say what is held back.
        if doubt.until and doubt.hides_loss(cell.minute):
            closed = lost = 0
        if doubt.until and doubt.hides_orders(cell.minute):
            carts = orders = 0
    return Reading(cell.minute, closed, lost, carts, orders)


def counts_in(cell: Cell, series: Series) -> Counts:
    scope, value = series
    if scope == "shop":
        return Counts(cell.closed, cell.lost, cell.at_risk)
    if scope == "channel":
        return Counts(*cell.channels.get(value, (0, 0)), {})
    return Counts(cell.closed, cell.stages.get(value, 0), cell.at_risk if value == "carted" else {})


def counted(cell: Cell) -> dict[Series, tuple[int, int]]:
    """(closed, lost) of each series that the minute is told of."""
    found: dict[Series, tuple[int, int]] = {WHOLE: (cell.closed, cell.lost)}
    for name in sorted(cell.channels):
        found["channel", name] = cell.channels[name]
    if cell.closed:
        for stage in STAGES:
            found["stage", stage] = cell.closed, cell.stages.get(stage, 0)
    return found


def counts_of(cell: Cell, series: Series) -> tuple[int, int]:
    """(closed, lost) of one series in a minute."""
    counts = counts_in(cell, series)
    return counts.sessions, counts.lost

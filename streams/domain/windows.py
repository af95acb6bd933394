"""One minute of one shop, as its sessions, carts and orders make it up; and minutes of a series to judge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct, field

#: The shop_id that stands for all shops together; no shop has it, for an id has a character at least.
ALL_SHOPS = ""


class Cell(Struct, array_like=True):
    """What one shop's minute of event time has come to; parts of several partitions add up.

    A session counts in the minute in which it closes: its end plus the gap. Without bots', but for ``bots``.
    ``channels`` and ``items`` (by landing item) map to (closed, lost); the empty name is for none.
    ``at_risk`` has 1/10,000 of a currency's unit. ``carts`` counts customers who changed their cart in this
    minute, ``orders`` orders placed in it; ``destinations`` maps the shop that sessions lost in this minute
    leaked to, as far as that is known, to their number.
    """

    minute: int
    closed: int = 0
    lost: int = 0
    bots: int = 0
    carts: int = 0
    orders: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    channels: dict[str, tuple[int, int]] = field(default_factory=dict)
    items: dict[str, tuple[int, int]] = field(default_factory=dict)
    at_risk: dict[str, int] = field(default_factory=dict)
    destinations: dict[str, int] = field(default_factory=dict)


def merged(minute: int, parts: Iterable[Cell]) -> Cell:
    """The sum of ``parts``, all of ``minute``."""
    whole = Cell(minute)
    for part in parts:
        whole.closed += part.closed
        whole.lost += part.lost
        whole.bots += part.bots
        whole.carts += part.carts
        whole.orders += part.orders
        for ours, theirs in (
            (whole.stages, part.stages),
            (whole.at_risk, part.at_risk),
            (whole.destinations, part.destinations),
        ):
            for name, count in theirs.items():
                ours[name] = ours.get(name, 0) + count
        for pairs, others in ((whole.channels, part.channels), (whole.items, part.items)):
            for name, (closed, lost) in others.items():
                had = pairs.get(name, (0, 0))
                pairs[name] = (had[0] + closed, had[1] + lost)
    return whole


class Reading(NamedTuple):
    """One minute of one series: of a whole shop, a channel (closed and lost with it), or a lost stage (all
    closed, and lost at it). ``carts`` and ``orders`` are those of a whole shop, else 0."""

    minute: int
    closed: int
    lost: int
    carts: int = 0
    orders: int = 0

"""What drives a spike: the items, stages, channels and destinations with more loss than is usual for them.

Usual is what a shop's own sessions have shown, fading with a half-life of two weeks: what part of the
sessions has a value (its share), and what part of these is lost (its rate, drawn towards the shop's while
they are few). In the minutes of an alert, with N sessions in all:

* of an item or a channel as many are expected to be lost as its sessions of those minutes lose at its usual
  rate: what has more traffic, and loses as often as ever, drives nothing;
* of a stage or a destination, its usual part of N.

The share of a value is its excess in the excess of the shop. Values of one dimension overlap with those of
another, so shares add up within a dimension at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain.alert_facts import Dimension
from streams.domain.windows import Cell

#: Values kept of each dimension.
MOST_VALUES: Final = 64
_FADES: Final = 0.5 ** (1 / (14 * 24 * 60))
#: Sessions of the shop's rate that the rate of a value begins with.
_WEIGHT: Final = 20.0
#: An excess smaller than this in standard deviations of a Poisson count is chance.
_SURE: Final = 2.0
_LEAST: Final = 3.0
#: What drives a spike has more of it than if all values shared in it alike, by this factor.
_LIFT: Final = 1.25
#: Weights of new minutes grow instead of all old ones fading; they are brought back when they have grown so.
_RESCALE_AT: Final = 1e6
_LONGEST: Final = 30 * 14 * 24 * 60


class Driver(NamedTuple):
    """observed: lost sessions with the value; expected: as usual; share: of all that is lost in excess."""

    dimension: Dimension
    value: str
    observed: float
    expected: float
    share: float


class Shares(Struct, array_like=True):
    """What is usual in one shop: sessions closed and lost, decayed, and of each value of a dimension; minute:
    the one that counts once, later ones count for more."""

    closed: float = 0.0
    lost: float = 0.0
    minute: int = 0
    items: dict[str, tuple[float, float]] = field(default_factory=dict)
    channels: dict[str, tuple[float, float]] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    destinations: dict[str, float] = field(default_factory=dict)


def learn(shares: Shares, cell: Cell) -> None:
    """Take in a minute that was as usual, in place; minutes in order."""
    if not shares.minute:
        shares.minute = cell.minute
    # What is older than some years counts for nothing anyway.
    weight = _FADES ** -min(max(cell.minute - shares.minute, 0), _LONGEST)
    if weight > _RESCALE_AT:
        _rescale(shares, 1 / weight)
        shares.minute, weight = cell.minute, 1.0
    shares.closed += weight * cell.closed
    shares.lost += weight * cell.lost
    for pairs, more in ((shares.items, cell.items), (shares.channels, cell.channels)):
        for name, (closed, lost) in more.items():
            had = pairs.get(name, (0.0, 0.0))
            pairs[name] = (had[0] + weight * closed, had[1] + weight * lost)
        if len(pairs) > 2 * MOST_VALUES:
            for name in sorted(pairs, key=lambda name: (-pairs[name][0], name))[MOST_VALUES:]:
                del pairs[name]
    for counts, some in ((shares.stages, cell.stages), (shares.destinations, cell.destinations)):
        for name, count in some.items():
            counts[name] = counts.get(name, 0.0) + weight * count
        if len(counts) > 2 * MOST_VALUES:
            for name in sorted(counts, key=lambda name: (-counts[name], name))[MOST_VALUES:]:
                del counts[name]


def _rescale(shares: Shares, by: float) -> None:
    shares.closed *= by
    shares.lost *= by
    for pairs in (shares.items, shares.channels):
        for name, (closed, lost) in pairs.items():
            pairs[name] = (closed * by, lost * by)
    for counts in (shares.stages, shares.destinations):
        for name in counts:
            counts[name] *= by


def contributors(shares: Shares, cells: Sequence[Cell], limit: int = 5) -> tuple[Driver, ...]:
    """What drives the loss in ``cells``, the greatest share first; nothing while nothing usual is known."""
    closed = sum(cell.closed for cell in cells)
    lost = sum(cell.lost for cell in cells)
    if not shares.closed or not closed:
        return ()
    rate = (shares.lost + 0.5) / (shares.closed + 1)
    excess = lost - closed * rate
    if excess <= 0:
        return ()
    found: list[Driver] = []
    dimension: Dimension
    for dimension, usual, seen in (
        ("item", shares.items, _pairs([cell.items for cell in cells])),
        ("channel", shares.channels, _pairs([cell.channels for cell in cells])),
    ):
        for name, (its_closed, its_lost) in seen.items():
            had = usual.get(name, (0.0, 0.0))
            its_rate = (had[1] + _WEIGHT * rate) / (had[0] + _WEIGHT)
            # Where all lose more alike, each has the part in it that it has in the traffic, and drives
            # nothing.
            alike = its_closed / closed
            _add(found, dimension, name, its_lost, its_closed * its_rate, excess, alike)
    for dimension, counts, some in (
        ("stage", shares.stages, _counts([cell.stages for cell in cells])),
        ("destination", shares.destinations, _counts([cell.destinations for cell in cells])),
    ):
        for name, count in some.items():
            usually = counts.get(name, 0.0)
            alike = usually / shares.lost if dimension == "stage" and shares.lost else 0.0
            _add(found, dimension, name, count, closed * usually / shares.closed, excess, alike)
    return tuple(nlargest(limit, found, key=lambda each: (each.share, each.observed, each.value)))


def _add(
    found: list[Driver],
    dimension: Dimension,
    name: str,
    observed: float,
    expected: float,
    excess: float,
    alike: float,
) -> None:
    more = observed - expected
    share = min(1.0, more / excess)
    if name and more >= _LEAST and more > _SURE * max(expected, 1.0) ** 0.5 and share > _LIFT * alike:
        found.append(Driver(dimension, name, observed, round(expected, 1), round(share, 3)))


def _pairs(parts: Sequence[Mapping[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    whole: dict[str, tuple[int, int]] = {}
    for part in parts:
        for name, (closed, lost) in part.items():
            had = whole.get(name, (0, 0))
            whole[name] = (had[0] + closed, had[1] + lost)
    return whole


def _counts(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            whole[name] = whole.get(name, 0) + count
    return whole

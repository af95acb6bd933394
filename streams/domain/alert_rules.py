"""What is watched, how closely, and who is told: the contents of ``alerts.yaml``.

Of the watches the first whose patterns match a shop is the shop's; of the routes every one that matches a
fact tells its endpoints. Without a file all shops are watched by the defaults, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol
from zoneinfo import ZoneInfo

from streams.domain.health import HealthRule
from streams.domain.policy import SECOND
from streams.domain.spike import SpikeRule

EndpointKind = Literal["webhook", "alertmanager", "alertmanager-webhook", "slack"]
KINDS: Final[tuple[EndpointKind, ...]] = ("webhook", "alertmanager", "alertmanager-webhook", "slack")
#: What hooks can tell, by topic: the field of the fact that ``only`` is compared with.
ROUTED: Final[Mapping[str, str]] = {
    "alerts": "signal",
    "transitions": "to_state",
    "actions": "kind",
    "segments": "segment",
}
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES_A_DAY: Final = 24 * 60
#: The names of a shop's pattern that stand for all shops together, which has no id.
ALL_TOGETHER: Final = "(all)"


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which nobody is told: from ``begins`` to ``ends`` (minutes of the local day, over midnight if
    ``ends`` is not the later), of nights that begin on one of ``days`` (0 is Monday)."""

    begins: int
    ends: int
    days: frozenset[int] = frozenset(range(7))

    def until(self, local: datetime) -> datetime | None:
        """When these hours end that ``local`` lies in; None if it does not."""
        minute = local.hour * 60 + local.minute
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        over = self.ends <= self.begins
        if local.weekday() in self.days and self.begins <= minute < (_MINUTES_A_DAY if over else self.ends):
            return _at(midnight, self.ends, days=1 if over else 0)
        if over and (local.weekday() - 1) % 7 in self.days and minute < self.ends:
            return _at(midnight, self.ends, days=0)
        return None


def _at(midnight: datetime, minute: int, days: int) -> datetime:
    # By the clock on the wall: the night in which clocks move is an hour longer or shorter.
    return midnight + timedelta(days=days, minutes=minute)


@dataclass(frozen=True, slots=True)
class Watch:
    """Shops whose id matches one of the patterns (``*`` and ``?``, ``[abc]``; ``(all)`` is all shops
    together), and what is held to be a spike there."""

    shops: tuple[str, ...] = ("*", ALL_TOGETHER)
    rule: SpikeRule = field(default_factory=SpikeRule)
    quiet: tuple[Quiet, ...] = ()

    def covers(self, shop_id: str) -> bool:
        """Whether the shop is one of these."""
        name = shop_id or ALL_TOGETHER
        return any(pattern == name or (shop_id and fnmatchcase(shop_id, pattern)) for pattern in self.shops)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody who is told. secrets: the one to sign with first, then those that receivers may still go by.
    headers: sent along, values are secrets too."""

    name: str
    kind: EndpointKind
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout_s: float = 15.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Facts of ``topic`` that go to ``endpoints``: of shops that match, and of what ``only`` names: signals
    of alerts, stages or tiers of transitions, kinds of actions, segments; empty is any."""

    topic: str
    endpoints: tuple[str, ...]
    shops: tuple[str, ...] = ("*", ALL_TOGETHER)
    only: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()

    def takes(self, topic: str, fact: Routed) -> bool:
        """Whether the fact goes this way."""
        if topic != self.topic or not Watch(self.shops).covers(fact.shop_id):
            return False
        if self.only and getattr(fact, ROUTED[topic]) not in self.only:
            return False
        return not self.severities or getattr(fact, "severity", "") in self.severities


class Routed(Protocol):
    """A fact that may be routed; its other fields are those of its topic."""

    @property
    def shop_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AlertRules:
    """All that ``alerts.yaml`` says."""

    watches: tuple[Watch, ...] = (Watch(),)
    health: HealthRule = field(default_factory=HealthRule)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()

    def watch_of(self, shop_id: str) -> Watch | None:
        """The watch of a shop, "" for all together; None if it is not watched."""
        for watch in self.watches:
            if watch.covers(shop_id):
                return watch
        return None

    def reads(self, topic: str) -> bool:
        """Whether facts of the topic go to anybody."""
        return any(route.topic == topic for route in self.routes)

    def endpoints_for(self, topic: str, fact: Routed) -> tuple[str, ...]:
        """The names of those who are told of the fact, each once."""
        found: dict[str, None] = {}
        for route in self.routes:
            if route.takes(topic, fact):
                found.update(dict.fromkeys(route.endpoints))
        return tuple(found)

    def quiet_until(self, shop_id: str, zone: str, now: int) -> int | None:
        """When the quiet hours of the shop end that ``now`` (ms) lies in, by its ``zone``; None: it may be
        told.

        Hours that begin where others end are one.
        """
        watch = self.watch_of(shop_id)
        if watch is None or not watch.quiet:
            return None
        where = ZoneInfo(zone)
        at = now
        for _ in range(2 * len(DAYS)):
            local = datetime.fromtimestamp(at / SECOND, where)
            ends = [end for quiet in watch.quiet if (end := quiet.until(local)) is not None]
            if not ends:
                break
            later = max(int(end.timestamp() * SECOND) for end in ends)
            if later <= at:
                # The hour that clocks skip: it is over.
                break
            at = later
        return at if at > now else None

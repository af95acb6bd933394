"""The second half of watching shops: the minutes of the shops that one partition owns, judged in their order.

A minute is judged once every partition has told that it has nothing more of it; what is corrected in the hour
after is told again, and alerts go by it from then on. Before any shop's minute the pipeline's own health is
looked at, so that no loss is told of which the data is to blame for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Struct, field

from streams.domain import spike
from streams.domain.alert_facts import AlertFact, LossWindowFact, Status, alert_id
from streams.domain.alert_rules import AlertRules
from streams.domain.alerting import WHOLE
from streams.domain.health import Beat, Health, HealthRule, TroubleNow, check, lagging
from streams.domain.pipeline_alerts import PipelineAlert, over, pipeline
from streams.domain.policy import MINUTE, SECOND
from streams.domain.series import AFTERMATH, Doubt
from streams.domain.spike import Memory, Prior, SpikeRule
from streams.domain.tally import OPEN
from streams.domain.watched import Part, Standing, Watched
from streams.domain.windows import ALL_SHOPS, Cell

KEPT_KEY: Final = b"w"
LIVE_KEY: Final = b"v"
PART_KEY: Final = b"k"
STATE_KEY: Final = b"\x00watch"
HEALTH_KEY: Final = b"\x00health"
#: Among the counts of a pulse, beside the input topics: sessions closed, and how many of them are machines'.
SESSIONS: Final = "sessions"
#: Troubles that leave holes in the data, or things in it that are none.
_BREAKS: Final = frozenset({"silent_topic", "schema_errors", "bot_burst"})
_EVERY: Final = 60
#: Further behind than this, minutes in which nobody did anything are passed over.
_FAR_BEHIND: Final = 6 * 60
_MINUTE_S: Final = 60


class Pulse(Struct, array_like=True):
    """A partition has nothing more of minutes below ``complete``. counts: of complete minutes not told
    before, (received, rejected) by minute and input topic."""

    version: int
    complete: int
    counts: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)


class State(Struct, array_like=True):
    """What is kept beside the shops. judged: the last minute; pulses: of each partition, version and minute
    that is complete; counts: of minutes to come, by topic; platform: the memory of all shops together."""

    judged: int = -1
    pulses: dict[int, tuple[int, int]] = field(default_factory=dict)
    counts: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)
    platform: bytes = b""
    doubts: list[Doubt] = field(default_factory=list)
    told: list[PipelineAlert] = field(default_factory=list)


class Outcome(NamedTuple):
    """changes: of what is kept; windows and alerts: to be told; level: of all shops, for every partition."""

    changes: dict[bytes, bytes | None]
    windows: list[LossWindowFact]
    alerts: list[AlertFact]
    level: list[bytes]


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_state: Final = msgspec.msgpack.Decoder(State).decode
_unpack_health: Final = msgspec.msgpack.Decoder(Health).decode
_unpack_part: Final = msgspec.msgpack.Decoder(Part).decode
_unpack_memory: Final = msgspec.msgpack.Decoder(Memory).decode


def owner_of(shop_id: str, partitions: int) -> int:
    """The partition that watches the shop."""
    return crc32(shop_id.encode()) % partitions


def part_key(minute: int, source: int, shop_id: str) -> bytes:
    """The key of one partition's cell."""
    return PART_KEY + minute.to_bytes(5, "big", signed=True) + source.to_bytes(2, "big") + shop_id.encode()


class Watch:
    """One partition's. ``zones``: of the shops that have one of their own; it may change meanwhile."""

    def __init__(
        self,
        number: int,
        partitions: int,
        rules: AlertRules,
        zone: str,
        zones: dict[str, str],
        stored: Iterable[tuple[bytes, bytes]],
    ) -> None:
        self._tells_all = owner_of(ALL_SHOPS, partitions) == number
        self._partitions = partitions
        self._rules = rules
        self._zone = zone
        self._zones = zones
        self._wall: int | None = None
        self._shops: dict[str, Watched] = {}
        self._amended: set[tuple[str, int]] = set()
        #: Minutes that somebody did anything in, and that are to come.
        self._minutes: list[int] = []
        kept: dict[str, bytes] = {}
        live: dict[str, bytes] = {}
        parts: list[tuple[str, int, Part]] = []
        self.state = State()
        self._health = Health()
        for key, value in stored:
            if key == STATE_KEY:
                self.state = _unpack_state(value)
            elif key == HEALTH_KEY:
                self._health = _unpack_health(value)
            elif key.startswith(KEPT_KEY):
                kept[key[1:].decode()] = value
            elif key.startswith(LIVE_KEY):
                live[key[1:].decode()] = value
            elif key.startswith(PART_KEY):
                source = int.from_bytes(key[6:8], "big")
                parts.append((key[8:].decode(), source, _unpack_part(value)))
        self._changes: dict[bytes, bytes | None] = {}
        self._prior = self._platform()
        for shop_id in {*kept, *live, *(shop_id for shop_id, _, _ in parts)}:
            self._shops[shop_id] = Watched(shop_id, kept.get(shop_id), live.get(shop_id))
        for shop_id, source, part in parts:
            self._shops[shop_id].take(source, part)
            heappush(self._minutes, part.cell.minute)
        for shop_id, shop in self._shops.items():
            shop.restore(
                self.state.judged, self.zone_of(shop_id), self._prior, self._rule(shop_id), self.state.doubts
            )

    # -- what comes in

    def cell(self, source: int, shop_id: str, version: int, cell: Cell) -> None:
        """A partition tells what it has of a shop's minute."""
        state = self.state
        shop = self._shops.get(shop_id)
        if cell.minute <= state.judged - OPEN and state.judged >= 0:
            return
        if shop is None:
            shop = self._shops[shop_id] = Watched(shop_id)
        part = Part(version, cell)
        if shop.take(source, part):
            self._changes[part_key(cell.minute, source, shop_id)] = _pack(part)
            if cell.minute <= state.judged:
                self._amended.add((shop_id, cell.minute))
            else:
                heappush(self._minutes, cell.minute)

    def pulse(self, source: int, pulse: Pulse) -> None:
        """A partition tells how far it is complete."""
        had = self.state.pulses.get(source, (-1, -1))
        if pulse.version <= had[0]:
            return
        self.state.pulses[source] = pulse.version, max(had[1], pulse.complete)
        for minute, counts in pulse.counts.items():
            if minute <= self.state.judged:
                continue
            mine = self.state.counts.setdefault(minute, {})
            for topic, (received, rejected) in counts.items():
                all_of = mine.get(topic, (0, 0))
                mine[topic] = all_of[0] + received, all_of[1] + rejected

    def level(self, platform: bytes) -> None:
        """The memory of all shops together, which young shops lean on."""
        self.state.platform = platform
        self._prior = self._platform()

    def tick(self, wall: int) -> None:
        """The wall clock says ``wall`` (ms)."""
        self._wall = wall if self._wall is None else max(self._wall, wall)

    # -- what comes of it

    @property
    def ready(self) -> int:
        """The last minute that may be judged."""
        pulses = self.state.pulses
        return min(complete for _, complete in pulses.values()) - 1 if len(pulses) == self._partitions else -1

    @property
    def waits(self) -> bool:
        """Whether there are minutes to judge."""
        return self.ready > self.state.judged

    def alerts_open(self) -> Iterator[tuple[str, Status]]:
        """Kind and status of each alert that stands; those of the pipeline are one partition's."""
        if self._tells_all:
            yield from (("pipeline", "firing") for _ in self.state.told)
        for shop in self._shops.values():
            yield from (("loss", told.status) for told in shop.live.told)

    def go_on(self, most_minutes: int, version: int) -> Outcome:
        """Tell corrections again, and judge minutes that are complete: so many at most. ``version``: of the
        windows told; it only grows."""
        out = Outcome(self._changes, [], [], [])
        self._changes = {}
        self._again(out, version)
        state = self.state
        judged = 0
        while self.waits and judged < most_minutes:
            self._judge(self._next(), out, version)
            judged += 1
        if judged:
            out.changes[HEALTH_KEY] = _pack(self._health)
        self._look_at_the_clock(out)
        out.changes[STATE_KEY] = _pack(state)
        return out

    def zone_of(self, shop_id: str) -> str:
        """The shop's zone."""
        return self._zones.get(shop_id, self._zone)

    def _rule(self, shop_id: str) -> SpikeRule | None:
        watch = self._rules.watch_of(shop_id)
        return None if watch is None else watch.rule

    def _platform(self) -> Prior | None:
        return spike.prior_of(_unpack_memory(self.state.platform)) if self.state.platform else None

    def _next(self) -> int:
        """The minute that is to be judged next."""
        judged, ready = self.state.judged, self.ready
        if judged >= 0 and ready - judged <= _FAR_BEHIND:
            return judged + 1
        while self._minutes and self._minutes[0] <= judged:
            heappop(self._minutes)
        return min(self._minutes[0], ready) if self._minutes else ready

    def _judge(self, minute: int, out: Outcome, version: int) -> None:
        standing, over = self._look_at_health(minute, out)
        for shop_id in sorted(self._shops):
            shop = self._shops[shop_id]
            zone, rule = self.zone_of(shop_id), self._rule(shop_id)
            if over is not None:
                out.alerts.extend(shop.doubt_is_over(over, minute, rule or SpikeRule(), standing))
            if not shop.is_asleep(minute):
                prior = None if shop_id == ALL_SHOPS else self._prior
                alerts, results = shop.judge(minute, zone, prior, rule, standing)
                out.alerts.extend(alerts)
                out.windows.extend(shop.windows(minute, results, version))
            changed, live = shop.live_change()
            if changed:
                out.changes[LIVE_KEY + shop_id.encode()] = live
            if (minute + crc32(shop_id.encode())) % _EVERY == 0:
                self._keep(shop, out)
        self.state.judged = minute

    def _keep(self, shop: Watched, out: Outcome) -> None:
        gone = shop.forget_parts()
        if not gone:
            return
        name = shop.shop_id
        out.changes[KEPT_KEY + name.encode()] = shop.packed()
        for minute, source in gone:
            out.changes[part_key(minute, source, name)] = None
        if name == ALL_SHOPS:
            memory = shop.kept.memories.get("\0".join(WHOLE))
            if memory is not None:
                out.level.append(_pack(memory))

    def _again(self, out: Outcome, version: int) -> None:
        """Tell corrected minutes once more."""
        standing = self._standing(())
        for shop_id, minute in sorted(self._amended):
            shop = self._shops[shop_id]
            prior = None if shop_id == ALL_SHOPS else self._prior
            results = shop.judge_again(minute, prior, self._rule(shop_id), standing)
            out.windows.extend(shop.windows(minute, results, version, again=True))
        self._amended.clear()

    def _standing(self, suspects: Iterable[str]) -> Standing:
        holds = self._rules.health.holds
        stands = {each.trouble for each in self._health.standing if each.trouble in holds}
        return Standing(tuple(sorted(stands)), bool(tuple(suspects)), self.state.doubts)

    # -- the pipeline

    def _look_at_health(self, minute: int, out: Outcome) -> tuple[Standing, Doubt | None]:
        state, rule = self.state, self._rules.health
        counts = state.counts.pop(minute, {})
        # Of minutes passed over; a look at all that are to come would be dear to who is far behind.
        if minute - state.judged <= len(state.counts):
            for passed in range(state.judged + 1, minute):
                state.counts.pop(passed, None)
        else:
            state.counts = {at: each for at, each in state.counts.items() if at > minute}
        sessions, bots = counts.pop(SESSIONS, (0, 0))
        lag = None if self._wall is None else self._wall / SECOND - (minute + 1) * _MINUTE_S
        beat = Beat(
            minute,
            {topic: received for topic, (received, _) in counts.items()},
            {topic: rejected for topic, (_, rejected) in counts.items()},
            bots,
            sessions - bots,
            lag,
        )
        checked = check(self._health, beat, rule)
        self._tell(checked.troubles, minute, out)
        over = self._doubt(checked.troubles, minute, rule)
        return self._standing(checked.suspects), over

    def _doubt(self, troubles: Iterable[TroubleNow], minute: int, rule: HealthRule) -> Doubt | None:
        """Note since when data is broken, and until when; gives the doubt that is over with this minute."""
        doubts = self.state.doubts
        since = min(
            (each.since for each in troubles if each.trouble in _BREAKS and each.trouble in rule.holds),
            default=None,
        )
        now = next((doubt for doubt in doubts if not doubt.until), None)
        over = None
        if since is not None and now is None:
            doubts.append(Doubt(since))
        elif since is not None and now is not None:
            now.since = min(now.since, since)
        elif now is not None:
            now.until = minute
            over = now
        self.state.doubts = [
            doubt for doubt in doubts if not doubt.until or doubt.until + AFTERMATH + 4 * OPEN > minute
        ]
        return over

    def _look_at_the_clock(self, out: Outcome) -> None:
        """Tell that nothing gets complete, though time goes on."""
        if self._wall is None or self.state.judged < 0 or self.waits:
            return
        found = lagging(self._health, self.state.judged, self._wall, self._rules.health)
        if found is not None:
            self._tell_new(found, self._wall // MINUTE, out)

    def _tell(self, troubles: Iterable[TroubleNow], minute: int, out: Outcome) -> None:
        now = {(each.trouble, each.topic): each for each in troubles}
        for told in list(self.state.told):
            if (told.trouble, told.topic) not in now:
                self.state.told.remove(told)
                if self._tells_all:
                    out.alerts.append(over(told, minute))
        known = {(told.trouble, told.topic) for told in self.state.told}
        for place, each in now.items():
            if place not in known:
                self._tell_new(each, minute, out)

    def _tell_new(self, found: TroubleNow, minute: int, out: Outcome) -> None:
        name = alert_id(ALL_SHOPS, found.trouble, "shop", found.topic, found.since * MINUTE)
        self.state.told.append(PipelineAlert(name, found.trouble, found.topic, found.since, 1))
        if self._tells_all:
            holds = found.trouble in self._rules.health.holds
            said = f"{found.note}; loss alerts are held back" if holds else found.note
            out.alerts.append(pipeline(name, found, "firing", 1, minute, said))

"""One shop that is watched: its minutes, what is usual there, what stands out, what was told of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, field

from streams.domain import spike
from streams.domain.alert_facts import AlertFact, LossWindowFact, Verdict
from streams.domain.alerting import WHOLE, Counts, Firing, Live, Series, bring_up, step, withdraw
from streams.domain.contributors import Driver, Shares, contributors, learn
from streams.domain.facts import money
from streams.domain.policy import MINUTE
from streams.domain.series import Doubt, counted, counts_in, counts_of, reading_of, series_of, slot_of
from streams.domain.spike import Judgement, Memory, Prior, SpikeRule
from streams.domain.tally import OPEN
from streams.domain.windows import Cell, Reading, merged

#: A narrow series is one of many: it gets a part of the shop's allowance of false alarms.
_NARROW: Final = 20.0


class Kept(Struct, array_like=True):
    """What is kept of a shop: its series by scope and value, shares of what is usual, the last minute with
    anything in it, the first minute that is not part of it."""

    memories: dict[str, Memory] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)
    seen: int = 0
    upto: int = 0


class Part(Struct, array_like=True, frozen=True):
    """One partition's cell, as of its ``version``."""

    version: int
    cell: Cell


class Standing(NamedTuple):
    """What a minute is judged under. held_by: troubles that hold alerts back; suspect: there may be one."""

    held_by: Collection[str]
    suspect: bool
    doubts: list[Doubt]


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_kept: Final = msgspec.msgpack.Decoder(Kept).decode
_unpack_live: Final = msgspec.msgpack.Decoder(Live).decode


class Watched:
    """A shop. ``parts``: by minute and source, of all minutes that ``kept`` has not."""

    def __init__(self, shop_id: str, kept: bytes | None = None, live: bytes | None = None) -> None:
        self.shop_id = shop_id
        self.kept = Kept() if kept is None else _unpack_kept(kept)
        self.live = Live() if live is None else _unpack_live(live)
        self.parts: dict[int, dict[int, Part]] = {}
        self._cells: dict[int, Cell] = {}
        self._minutes: list[int] = []
        self._slots: list[int] = []
        self._readings: dict[Series, list[Reading]] = {}
        self._stored_live = live
        #: Of the channels, and when and from what they were drawn.
        self._priors: dict[Series, Prior | None] = {}
        self._drawn: tuple[int, Prior | None] = (-1, None)

    # -- what comes in

    def take(self, source: int, part: Part) -> bool:
        """Take a cell in, unless it is known or older than what is kept; whether it was."""
        minute = part.cell.minute
        parts = self.parts.setdefault(minute, {})
        had = parts.get(source)
        if had is not None and had.version >= part.version:
            return False
        parts[source] = part
        self._cells.pop(minute, None)
        self.kept.seen = max(self.kept.seen, minute)
        return True

    def cell(self, minute: int) -> Cell:
        """All partitions' cells of a minute together."""
        found = self._cells.get(minute)
        if found is None:
            parts = self.parts.get(minute, {})
            found = merged(minute, [part.cell for part in parts.values()])
            if parts:
                self._cells[minute] = found
        return found

    def is_asleep(self, minute: int) -> bool:
        """Whether nothing has happened in the open window before, and nothing is under way."""
        return self.kept.seen < minute - OPEN and self.live.is_idle()

    # -- a minute

    def judge(
        self, minute: int, zone: str, prior: Prior | None, rule: SpikeRule | None, standing: Standing
    ) -> tuple[list[AlertFact], dict[Series, tuple[Judgement, Verdict]]]:
        """Judge a minute that is complete, the next one; gives alerts to be told, and of each series what it
        has come to. Without a rule nothing is judged."""
        self._append(minute, zone, standing)
        self._leave(minute, prior, rule or SpikeRule(), standing)
        if rule is None:
            return [], {}
        results: dict[Series, tuple[Judgement, Verdict]] = {}
        firing: list[Firing] = []
        narrow = _narrow(rule)
        for series, readings in self._readings.items():
            own = rule if series == WHOLE else narrow
            if not any(each.closed or each.carts for each in readings) and self.live.is_idle():
                continue
            judgement = self._judged(series, readings, self._slots[-len(readings) :], prior, own)
            fires, pending = step(self.live, series, judgement.out, minute, own)
            firing += fires
            results[series] = judgement, _verdict(judgement, bool(fires), pending, standing)
        alerts = bring_up(
            self.live,
            self.shop_id,
            firing,
            minute,
            rule,
            standing.held_by,
            standing.suspect,
            lambda series, began: self._counts(series, began, minute),
            lambda began: self._drivers(began, minute),
        )
        return alerts, results

    def judge_again(
        self, minute: int, prior: Prior | None, rule: SpikeRule | None, standing: Standing
    ) -> dict[Series, tuple[Judgement, Verdict]]:
        """What a minute of the open window comes to after a correction; alerts go by it from the next
        minute."""
        self._amend(minute, standing)
        results: dict[Series, tuple[Judgement, Verdict]] = {}
        if rule is None:
            return results
        for series, readings in self._readings.items():
            upto = [each for each in readings if each.minute <= minute]
            if not upto or upto[-1].minute != minute:
                continue
            own = rule if series == WHOLE else _narrow(rule)
            first = len(self._minutes) - len(readings)
            judgement = self._judged(series, upto, self._slots[first : first + len(upto)], prior, own)
            stands = any(
                (told.scope, told.value) == series and told.began <= minute and told.status == "firing"
                for told in self.live.told
            )
            out = any(excess.score >= 1 for excess in judgement.out)
            results[series] = judgement, _verdict(judgement, stands, out, standing)
        return results

    def doubt_is_over(
        self, doubt: Doubt, minute: int, rule: SpikeRule, standing: Standing
    ) -> list[AlertFact]:
        """Broken data is no more: what rested on it is forgotten, and its minutes are not judged by."""
        for at in list(self._minutes):
            if at >= doubt.since:
                self._amend(at, standing)
        return withdraw(self.live, self.shop_id, minute, rule)

    def windows(
        self,
        minute: int,
        results: Mapping[Series, tuple[Judgement, Verdict]],
        version: int,
        again: bool = False,
    ) -> Iterator[LossWindowFact]:
        """The facts of a minute: of the shop, of each channel that closed a session, of each stage;
        ``again``: of what there may have been before a correction, too. There is none of a minute in which
        nothing was, and nothing stands out."""
        cell = self.cell(minute)
        found = counted(cell)
        if again:
            found = {series: counts_of(cell, series) for series in self._readings} | found
        elif not (cell.closed or cell.carts or cell.orders or cell.bots) and (
            results.get(WHOLE, _NOTHING)[1] in ("within", "learning")
        ):
            return
        at_risk = {currency: money(amount) for currency, amount in sorted(cell.at_risk.items())}
        for series, (closed, lost) in found.items():
            whole = series == WHOLE
            judgement, verdict = results.get(series, _NOTHING)
            yield LossWindowFact(
                self.shop_id,
                series[0],
                series[1],
                minute * MINUTE,
                closed,
                lost,
                cell.bots if whole else 0,
                at_risk if whole or series == ("stage", "carted") else {},
                cell.carts if whole else 0,
                cell.orders if whole else 0,
                _rounded(judgement.observed),
                _rounded(judgement.expected),
                _rounded(judgement.band),
                _rounded(judgement.expected_lost),
                _rounded(judgement.orders_per_cart if whole else None),
                _rounded(judgement.expected_orders_per_cart if whole else None),
                _rounded(judgement.band_orders_per_cart if whole else None),
                verdict,
                version,
                False,
            )

    # -- what is kept

    def packed(self) -> bytes:
        """What has left the open window, as it is kept."""
        return _pack(self.kept)

    def live_change(self) -> tuple[bool, bytes | None]:
        """Whether what is under way differs from what is stored, and as what it is to be stored."""
        if self.live.is_idle() and self._stored_live is None:
            return False, None
        now = None if self.live.is_idle() else _pack(self.live)
        changed, self._stored_live = now != self._stored_live, now
        return changed, now

    def forget_parts(self) -> list[tuple[int, int]]:
        """Drop cells that ``kept`` has; gives (minute, source) of each."""
        gone = [minute for minute in self.parts if minute < self.kept.upto]
        return [(minute, source) for minute in gone for source in self.parts.pop(minute)]

    def restore(
        self, judged: int, zone: str, prior: Prior | None, rule: SpikeRule | None, doubts: list[Doubt]
    ) -> None:
        """Bring it to where it was after ``judged``, from what was kept."""
        standing = Standing((), False, doubts)
        for minute in sorted(minute for minute in self.parts if minute <= judged):
            self._append(minute, zone, standing)
            self._leave(minute, prior, rule or SpikeRule(), standing, again=True)
        if judged >= 0:
            self._leave(judged, prior, rule or SpikeRule(), standing, again=True)

    # -- below

    def _append(self, minute: int, zone: str, standing: Standing) -> None:
        self._minutes.append(minute)
        self._slots.append(slot_of(minute, zone))
        for series in series_of(self.cell(minute), self._readings):
            self._readings.setdefault(series, []).append(
                reading_of(self.cell(minute), series, standing.doubts)
            )

    def _amend(self, minute: int, standing: Standing) -> None:
        cell = self.cell(minute)
        for series in series_of(cell, self._readings):
            readings = self._readings.get(series)
            if readings is None:
                # A correction brought a channel that was not there: from that minute on it is watched.
                since = [at for at in self._minutes if at >= minute]
                found = [reading_of(self.cell(at), series, standing.doubts) for at in since]
                self._readings[series] = found
                continue
            for at, each in enumerate(readings):
                if each.minute == minute:
                    readings[at] = reading_of(cell, series, standing.doubts)

    def _leave(
        self, minute: int, prior: Prior | None, rule: SpikeRule, standing: Standing, again: bool = False
    ) -> None:
        """Remember the minutes that leave the window which ends with ``minute``; ``again``: what stands has
        counted them before."""
        floor = minute - OPEN + 1
        while self._minutes and self._minutes[0] < floor:
            leaves, slot = self._minutes.pop(0), self._slots.pop(0)
            hidden = any(doubt.hides_loss(leaves) for doubt in standing.doubts)
            for series, readings in list(self._readings.items()):
                if readings and readings[0].minute == leaves:
                    reading = readings.pop(0)
                    if not hidden:
                        self._remember(series, reading, slot, prior, rule)
            cell = self.cell(leaves)
            told = [each for each in self.live.told if each.began <= leaves]
            for each in told if not again else ():
                counts = counts_in(cell, (each.scope, each.value))
                each.sessions += counts.sessions
                each.lost += counts.lost
                for currency, amount in counts.at_risk.items():
                    each.at_risk[currency] = each.at_risk.get(currency, 0) + amount
            if not told and not hidden and cell.closed:
                learn(self.kept.shares, cell)
            self._cells.pop(leaves, None)
        self.kept.upto = max(self.kept.upto, floor)

    def _remember(
        self, series: Series, reading: Reading, slot: int, prior: Prior | None, rule: SpikeRule
    ) -> None:
        memory = self.kept.memories.setdefault("\0".join(series), Memory())
        spike.remember(memory, reading, slot, self._prior(series, prior, reading.minute), rule)

    def _judged(
        self, series: Series, readings: list[Reading], slots: list[int], prior: Prior | None, rule: SpikeRule
    ) -> Judgement:
        memory = self.kept.memories.setdefault("\0".join(series), Memory())
        return spike.judge(memory, readings, slots, self._prior(series, prior, readings[-1].minute), rule)

    def _prior(self, series: Series, prior: Prior | None, minute: int) -> Prior | None:
        """What a series leans on: the shop on the platform, a channel on the shop; drawn once an hour."""
        if (drawn := (minute // 60, prior)) != self._drawn:
            self._priors, self._drawn = {}, drawn
        if series == WHOLE:
            return prior
        if series[0] == "stage":
            # Rates of stages are of another kind than those of the shop.
            return None
        if series not in self._priors:
            whole = self.kept.memories.get("\0".join(WHOLE))
            self._priors[series] = None if whole is None else spike.prior_of(whole, prior)
        return self._priors[series]

    def _counts(self, series: Series, began: int, minute: int) -> Counts:
        sessions = lost = 0
        at_risk: dict[str, int] = {}
        for at in self._minutes:
            if began <= at <= minute:
                counts = counts_in(self.cell(at), series)
                sessions += counts.sessions
                lost += counts.lost
                for currency, amount in counts.at_risk.items():
                    at_risk[currency] = at_risk.get(currency, 0) + amount
        return Counts(sessions, lost, at_risk)

    def _drivers(self, began: int, minute: int) -> tuple[Driver, ...]:
        return contributors(
            self.kept.shares, [self.cell(at) for at in self._minutes if began <= at <= minute]
        )


_NOTHING: Final[tuple[Judgement, Verdict]] = (
    Judgement(None, None, None, None, None, None, None, (), True),
    "learning",
)


@lru_cache
def _narrow(rule: SpikeRule) -> SpikeRule:
    return replace(rule, false_alarms=rule.false_alarms / _NARROW, signals=rule.signals - {"orders_per_cart"})


def _verdict(judgement: Judgement, fires: bool, pending: bool, standing: Standing) -> Verdict:
    if (fires or pending) and standing.held_by:
        return "held"
    if fires:
        return "firing"
    if pending:
        return "pending"
    return "learning" if judgement.learning else "within"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

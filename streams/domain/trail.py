"""A customer's trail through all shops: where they looked, where they went instead, and why.

What sessions touched comes in when they close, by local day, and stays until nothing can change what became
of it: the leak window and the horizon after the day, and while an order that bears on it can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field

from streams.domain.checkup import NEVER
from streams.domain.days import day_of, start_of
from streams.domain.disposition import Day
from streams.domain.leakage import Leaked
from streams.domain.loss_facts import ItemDaysFact, LeakFact, ReasonFact
from streams.domain.motives import LOOKBACK, Lapse, Loss, Past, Said, settles_after
from streams.domain.order import Amendment
from streams.domain.policy import DAY, LONGEST_LEAK_WINDOW, Policy
from streams.domain.session import Touch

Fact = ItemDaysFact | LeakFact | ReasonFact
PolicyOf = Callable[[str], Policy]

_pack: Final = msgspec.msgpack.Encoder().encode


class Trace(Struct, array_like=True, gc=False):
    """In one shop. days: by number. bots: the end, by start, of sessions of machines. losses, lapses: whose
    reason may still change. said: by the customer of the shop, or taken back."""

    days: dict[int, Day] = field(default_factory=dict)
    bots: dict[int, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    lapses: list[Lapse] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def explained(self) -> list[Loss | Lapse]:
        """All that has a reason."""
        return [*self.losses, *self.lapses]

    def is_empty(self) -> bool:
        """Whether there is nothing to keep; bots are kept for the days."""
        return not (self.days or self.losses or self.lapses or self.said)


class Trail(Struct, array_like=True, gc=False):
    """traces: by shop. past: standing purchases of the last months. version: of what was told last; owed: the
    lowest version that may not have been sent, 0 if all was."""

    traces: dict[str, Trace] = field(default_factory=dict)
    leaks: list[Leaked] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    version: int = 0
    owed: int = 0

    def trace(self, shop_id: str) -> Trace:
        """The trace in a shop, begun if there is none."""
        trace = self.traces.get(shop_id)
        if trace is None:
            trace = self.traces[shop_id] = Trace()
        return trace

    def hear(self, shop_id: str, said: Said) -> bool:
        """Take in what a customer has said of a shop; False if it was heard before."""
        heard = self.trace(shop_id).said
        if any(each.id == said.id for each in heard):
            return False
        heard.append(said)
        return True

    def unhear(self, shop_id: str, amendments: Iterable[Amendment]) -> bool:
        """Forget orders taken back that are somebody else's; False if none was known."""
        trace = self.traces.get(shop_id)
        if trace is None:
            return False
        ids = {each.id for each in amendments}
        kept = [each for each in trace.said if each.id not in ids]
        some = len(kept) < len(trace.said)
        trace.said = kept
        return some

    def retained(self) -> int:
        """Events that are kept, to bound the state."""
        return sum(len(trace.said) for trace in self.traces.values())


_decode: Final = msgspec.msgpack.Decoder(Trail).decode


def read(packed: bytes) -> Trail:
    """The trail that is kept as ``packed``."""
    return _decode(packed) if packed else Trail()


def keep(trail: Trail) -> bytes:
    """``trail`` as it is kept; nothing if there is nothing to keep."""
    return _pack(trail) if trail.traces or trail.leaks or trail.past else b""


def fold(trace: Trace, touches: Sequence[Touch], zone: str) -> Iterable[int]:
    """Take in the touches of one session that has closed; gives the days they are of."""
    by_day: dict[int, list[Touch]] = {}
    for touch in touches:
        number = day_of(touch.t, zone)
        same = by_day.get(number)
        if same is None:
            by_day[number] = [touch]
        else:
            same.append(touch)
    for number, portion in by_day.items():
        day = trace.days.get(number)
        if day is None:
            day = trace.days[number] = Day()
        day.fold(portion, start_of(number, zone))
    return by_day


def is_bot(trace: Trace, day: Day, begins: int) -> bool:
    """Whether a session that touched the day, which begins at ``begins``, is a machine's."""
    return bool(trace.bots) and any(
        start <= begins + fold <= end for start, end in trace.bots.items() for fold in day.folds
    )


def window_of(number: int, policy: Policy) -> tuple[int, int, int]:
    """When the day begins and ends, and when its leak window ends; the ends are not part of them."""
    zone = policy.zone
    ends = start_of(number + 1, zone)
    after = policy.leak_window // DAY
    return start_of(number, zone), ends, start_of(number + 1 + after, zone) if after else ends


def forget(
    trail: Trail, watermark: int, policy_of: PolicyOf, open_since: Mapping[str, int], owes: bool
) -> int:
    """Drop what nothing can change any more; gives the watermark (ms) at which more can go, NEVER if none.

    open_since: by shop, when the first session began that is open, and may yet bring touches of days since.
    owes: something may have to be told again, so that everything stays until the next step.
    """
    due = NEVER
    for shop_id in tuple(trail.traces):
        trace, policy = trail.traces[shop_id], policy_of(shop_id)
        settles = settles_after(policy)
        due = min(due, _forget_days(trace, watermark, policy, open_since.get(shop_id, NEVER), owes))
        if trace.losses:
            due = min(due, _forget_losses(shop_id, trace, trail.leaks, watermark, policy, owes))
        if trace.lapses:
            trace.lapses = [each for each in trace.lapses if watermark <= each.at + settles or owes]
            due = min([due, *(each.at + settles for each in trace.lapses)])
        if trace.said:
            due = min(due, _forget_what_was_said(trace, watermark, policy, owes))
        if trace.bots:
            first = start_of(min(trace.days), policy.zone) if trace.days else NEVER
            trace.bots = {start: end for start, end in trace.bots.items() if end >= first}
        if trace.is_empty():
            del trail.traces[shop_id]
    if not owes:
        trail.leaks = [each for each in trail.leaks if _bears(each, trail)]
    stays = LOOKBACK + 3 * DAY + LONGEST_LEAK_WINDOW + settles_after(policy_of(""))
    if trail.past:
        trail.past = [each for each in trail.past if watermark <= each.at + stays or owes]
        due = min([due, *(each.at + stays for each in trail.past)])
    if due <= watermark:
        due = watermark
    return due + 1 if due != NEVER else NEVER


def forget_days(trail: Trail, watermark: int, policy_of: PolicyOf, open_since: Mapping[str, int]) -> None:
    """Drop the days that nothing can change any more."""
    for shop_id, trace in trail.traces.items():
        _forget_days(trace, watermark, policy_of(shop_id), open_since.get(shop_id, NEVER), owes=False)


def _forget_days(trace: Trace, watermark: int, policy: Policy, begun: int, owes: bool) -> int:
    settles, due = settles_after(policy), NEVER
    for number in tuple(trace.days):
        _, ends, shuts = window_of(number, policy)
        if begun < ends:
            continue
        until = shuts + (settles if trace.days[number].bought else policy.horizon)
        if watermark > until and not owes:
            del trace.days[number]
        elif until < due:
            due = until
    return due


def _forget_losses(
    shop_id: str, trace: Trace, leaks: Iterable[Leaked], watermark: int, policy: Policy, owes: bool
) -> int:
    settles, due = settles_after(policy), NEVER
    leaked = [each.leak.seen_at for each in leaks if each.shop == shop_id]
    kept: list[Loss] = []
    for loss in trace.losses:
        shuts = window_of(day_of(loss.end, policy.zone), policy)[2]
        until = max(shuts, loss.end + policy.gap + policy.recovery_window) + policy.horizon
        if leaked and any(loss.start <= seen_at <= loss.end for seen_at in leaked):
            until = max(until, shuts + settles)
        if watermark <= until or owes:
            kept.append(loss)
            if until < due:
                due = until
    trace.losses = kept
    return due


def _forget_what_was_said(trace: Trace, watermark: int, policy: Policy, owes: bool) -> int:
    due = NEVER
    bad_until = policy.grievance_window + settles_after(policy)
    said = []
    for each in trace.said:
        until = each.t + (bad_until if each.code else policy.horizon)
        if watermark <= until or owes:
            said.append(each)
            due = min(due, until)
        elif each.code and _is_held_against(each.t, trace, policy):
            said.append(each)
    trace.said = said
    return due


def _is_held_against(t: int, trace: Trace, policy: Policy) -> bool:
    """Whether what was said at ``t`` may be why of a loss whose reason may still change."""
    window = policy.grievance_window
    moments = [*(loss.start for loss in trace.losses), *(lapse.at for lapse in trace.lapses)]
    return any(at - window < t <= at for at in moments)


def _bears(leaked: Leaked, trail: Trail) -> bool:
    """Whether the leak may still change, or what is said of a loss rests on it."""
    trace = trail.traces.get(leaked.shop)
    if trace is None:
        return False
    seen_at = leaked.leak.seen_at
    return leaked.leak.day in trace.days or any(loss.start <= seen_at <= loss.end for loss in trace.losses)

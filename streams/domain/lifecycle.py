"""The lifecycle of a customer in a shop: one table of stages, and the timeline that it gives.

    prospect ─● new ──● active ─────────┊ lapsing ─────────┊ lapsed ──────● won_back
              first   second            overdue by the     365 days       the next
              order   purchase day      buyer's own clock  of silence     purchase day

Purchases count at their moments. Silence counts by whole local days, so what it brings about begins with a
day: the first on which it is true. The timeline is a function of the purchase occasions, the model and now;
what was told of it is corrected when a late order or a refund has changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from streams.domain.buyer import Buyer, Episode, Told
from streams.domain.days import day_of, start_of
from streams.domain.facts import Cause, Stage, TransitionFact, transition_id
from streams.domain.outlook import SOONEST, ShopModel, chances, due_after, lapses_after
from streams.domain.policy import DAY, Policy

#: order: a purchase day begins. overdue: the chance of a return has come down to the threshold.
#: silence: no order for as long as the policy calls lapsed.
Trigger = Literal["order", "overdue", "silence"]

STAGE_TRANSITIONS: Final[dict[tuple[Stage, Trigger], Stage]] = {
    ("prospect", "order"): "new",
    ("new", "order"): "active",
    ("new", "overdue"): "lapsing",
    ("new", "silence"): "lapsed",
    ("active", "order"): "active",
    ("active", "overdue"): "lapsing",
    ("active", "silence"): "lapsed",
    ("lapsing", "order"): "active",
    ("lapsing", "silence"): "lapsed",
    ("lapsed", "order"): "won_back",
    ("won_back", "order"): "active",
    ("won_back", "overdue"): "lapsing",
    ("won_back", "silence"): "lapsed",
}

NEVER: Final = -1
SHARE: Final = 10_000


def diagram() -> str:
    """``STAGE_TRANSITIONS`` as a Mermaid state diagram; the README has it between marker comments."""
    lines = ["stateDiagram-v2", "    [*] --> prospect"]
    lines += [f"    {stage} --> {to}: {trigger}" for (stage, trigger), to in STAGE_TRANSITIONS.items()]
    return "\n".join(lines) + "\n"


class Step(Struct, frozen=True, gc=False):
    """One transition of the timeline, in the episode during which it happens or which it begins."""

    episode: Episode
    at: int
    before: Stage
    after: Stage
    cause: Cause


class Timeline(Struct, frozen=True, gc=False):
    """All steps up to now after the first, settled episode was entered; and where they lead: since when (ms)
    None for a prospect."""

    steps: list[Step]
    stage: Stage
    since: int | None


def lapsed_at(episode: Episode, policy: Policy) -> int:
    """When the episode's buyer counts as lapsed, in ms, unless the next occasion comes first."""
    return start_of(episode.day + policy.lapsed_after // DAY, policy.zone)


def reckon(buyer: Buyer, episodes: Sequence[Episode], model: ShopModel, now: int, policy: Policy) -> None:
    """Solve for when each episode's buyer is lapsing; once per episode, and again for the last one when the
    model has changed.

    What was told stands: a new model moves only what lies ahead. Where it says that the buyer has been
    lapsing for some time, they are from now on.
    """
    last = episodes[-1] if episodes else None
    for episode in episodes:
        ahead = episode is last
        if ahead and now < start_of(episode.day + SOONEST, policy.zone):
            # Nobody is lapsing yet, and solving may cost more than all the rest.
            continue
        told = 0 < episode.lapses_at <= buyer.checked
        if episode.lapses_at and (told or not ahead or episode.model == model.version):
            continue
        days = lapses_after(model, episode.x, episode.t_x, policy.lapse_threshold)
        at = NEVER if days is None else start_of(episode.day + days, policy.zone)
        changed = episode.lapses_at != 0 and 0 < at <= buyer.checked
        episode.lapses_at = now if changed else at
        episode.cause = "model" if changed else "overdue"
        episode.model = model.version


def timeline(settled: bool, episodes: Sequence[Episode], now: int, policy: Policy) -> Timeline:
    """Walk the table through the episodes; ``settled``: the first one was entered before, as it says.

    Sets ``entered`` and ``since`` of the others. Each must have been reckoned.
    """
    steps: list[Step] = []
    stage: Stage = "prospect"
    since: int | None = None
    last = len(episodes) - 1
    for index, episode in enumerate(episodes):
        if index or not settled:
            after = STAGE_TRANSITIONS[stage, "order"]
            if after != stage:
                steps.append(Step(episode, episode.anchor, stage, after, "order"))
                since = episode.anchor
            stage = episode.entered = after
            episode.lag = (since or episode.anchor) - episode.anchor
        else:
            stage, since = episode.entered, episode.since
        until = episodes[index + 1].anchor if index < last else now
        silent = lapsed_at(episode, policy)
        if 0 < episode.lapses_at <= until and episode.lapses_at < silent:
            after = STAGE_TRANSITIONS[stage, "overdue"]
            steps.append(Step(episode, episode.lapses_at, stage, after, episode.cause))
            stage, since = after, episode.lapses_at
        if silent <= until:
            after = STAGE_TRANSITIONS[stage, "silence"]
            steps.append(Step(episode, silent, stage, after, "silence"))
            stage, since = after, silent
    return Timeline(steps, stage, since)


def tell(
    buyer: Buyer, steps: Sequence[Step], model: ShopModel, policy: Policy, version: int, withdrawn: Cause
) -> None:
    """Bring ``buyer.told`` up to what ``steps`` say: what is new or has changed is told under ``version``.

    ``withdrawn`` is the cause of withdrawing what is no longer so.
    """
    told: dict[tuple[int, Stage], Told] = {}
    for had in buyer.told:
        if not had.gone and had.at >= buyer.final:
            told[had.anchor, had.after] = had
    for step in steps:
        if step.at < buyer.final:
            continue
        episode = step.episode
        if told and (known := told.pop((episode.anchor, step.after), None)) is not None:
            if (
                known.at == step.at
                and known.before == step.before
                and known.x == episode.x
                and known.gap == _gap(episode)
            ):
                continue
            buyer.told.remove(known)
        buyer.told.append(_told(step, model, policy, version))
    for had in told.values():
        had.gone, had.cause, had.version = True, withdrawn, version


def _told(step: Step, model: ShopModel, policy: Policy, version: int) -> Told:
    episode = step.episode
    told = Told(
        episode.anchor,
        step.at - episode.anchor,
        step.before,
        step.after,
        step.cause,
        episode.x,
        _gap(episode),
        None,
        None,
        None,
        model.version,
        version,
    )
    if step.cause != "order":
        silent = day_of(step.at, policy.zone) - episode.day
        chance = chances(model, episode.x, episode.t_x, episode.t_x + silent)
        due = due_after(model, episode.x, episode.t_x)
        told.alive, told.returns = round(chance.alive * SHARE), round(chance.returns * SHARE)
        told.overdue = None if due is None else max(0, silent - due)
    return told


def _gap(episode: Episode) -> int | None:
    """The mean gap by the episode's beginning, in tenths of a day."""
    return round(10 * episode.t_x / episode.x) if episode.x else None


def fact(customer_id: str, shop_id: str, told: Told) -> TransitionFact:
    """What was told, as a fact."""
    # By position, for speed.
    return TransitionFact(
        transition_id(customer_id, shop_id, "stage", told.anchor, told.after),
        "stage",
        shop_id,
        customer_id,
        told.anchor,
        told.at,
        told.before,
        told.after,
        told.cause,
        None if told.alive is None else told.alive / SHARE,
        None if told.returns is None else told.returns / SHARE,
        told.overdue,
        None if told.gap is None else told.gap / 10,
        told.model,
        told.version,
        told.gone,
    )

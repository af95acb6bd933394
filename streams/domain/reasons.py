"""Why a session was lost, or a buyer lapsed: a score for each reason, from what this customer did.

Scores are whole percents and every division is rounded down, so that batch SQL finds the same ones; told
they are hundredths. The reason is the one with the highest score from ``THRESHOLD`` on; of equal ones the
earlier of ``PRECEDENCE``. Below the threshold it is unknown.

    reason        evidence                                                 percent
    price         bought elsewhere, cheaper by g >= 3 %                    55 + 2 g, at most 94
    competition   bought elsewhere, not cheaper by 3 %, dearer by d %      65 + d, at most 85
                  bought elsewhere, and a price is not known               50
    variety       the category bought in s >= 3 shops; of the changes of   60 + 10 (s - 3) + 30 n / 100,
                  shop n % did not lead to a cheaper one (50 if not known)   at most 93
    dissatisfied  a grievance, its age a within the window w               95 to 99 by its kind up to w / 6,
                                                                             then down to 0 in a straight line
    forgot        of a lapse: not seen here for u >= q90, the buyer's      50 + (100 u / q90 - 100) / 10,
                  own gap that 90 % of gaps do not exceed                    5 more if bought once, at most 64
    natural       of a session: bounced or browsed                         40

Where the category is bought in three shops or more, where it went this time says less: price and
competition are then taken times (200 - n) / 200. The figures are set by what must outweigh what, not fitted:
something bad shortly before explains a loss whatever else happened; a clear pattern of changing shops more
than the last change's price; buying elsewhere more than silence; anything more than mere window shopping.
``market`` is not here: it rests on other customers, and the view ``loss_reasons`` adds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, Literal

from msgspec import Struct

from streams.domain.facts import LostStage, money
from streams.domain.loss_facts import Reason
from streams.domain.policy import DAY

GrievanceKind = Literal["review", "complaint", "refunded", "cancelled", "reply"]

#: Percent from which on a reason is believed.
THRESHOLD: Final = 40
#: Which of equal scores is the reason.
PRECEDENCE: Final[tuple[Reason, ...]] = (
    "dissatisfied",
    "price",
    "variety",
    "competition",
    "forgot",
    "natural",
)
#: A price lower by less than this, in percent, is no motive.
CHEAPER: Final = 3
#: From this many shops on a customer changes shops for the sake of it.
SHOPS: Final = 3

_GRIEVANCES: Final[dict[GrievanceKind, int]] = {
    "review": 99,
    "complaint": 98,
    "refunded": 97,
    "cancelled": 96,
    "reply": 95,
}
#: The first part of the window, as a divisor, in which a grievance counts in full.
_FRESH: Final = 6
#: Just enough, so that whatever else is believed outweighs it.
_NATURAL: Final[dict[LostStage, int]] = {"bounced": THRESHOLD, "browsed": THRESHOLD}


class Grievance(Struct, frozen=True, gc=False):
    """Something bad that happened between this customer and this shop, ``age`` ms before the loss (>= 0).

    The latest before the loss; of several at one time the one named first in ``GrievanceKind``.
    """

    kind: GrievanceKind
    age: int


class Bought(Struct, frozen=True, gc=False):
    """A standing purchase of the category; ``price`` of a piece in ten-thousandths, None: not told."""

    shop_id: str
    price: int | None
    currency: str | None


class Move(Struct, frozen=True, gc=False):
    """A purchase elsewhere of what was looked at, or used to be bought, here.

    Prices in ten-thousandths of one currency; None: not told, or in another currency. history: all standing
    purchases of the category by this customer in the 120 days up to and with this one, or of a lapse up to
    that, in order of time.
    """

    category: str
    to_shop_id: str
    order_id: str
    price_here: int | None
    price_there: int | None
    history: tuple[Bought, ...] = ()


class LossEvidence(Struct, frozen=True, gc=False):
    """What is known of a lost session. moves: leaks seen in it; window: the policy's grievance window."""

    stage: LostStage
    moves: tuple[Move, ...]
    grievance: Grievance | None
    window: int


class LapseEvidence(Struct, frozen=True, gc=False):
    """What is known of a lapse, in whole days of the shop's calendar.

    silence: since the last order here. unseen: since the last session here, or order if later. q90: the gap
    that 90 % of this buyer's gaps do not exceed, rounded down. moves: purchases elsewhere, since the last
    order here, of categories bought here; the price here is that of a piece when last bought. grievance: the
    latest before the lapse, its age counted back from the last session or order here (0 if it came after):
    that is when the buyer left, and the lapse is only when it shows.
    """

    silence: int
    unseen: int
    q90: int
    one_time: bool
    moves: tuple[Move, ...]
    grievance: Grievance | None
    window: int


class Verdict(Struct, frozen=True, gc=False):
    """The reason, its score, all scores above 0, what they rest on, and the category that moved, if any."""

    reason: Reason
    score: float
    scores: dict[str, float]
    evidence: dict[str, str]
    category: str | None


def why_lost(of: LossEvidence) -> Verdict:
    """The reason of a lost session."""
    percents: dict[Reason, int] = {"natural": _NATURAL.get(of.stage, 0)}
    return _verdict(percents, {"stage": of.stage}, of.moves, of.grievance, of.window)


def why_lapsed(of: LapseEvidence) -> Verdict:
    """The reason of a lapse."""
    evidence = {
        "silence_days": str(of.silence),
        "unseen_days": str(of.unseen),
        "q90_days": str(of.q90),
        "one_time": "true" if of.one_time else "false",
    }
    percents: dict[Reason, int] = {"forgot": _forgot(of)}
    return _verdict(percents, evidence, of.moves, of.grievance, of.window)


def _verdict(
    percents: dict[Reason, int],
    evidence: dict[str, str],
    moves: Iterable[Move],
    grievance: Grievance | None,
    window: int,
) -> Verdict:
    category = None
    told = [(_weigh(move), move) for move in moves]
    if told:
        # The best one, whose scores are then told: of equal ones the same in any order they come in.
        weights, move = min(told, key=_best_first)
        percents |= weights
        evidence |= _said_of(move)
        category = move.category
    if grievance is not None:
        percents["dissatisfied"] = _dissatisfied(grievance, window)
        evidence |= {"grievance": grievance.kind, "grievance_days": str(grievance.age // DAY)}
    reason = min(PRECEDENCE, key=lambda name: (-percents.get(name, 0), PRECEDENCE.index(name)))
    score = percents.get(reason, 0)
    scores: dict[str, float] = {
        name: percents[name] / 100 for name in PRECEDENCE if percents.get(name, 0) > 0
    }
    if score < THRESHOLD:
        return Verdict("unknown", 0.0, scores, evidence, category)
    return Verdict(reason, score / 100, scores, evidence, category)


def _best_first(told: tuple[dict[Reason, int], Move]) -> tuple[int, str, str, str]:
    weights, move = told
    return -max(weights.values()), move.to_shop_id, move.order_id, move.category


def _weigh(move: Move) -> dict[Reason, int]:
    """Percents of price, competition and variety; exactly one of the first two is above 0."""
    price, competition = _prices(move.price_here, move.price_there)
    shops, _, same_or_dearer = turns(move.history)
    if shops < SHOPS:
        return {"price": price, "competition": competition, "variety": 0}
    doubt = 200 - same_or_dearer
    return {
        "price": price * doubt // 200,
        "competition": competition * doubt // 200,
        "variety": min(93, 60 + 10 * (shops - SHOPS) + 30 * same_or_dearer // 100),
    }


def _prices(here: int | None, there: int | None) -> tuple[int, int]:
    if here is None or there is None:
        return 0, 50
    if there < here:
        cheaper = 100 * (here - there) // here
        return (min(94, 55 + 2 * cheaper), 0) if cheaper >= CHEAPER else (0, 65)
    dearer = 100 * (there - here) // here if here else 0
    return 0, min(85, 65 + dearer)


def turns(history: tuple[Bought, ...]) -> tuple[int, int, int]:
    """Of purchases of a category in order of time: in how many shops, how often the shop changed, and what
    percent of changes did not lead to a price lower by ``CHEAPER``: 50 where no two prices compare."""
    changes = compared = cheaper = 0
    for before, after in pairwise(history):
        if before.shop_id == after.shop_id:
            continue
        changes += 1
        if before.price is not None and after.price is not None and before.currency == after.currency:
            compared += 1
            cheaper += before.price > 0 and 100 * (before.price - after.price) >= CHEAPER * before.price
    shops = len({bought.shop_id for bought in history})
    return shops, changes, 100 * (compared - cheaper) // compared if compared else 50


def _dissatisfied(grievance: Grievance, window: int) -> int:
    fresh = window // _FRESH
    full = _GRIEVANCES[grievance.kind]
    if grievance.age >= window:
        return 0
    if grievance.age <= fresh:
        return full
    return full * (window - grievance.age) // (window - fresh)


def _forgot(of: LapseEvidence) -> int:
    """Nothing but the whole silence counts: who came to look has not forgotten the shop."""
    if of.unseen < of.q90:
        return 0
    times = 100 * of.unseen // max(of.q90, 1)
    return min(64, 50 + max(times - 100, 0) // 10 + (5 if of.one_time else 0))


def _said_of(move: Move) -> dict[str, str]:
    shops, changes, same_or_dearer = turns(move.history)
    said = {"category": move.category, "to_shop": move.to_shop_id, "order": move.order_id}
    if move.price_here is not None:
        said["price_here"] = money(move.price_here)
    if move.price_there is not None:
        said["price_there"] = money(move.price_there)
    return said | {"shops": str(shops), "changes": str(changes), "not_cheaper": str(same_or_dearer)}

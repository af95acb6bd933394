"""What a shop's model says of one buyer, in whole days: the only place where the stream asks a lapse model.

x is the number of purchase days after the first, t_x the days from the first to the last, T the days from the
first to the day in question.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Struct, field

from streams.domain.comeback import Comeback, logit_of_any
from streams.domain.lapse import Parameters, PersonalRhythm
from streams.domain.rfm import Cuts

#: The span of expectations, in days.
AHEAD: Final = 90
#: Days after a purchase day on which a buyer may be lapsing, at the earliest.
SOONEST: Final = 2
#: A day further away than this is no date to tell anybody.
_FARTHEST_DAYS: Final = 36_500
_KEPT_ANSWERS: Final = 32_768


class ShopModel(Struct, frozen=True):
    """A shop's parameters as they are published; without any published, the built-in ones: version 0.

    lapse: in days. comeback: where it is there, lapsing stands on the calibrated chance of a return, else on
    P(alive). threshold: at or below it a buyer is lapsing; None leaves it to the policy.
    fitted_at: ms since 1970 UTC.
    """

    shop_id: str = ""
    version: int = 0
    lapse: Parameters = field(default_factory=PersonalRhythm)
    comeback: Comeback | None = None
    threshold: float | None = None
    cuts: Cuts | None = None
    fitted_at: int | None = None


DEFAULT_MODEL: Final = ShopModel()


class Chances(NamedTuple):
    """P(will ever buy again); P(buys in the next ``AHEAD`` days); purchase days to expect in them."""

    alive: float
    returns: float
    expected: float


class Outlook(Struct, frozen=True, gc=False):
    """What a profile shows: the chances, and these to two decimals; days from the last purchase day to the
    one by which the next is expected."""

    chances: Chances
    alive: float
    returns: float
    expected: float
    due: int | None


def outlook(model: ShopModel, x: int, t_x: int, T: int) -> Outlook:
    """All that a profile shows as of the day T, found by one look-up."""
    return _outlook(model.lapse, model.comeback, x, t_x, T)


def chances(model: ShopModel, x: int, t_x: int, T: int) -> Chances:
    """The chances as of the day T."""
    return _chances(model.lapse, model.comeback, x, t_x, T)


def lapses_after(model: ShopModel, x: int, t_x: int, threshold: float) -> int | None:
    """Days from the last purchase day to the first on which the buyer is lapsing; None: never.

    At least ``SOONEST``: there is no silence before a whole day has passed without an order, so somebody who
    buys every day is not lapsing every night.
    """
    limit = threshold if model.threshold is None else model.threshold
    return _lapses_after(model.lapse, model.comeback, x, t_x, limit)


def due_after(model: ShopModel, x: int, t_x: int) -> int | None:
    """Days from the last purchase day to the one by which the next is expected; None: beyond any plan."""
    return _due_after(model.lapse, x, t_x)


def gap_of_most(model: ShopModel, x: int, t_x: int) -> int:
    """Whole days that 90 % of such a buyer's gaps do not exceed, if still a buyer; at least 1."""
    return _gap_of_most(model.lapse, x, t_x)


# In whole days many buyers have the same history, one-time buyers above all, and asking costs far more than
# finding the answer again.
@lru_cache(maxsize=_KEPT_ANSWERS)
def _outlook(lapse: Parameters, comeback: Comeback | None, x: int, t_x: int, T: int) -> Outlook:
    chance = _chances(lapse, comeback, x, t_x, T)
    shown = (round(chance.alive, 2), round(chance.returns, 2), round(chance.expected, 2))
    return Outlook(chance, *shown, _due_after(lapse, x, t_x))


@lru_cache(maxsize=_KEPT_ANSWERS)
def _chances(lapse: Parameters, comeback: Comeback | None, x: int, t_x: int, T: int) -> Chances:
    expected = lapse.expected(x, t_x, T, AHEAD)
    if comeback is None or comeback.within != AHEAD:
        returns = lapse.p_returns(x, t_x, T, AHEAD)
    elif comeback.base == lapse:
        # As comeback.p, without expecting a second time: that is most of the cost.
        logit = (
            comeback.intercept + comeback.slope * logit_of_any(expected) + comeback.loyalty * math.log1p(x)
        )
        returns = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    else:
        returns = comeback.p(x, t_x, T)
    return Chances(lapse.p_alive(x, t_x, T), returns, expected)


@lru_cache(maxsize=_KEPT_ANSWERS)
def _lapses_after(
    lapse: Parameters, comeback: Comeback | None, x: int, t_x: int, threshold: float
) -> int | None:
    # The calibrated chance alone would flag everybody in a shop where few return; the backtest does it alike.
    at = (comeback.lapsing_at if comeback else lapse.crosses_at)(x, t_x, threshold)
    if at is None or at > _FARTHEST_DAYS:
        return None
    return max(SOONEST, math.ceil(at) - t_x)


@lru_cache(maxsize=_KEPT_ANSWERS)
def _due_after(lapse: Parameters, x: int, t_x: int) -> int | None:
    at = lapse.next_due(x, t_x)
    return max(1, math.ceil(at) - t_x) if at - t_x <= _FARTHEST_DAYS else None


@lru_cache(maxsize=_KEPT_ANSWERS)
def _gap_of_most(lapse: Parameters, x: int, t_x: int) -> int:
    at = lapse.next_due(x, t_x, 0.9)
    return max(1, int(min(at - t_x, _FARTHEST_DAYS)))


def fades_after(model: ShopModel, x: int, t_x: int, alive: float) -> int | None:
    """Days from the last purchase day to the one on which P(alive) shows less than ``alive``, a share of two
    decimals; None if it never does."""
    if alive < 0.005:
        return None
    at = model.lapse.crosses_at(x, t_x, alive - 0.005)
    return None if at is None or at > _FARTHEST_DAYS else math.ceil(at) - t_x

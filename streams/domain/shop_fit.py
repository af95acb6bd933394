"""From what is known of all shops' buyers to what each shop's buyers are judged by.

Two days matter. The model is fitted to what is known *now*; how far it is to be trusted is learnt from a day
*then*, early enough to have watched who came back since:

    first purchase                    then                         now
      ├─────────── fitted ─────────────┤──── watched: calibrates ───┤
      ├──────────────────────── fitted ─────────────────────────────┤

Pure, but with numpy and scipy, as ``lapse_fit``: the stream's workers never import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec
import numpy as np

from streams.domain.comeback import Comeback
from streams.domain.lapse import Parameters
from streams.domain.lapse_fit import Buyers, Fit, Fitted, Floats, ShopModel, calibrate, enough, fit_shops

SHORTEST_LESSON: Final = 28
"""Days that must have been watched to learn from them: of less, the days of the week decide."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Groups of buyers as they were known at the end of a day, and how many came back in the days after it.

    returned: of each group, the buyers with a purchase in these ``days``. Groups may be of one buyer.
    """

    buyers: Buyers
    returned: Floats
    days: int

    @property
    def stayed(self) -> Floats:
        """Of each group, the buyers who stayed away."""
        return self.buyers.count - self.returned

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The groups of all parts, one after the other; they were watched for equally long."""
        if len({part.days for part in parts}) != 1:
            raise ValueError("to be joined, buyers must have been watched for the same number of days")
        columns = (np.concatenate([getattr(p.buyers, n) for p in parts]) for n in ("x", "t_x", "T", "count"))
        return cls(Buyers(*columns), np.concatenate([p.returned for p in parts]), parts[0].days)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a shop's buyers are judged by; basis and fit as of ``lapse_fit.ShopModel``.

    comeback: None where no earlier day could be learnt from.
    """

    parameters: Parameters
    basis: str
    fit: Fit | None
    comeback: Comeback | None = None


def lesson_days(within: int, known: int) -> int | None:
    """How many days before now to learn from, of buyers known for ``known`` days: the span, or half of what
    there is; None if that is too short a lesson."""
    days = min(within, known // 2)
    return days if days >= min(SHORTEST_LESSON, within) else None


def learn(
    now: Mapping[str, Buyers],
    lesson: Mapping[str, Watched],
    within: int,
    model: Fitted | None = None,
    only: str | None = None,
) -> tuple[Learnt, dict[str, Learnt]]:
    """What every shop of ``now``, or ``only`` one, is judged by; before it, what a shop not among them is.

    A shop that had enough buyers at both days is calibrated by its own; one that has them only now by those
    of all shops; without a lesson, or with too few buyers in all of it, nobody is.
    """
    of_other, of_shops = fit_shops(now, model, only)
    if not lesson:
        return _plain(of_other), {shop: _plain(found) for shop, found in of_shops.items()}
    then_other, then_shops = fit_shops({shop: seen.buyers for shop, seen in lesson.items()}, model, only)

    def taught(found: ShopModel, then: ShopModel, seen: Watched) -> Learnt:
        if "personal" in (found.basis, then.basis):
            return _plain(found)
        comeback = calibrate(
            found.parameters, float(within), then.parameters, seen.buyers, seen.returned, float(seen.days)
        )
        return replace(_plain(found), comeback=comeback)

    every = taught(of_other, then_other, Watched.joined(list(lesson.values())))
    learnt = {}
    for shop, found in of_shops.items():
        seen = lesson.get(shop)
        if found.basis != "own":
            learnt[shop] = every
        elif found.fit is of_other.fit:
            # All buyers are this shop's: the same lesson too.
            learnt[shop] = replace(every, basis="own")
        elif seen is not None and enough(seen.buyers):
            learnt[shop] = taught(found, then_shops[shop], seen)
        elif every.comeback is None:
            learnt[shop] = _plain(found)
        else:
            comeback = msgspec.structs.replace(every.comeback, base=found.parameters)
            learnt[shop] = replace(_plain(found), comeback=comeback)
    return every, learnt


def _plain(found: ShopModel) -> Learnt:
    return Learnt(found.parameters, found.basis, found.fit)

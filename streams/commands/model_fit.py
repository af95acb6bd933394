"""Fitting the models of a deployment's shops. Imports scipy: only the command that fits imports this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streams.adapters.buyer_statistics import BuyerStatistics
from streams.adapters.clickhouse import StoreError
from streams.domain.days import date_of
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric
from streams.domain.lapse_fit import Fitted
from streams.domain.outlook import AHEAD, ShopModel
from streams.domain.shop_fit import Learnt, Watched, learn, lesson_days

CHOICES: Final[dict[str, Fitted | None]] = {
    "auto": None,
    "bg_nbd": BetaGeometric,
    "mbg_nbd": ModifiedBetaGeometric,
}


@dataclass(frozen=True, slots=True)
class FittedShop:
    """A shop's model as it is published, the buyers it was fitted for, and where it comes from."""

    model: ShopModel
    buyers: int
    learnt: Learnt

    def as_json(self) -> dict[str, Any]:
        """The model with what the fit says of itself."""
        fit = self.learnt.fit
        return {
            **msgspec.to_builtins(self.model),
            "buyers": self.buyers,
            "basis": self.learnt.basis,
            "log_likelihood": None if fit is None else round(fit.log_likelihood, 4),
            "converged": None if fit is None else fit.converged,
            "groups": None if fit is None else fit.groups,
        }


@dataclass(frozen=True, slots=True)
class Fits:
    """What was fitted, the model for all other shops first; and what a person should know about it."""

    as_of: int
    shops: list[FittedShop]
    notes: list[str]


def fit_models(
    statistics: BuyerStatistics, version: int, choice: str, only: str | None, as_of: int | None
) -> Fits:
    """Fit every shop, or ``only`` one, at the day ``as_of``, or the day the stream has come to.

    The same stored data and day give the same models but for ``version``, which is also when it was fitted.
    Raises StoreError.
    """
    today = statistics.today()
    day = today if as_of is None else as_of
    if day > today:
        raise StoreError(
            f"the stream has come to {date_of(today)}: silence until {date_of(day)} is not known"
        )
    now = statistics.buyers(day)
    if only is not None and only not in now:
        raise StoreError(f"shop {only!r} has no buyer in `customers`: there is nothing to fit")
    notes: list[str] = []
    lesson = _lesson(statistics, day, notes)
    other, learnt = learn(now, lesson, AHEAD, CHOICES[choice], only)
    cuts = statistics.cuts(day)
    if "" not in cuts:
        notes.append("there are too few buyers for cut points: nobody gets scores and a tier")
    elif not cuts[""].unit_price:
        notes.append("raw events tell no prices of pieces: nobody gets a price band")

    def shop(shop_id: str, buyers: int, found: Learnt) -> FittedShop:
        model = ShopModel(
            shop_id=shop_id,
            version=version,
            lapse=found.parameters,
            comeback=found.comeback,
            cuts=cuts.get(shop_id, cuts.get("")),
            fitted_at=version,
        )
        return FittedShop(model, buyers, found)

    shops = [shop(name, now[name].total, found) for name, found in sorted(learnt.items())]
    if only is None:
        shops.insert(0, shop("", sum(buyers.total for buyers in now.values()), other))
    return Fits(day, shops, notes)


def _lesson(statistics: BuyerStatistics, day: int, notes: list[str]) -> dict[str, Watched]:
    """The buyers of an earlier day and who came back; empty, and a note why, where that is not known."""
    without = "so lapsing stands on P(alive), without a calibrated chance of a return"
    known = day - statistics.known(day).first_day
    days = lesson_days(AHEAD, known)
    if days is None:
        notes.append(f"buyers are known for {known} days, too few to learn from who came back; {without}")
        return {}
    cut = day - days
    lesson = statistics.watched(cut, days)
    if not statistics.covers(lesson, cut):
        notes.append(
            f"the raw events do not hold the orders of most buyers known on {date_of(cut)}; {without}"
        )
        return {}
    return lesson

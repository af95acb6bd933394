"""What a lapse model is fitted to, grouped inside of ClickHouse by the SQL in ``sql/model``.

However many buyers there are, what comes out is as many rows as there are different histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, sql_dir
from streams.domain.days import date_of, day_of
from streams.domain.lapse_fit import Buyers, Floats
from streams.domain.policy import Policy
from streams.domain.rfm import Cuts, Quintiles
from streams.domain.shop_fit import Watched

MIN_CUT: Final = 25
"""Buyers behind cut points of a shop's own, at least: five in each fifth. Below it, all shops' stand in."""

_COVERED: Final = 0.95
"""Of the buyers that ``customers`` knows of a day, the share that raw events of that day must know too."""

_PART: Final = "/* standing_orders.sql */"

#: By measure (recency, frequency, monetary, unit_price), then by currency.
Points = dict[str, dict[str, Quintiles]]


@dataclass(frozen=True, slots=True)
class Known:
    """Buyers that ``customers`` knows to have ordered by a day, and the first day that anybody ordered on."""

    buyers: int
    first_day: int


class BuyerStatistics:
    """Questions to one deployment's ClickHouse; days are counted from 1970-01-01 in the policy's zone.

    Blocking. ClickHouse's own errors are the caller's to explain (``clickhouse.explained``).
    """

    def __init__(self, client: Client, policy: Policy) -> None:
        self._client = client
        self._policy = policy

    def today(self) -> int:
        """The day that the stream has come to: that of the highest watermark. StoreError before the first."""
        ((counted, watermark),) = self._client.query(
            "SELECT count(), max(toUnixTimestamp64Milli(watermark)) FROM ingest FINAL"
        ).result_rows
        if not counted:
            raise StoreError("nothing has been ingested yet, so there is no day to judge buyers at")
        return day_of(watermark, self._policy.zone)

    def buyers(self, as_of: int) -> dict[str, Buyers]:
        """Every shop's buyers at ``as_of``. StoreError if there are none, or one has ordered after it."""
        columns = self._ask("statistics", as_of=date_of(as_of))
        if after := int(columns["after"].sum()):
            raise StoreError(
                f"{after:,} buyers have ordered after {date_of(as_of)}, and `customers` does not tell what"
                " was known of them then; name a later day"
            )
        if not len(columns["x"]):
            raise StoreError("nobody has a standing order in `customers`: there is nothing to fit")
        return {shop: _grouped(part) for shop, part in _by_shop(columns).items()}

    def cuts(self, as_of: int) -> dict[str, Cuts]:
        """Every shop's cut points, and those of all shops under "".

        A shop or currency with fewer than ``MIN_CUT`` buyers is cut as those of all shops are. Prices of
        pieces are in raw events alone; where these are not stored, they are not cut.
        """
        found: dict[str, Points] = {}
        for columns in (
            self._ask("cuts", as_of=date_of(as_of)),
            self._ask("unit_prices", cut=as_of, **self._rules()),
        ):
            for shop, measure, currency, buyers, points in zip(
                *(columns[n] for n in ("shop_id", "measure", "currency", "buyers", "points")), strict=True
            ):
                measures = found.setdefault(str(shop), {})
                if buyers >= MIN_CUT:
                    measures.setdefault(str(measure), {})[str(currency)] = _quintiles(points)
        every = found.get("", {})
        return {shop: cuts for shop, own in found.items() if (cuts := _cuts(own, every)) is not None}

    def known(self, day: int) -> Known:
        """What ``customers`` says of the buyers of ``day``, as things stand now."""
        columns = self._ask("known", day=day)
        return Known(int(columns["buyers"][0]), int(columns["first_day"][0]))

    def order_days(self) -> tuple[int, int] | None:
        """The first and the last day that the raw events hold an order of; None if they hold none."""
        columns = self._ask("days", **self._rules())
        if not columns["buyers"][0]:
            return None
        return int(columns["first_day"][0]), int(columns["last_day"][0])

    def watched(self, cut: int, days: int) -> dict[str, Watched]:
        """Every shop's buyers at the end of the day ``cut``, by raw events, and who came back in ``days``."""
        columns = self._ask("histories", cut=cut, watched=days, **self._rules())
        return {
            shop: Watched(_each(part), part["returned"].astype(float), days)
            for shop, part in _by_shop(columns).items()
        }

    def covers(self, lesson: Mapping[str, Watched], cut: int) -> bool:
        """Whether raw events hold nearly all buyers of ``cut``: not if they began to be stored later."""
        seen = sum(watched.buyers.total for watched in lesson.values())
        return seen > 0 and seen >= _COVERED * self.known(cut).buyers

    def _rules(self) -> dict[str, Any]:
        return {"amendment_ms": self._policy.amendment_window, "zone": self._policy.zone}

    def _ask(self, name: str, **given: Any) -> dict[str, Any]:
        folder = sql_dir() / "model"
        text = (folder / f"{name}.sql").read_text()
        if _PART in text:
            text = text.replace(_PART, (folder / "standing_orders.sql").read_text())
        table = self._client.query_arrow(text, parameters=given, use_strings=True)
        return {column: table[column].to_numpy() for column in table.column_names}


def _by_shop(columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Columns that are sorted by shop, taken apart."""
    shops = columns["shop_id"]
    if not len(shops):
        return {}
    starts = [0, *(np.flatnonzero(shops[1:] != shops[:-1]) + 1).tolist()]
    return {
        str(shops[start]): {name: column[start:end] for name, column in columns.items()}
        for start, end in zip(starts, [*starts[1:], len(shops)], strict=True)
    }


def _each(part: Mapping[str, Any]) -> Buyers:
    columns: list[Floats] = [part[name].astype(np.float64) for name in ("x", "t_x", "T", "buyers")]
    return Buyers(*columns)


def _grouped(part: Mapping[str, Any]) -> Buyers:
    return Buyers.grouped(part["x"], part["t_x"], part["T"], part["buyers"])


def _quintiles(points: Any) -> Quintiles:
    first, second, third, fourth = (int(point) for point in points)
    return first, second, third, fourth


def _cuts(own: Points, every: Points) -> Cuts | None:
    """A shop's cut points, where it lacks some those of all shops; None where nobody has any."""
    merged = {
        measure: every.get(measure, {}) | own.get(measure, {})
        for measure in ("recency", "frequency", "monetary", "unit_price")
    }
    if not merged["recency"]:
        return None
    return Cuts(merged["recency"][""], merged["frequency"][""], merged["monetary"], merged["unit_price"])

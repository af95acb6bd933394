"""Real purchases for the lapse tests and the lapse bench, which are no part of the repository.

CDNOW is looked for in the folder of shared data beside the repository (EBBTIDE_TEST_DATA names another), then
in the package Lifetimes; Online Retail in the folder only.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.domain.lapse_fit import Buyers

DATA = Path(os.environ.get("EBBTIDE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@dataclass(frozen=True)
class Purchases:
    """One row a buyer and day, sorted by both. ``buyer`` numbers the buyers from 0, ``day`` is an ordinal."""

    name: str
    buyer: NDArray[np.int64]
    day: NDArray[np.int64]

    @property
    def first_day(self) -> int:
        return int(self.day.min())

    @property
    def last_day(self) -> int:
        return int(self.day.max())

    def histories(self, cut: int) -> Histories:
        """What was known of whom at the end of the day ``cut``."""
        known = self.day <= cut
        ids, at, bought = np.unique(self.buyer[known], return_index=True, return_counts=True)
        days = self.day[known]
        first, last = days[at], days[at + bought - 1]
        return Histories(ids, bought - 1.0, (last - first).astype(float), (cut - first).astype(float))

    def back(self, ids: NDArray[np.int64], cut: int, within: int) -> NDArray[np.bool_]:
        """Who of them bought in the ``within`` days after the day ``cut``."""
        then = (self.day > cut) & (self.day <= cut + within)
        return np.isin(ids, self.buyer[then])


@dataclass(frozen=True)
class Histories:
    """Of each buyer known at a day: repeat purchases, days from first to last purchase and to that day."""

    ids: NDArray[np.int64]
    x: NDArray[np.float64]
    t_x: NDArray[np.float64]
    T: NDArray[np.float64]

    @property
    def buyers(self) -> Buyers:
        return Buyers.grouped(self.x, self.t_x, self.T)

    @property
    def each(self) -> Buyers:
        """A group a buyer, in the order of ``ids``."""
        return Buyers(self.x, self.t_x, self.T, np.ones(len(self.ids)))


def cdnow_sample() -> Purchases | str:
    """The 2,357 buyers of the papers, or why not."""
    return _cdnow("CDNOW_sample.txt", date_column=2)


def cdnow_master() -> Purchases | str:
    """All 23,570 buyers, or why not."""
    return _cdnow("CDNOW_master.txt", date_column=1)


def online_retail() -> Purchases | str:
    """UCI Online Retail: days with an order of a known customer (no cancellation, positive quantity)."""
    path = DATA / "online_retail.parquet"
    if not path.exists():
        return f"{path.name} is not there; EBBTIDE_TEST_DATA names its folder"
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = {name.lower().replace("_", "").replace(" ", ""): name for name in table.column_names}
    columns = [table[names[n]].to_pylist() for n in ("customerid", "invoiceno", "invoicedate", "quantity")]
    pairs = [
        (str(customer), at.date())
        for customer, invoice, at, quantity in zip(*columns, strict=True)
        if customer is not None and quantity > 0 and not str(invoice).startswith("C")
    ]
    return _purchases("Online Retail", pairs)


def _cdnow(name: str, date_column: int) -> Purchases | str:
    path = DATA / name
    if not path.exists():
        package = importlib.util.find_spec("lifetimes")
        if package is None or package.origin is None:
            return f"{name} is not there, EBBTIDE_TEST_DATA names its folder; nor is the package Lifetimes"
        path = Path(package.origin).parent / "datasets" / name
    pairs = []
    for line in path.read_text().splitlines():
        fields = line.split()
        if fields and fields[0].isdigit():
            pairs.append((fields[0], datetime.strptime(fields[date_column], "%Y%m%d").date()))  # noqa: DTZ007
    return _purchases(name.removesuffix(".txt").replace("_", " "), pairs)


def _purchases(name: str, pairs: Iterable[tuple[str, date]]) -> Purchases:
    buyers, days = zip(*sorted({(buyer, day.toordinal()) for buyer, day in pairs}), strict=True)
    _, numbers = np.unique(np.array(buyers), return_inverse=True)
    return Purchases(name, numbers.astype(np.int64), np.array(days, dtype=np.int64))

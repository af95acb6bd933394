"""The figures of a shop's report, read from the facts: one cycle of days beside the one before it.

The counting is in ``sql/report``; here counts become figures, and figures get their days. What each figure
means is said at the heads of those files. Amounts are Decimals of one currency each, shares Decimals of four
places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal

from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, sql_dir
from streams.adapters.queries import question

Unit = Literal["count", "amount", "share"]
Value = int | Decimal | None

#: ISO 4217's own code for no currency: of amounts whose events name none.
NO_CURRENCY: Final = "XXX"
#: How a session can end.
ENDINGS: Final = ("converted", "bounced", "browsed", "favorited", "carted")
_PLACES: Final = Decimal("0.0001")
#: Items that a report has room for, in its table and its plot.
MOST_ITEMS: Final = 200


@dataclass(frozen=True, slots=True)
class Cycle:
    """Whole days of the shop's calendar, ``since`` to ``until``, both in it."""

    since: date
    until: date

    @property
    def days(self) -> tuple[date, ...]:
        """Its days in order."""
        return tuple(self.since + timedelta(n) for n in range((self.until - self.since).days + 1))

    @classmethod
    def ending(cls, until: date, days: int) -> Cycle:
        """``days`` days, of which the last is ``until``."""
        return cls(until - timedelta(days - 1), until)


@dataclass(frozen=True, slots=True)
class ShopCard:
    """What is known of a shop; ``name`` is its id, and ``is_listed`` false, where nobody has told."""

    shop_id: str
    name: str
    zone: str
    currency: str | None
    is_listed: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the cycle beside the cycle before.

    value, before: None where it cannot be said: a share or a mean of nothing. daily: the same figure of each
    day of both cycles, in order; ratios of days do not add up. with_bots: value and before with bots in; None
    where bots make no difference to the figure by its meaning.
    """

    name: str
    unit: Unit
    currency: str | None
    value: Value
    before: Value
    daily: tuple[Value, ...]
    with_bots: tuple[Value, Value] | None

    @property
    def change(self) -> Decimal | None:
        """Of counts and amounts the share by which they grew; of shares the difference. None if unsayable."""
        if self.value is None or self.before is None:
            return None
        if self.unit == "share":
            return Decimal(self.value) - Decimal(self.before)
        return _ratio(Decimal(self.value) - Decimal(self.before), Decimal(self.before))


@dataclass(frozen=True, slots=True)
class ShopReport:
    """All of it.

    complete_until: the last day that has ended with time for its sessions to close; None before anything was
    read. endings: sessions of each day of the cycle, by how they ended. roles: how many of the shop's
    items have each, by the question ``product_matrix``; items: its rows of those that have one but
    ``unrated``, the most visited first, MOST_ITEMS at most.
    """

    shop: ShopCard
    cycle: Cycle
    before: Cycle
    complete_until: date | None
    currency: str | None
    figures: tuple[Figure, ...]
    endings: Mapping[str, tuple[int, ...]]
    roles: Mapping[str, int]
    items: tuple[Mapping[str, Any], ...]

    @property
    def is_complete(self) -> bool:
        """Whether the cycle's last day has ended."""
        return self.complete_until is not None and self.cycle.until <= self.complete_until

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, of an amount in the report's currency; None if there is no currency."""
        found = (f for f in self.figures if f.name == name and f.currency in (None, self.currency))
        return next(found, None)


def shop_card(client: Client, shop_id: str, zone: str) -> ShopCard:
    """What the table ``shops`` says, else the shop in ``zone``. StoreError if nothing names the shop."""
    told = client.query(
        "SELECT name, zone, currency FROM shops FINAL WHERE shop_id = {shop:String}", {"shop": shop_id}
    ).result_rows
    if told:
        name, its_zone, currency = told[0]
        return ShopCard(shop_id, name, its_zone, currency, is_listed=True)
    seen = client.query(
        "SELECT shop_id FROM (SELECT DISTINCT shop_id FROM sessions UNION DISTINCT"
        " SELECT DISTINCT shop_id FROM purchases) ORDER BY shop_id = {shop:String} DESC, shop_id LIMIT 8",
        {"shop": shop_id},
    ).result_rows
    names = [row[0] for row in seen]
    if shop_id not in names:
        there = f"there are {', '.join(names)}" if names else "there is no shop yet"
        raise StoreError(f"nothing is known of a shop {shop_id!r}; {there}")
    return ShopCard(shop_id, shop_id, zone, None, is_listed=False)


def complete_until(client: Client, zone: str, gap_ms: int) -> date | None:
    """The last day that has ended with time for its last sessions to close; None if nothing was read."""
    rows = client.query(_sql("reached"), {"zone": zone, "gap_ms": gap_ms}).result_rows
    day: date | None = rows[0][1] if rows else None
    return day


def first_day(client: Client, shop_id: str) -> date | None:
    """The first day on which the shop has a session or an order."""
    rows = client.query(
        "SELECT min(day) FROM (SELECT min(day) AS day FROM sessions FINAL WHERE shop_id = {shop:String}"
        " HAVING count() > 0 UNION ALL"
        " SELECT min(day) FROM purchases FINAL WHERE shop_id = {shop:String} HAVING count() > 0)"
        " HAVING count() > 0",
        {"shop": shop_id},
    ).result_rows
    day: date | None = rows[0][0] if rows else None
    return day


def read_shop_report(
    client: Client, card: ShopCard, cycle: Cycle, ended: date | None, guests: str = "", min_visitors: int = 10
) -> ShopReport:
    """The report of ``cycle``; ``ended`` as ``complete_until`` gives it.

    guests: how ids begin that are left out of everything; none are if empty. Raises what the client raises.
    """
    days = len(cycle.days)
    before = Cycle.ending(cycle.since - timedelta(1), days)
    given = {"shop": card.shop_id, "since": cycle.since, "until": cycle.until, "days": days, "guests": guests}
    counts = _Counts(cycle, before)
    for row in client.query(_sql("visits"), given).named_results():
        counts.add(row["with_bots"], row)
    for row in client.query(_sql("buyers"), given).named_results():
        for with_bots in (False, True):
            counts.add(with_bots, row)
    orders: dict[str, list[int]] = {}
    currencies: set[str] = set()
    for row in client.query(_sql("amounts"), given).named_results():
        figure, currency = row["figure"], row["in_currency"]
        said = {"kind": row["kind"], "first_day": row["first_day"]}
        counts.add(row["with_bots"], {**said, f"{figure} {currency}": row["total_amount"]})
        if figure == "paid":
            counts.add(row["with_bots"], {**said, f"payers {currency}": row["customers"]})
        if row["total_amount"]:
            currencies.add(currency)
        if figure == "paid" and currency != NO_CURRENCY and row["kind"] != "day" and not row["with_bots"]:
            orders.setdefault(currency, [0, 0])[row["kind"] == "before"] = row["pieces"]
    currency = card.currency or max(orders, key=lambda code: (*orders[code], code), default=None)
    others = sorted(currencies - {currency})
    shown = [code for code in (currency, *others) if code is not None]
    matrix = f"FROM ({question('product_matrix').text})"
    whole = {**given, "min_visitors": min_visitors, "limit": (1 << 32) - 1}
    roles = client.query(f"SELECT role, count() AS items {matrix} GROUP BY role", whole).named_results()
    items = client.query(
        f"SELECT * {matrix} WHERE role != 'unrated' ORDER BY visitors DESC, item_id LIMIT {MOST_ITEMS}", whole
    )
    endings = {name: tuple(n for (n,) in counts.of([name]))[-days:] for name in ENDINGS}
    return ShopReport(
        shop=card,
        cycle=cycle,
        before=before,
        complete_until=ended,
        currency=currency,
        figures=tuple(_figures(counts, shown)),
        endings=endings,
        roles={row["role"]: row["items"] for row in roles},
        items=tuple(items.named_results()),
    )


class _Counts:
    """Counts by name of every span, without bots and with them; what no row tells is 0."""

    def __init__(self, cycle: Cycle, before: Cycle) -> None:
        self._spans: Final = (
            ("cycle", cycle.since),
            ("before", before.since),
            *(("day", day) for day in (*before.days, *cycle.days)),
        )
        self._told: dict[tuple[bool, str, date], dict[str, Any]] = {}

    def add(self, with_bots: bool, row: Mapping[str, Any]) -> None:
        """Take in what a row tells of its span."""
        place = (with_bots, row["kind"], row["first_day"])
        self._told.setdefault(place, {}).update(row)

    def of(self, names: Sequence[str], with_bots: bool = False) -> Iterator[tuple[Any, ...]]:
        """These counts of the cycle, of the one before, and of each day of both."""
        for kind, day in self._spans:
            told = self._told.get((with_bots, kind, day), {})
            yield tuple(told.get(name, 0) for name in names)


def _whole(count: Any) -> Value:
    return int(count)


def _amount(amount: Any) -> Value:
    return Decimal(amount).quantize(_PLACES)


def _ratio(part: Any, whole: Any) -> Decimal | None:
    return (Decimal(part) / Decimal(whole)).quantize(_PLACES, ROUND_HALF_UP) if whole else None


def _rest(part: Any, whole: Any) -> Decimal | None:
    return _ratio(whole - part, whole)


def _others(part: Any, whole: Any) -> Value:
    return int(whole - part)


#: Each figure's unit, the counts it is made of, how, and whether bots bear on it. ``*``: of each currency.
_MADE: Final[dict[str, tuple[Unit, tuple[str, ...], Callable[..., Value], bool]]] = {
    "visitors": ("count", ("visitors",), _whole, True),
    "new_visitors": ("count", ("new_visitors",), _whole, True),
    "returning_visitor_share": ("share", ("new_visitors", "visitors"), _rest, True),
    "favorites": ("count", ("favorites",), _whole, True),
    "conversion_to_favorite": ("share", ("favoriting", "visitors"), _ratio, True),
    "conversion_to_cart": ("share", ("carting", "visitors"), _ratio, True),
    "conversion_to_order": ("share", ("ordering", "visitors"), _ratio, True),
    "paying_buyers": ("count", ("buyers",), _whole, False),
    "new_buyers": ("count", ("old_buyers", "buyers"), _others, False),
    "old_buyers": ("count", ("old_buyers",), _whole, False),
    "old_buyer_share": ("share", ("old_buyers", "buyers"), _ratio, False),
    "paid_amount": ("amount", ("paid *",), _amount, False),
    "amount_per_buyer": ("amount", ("paid *", "payers *"), _ratio, False),
    "refunded_amount": ("amount", ("refunded *",), _amount, False),
    "sessions": ("count", ("sessions",), _whole, True),
    "loss_rate": ("share", ("converted", "sessions"), _rest, True),
    "bounced_rate": ("share", ("bounced", "sessions"), _ratio, True),
    "browsed_rate": ("share", ("browsed", "sessions"), _ratio, True),
    "favorited_rate": ("share", ("favorited", "sessions"), _ratio, True),
    "carted_rate": ("share", ("carted", "sessions"), _ratio, True),
    "recovered": ("count", ("recovered",), _whole, True),
    "value_at_risk": ("amount", ("value_at_risk *",), _amount, True),
    "leaked_amount": ("amount", ("leaked *",), _amount, True),
}
#: All figures, in the order in which they are shown.
FIGURES: Final = tuple(_MADE)
_FORMULAS: Final[Mapping[Callable[..., Value], str]] = {
    _whole: "{0}",
    _amount: "{0}",
    _ratio: "{0} / {1}",
    _rest: "({1} - {0}) / {1}",
    _others: "{1} - {0}",
}


def told_by(name: str) -> tuple[str, str]:
    """The question of ``sql/report`` whose rows give the figure of that name, and how, by their columns.

    Of ``amounts``, where a row is one kind of amount, `paid.total_amount` is the column of the row `paid`.
    """
    _, made_of, make, is_of_bots = _MADE[name]
    columns = [
        "paid.customers" if part == "payers *" else part.replace(" *", ".total_amount") for part in made_of
    ]
    asked = "amounts" if "*" in made_of[0] else "visits" if is_of_bots else "buyers"
    return asked, _FORMULAS[make].format(*columns)


def _figures(counts: _Counts, currencies: Sequence[str]) -> Iterator[Figure]:
    for name, (unit, made_of, make, is_of_bots) in _MADE.items():
        for currency in currencies if unit == "amount" else (None,):
            names = [part.replace("*", currency or "") for part in made_of]
            value, before, *daily = (make(*parts) for parts in counts.of(names))
            with_bots = None
            if is_of_bots:
                bots = counts.of(names, with_bots=True)
                with_bots = (make(*next(bots)), make(*next(bots)))
            # Of another currency than the first, what is nothing is not told.
            if currency in (None, *currencies[:1]) or any((value, before, *(with_bots or ()))):
                yield Figure(name, unit, currency, value, before, tuple(daily), with_bots)


def _sql(name: str) -> str:
    return (sql_dir() / "report" / f"{name}.sql").read_text()

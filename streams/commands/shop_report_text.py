"""A shop report as a table for a terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import pygal
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from streams.adapters.queries import plain
from streams.adapters.shop_report import Cycle, Figure, ShopReport, Value
from streams.commands.dead_letters import one_line
from streams.commands.shop_report_words import ROLES, SECTIONS, Words, mood

_COLOURS: Final = {"good": "green", "bad": "red", "same": ""}
#: Days that a plot in a table has room for; of more, neighbours share a bar.
_BARS: Final = 14
_ITEM_COLUMNS: Final = (
    *("item_id", "category", "role", "visitors", "visitors_before", "bought", "conversion", "buyers"),
    *("currency", "revenue", "revenue_per_visitor", "discount_share", "new_visitor_share"),
    *("repeat_affinity", "growth", "traffic_score", "profit_score", "potential_score"),
)


def rated(report: ShopReport, count: int) -> list[dict[str, Any]]:
    """The most visited items that have a role: at most ``count``."""
    return [{name: item[name] for name in _ITEM_COLUMNS} for item in report.items[:count]]


def worth(item: Mapping[str, Any]) -> Decimal | None:
    """What one visitor of the item brings; None where nothing has a price."""
    amount: Decimal | None = item["revenue_per_visitor"]
    return None if item["currency"] is None else amount


def roles(report: ShopReport, words: Words) -> str:
    """How many items of the shop have which role."""
    found = report.roles
    said = words["roles"].format(count=words.value(sum(found.values()), "count", None))
    comma = "，" if words.lang == "zh" else ", "
    return said + comma.join(
        f"{words[f'role {role}']} {words.value(found[role], 'count', None)}"
        for role in ROLES
        if role in found
    )


def notices(report: ShopReport, words: Words) -> list[str]:
    """What a reader must know before the figures."""
    if report.complete_until is None:
        return [words["nothing read"]]
    if not report.is_complete:
        return [words["not over"].format(day=words.day(report.complete_until))]
    return []


def heading(report: ShopReport, words: Words) -> str:
    """Which days these are."""
    return words["span"].format(
        cycle=words.span(report.cycle),
        days=len(report.cycle.days),
        zone=report.shop.zone,
        before=words.span(report.before),
    )


def spark(values: Sequence[Value]) -> str:
    """A bar for each day, the highest at full height; a dot where there is nothing to say."""
    step = -(-len(values) // _BARS)
    groups = [[v for v in values[at : at + step] if v is not None] for at in range(0, len(values), step)]
    heights = [Decimal(sum(group)) / len(group) if group else None for group in groups]
    chart = pygal.Line()
    chart.add("", [height or 0 for height in heights])
    bars = chart.render_sparktext(relative_to=0)
    return "".join("·" if height is None else bar for height, bar in zip(heights, bars, strict=True))


def show(console: Console, report: ShopReport, words: Words, with_bots: bool, items: int) -> None:
    """The report for a person at a terminal."""
    name = Text(_printable(report.shop.name), style="bold")
    if report.shop.name != report.shop.shop_id:
        name.append(f" ({_printable(report.shop.shop_id)})", style="dim")
    console.print(name)
    console.print(Text(heading(report, words)))
    for notice in notices(report, words):
        console.print(Text(notice, style="yellow"))
    table = _figures(report, words, with_bots, plotted=True)
    if Measurement.get(console, console.options.update(max_width=10_000), table).maximum > console.width:
        # What can be read goes before what can be looked at.
        table = _figures(report, words, with_bots, plotted=False)
    console.print(table)
    if report.roles:
        console.print(Text(f"\n{words['items']}", style="bold"), Text(roles(report, words)), sep="  ")
        if shown := rated(report, items):
            console.print(_items(shown, words))


def _figures(report: ShopReport, words: Words, with_bots: bool, plotted: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(words["figure"], overflow="fold")
    for head in ("cycle", *(("with bots",) if with_bots else ()), "before", "change"):
        table.add_column(words[head], justify="right", no_wrap=True)
    if plotted:
        table.add_column(words["daily"], no_wrap=True)
    by_name: dict[str, list[Figure]] = {}
    for figure in report.figures:
        by_name.setdefault(figure.name, []).append(figure)
    for section, names in SECTIONS.items():
        table.add_row(Text(words[f"section {section}"], style="bold"))
        for figure in (f for name in names for f in by_name.get(name, ())):
            cells = list(_cells(report, figure, words, with_bots))
            table.add_row(*(cells if plotted else cells[:-1]))
    return table


def _cells(report: ShopReport, figure: Figure, words: Words, with_bots: bool) -> Iterator[Text]:
    def said(value: Value) -> Text:
        return Text(words.value(value, figure.unit, figure.currency))

    yield Text(f"  {words.label(figure, report.currency)}")
    yield said(figure.value)
    if with_bots:
        yield Text() if figure.with_bots is None else said(figure.with_bots[0])
    yield said(figure.before)
    yield Text(words.change(figure), style=_COLOURS[mood(figure)])
    yield Text(spark(figure.daily[-len(report.cycle.days) :]), style="cyan")


def _items(items: Sequence[dict[str, Any]], words: Words) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(words["item"], overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column(words["role"])
    for head in ("visitors", "conversion", "revenue_per_visitor", "growth"):
        table.add_column(words[head], justify="right", no_wrap=True)
    for item in items:
        table.add_row(
            Text(_printable(item["item_id"])),
            Text(words[f"role {item['role']}"]),
            words.value(item["visitors"], "count", None),
            words.value(item["conversion"], "share", None),
            words.value(worth(item), "amount", item["currency"]),
            f"×{item['growth']:.2f}",
        )
    return table


def _printable(text: str) -> str:
    """What a terminal might act on is escaped."""
    return one_line(text.encode(errors="replace"))


def as_csv(report: ShopReport, with_bots: bool) -> str:
    """One row a figure and currency: amounts as decimal text, shares from 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = ("value_with_bots", "before_with_bots") if with_bots else ()
    head = ("shop_id", "since", "until", "figure", "unit", "currency", "value", "before", "change")
    writer.writerow((*head, *more))
    for figure in report.figures:
        bots = figure.with_bots or (None, None)
        writer.writerow(
            (
                *(report.shop.shop_id, report.cycle.since, report.cycle.until),
                *(figure.name, figure.unit, figure.currency, figure.value, figure.before, figure.change),
                *(bots if with_bots else ()),
            )
        )
    return text.getvalue()


def as_json(report: ShopReport, with_bots: bool, items: int) -> dict[str, Any]:
    """One JSON object: counts and shares as numbers, amounts as decimal text, days in ISO 8601."""

    def days(cycle: Cycle) -> dict[str, Any]:
        return {
            "since": cycle.since.isoformat(),
            "until": cycle.until.isoformat(),
            "days": len(cycle.days),
        }

    def figure(of: Figure) -> dict[str, Any]:
        def cell(value: Value) -> Any:
            return float(value) if of.unit == "share" and value is not None else plain(value)

        found = {
            "figure": of.name,
            "unit": of.unit,
            "currency": of.currency,
            "value": cell(of.value),
            "before": cell(of.before),
            "change": None if of.change is None else float(of.change),
            "daily": [cell(value) for value in of.daily[-len(report.cycle.days) :]],
            "daily_before": [cell(value) for value in of.daily[: len(report.cycle.days)]],
        }
        if with_bots and of.with_bots is not None:
            found["with_bots"] = {"value": cell(of.with_bots[0]), "before": cell(of.with_bots[1])}
        return found

    ended = report.complete_until
    return {
        "shop": {"shop_id": report.shop.shop_id, "name": report.shop.name, "zone": report.shop.zone},
        "cycle": {**days(report.cycle), "is_complete": report.is_complete},
        "before": days(report.before),
        "complete_until": None if ended is None else ended.isoformat(),
        "currency": report.currency,
        "figures": [figure(one) for one in report.figures],
        "roles": dict(sorted(report.roles.items())),
        "items": [{name: plain(cell) for name, cell in item.items()} for item in rated(report, items)],
    }

"""A shop report as one HTML page that needs nothing else: no network, no script; its plots are inline SVG.

Plots take their colours from the page's style sheet, which knows light, dark and print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import pygal
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pygal.style import Style

from streams.adapters.shop_report import Figure, ShopReport, Unit, Value
from streams.commands.shop_report_text import heading, notices, rated, roles, worth
from streams.commands.shop_report_words import ROLES, SECTIONS, Words, mood

#: Of the page's style sheet, in the order in which a chart's series have them.
_NOW_AND_BEFORE: Final = ("blue", "grey")
_VISITORS: Final = ("blue", "orange", "grey")
_OUTCOMES: Final = ("green", "grey", "blue", "orange", "red")
_ROLES: Final = ("orange", "green", "blue", "grey")

#: Of a drawing: what is where, told to more digits than can be seen; and what is of no use without a script.
_PLACES: Final = frozenset({"d", "x", "y", "cx", "cy", "width", "height", "transform"})
_LONG: Final = re.compile(r"\d+\.\d{2,}")
_IDLE: Final = frozenset({"script", "desc", "title"})
_OVERLAYS: Final = frozenset({"text-overlay", "tooltip-overlay"})

_pages: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


#: The address of the SQL that gives a figure by its name, or ``ITEMS`` or ``SESSIONS``.
SqlOf = Callable[[str], str]
#: What has no figure's name: the table of items, and how each day's sessions ended.
ITEMS: Final = "items"
SESSIONS: Final = "sessions of days"
_LEADING: Final = {"visitors": "visitors", "paid": "paid_amount", "sessions": SESSIONS, "items": ITEMS}


def page(report: ShopReport, words: Words, with_bots: bool, items: int, sql_of: SqlOf | None = None) -> str:
    """The page's text; with ``sql_of`` each number leads there."""
    by_name: dict[str, list[Figure]] = {}
    for figure in report.figures:
        by_name.setdefault(figure.name, []).append(figure)
    return _pages.get_template("shop_report.html.jinja").render(
        report=report,
        words=words,
        heading=heading(report, words),
        notices=notices(report, words),
        sections={name: [f for n in names for f in by_name.get(n, ())] for name, names in SECTIONS.items()},
        mood=mood,
        with_bots=with_bots,
        spark=lambda figure: _spark(figure, len(report.cycle.days)),
        plots=list(_plots(report, words)),
        items=rated(report, items),
        roles=roles(report, words),
        worth=worth,
        sql_of=sql_of,
        leading=_LEADING,
        of_items=ITEMS,
    )


def _plots(report: ShopReport, words: Words) -> list[tuple[str, str, Markup]]:
    """What people look at rather than read: a name and a title each, and the drawing."""
    days = len(report.cycle.days)
    found = []
    visitors, new = report.figure("visitors"), report.figure("new_visitors")
    if visitors is not None and new is not None:
        chart = _daily(pygal.Line, _VISITORS, report, words, lambda v: words.value(v, "count", None))
        chart.add(words["visitors"], _numbers(visitors.daily[days:]))
        chart.add(words["new_visitors"], _numbers(new.daily[days:]))
        before = f"{words['visitors']}, {words['before']}" if words.lang == "en" else words["before"]
        chart.add(before, _numbers(visitors.daily[:days]), stroke_style={"width": 2, "dasharray": "4, 4"})
        found.append(
            ("visitors", words["chart visitors"], _drawn(chart, "visitors", words["chart visitors"]))
        )
    paid = report.figure("paid_amount")
    if paid is not None and (paid.value or paid.before):
        title = words["chart paid"].format(currency=report.currency)
        chart = _daily(
            pygal.Bar, _NOW_AND_BEFORE, report, words, lambda v: words.value(round(v), "count", None)
        )

        def amount(height: float) -> str:
            return words.value(Decimal(str(height)), "amount", report.currency)

        chart.add(words["cycle"], _numbers(paid.daily[days:]), formatter=amount)
        chart.add(words["before"], _numbers(paid.daily[:days]), formatter=amount)
        found.append(("paid", title, _drawn(chart, "paid", title)))
    if any(map(any, report.endings.values())):
        chart = _daily(
            pygal.StackedBar, _OUTCOMES, report, words, lambda v: words.value(round(v), "count", None)
        )
        for ending, counts in report.endings.items():
            chart.add(words[ending], counts)
        found.append(
            ("sessions", words["chart sessions"], _drawn(chart, "sessions", words["chart sessions"]))
        )
    if report.items:
        found.append(("items", *_matrix(report.items, words)))
    return found


def _matrix(items: Sequence[Any], words: Words) -> tuple[str, Markup]:
    """Each rated item by its visitors and what one of them is worth; by how many bought without prices."""
    height = "revenue_per_visitor" if any(item["revenue"] for item in items) else "conversion"
    title = words["chart bought" if height == "conversion" else "chart worth"]
    unit: Unit = "share" if height == "conversion" else "amount"
    currency = items[0]["currency"]
    chart = pygal.XY(
        style=_style(_ROLES),
        **_FRAME,
        stroke=False,
        dots_size=5,
        x_value_formatter=lambda v: words.value(round(v), "count", None),
        value_formatter=lambda v: words.value(Decimal(str(v)), unit, currency),
        x_title=words["visitors"],
        y_title=words[height],
    )
    for role in ROLES[:-1]:
        dots = [
            {"value": (item["visitors"], float(item[height])), "label": item["item_id"]}
            for item in items
            if item["role"] == role
        ]
        chart.add(words[f"role {role}"], dots)
    return title, _drawn(chart, "items", title)


_FRAME: Final = {
    "width": 520,
    "height": 320,
    "margin": 4,
    "margin_right": 24,
    "margin_bottom": 40,
    "js": [],
    "disable_xml_declaration": True,
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 3,
    "legend_box_size": 11,
    "truncate_legend": -1,
    "truncate_label": -1,
    "min_scale": 3,
    "max_scale": 6,
}


def _style(colours: Sequence[str]) -> Style:
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--ink)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--faint)",
        colors=tuple(f"var(--{colour})" for colour in colours),
        opacity="1",
        opacity_hover="1",
        transition="0s",
        font_family="inherit",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
        title_font_size=13,
    )


def _daily(
    kind: type[Any], colours: Sequence[str], report: ShopReport, words: Words, said: Callable[[Any], str]
) -> Any:
    """A chart over the cycle's days, with room for some of their names."""
    chart = kind(style=_style(colours), **_FRAME, value_formatter=said, include_x_axis=True)
    days = report.cycle.days
    step = -(-len(days) // 7)
    chart.x_labels = [words.tick(day) if n % step == 0 else "" for n, day in enumerate(days)]
    return chart


def _numbers(values: Sequence[Value]) -> list[float | int | None]:
    return [value if value is None or isinstance(value, int) else float(value) for value in values]


def _drawn(chart: Any, name: str, title: str) -> Markup:
    """The chart as SVG in a page: named, the same each time, and with nothing to run."""
    chart.uuid = name
    chart.add_xml_filter(lambda root: _at_rest(root, title))
    return _markup(chart.render(is_unicode=True))


def _spark(figure: Figure, days: int) -> Markup:
    chart = pygal.Line(js=[], disable_xml_declaration=True, include_x_axis=True)
    chart.add("", _numbers(figure.daily[days:]))
    chart.add_xml_filter(_bare)
    return _markup(chart.render_sparkline(width=120, height=28))


def _at_rest(root: Element, title: str) -> Element:
    """The drawing without what only a script could bring to life; a value's label is a title instead."""
    for part in list(root.iter()):
        for name in _PLACES & part.attrib.keys():
            part.set(name, _LONG.sub(lambda number: f"{float(number[0]):.1f}", part.attrib[name]))
        said: dict[str, str] = {}
        for child in list(part):
            names = child.get("class", "").split()
            if child.tag == "desc":
                said[" ".join(names)] = child.text or ""
            # Besides: comments, which tell the day of drawing.
            if not isinstance(child.tag, str) or child.tag in _IDLE or not _OVERLAYS.isdisjoint(names):
                part.remove(child)
        if value := said.get("value"):
            SubElement(part, "title").text = ": ".join(filter(None, (said.get("x_label"), value)))
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def _bare(root: Element) -> Element:
    """A spark line is decoration beside its figures, and styled by the page."""
    for part in list(_at_rest(root, "").iter()):
        for child in list(part):
            names = child.get("class", "").split()
            if child.tag in {"defs", "title", "rect"} or "overlay" in names or "titles" in names:
                part.remove(child)
    del root.attrib["aria-label"], root.attrib["id"]
    root.set("role", "presentation")
    root.set("aria-hidden", "true")
    root.set("class", "spark")
    return root


def _markup(svg: str) -> Markup:
    # Of our own making: pygal escapes what a user put into a label.
    return Markup(re.sub(r">\s+<", "><", svg))

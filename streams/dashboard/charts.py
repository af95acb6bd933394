"""What is drawn: options of charts, from rows. The colours are told apart by those who see few of them,
too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from streams.dashboard.asking import plain_number
from streams.dashboard.words import Words

Rows = Sequence[Mapping[str, Any]]
Options = dict[str, Any]

#: Okabe and Ito's, without the yellow that is lost on white.
_BLUE, _ORANGE, _GREEN, _RED, _SKY, _PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
STAGE_COLOURS: Final = {"bounced": _SKY, "browsed": _BLUE, "favorited": _PURPLE, "carted": _RED}
_BUCKETS: Final = {
    "bought_item": _GREEN,
    "bought_similar": _BLUE,
    "bought_other": _SKY,
    "bought_elsewhere": _RED,
    "nothing": _ORANGE,
}
_ROLES: Final = {"traffic": _BLUE, "profit": _GREEN, "potential": _ORANGE, "edge": _RED, "unrated": "#888888"}


#: Seen on white and on black.
_GRID: Final = {"splitLine": {"lineStyle": {"color": "rgba(128, 128, 128, 0.3)"}}}


def _base(words: Words, legend: Iterable[str] = ()) -> Options:
    names = [words[name] for name in legend]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 40 if names else 16, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True},
        **({"legend": {"type": "scroll", "data": names, "top": 0, "left": 0, "right": 0}} if names else {}),
    }


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def curve(rows: Rows, alerts: Rows, words: Words) -> Options:
    """The loss rate over time beside what was expected, the band, and when alerts stood."""
    names = ("loss_rate", "expected", "band")
    looks = {
        "loss_rate": {"color": _RED, "width": 2, "type": "solid"},
        "expected": {"color": _BLUE, "width": 1.5, "type": "dashed"},
        "band": {"color": _ORANGE, "width": 1.5, "type": "dotted"},
    }
    series: list[Options] = [
        {
            "name": words[name],
            "type": "line",
            "showSymbol": False,
            "lineStyle": looks[name],
            "itemStyle": {"color": looks[name]["color"]},
            "data": [
                [_ms(row["at"]), None if row[name] is None else round(100 * row[name], 2)] for row in rows
            ],
        }
        for name in names
    ]
    if rows and alerts:
        last = _ms(rows[-1]["at"])
        series[0]["markArea"] = {
            "silent": True,
            "itemStyle": {"color": "rgba(213, 94, 0, 0.18)"},
            "data": [
                [
                    {"name": alert["signal"], "xAxis": max(_ms(alert["began_at"]), _ms(rows[0]["at"]))},
                    {"xAxis": _ms(alert["resolved_at"]) if alert["resolved_at"] else last},
                ]
                for alert in alerts
            ],
        }
    return {
        **_base(words, names),
        "xAxis": {"type": "time"},
        "yAxis": {"type": "value", "scale": True, "axisLabel": {"formatter": "{value} %"}, **_GRID},
        "series": series,
    }


def stages(rows: Rows, words: Words) -> Options:
    """Lost sessions over time, stacked by stage."""
    return {
        **_base(words, STAGE_COLOURS),
        "xAxis": {"type": "time"},
        "yAxis": {"type": "value", **_GRID},
        "series": [
            {
                "name": words[stage],
                "type": "bar",
                "stack": "lost",
                "barCategoryGap": "10%",
                "itemStyle": {"color": colour},
                "data": [[_ms(row["at"]), row[stage]] for row in rows],
            }
            for stage, colour in STAGE_COLOURS.items()
        ],
    }


def bars(rows: Rows, of: Sequence[str], value: str, words: Words) -> Options:
    """One horizontal bar a row, the first on top; its name is made of the columns ``of``."""
    shown = list(reversed(rows[:12]))
    return {
        **_base(words),
        "xAxis": {"type": "value", **_GRID},
        "yAxis": {
            "type": "category",
            "data": [" · ".join(words.cell(name, row[name], row) for name in of) for row in shown],
            "axisLabel": {"width": 180, "overflow": "truncate"},
        },
        "series": [
            {
                "name": words[value],
                "type": "bar",
                "itemStyle": {"color": _BLUE},
                "label": {"show": True, "position": "right"},
                "data": [plain_number(row[value]) for row in shown],
            }
        ],
    }


def item_buckets(rows: Rows, by: str, words: Words) -> Options:
    """What visitors bought in an item's place, stacked: one bar an item, or a day."""
    shown = list(reversed(rows[:12])) if by == "item_id" else list(rows)
    names = [words.cell(by, row[by], row) for row in shown]
    across = by == "item_id"
    category = {"type": "category", "data": names, "axisLabel": {"width": 160, "overflow": "truncate"}}
    return {
        **_base(words, _BUCKETS),
        "xAxis": {"type": "value", **_GRID} if across else category,
        "yAxis": category if across else {"type": "value", **_GRID},
        "series": [
            {
                "name": words[bucket],
                "type": "bar",
                "stack": "visitors",
                "itemStyle": {"color": colour},
                "data": [row[bucket] for row in shown],
            }
            for bucket, colour in _BUCKETS.items()
        ],
    }


def sankey(rows: Rows, steps: Sequence[str], value: str, words: Words) -> Options:
    """Flows from the first of the columns ``steps`` to the last. One name in two columns is two places."""
    links: dict[tuple[str, str], float] = {}
    labels: dict[str, str] = {}
    for row in rows:
        places = []
        for number, step in enumerate(steps):
            if row[step] is not None:
                place = f"{number}:{row[step]}"
                labels[place] = words.cell(step, row[step], row)
                places.append(place)
        for source, target in pairwise(places):
            links[source, target] = links.get((source, target), 0) + row[value]
    used = {place for pair in links for place in pair}
    return {
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True},
        "series": [
            {
                "type": "sankey",
                "left": 8,
                "right": 120,
                "nodeGap": 10,
                "emphasis": {"focus": "adjacency"},
                "lineStyle": {"color": "source", "opacity": 0.35},
                "data": [
                    {"name": place, "label": {"formatter": label}}
                    for place, label in sorted(labels.items())
                    if place in used
                ],
                "links": [
                    {"source": source, "target": target, "value": count}
                    for (source, target), count in sorted(links.items())
                ],
            }
        ],
    }


def matrix(rows: Rows, words: Words) -> Options:
    """Items by traffic and profit score; the role is the colour, visitors the size."""
    rated = [row for row in rows if row["traffic_score"] is not None]
    most = max((row["visitors"] for row in rated), default=1)
    roles = [role for role in _ROLES if any(row["role"] == role for row in rated)]
    return {
        "animation": False,
        "grid": {"left": 16, "right": 24, "top": 40, "bottom": 32, "containLabel": True},
        "legend": {"type": "scroll", "data": [words.of_value(role) for role in roles], "top": 0},
        "tooltip": {"trigger": "item", "confine": True, "formatter": "{b}"},
        "xAxis": {
            "type": "value",
            "name": words["traffic_score"],
            "nameLocation": "middle",
            "nameGap": 26,
            **_GRID,
        },
        "yAxis": {"type": "value", "name": words["profit_score"], **_GRID},
        "series": [
            {
                "name": words.of_value(role),
                "type": "scatter",
                "itemStyle": {"color": _ROLES[role], "opacity": 0.75},
                "data": [
                    {
                        "name": row["item_id"],
                        "value": [row["traffic_score"], row["profit_score"]],
                        "symbolSize": 8 + round(22 * (row["visitors"] / most) ** 0.5),
                    }
                    for row in rated
                    if row["role"] == role
                ],
            }
            for role in roles
        ],
    }

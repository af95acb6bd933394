"""What a panel is made of: figures, charts and tables. Each shows rows, and shows others in their place.

Figures and tables are plain HTML, so that links are links to a keyboard and a screen reader; all that is data
is escaped. A chart is a picture with a name, and has its rows as a table below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol
from urllib.parse import urlencode

from nicegui import ui

from streams.dashboard.charts import Options, Rows
from streams.dashboard.selection import View
from streams.dashboard.words import Words

#: Of a row: what of the selection a link changes.
Link = Callable[[Mapping[str, Any]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a part is shown in. asked: the question's name; given: its parameters beside those of the view;
    title: of its panel."""

    view: View
    words: Words
    asked: str
    given: Mapping[str, str]
    title: str

    def sql(self, column: str = "") -> str:
        """The address of the SQL that gives these rows; ``column`` is the one that was pointed at."""
        chosen = self.view.selection
        given = {"of": chosen.address(), "reached": str(self.view.reached), **self.given}
        if column:
            given["column"] = column
        return f"/{chosen.lang}/sql/{self.asked}?{urlencode(given)}"


class Part(Protocol):
    """One way to show rows."""

    def show(self, rows: Rows, marks: Rows, /) -> None:
        """Show these and no others; ``marks`` are moments to point out on them."""
        ...


Make = Callable[[Scene], Part]


def _html(content: str = "") -> ui.html:
    # Everything that comes from the data is escaped where it is written.
    return ui.html(content, sanitize=False)


class _Figures:
    """Rows ``now`` and ``before``: each figure, and what it was."""

    def __init__(self, scene: Scene, names: Sequence[str]) -> None:
        self._scene, self._names, self._into = scene, names, _html()

    def show(self, rows: Rows, _: Rows) -> None:
        words = self._scene.words
        spans = {row["span"]: row for row in rows}
        now, before = spans.get("now", {}), spans.get("before", {})
        cells = []
        for name in self._names:
            value = words.cell(name, now.get(name), now)
            was = words.say("before", value=words.cell(name, before.get(name), before))
            cells.append(
                f'<div class="figure figure-{name}"><dt>{escape(words[name])}</dt>'
                f'<dd><a href="{escape(self._scene.sql(name))}">{escape(value)}</a>'
                f'<span class="was">{escape(was)}</span></dd></div>'
            )
        self._into.set_content(f'<dl class="figures">{"".join(cells)}</dl>')


class _Chart:
    def __init__(self, scene: Scene, build: Callable[[Rows, Rows], Options], height: int) -> None:
        self._build = build
        frame = ui.element("div").props(f'role=img aria-label="{escape(scene.title)}"').classes("chart")
        with frame:
            self._chart = ui.echart({"series": []}, renderer="svg").style(f"height:{height}px")

    def show(self, rows: Rows, marks: Rows) -> None:
        options = self._build(rows, marks)
        self._chart.options.clear()
        self._chart.options.update(options)
        self._chart.update()


class _Table:
    def __init__(self, scene: Scene, columns: Sequence[str], links: Mapping[str, Link]) -> None:
        self._scene, self._columns, self._links, self._into = scene, columns, links, _html()

    def show(self, rows: Rows, _: Rows) -> None:
        rows = _sorted(rows, self._scene.view.selection.sort)
        numeric = {
            column: all(not isinstance(row[column], str | list | tuple) for row in rows)
            for column in self._columns
        }
        heads = "".join(self._head(column, numeric[column]) for column in self._columns)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td class="{"number" if numeric[column] else "text"}">{self._cell(column, row)}</td>'
                for column in self._columns
            )
            + "</tr>"
            for row in rows
        )
        title = escape(self._scene.title)
        self._into.set_content(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
            f'<table><caption class="hidden">{title}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _head(self, column: str, is_number: bool) -> str:
        words, chosen = self._scene.words, self._scene.view.selection
        by = chosen.sort.removeprefix("-") == column
        down = chosen.sort.startswith("-")
        other = f"-{column}" if not by or not down else column
        order = ("descending" if down else "ascending") if by else "none"
        arrow = ("▾" if down else "▴") if by else ""
        label = escape(words[column])
        hint = escape(words.say("sorted by", column=words[column]))
        return (
            f'<th scope="col" aria-sort="{order}" class="{"number" if is_number else "text"}">'
            f'<a href="{escape(chosen.link(sort=other))}" title="{hint}">{label} {arrow}</a></th>'
        )

    def _cell(self, column: str, row: Mapping[str, Any]) -> str:
        text = escape(self._scene.words.cell(column, row[column], row))
        link = self._links.get(column)
        if link is not None and row[column]:
            return f'<a href="{escape(self._scene.view.selection.link(**link(row)))}">{text}</a>'
        if isinstance(row[column], int | float) and not isinstance(row[column], bool):
            return f'<a class="quiet" href="{escape(self._scene.sql(column))}">{text}</a>'
        return text


def _sorted(rows: Rows, sort: str) -> Rows:
    column = sort.removeprefix("-")
    if not sort or not rows or column not in rows[0]:
        return rows

    def key(row: Mapping[str, Any]) -> Any:
        value = row[column]
        if isinstance(value, Mapping):
            return max(map(float, value.values()), default=0.0)
        return str(value) if isinstance(value, list | tuple) else value

    some = [row for row in rows if row[column] is not None]
    none = [row for row in rows if row[column] is None]
    return [*sorted(some, key=key, reverse=sort.startswith("-")), *none]


def figures(names: str) -> Make:
    """Figures of a span beside the one before it; ``names`` of columns, by spaces."""
    return lambda scene: _Figures(scene, names.split())


def chart(build: Callable[[Rows, Words], Options], height: int = 280) -> Make:
    """A chart of the rows; ``height`` in pixels."""
    return lambda scene: _Chart(scene, lambda rows, _: build(rows, scene.words), height)


def marked(build: Callable[[Rows, Rows, Words], Options], height: int) -> Make:
    """A chart of the rows with the marks on it."""
    return lambda scene: _Chart(scene, lambda rows, marks: build(rows, marks, scene.words), height)


def table(columns: str, **links: Link) -> Make:
    """A table of ``columns``, by spaces; cells of those in ``links`` lead to what is said there."""
    return lambda scene: _Table(scene, columns.split(), links)


def folded(columns: str) -> Make:
    """The rows as a table that opens when it is asked for: what a chart says, for who cannot see it."""

    def make(scene: Scene) -> Part:
        with ui.element("details"):
            with ui.element("summary"):
                _html(escape(scene.words["as table"]))
            return _Table(scene, columns.split(), {})

    return make

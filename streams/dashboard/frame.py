"""What surrounds every page: where one is, where one can go, and what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from nicegui import ui

from streams.dashboard.charts import Rows
from streams.dashboard.pages import PAGES
from streams.dashboard.selection import LANGS, SPANS, THEMES, Selection
from streams.dashboard.words import Words

STYLE: Final = (Path(__file__).parent / "style.css").read_text()
#: More shops than these are typed, not picked.
_MOST_PICKED: Final = 200
_NAMES: Final = {"en": "English", "zh": "中文"}


def head(chosen: Selection, words: Words) -> None:
    """Style and title; the theme is the system's unless one is chosen."""
    ui.add_head_html(f"<style>{STYLE}</style>")
    ui.page_title(f"{words[f'page {chosen.page}']} · Ebbtide")
    ui.dark_mode(None if chosen.theme == "auto" else chosen.theme == "dark")


def top(chosen: Selection, words: Words, shops: Rows) -> None:
    """The header: pages, choices, and the way past them."""
    pages = "".join(
        f'<li><a href="{escape(chosen.link(page=page))}"{_current(page == chosen.page)}>'
        f"{escape(words[f'page {page}'])}</a></li>"
        for page in PAGES
    )
    ui.html(
        f'<a class="skip" href="#content">{escape(words["skip"])}</a>'
        f'<div class="brand"><a href="{escape(chosen.link(page="loss"))}">Ebbtide</a></div>'
        f'<nav aria-label="{escape(words["pages"])}"><ul>{pages}</ul></nav>'
        f"{_choices(chosen, words, shops)}",
        sanitize=False,
        tag="header",
    )


def bottom(chosen: Selection, words: Words) -> None:
    """The footer: language and appearance."""
    langs = _links([(_NAMES[lang], chosen.link(lang=lang), lang == chosen.lang, lang) for lang in LANGS])
    themes = _links(
        [(words[f"theme {theme}"], chosen.link(theme=theme), theme == chosen.theme, "") for theme in THEMES]
    )
    ui.html(
        f'<nav aria-label="{escape(words["language"])}">{langs}</nav>'
        f'<nav aria-label="{escape(words["appearance"])}">{themes}</nav>',
        sanitize=False,
        tag="footer",
    )


def _current(is_so: bool) -> str:
    return ' aria-current="page"' if is_so else ""


def _links(links: Sequence[tuple[str, str, bool, str]]) -> str:
    items = "".join(
        f'<li><a href="{escape(address)}"{_current(here)}{f" lang={lang}" if lang else ""}>'
        f"{escape(text)}</a></li>"
        for text, address, here, lang in links
    )
    return f"<ul>{items}</ul>"


def _choices(chosen: Selection, words: Words, shops: Rows) -> str:
    if len(shops) <= _MOST_PICKED:
        options = f'<option value="">{escape(words["all shops"])}</option>' + "".join(
            f'<option value="{escape(shop["shop_id"])}"{_selected(shop["shop_id"] == chosen.shop)}>'
            f"{escape(shop['name'] or shop['shop_id'])}</option>"
            for shop in shops
        )
        shop = f'<select id="shop" name="shop">{options}</select>'
    else:
        shop = (
            f'<input id="shop" name="shop" value="{escape(chosen.shop)}"'
            f' placeholder="{escape(words["all shops"])}">'
        )
    spans = "".join(
        f'<option value="{days}"{_selected(days == chosen.days)}>{escape(words[f"days {days}"])}</option>'
        for days in SPANS
    )
    theme = f'<input type="hidden" name="theme" value="{chosen.theme}">' if chosen.theme != "auto" else ""
    return (
        f'<form method="get" action="/{chosen.lang}/{chosen.page}">'
        f'<label for="shop">{escape(words["shop"])}</label>{shop}'
        f'<label for="days">{escape(words["span"])}</label><select id="days" name="days">{spans}</select>'
        f'{theme}<button type="submit">{escape(words["apply"])}</button></form>'
    )


def _selected(is_so: bool) -> str:
    return " selected" if is_so else ""

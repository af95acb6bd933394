"""The SQL behind a number, as it was asked, with what it was asked about: text to read, copy and run."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qsl, urlsplit

from streams.adapters.clickhouse import StoreError
from streams.dashboard.asking import Asker, page_question, spelled_out
from streams.dashboard.frame import STYLE
from streams.dashboard.pages import PAGES
from streams.dashboard.selection import Lang, Selection, View
from streams.dashboard.words import Words
from streams.domain.policy import Policy


async def sql_page(asker: Asker, policy: Policy, lang: Lang, name: str, given: Mapping[str, str]) -> str:
    """The page about the question ``name``. given: ``of``, the address of the view that asked it;
    ``reached``, when (ms); ``column``, what of it was pointed at; and parameters beside the view's.
    StoreError if there is none."""
    question = page_question(name)
    chosen = _of(lang, given.get("of", ""))
    words = Words(lang, policy.zone)
    at = given.get("reached", "")
    if not at.isdecimal() or len(at) > 15:
        raise StoreError("the address does not say as of when")
    values = View(chosen, int(at), policy.zone).parameters() | {"gap_ms": str(policy.gap)}
    values |= {key: value for key, value in given.items() if key in question.parameters}
    try:
        text = spelled_out(question, values)
    except (KeyError, ValueError) as exc:
        raise StoreError(f"the address does not say what {name} asks for: {exc}") from None
    answer = await asker.ask(name, values)
    told = answer.wrong or words.say("asked", rows=len(answer.rows), ms=f"{answer.elapsed_ms:.0f}")
    column = given.get("column", "")
    pointed = f"<p><strong><code>{escape(column)}</code></strong></p>" if column else ""
    theme = ' class="body--dark"' if chosen.theme == "dark" else ""
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · SQL · Ebbtide</title><style>{STYLE}</style></head><body{theme}>"
        f'<main class="nicegui-content">'
        f'<p><a href="{escape(chosen.address())}">← {escape(words["back"])}</a></p>'
        f"<h1>{escape(question.asks)}</h1>{pointed}<p>{escape(words['sql says'])}</p>"
        f'<p class="reached">{escape(told)}</p>'
        f'<pre tabindex="0" aria-label="SQL"><code>{escape(text)}</code></pre></main></body></html>'
    )


def _of(lang: Lang, address: str) -> Selection:
    parts = urlsplit(address)
    page = parts.path.rpartition("/")[2]
    return Selection.read(lang, page if page in PAGES else "loss", dict(parse_qsl(parts.query)))

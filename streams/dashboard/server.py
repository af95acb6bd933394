"""The page's server: routes, live panels, and whether it is well."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from nicegui import app, ui

from streams.adapters.clickhouse import StoreError
from streams.dashboard import frame
from streams.dashboard.asking import Answer, Asker
from streams.dashboard.door import Door
from streams.dashboard.pages import OF_ONE_SHOP, PAGES, Panel
from streams.dashboard.parts import Part, Scene
from streams.dashboard.report import framed, report_html
from streams.dashboard.selection import LANGS, Lang, Selection, View
from streams.dashboard.sql_text import sql_page
from streams.dashboard.words import Words
from streams.domain.policy import Policy

log = logging.getLogger(__name__)

#: Seconds between two looks at what has changed.
LIVE_S: Final = 3.0
_TAGS: Final = {"en": "en-US", "zh": "zh-CN"}


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages are made from. policy: its zone is that of days and times, its gap the report's."""

    asker: Asker
    policy: Policy

    async def view(self, chosen: Selection) -> tuple[View | None, Answer]:
        """The selection as of now; None, and why, if nothing has been read yet or ClickHouse does not
        answer."""
        answer = await self.asker.ask("reached", {})
        reached = answer.rows[0]["reached_ms"] if answer.rows else None
        return (None if reached is None else View(chosen, reached, self.policy.zone)), answer


class _Live:
    """One panel on one reader's screen."""

    def __init__(self, site: Site, panel: Panel, view: View, words: Words) -> None:
        self._site, self._panel, self._words = site, panel, words
        self._shown: tuple[Answer, Answer] | None = None
        self._last_ms = view.reached
        self.scene = Scene(view, words, panel.asks, panel.given, words[panel.title])
        heading = f"panel-{panel.title.replace(' ', '-')}"
        with ui.element("section").classes("panel").props(f"aria-labelledby={heading}"):
            ui.html(
                f'<div class="title"><h2 id="{heading}">{escape(words[panel.title])}</h2>'
                f'<a href="{escape(self.scene.sql())}" aria-label="'
                f'{escape(words.say("sql of", title=words[panel.title]))}">{escape(words["sql"])}</a></div>'
                + (f'<p class="note">{escape(words[panel.note])}</p>' if panel.note else ""),
                sanitize=False,
            )
            self._wrong = ui.html("", sanitize=False).props("role=status")
            self._empty = ui.html(f'<p class="empty">{escape(words[panel.empty])}</p>', sanitize=False)
            with ui.element("div") as self._body:
                self._parts: list[Part] = [make(self.scene) for make in panel.parts]

    async def refresh(self, view: View) -> None:
        """Ask again; what is the same stays as it is, what cannot be read leaves what was."""
        panel, ask = self._panel, self._site.asker.ask
        given = view.parameters()
        answer, marks = await asyncio.gather(
            ask(panel.asks, given | dict(panel.given)),
            ask(panel.marks[0], given | dict(panel.marks[1])) if panel.marks else _nothing(),
        )
        if wrong := answer.wrong or marks.wrong:
            name = "failed" if self._shown is None else "away"
            said = self._words.say(name, why=wrong, at=self._words.moment(self._last_ms))
            self._wrong.set_content(f'<p class="wrong">{escape(said)}</p>')
            self._empty.set_visibility(False)
            return
        self._wrong.set_content("")
        self._last_ms = view.reached
        if self._shown is None or (self._shown[0].rows, self._shown[1].rows) != (answer.rows, marks.rows):
            self._empty.set_visibility(not answer.rows)
            self._body.set_visibility(bool(answer.rows))
            if answer.rows:
                for part in self._parts:
                    part.show(answer.rows, marks.rows)
        self._shown = answer, marks


async def _nothing() -> Answer:
    return Answer()


async def _build(site: Site, chosen: Selection) -> None:
    words = Words(chosen.lang, site.policy.zone)
    frame.head(chosen, words)
    (view, reached), shops = await asyncio.gather(site.view(chosen), site.asker.ask("shops", {}))
    frame.top(chosen, words, shops.rows)
    with ui.element("main").props("id=content tabindex=-1"):
        ui.html(escape(words[f"page {chosen.page}"]), sanitize=False, tag="h1")
        clock = ui.html(sanitize=False).classes("reached")
        clock.set_content(escape(_reached(words, view, reached)))
        lives: list[_Live] = []
        if view is not None:
            if closer := chosen.item or chosen.customer:
                back = f'<a href="{escape(chosen.link(page=chosen.page))}">← {escape(words["back"])}</a>'
                ui.html(f"<p>{back} <strong>{escape(closer)}</strong></p>", sanitize=False)
            if chosen.page in OF_ONE_SHOP and not chosen.shop:
                ui.html(f'<p class="note">{escape(words["choose shop"])}</p>', sanitize=False)
            elif chosen.page == "report":
                framed(view, words)
            lives = [_Live(site, panel, view, words) for panel in PAGES[chosen.page] if panel.when(chosen)]
            await asyncio.gather(*(live.refresh(view) for live in lives))
    frame.bottom(chosen, words)

    async def again() -> None:
        now, why = await site.view(chosen)
        clock.set_content(escape(_reached(words, now, why)))
        if now is None:
            # Each panel says itself what it could not read.
            now = view
        elif view is None:
            ui.navigate.reload()
        if now is not None:
            await asyncio.gather(*(live.refresh(now) for live in lives))

    ui.timer(LIVE_S, again)


def _reached(words: Words, view: View | None, answer: Answer) -> str:
    if view is not None:
        return words.say("read up to", at=words.moment(view.reached))
    return words.say("failed", why=answer.wrong) if answer.wrong else words["nothing read"]


def register(site: Site, token: str) -> None:
    """All routes, on NiceGUI's app; ``token`` lets in, or everybody on this machine if it is empty."""
    app.add_middleware(Door, token=token)

    @app.get("/")
    def root(request: Request) -> Response:
        wants = request.headers.get("accept-language", "")
        lang = "zh" if wants.lower().startswith("zh") else "en"
        return RedirectResponse(f"/{lang}/loss", 307)

    @app.get("/healthz")
    def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        answer = await site.asker.ask("reached", {})
        return PlainTextResponse(answer.wrong or "ok\n", 503 if answer.wrong else 200)

    for lang in LANGS:
        _register(site, lang)


def _register(site: Site, lang: Lang) -> None:
    for name in PAGES:

        @ui.page(f"/{lang}/{name}", language=_TAGS[lang], response_timeout=30.0)  # type: ignore[arg-type]
        async def view(request: Request, name: str = name) -> None:
            await _build(site, Selection.read(lang, name, request.query_params))

    @app.get(f"/{lang}/report.html")
    async def report(request: Request) -> Response:
        view, answer = await site.view(Selection.read(lang, "report", request.query_params))
        if view is None:
            words = Words(lang, site.policy.zone)
            return PlainTextResponse(answer.wrong or words["nothing read"], 503)
        try:
            text = await asyncio.to_thread(report_html, site.asker.url, site.policy, view)
        except StoreError as exc:
            return PlainTextResponse(str(exc), 503)
        return HTMLResponse(text)

    @app.get(f"/{lang}/sql/{{name}}")
    async def sql(name: str, request: Request) -> Response:
        given = dict(request.query_params)
        try:
            text = await sql_page(site.asker, site.policy, lang, name, given)
        except StoreError as exc:
            return PlainTextResponse(str(exc), 404)
        return HTMLResponse(text)


def serve(url: str, policy: Policy, host: str, port: int, token: str) -> None:
    """Serve the page until stopped. url: ClickHouse, as a user who may only read."""
    register(Site(Asker(url), policy), token)
    started = time.monotonic()

    @app.on_startup
    def ready() -> None:
        log.info("the page is on http://%s:%d after %.1f s", host, port, time.monotonic() - started)

    options: dict[str, Any] = {"access_log": False}
    ui.run(
        host=host,
        port=port,
        title="Ebbtide",
        favicon="🌊",
        dark=None,
        reload=False,
        show=False,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=30.0,
        **options,
    )

"""Who may come in: the page's token, asked for before anything else is answered, web sockets included.

On loopback the page may be open; then only requests that name this machine are answered, so that no page of
another site reaches it by a name of its own that points here (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from streams.dashboard.words import Words
from streams.settings import SettingsError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_COOKIE: Final = "ebbtide"
#: A token that can be guessed keeps nobody out.
_SHORTEST: Final = 16
_WEEK_S: Final = 7 * 24 * 60 * 60
_LONGEST_BODY: Final = 4096
#: Asked by who looks after the process; they say nothing of the shops.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(host: str, token: str) -> None:
    """SettingsError if the page would be open to others than this machine, or nearly."""
    if not token and not is_loopback(host):
        raise SettingsError(
            f"on {host} others than this machine can reach the page; set EBBTIDE_PAGE_TOKEN"
            " or EBBTIDE_PAGE_TOKEN_FILE"
        )
    if 0 < len(token) < _SHORTEST:
        raise SettingsError(f"EBBTIDE_PAGE_TOKEN must have at least {_SHORTEST} characters")


class Door:
    """ASGI middleware. token: what lets in, as a cookie that the sign-in form sets or as ``Authorization:
    Bearer``; empty: everybody who names this machine as the host."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token
        # The cookie is no token: who reads one from a browser cannot sign in elsewhere with it.
        self._cookie = hmac.new(token.encode(), b"ebbtide page cookie", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not _is_own(headers):
            await _refuse(scope, send, 403, "This page answers to itself only, not to pages of other sites.")
        elif not self._token:
            if _is_this_machine(headers.get(b"host", "")):
                await self._app(scope, receive, _with_headers(send))
            else:
                await _refuse(scope, send, 421, "This page answers to 127.0.0.1 and localhost only.")
        elif self._is_known(headers):
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await self._sign_in(scope, receive, send, headers)
        else:
            await _refuse(scope, send, 403, "")

    def _is_known(self, headers: dict[bytes, str]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._cookie)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, str]) -> None:
        lang: Any = "zh" if headers.get(b"accept-language", "").startswith("zh") else "en"
        wrong = False
        if scope["method"] == "POST" and scope["path"] == "/login":
            form = parse_qs((await _body(receive)).decode(errors="replace"))
            if _same(form.get("token", [""])[0], self._token):
                secure = "; Secure" if scope["scheme"] == "https" else ""
                cookie = (
                    f"{_COOKIE}={self._cookie}; Path=/; Max-Age={_WEEK_S}; HttpOnly; SameSite=Strict{secure}"
                )
                await _answer(send, 303, b"", ((b"location", b"/"), (b"set-cookie", cookie.encode())))
                return
            wrong = True
        page = _form(Words(lang, "UTC"), lang, wrong).encode()
        await _answer(send, 401, page, ((b"content-type", b"text/html; charset=utf-8"),))


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_own(headers: dict[bytes, str]) -> bool:
    """Whether no page of another site asks: browsers say of web sockets, and of what is sent, who does."""
    origin = headers.get(b"origin", "")
    return not origin or urlsplit(origin).netloc == headers.get(b"host", "")


def _is_this_machine(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return is_loopback(name.strip("[]"))


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= _LONGEST_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def _answer(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    start = {"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _answer(send, status, why.encode(), ((b"content-type", b"text/plain; charset=utf-8"),))


def _form(words: Words, lang: str, wrong: bool) -> str:
    said = f'<p role="alert">{escape(words["wrong token"])}</p>' if wrong else ""
    return (
        f'<!doctype html><html lang="{lang}"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Ebbtide · {escape(words['login'])}</title>"
        "<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;"
        "margin:15vh auto;padding:0 1rem}input,button{font:inherit;padding:.5rem;width:100%;"
        "box-sizing:border-box;margin:.25rem 0 1rem}</style>"
        f'<main><h1>Ebbtide</h1>{said}<form method="post" action="/login">'
        f'<label for="token">{escape(words["token"])}</label><input id="token" name="token" type="password"'
        ' autocomplete="current-password" required autofocus>'
        f"<button>{escape(words['login'])}</button></form></main></html>"
    )

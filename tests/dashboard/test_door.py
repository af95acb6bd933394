"""Who comes in: every kind of request, with and without the token."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from streams.dashboard.door import Door, check
from streams.settings import SettingsError

TOKEN = "a-token-that-is-long"


def knock(
    token: str,
    path: str = "/en/loss",
    kind: str = "http",
    body: bytes = b"",
    method: str = "GET",
    **headers: str,
) -> list[MutableMapping[str, Any]]:
    """What is sent back; ``inside`` if the request came through."""
    sent: list[MutableMapping[str, Any]] = []

    async def inside(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "inside"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:8080"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": kind,
        "path": path,
        "method": method,
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(Door(inside, token)(scope, receive, send))
    return sent


def came_in(sent: list[MutableMapping[str, Any]]) -> bool:
    return sent[0]["type"] == "inside"


def signed_in() -> str:
    answer = knock(TOKEN, "/login", method="POST", body=f"token={TOKEN}".encode())[0]
    assert answer["status"] == 303
    cookie = dict(answer["headers"])[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    return cookie.partition(";")[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_nobody_comes_in_without_the_token(kind: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
        {"cookie": "ebbtide="},
        {"cookie": f"ebbtide={TOKEN}"},
        {"cookie": "ebbtide=\xe9; ;;="},
    ):
        assert not came_in(knock(TOKEN, kind=kind, **headers)), headers


def test_a_web_socket_is_closed_and_a_page_asks_for_the_token() -> None:
    assert knock(TOKEN, kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    start, page = knock(TOKEN)
    assert start["status"] == 401
    assert b'type="password"' in page["body"]


def test_the_token_lets_in_and_so_does_the_cookie_that_it_gives() -> None:
    assert came_in(knock(TOKEN, authorization=f"Bearer {TOKEN}"))
    cookie = signed_in()
    assert TOKEN not in cookie
    assert came_in(knock(TOKEN, cookie=f"other=1; {cookie}"))
    assert came_in(knock(TOKEN, kind="websocket", cookie=cookie))


def test_a_wrong_token_gives_no_cookie_and_says_so() -> None:
    for body in (b"token=wrong", b"", b"token=", b"\xff\xfe", b"token=" + b"x" * 10_000):
        start, page = knock(TOKEN, "/login", method="POST", body=body)
        assert start["status"] == 401
        assert b"set-cookie" not in dict(start["headers"])
        assert b"not the token" in page["body"]


def test_how_the_process_is_may_be_asked_by_anybody() -> None:
    for path in ("/healthz", "/readyz"):
        assert came_in(knock(TOKEN, path))
    assert not came_in(knock(TOKEN, "/healthz/../en/loss"))


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "127.9.9.9"])
def test_without_a_token_this_machine_comes_in(host: str) -> None:
    assert came_in(knock("", host=host))


@pytest.mark.parametrize(
    "host", ["evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1:8080", "", "[::]:80"]
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_without_a_token_a_name_that_points_here_does_not(host: str, kind: str) -> None:
    assert not came_in(knock("", host=host, kind=kind))


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:8080"]
)
def test_a_page_of_another_site_gets_no_answer(token: str, kind: str, origin: str) -> None:
    assert not came_in(knock(token, kind=kind, origin=origin, authorization=f"Bearer {TOKEN}"))


def test_the_page_itself_may_ask() -> None:
    assert came_in(knock("", kind="websocket", origin="http://127.0.0.1:8080"))
    assert came_in(knock(TOKEN, kind="websocket", origin="http://127.0.0.1:8080", cookie=signed_in()))


def test_a_page_that_others_can_reach_needs_a_token_that_cannot_be_guessed() -> None:
    check("127.0.0.1", "")
    check("::1", "")
    check("0.0.0.0", TOKEN)
    for host in ("0.0.0.0", "::", "192.0.2.1", "page.example"):
        with pytest.raises(SettingsError, match="EBBTIDE_PAGE_TOKEN"):
            check(host, "")
    with pytest.raises(SettingsError, match="at least 16"):
        check("127.0.0.1", "short")

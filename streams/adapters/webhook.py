"""Sends a webhook: one attempt, over a connection of its own, to an address that the guard has passed.

No redirect is followed, no proxy and no password is taken from the environment, no cookie is kept, and of
the answer's body only the first bytes are read, for the line that says what went wrong. Nothing that leaves
this module has the URL's path or query, a header's value or a secret in it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from streams.adapters.webhook_guard import Guard, HookRefused
from streams.adapters.webhook_signing import OURS
from streams.domain.deliveries import Answer, one_line, retry_after_ms

#: Of an answer's body so much is read; what is longer is left where it is.
_MOST_READ: Final = 64 * 1024
_SHOWN: Final = 200
_JSON: Final = "application/json"
_AGENT: Final = f"Ebbtide-Hooks/{version('ebbtide')}"
#: Headers that say how the message is framed, or whose it is.
_NOT_THEIRS: Final = frozenset({*OURS, "host", "content-length", "transfer-encoding", "connection", "expect"})

#: (family, address) of a host, as the operating system's resolver gives them; OSError if there are none.
Lookup = Callable[[str, int], list[tuple[int, str]]]


def lookup(host: str, port: int) -> list[tuple[int, str]]:
    """What the operating system says; blocking."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


class Target(NamedTuple):
    """An endpoint as it is sent to. secrets: whatever must not be shown beside the URL and the headers."""

    url: str
    headers: Mapping[str, str] = {}
    timeout_s: float = 15.0
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Target({urlsplit(self.url).hostname!r})"


class _Resolver(AbstractResolver):
    """Looks names up in a thread of its own, one name at a time, and refuses what the guard refuses.

    A name server that hangs holds up this endpoint only.
    """

    def __init__(self, guard: Guard, look_up: Lookup) -> None:
        self._guard = guard
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="hook-names")
        self._running: dict[tuple[str, int], asyncio.Future[list[tuple[int, str]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        running = self._running.get((host, port))
        if running is None or running.done():
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port)
            self._running[host, port] = running
        # Whoever gives up waiting leaves the look-up to the others.
        found = await asyncio.shield(running)
        if not found:
            raise OSError("no address")
        # One address that is not public among them is one too many: it would be tried after the others.
        for _, address in found:
            self._guard.check_address(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends to one target. Use it as an asynchronous context manager, or ``close`` it."""

    def __init__(self, target: Target, guard: Guard, look_up: Lookup = lookup) -> None:
        self._target = target
        self._guard = guard
        self._hidden = _hidden(target)
        self._resolver = _Resolver(guard, look_up)
        self._session: aiohttp.ClientSession | None = None
        #: The address that was last connected to.
        self.connected_to: str | None = None

    async def post(
        self, body: bytes, headers: Mapping[str, str], now: Callable[[], int], path: str = ""
    ) -> Answer:
        """One attempt. Never raises, but for being cancelled; ``now``: the wall clock, in ms."""
        url = self._target.url if not path else _with_path(self._target.url, path)
        ours = {"Content-Type": _JSON, "User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        theirs = {k: v for k, v in self._target.headers.items() if k.lower() not in _NOT_THEIRS}
        named = {name.lower() for name in theirs}
        sent = {**{k: v for k, v in ours.items() if k.lower() not in named}, **theirs}
        self.connected_to = None
        try:
            self._guard.check_url(url)
            # Not the session's own timeout: it begins after the name has been looked up.
            async with asyncio.timeout(self._target.timeout_s):
                async with self._opened().post(
                    URL(url, encoded=True), data=body, headers=sent, allow_redirects=False
                ) as answer:
                    return await self._read(answer, now)
        except TimeoutError:
            return Answer(None, f"no answer within {self._target.timeout_s:g} s")
        except Exception as exc:
            # Whatever the library makes of a receiver's bytes is that endpoint's failure, not the worker's.
            return Answer(None, self._clean(_said(exc)))

    async def _read(self, answer: aiohttp.ClientResponse, now: Callable[[], int]) -> Answer:
        status = answer.status
        try:
            text = await _beginning(answer)
        except (aiohttp.ClientError, OSError) as exc:
            # The receiver may have gone under while it took it: what it said before is no promise.
            return Answer(status, self._clean(f"answered {status}, and broke off: {_said(exc)}"))
        if 200 <= status < 300:
            return Answer(status)
        why = f"answered {status}"
        if 300 <= status < 400:
            why += ", a redirect, which is not followed"
        elif text:
            why += f": {text}"
        asked = retry_after_ms(answer.headers.get("Retry-After"), now())
        return Answer(status, self._clean(why), asked)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Made on the loop that sends. No connection is used twice: each is checked when it is made.
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=0,
                ssl=ssl.create_default_context(),
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                skip_auto_headers=("Accept",),
            )
        return self._session

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket that is connected to exactly this address next, whoever found it."""
        family, kind, proto, _, address = info
        self._guard.check_address(str(address[0]))
        if len(address) == 4 and address[3]:
            raise HookRefused("an address with a zone")
        self.connected_to = str(address[0])
        return socket.socket(family=family, type=kind, proto=proto)

    def _clean(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return one_line(text)

    async def close(self) -> None:
        """Leave nothing open."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _beginning(answer: aiohttp.ClientResponse) -> str:
    """The first line's worth of the body; reads on to its end if that is near, so as to see it come."""
    read = bytearray()
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > _MOST_READ:
            answer.close()
            break
    return bytes(read[:_SHOWN]).decode(errors="replace")


def _said(exc: BaseException) -> str:
    """What went wrong, in our words where the library's have more than that."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, HookRefused):
            return f"refused: {cause}"
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted: {exc.certificate_error}"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return f"its name is not known: {_why(exc.os_error)}"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"it cannot be connected to: {_why(exc.os_error)}"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(exc, aiohttp.ClientPayloadError):
        return "the answer is not complete"
    if isinstance(exc, aiohttp.ClientResponseError):
        return f"its answer is no HTTP: {exc.message}"
    if isinstance(exc, OSError) and exc.strerror:
        return f"the connection broke: {_why(exc)}"
    return f"it failed with {type(exc).__name__}"


def _why(exc: OSError) -> str:
    # Those of the event loop have an address for a text; those of a look-up have negative numbers.
    return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or type(exc).__name__


def _with_path(url: str, path: str) -> str:
    """``url`` with ``path`` at its end, unless it has it: an Alertmanager is named by its root, or wholly."""
    parts = urlsplit(url)
    had = parts.path.rstrip("/")
    return parts._replace(path=had if had.endswith(path) else had + path).geturl()


def _hidden(target: Target) -> tuple[str, ...]:
    """What is cut out of every text, the longest first: a receiver may repeat what it was sent."""
    parts = urlsplit(target.url)
    pieces = [
        *parts.path.split("/"),
        parts.query,
        *(p for pair in parts.query.split("&") for p in pair.split("=")[1:]),
    ]
    found = {target.url, parts.path, *pieces, *target.headers.values(), *_words(target.headers.values())}
    found |= {secret for each in target.secrets for secret in (each, each.removeprefix("whsec_"))}
    found |= {form for text in found for form in (quote(text), unquote(text))}
    return tuple(sorted((text for text in found if len(text) >= _TELLING), key=len, reverse=True))


#: Shorter pieces of a URL say nothing, and occur anywhere.
_TELLING: Final = 6


def _words(values: Iterable[str]) -> list[str]:
    """``Bearer x`` also as ``x``."""
    return [word for value in values for word in value.split()]

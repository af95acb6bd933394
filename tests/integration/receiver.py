"""A real HTTP receiver of hooks on 127.0.0.1, which believes nothing that it cannot verify."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from svix.webhooks import Webhook

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
OTHER_SECRET: Final = "whsec_plJ3nmyCDGBKInavdOK15jsl3plJ3nmyCDGBKInavdO="

Answer = Callable[["Arrival"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Arrival:
    """One request, verified."""

    at: float
    webhook_id: str
    path: str
    body: bytes
    headers: dict[str, str]
    request: web.Request = field(repr=False)

    @property
    def message(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """Serves while it is ``up``; ``answer`` makes the response to a request that was verified by ``secret``.

    accepted: those that were answered with 2xx. forged: requests that did not verify; there must be none.
    """

    secret: str | None = SECRET
    answer: Answer | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    accepted: list[Arrival] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/s3cr3t-in-the-path"

    def counts(self) -> Counter[str]:
        """How often each key was accepted."""
        return Counter(arrival.webhook_id for arrival in self.accepted)

    async def up(self) -> None:
        """Listen, at the same port each time."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> HttpReceiver:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self.secret is not None:
            try:
                Webhook(self.secret).verify(body, headers)
            except Exception as exc:
                self.forged.append(f"{exc!r}: {headers.get('webhook-id')}")
                return web.Response(status=401)
        arrival = Arrival(time.time(), headers.get("webhook-id", ""), request.path, body, headers, request)
        self.arrivals.append(arrival)
        response = web.Response(status=204) if self.answer is None else await self.answer(arrival)
        if 200 <= response.status < 300:
            self.accepted.append(arrival)
        return response


@contextmanager
def served(*receivers: HttpReceiver) -> Iterator[None]:
    """These receivers are up, on a loop and a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="receivers", daemon=True)
    thread.start()

    def run(each: Awaitable[None]) -> None:
        async def wait() -> None:
            await each

        asyncio.run_coroutine_threadsafe(wait(), loop).result(30)

    for receiver in receivers:
        run(receiver.up())
    try:
        yield
    finally:
        for receiver in receivers:
            run(receiver.down())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def answers(*responses: Callable[[], web.Response], then: int = 204) -> Answer:
    """These in turn, whoever asks, and then always ``then``."""
    left = list(responses)

    async def answer(_arrival: Arrival) -> web.StreamResponse:
        return left.pop(0)() if left else web.Response(status=then)

    return answer


async def hang(_arrival: Arrival) -> web.StreamResponse:
    """No answer."""
    await asyncio.sleep(3600)
    raise AssertionError("it was waited for")


def breaking_off(times: int) -> Answer:
    """200, and the connection is closed in the midst of the body, so many times."""
    left = times

    async def answer(arrival: Arrival) -> web.StreamResponse:
        nonlocal left
        if not left:
            return web.Response(status=204)
        left -= 1
        response = web.StreamResponse(status=200, headers={"Content-Length": "1000"})
        await response.prepare(arrival.request)
        await response.write(b"half of it")
        assert arrival.request.transport is not None
        arrival.request.transport.close()
        # Said, but not to be counted as accepted: the sender cannot know that all was well.
        response.set_status(599)
        return response

    return answer

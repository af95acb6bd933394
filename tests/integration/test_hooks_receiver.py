"""Hooks against a real HTTP receiver that verifies every request with svix, and a clock set by hand.

The signer is ``standardwebhooks``, the verifier the package of another project; both claim one specification.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from aiohttp import web

from streams.adapters.hook_post import Post
from streams.adapters.webhook import Target, lookup
from streams.adapters.webhook_guard import Guard, networks
from tests.agents.hooks_play import World, alert, records, segment
from tests.integration.receiver import OTHER_SECRET, SECRET, HttpReceiver, answers, breaking_off, hang

MINUTE: Final = 60_000
LOCAL: Final = Guard(networks("127.0.0.0/8"), insecure=True)


def now() -> int:
    return time.time_ns() // 1_000_000


def play(
    story: Callable[[World, HttpReceiver], Awaitable[None]],
    receiver: HttpReceiver,
    *,
    kind: Any = "webhook",
    begins_ago: int = 0,
    signed_now: bool = False,
    secrets: tuple[str, ...] = (SECRET,),
    timeout_s: float = 5.0,
    headers: dict[str, str] | None = None,
) -> World:
    """The world after ``story``: one worker, one endpoint.

    The verifier goes by the clock on the wall and allows five minutes: the clock of the world begins
    ``begins_ago`` ms before that, or with ``signed_now`` what is signed goes by the wall's.
    """
    world = World(now() - begins_ago)

    async def run() -> None:
        async with receiver:
            target = Target(receiver.url, headers or {}, timeout_s, secrets)
            post = Post(kind, target, LOCAL, now if signed_now else world.clock)
            world.receivers["a"] = post
            world.routes.names = ("a",)
            world.begin()
            await story(world, receiver)
            await world.end()
            await post.close()

    asyncio.run(run())
    assert receiver.forged == []
    return world


def key(number: int, version: int = 1) -> str:
    return f"{number:032x}-{version}"


def told(world: World) -> dict[str, dict[str, Any]]:
    return {fact["webhook_id"]: fact for fact in world.log.deliveries().values()}


def test_every_alert_arrives_verified_with_its_fact_and_its_key() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(n, v) for n in range(5) for v in (1, 2)])))
        await world.take(("segments", records([segment("Ümläut 顾客")], at=world.now)))
        await world.until(world.now + 1_000)

    receiver = HttpReceiver()
    world = play(story, receiver)
    by_key = {arrival.webhook_id: arrival for arrival in receiver.accepted}
    for n in range(5):
        for version in (1, 2):
            arrival = by_key[key(n, version)]
            assert arrival.message == {
                "type": "alert.firing",
                "timestamp": "2026-03-02T12:00:00.000Z",
                "data": alert(n, version),
            }
            assert arrival.headers["content-type"] == "application/json"
            assert arrival.headers["user-agent"].startswith("Ebbtide-Hooks/")
    assert len(receiver.accepted) == 11
    assert {fact["status"] for fact in told(world).values()} == {"delivered"}


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_while_a_secret_is_replaced_whoever_has_either_verifies(secret: str) -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()

    receiver = HttpReceiver(secret)
    play(story, receiver, secrets=(OTHER_SECRET, SECRET))
    (arrival,) = receiver.accepted
    signatures = arrival.headers["webhook-signature"].split(" ")
    assert len(signatures) == 2
    assert all(signature.startswith("v1,") for signature in signatures)


def test_a_receiver_with_another_secret_verifies_nothing() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        assert len(receiver.forged) == 1
        receiver.forged.clear()

    receiver = HttpReceiver(OTHER_SECRET)
    world = play(story, receiver)
    assert told(world)[key(1)]["http_status"] == 401


def test_500s_are_tried_again_and_every_attempt_has_the_same_key_and_body_and_its_own_time() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.until(world.now + 6 * MINUTE)

    receiver = HttpReceiver(answer=answers(*[lambda: web.Response(status=500, text="a\nbug")] * 2))
    world = play(story, receiver, begins_ago=3 * MINUTE)
    assert [arrival.webhook_id for arrival in receiver.arrivals] == [key(1)] * 3
    assert len({arrival.body for arrival in receiver.arrivals}) == 1
    stamps = [int(arrival.headers["webhook-timestamp"]) for arrival in receiver.arrivals]
    assert 5 <= stamps[1] - stamps[0] <= 6
    assert 300 <= stamps[2] - stamps[1] <= 331
    errors = [json.loads(v or b"")["error"] for _, v in world.log.sent["deliveries"]]
    assert errors == [None, "answered 500: a bug", "answered 500: a bug", None]


@pytest.mark.parametrize("as_date", [False, True])
def test_429_with_retry_after_is_obeyed(as_date: bool) -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        begun = world.now
        moment = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(begun // 1000 + 90))
        again = moment if as_date else "90"
        receiver.answer = answers(lambda: web.Response(status=429, headers={"Retry-After": again}))
        await world.take(("alerts", records([alert(1)])))
        await world.until(begun + 80_000)
        assert len(receiver.arrivals) == 1
        await world.until(begun + 92_000)
        assert len(receiver.accepted) == 1

    play(story, HttpReceiver())


def test_410_is_the_end_of_it_until_somebody_enables_the_endpoint() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        receiver.answer = answers(then=410)
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        await world.take(("alerts", records([alert(2)], 1)))
        await world.until(world.now + 3 * MINUTE)
        assert len(receiver.arrivals) == 1

    world = play(story, HttpReceiver())
    assert {fact["status"] for fact in told(world).values()} == {"dead"}
    assert told(world)[key(1)]["http_status"] == 410


def test_a_receiver_that_hangs_is_given_up_after_its_time_and_tried_again() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        receiver.answer = hang
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        assert told(world)[key(1)]["error"] == "no answer within 2 s"
        receiver.answer = None
        await world.until(world.now + 6_000)

    receiver = HttpReceiver()
    play(story, receiver, timeout_s=2)
    assert receiver.counts() == {key(1): 1}
    assert len(receiver.arrivals) == 2


def test_an_answer_that_breaks_off_is_none_and_the_alert_comes_again_with_its_key() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        assert told(world)[key(1)]["error"] == "answered 200, and broke off: the answer is not complete"
        await world.until(world.now + 6_000)

    receiver = HttpReceiver(answer=breaking_off(1))
    play(story, receiver)
    assert [arrival.webhook_id for arrival in receiver.arrivals] == [key(1)] * 2


def test_a_receiver_that_is_down_for_twenty_minutes_gets_every_alert_in_the_order_of_its_revisions() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        begun = world.now
        await receiver.down()
        facts = [alert(n, v) for v in range(1, 6) for n in range(4)]
        for n, fact in enumerate(facts):
            await world.until(begun + n * MINUTE)
            await world.take(("alerts", records([fact], n)))
        await world.until(begun + 20 * MINUTE)
        assert receiver.arrivals == []
        await receiver.up()
        await world.until(begun + 45 * MINUTE)

    receiver = HttpReceiver()
    world = play(story, receiver, signed_now=True)
    assert receiver.counts() == {key(n, v): 1 for n in range(4) for v in range(1, 6)}
    for n in range(4):
        mine = [
            arrival.webhook_id for arrival in receiver.accepted if arrival.webhook_id.startswith(f"{n:032x}")
        ]
        assert mine == [key(n, v) for v in range(1, 6)]
    assert {fact["status"] for fact in told(world).values()} == {"delivered"}


def test_a_worker_that_dies_between_the_answer_and_the_row_sends_it_again_with_the_same_key() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        rows = len(world.log.rows)
        await world.rest()
        del world.log.rows[rows:]  # its answer was never written down
        await world.end()
        world.begin()
        await world.rest()

    receiver = HttpReceiver()
    play(story, receiver)
    assert receiver.counts() == {key(1): 2}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        with socket.create_server(("127.0.0.1", 0)) as trap:
            trap.settimeout(0.05)
            where = f"http://127.0.0.1:{trap.getsockname()[1]}/latest/meta-data/"
            receiver.answer = answers(
                lambda: web.Response(status=status, headers={"Location": where}), then=500
            )
            await world.take(("alerts", records([alert(1)])))
            await world.rest()
            with pytest.raises(TimeoutError):
                trap.accept()

    receiver = HttpReceiver()
    world = play(story, receiver)
    assert len(receiver.arrivals) == 1
    assert told(world)[key(1)]["error"] == f"answered {status}, a redirect, which is not followed"


def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    written = 0

    async def endless(arrival: Any) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=500)
        await response.prepare(arrival.request)
        try:
            while written < 1 << 28:
                await response.write(b"x" * 65_536)
                written += 65_536
        except (ConnectionError, asyncio.CancelledError):
            pass
        return response

    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()

    world = play(story, HttpReceiver(answer=endless))
    assert written < 1 << 25
    assert len(told(world)[key(1)]["error"]) <= 300


def test_what_is_no_http_is_a_failure_like_any_other() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await receiver.down()

        async def gibberish(_reader: Any, writer: Any) -> None:
            writer.write(b"\x00\x01 220 smtp.example ESMTP\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(gibberish, "127.0.0.1", receiver.port):
            await world.take(("alerts", records([alert(1)])))
            await world.rest()

    world = play(story, HttpReceiver())
    fact = told(world)[key(1)]
    assert fact["status"] == "waiting"
    assert fact["error"]


def test_no_secret_is_in_a_log_a_fact_a_row_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that repeats all it was sent, at the finest level of logging."""
    token = "t0ps3cr3t-token"

    async def parrot(arrival: Any) -> web.StreamResponse:
        return web.Response(status=500, text=f"{arrival.request.path_qs} {SECRET} {arrival.headers}")

    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.until(world.now + 10_000)
        print(repr(world.receivers["a"]), world.hooks, Target(receiver.url, {}, 1, (SECRET,)))

    caplog.set_level(logging.DEBUG)
    receiver = HttpReceiver(answer=parrot)
    world = play(story, receiver, headers={"Authorization": f"Bearer {token}"})
    assert receiver.arrivals[0].headers["authorization"] == f"Bearer {token}"
    everything = caplog.text + repr(world.log.sent) + repr(world.log.rows)
    for secret in (SECRET, SECRET.removeprefix("whsec_"), token, "s3cr3t-in-the-path"):
        assert secret not in everything
    assert "answered 500" in everything


def test_headers_of_an_endpoint_cannot_replace_what_is_signed() -> None:
    async def story(world: World, receiver: HttpReceiver) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()

    receiver = HttpReceiver()
    odd = {"Webhook-Id": "mine", "WEBHOOK-SIGNATURE": "v1,x", "Host": "evil.example", "Content-Length": "1"}
    play(story, receiver, headers={**odd, "X-Team": "shops"})
    (arrival,) = receiver.accepted
    assert arrival.webhook_id == key(1)
    assert arrival.headers["host"].startswith("127.0.0.1")
    assert arrival.headers["x-team"] == "shops"


@pytest.mark.parametrize("what", ["hangs", "has a name that hangs"])
def test_while_one_endpoint_hangs_another_has_all_of_it_at_once(what: str) -> None:
    def slow_name(_host: str, _port: int) -> list[tuple[int, str]]:
        time.sleep(1)  # in its own thread, as a name server's silence is
        return []

    async def story() -> tuple[int, float, float]:
        slow, lively = HttpReceiver(answer=hang), HttpReceiver()
        async with slow, lively:
            world = World(now())
            target = Target(slow.url if what == "hangs" else "http://slow.example/", {}, 0.5, (SECRET,))
            posts = {
                "slow": Post("webhook", target, LOCAL, world.clock, lookup if what == "hangs" else slow_name),
                "lively": Post("webhook", Target(lively.url, {}, 0.5, (SECRET,)), LOCAL, world.clock),
            }
            world.receivers.update(posts)
            world.routes.names = tuple(posts)
            world.begin()
            began = time.monotonic()
            for n in range(20):
                await world.take(("alerts", records([alert(n)], n)))
            while len(lively.accepted) < 20:
                await asyncio.sleep(0.005)
            had_all = time.monotonic() - began
            await world.rest()
            gave_up = time.monotonic() - began
            await world.end()
            for post in posts.values():
                await post.close()
            return len(lively.accepted), had_all, gave_up

    accepted, had_all, gave_up = asyncio.run(story())
    assert accepted == 20
    assert had_all < gave_up, "the slow one was still being waited for"
    assert gave_up > 0.5

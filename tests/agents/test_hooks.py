"""The hooks agent's own promises, over a log in memory that may be cut anywhere and a clock set by hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.alerts import DeliveryFact
from streams.agents import hook_loop
from streams.agents.couriers import UNDER_WAY
from streams.domain.deliveries import Answer
from tests.agents.hooks_play import (
    BROKEN,
    DOWN,
    HOUR,
    MINUTE,
    NEVER,
    OK,
    Crash,
    Receiver,
    World,
    alert,
    asked,
    key,
    play,
    records,
    segment,
    statuses,
)
from tests.builders import NOON
from tests.domain.test_laws import laws

# -- at least once


@settings(laws, max_examples=80)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.lists(st.booleans(), max_size=9),
)
def test_cut_anywhere_every_revision_arrives_at_every_endpoint_and_its_key_stays(
    fuses: list[int], fails: list[bool]
) -> None:
    """Whatever the receivers answer at first, and wherever the process ends meanwhile."""
    told = [alert(n, v) for n in range(3) for v in (1, 2)]
    told += [alert(1, 3, status="resolved", resolved_at=NOON)]
    coin = iter(fails)
    a, b = Receiver(answer=lambda *_: DOWN if next(coin, False) else OK), Receiver()
    world = World(a=a, b=b)

    async def run() -> None:
        for fuse in (*fuses, NEVER):
            world.log.fuse = fuse
            try:
                world.begin()
                # What was not acked comes again; here everything does, in other batches.
                if few := told[: fuse % 7]:
                    await world.take(("alerts", records(few)))
                await world.take(("alerts", records(told)))
                await world.until(world.now + 4 * 24 * HOUR)
            except Crash:
                pass
            await world.end()

    asyncio.run(run())
    wanted = {f"{fact['alert_id']}-{fact['version']}" for fact in told}
    assert set(a.accepted) == set(b.accepted) == wanted
    assert set(statuses(world).values()) == {"delivered"}
    assert len(world.log.deliveries()) == 2 * len(wanted)
    for _, value in world.log.sent["deliveries"]:
        DeliveryFact.model_validate_json(value or b"")


def test_without_a_crash_everything_is_sent_once_however_often_it_is_read() -> None:
    async def story(world: World) -> None:
        for first in range(3):
            await world.take(("alerts", records([alert(1), alert(2)], first)))
            await world.until(world.now + MINUTE)

    world = play(story)
    assert world.receivers["a"].accepted == [key(1), key(2)]


def test_nothing_is_sent_before_the_broker_has_the_row() -> None:
    async def story(world: World) -> None:
        for fuse in range(4):
            world.log.fuse = fuse
            with pytest.raises(Crash):
                await world.take(("alerts", records([alert(1)])))
            await world.rest()
            assert world.receivers["a"].attempts == []
            await world.end()
            world.log = type(world.log)()
            world.begin()

    play(story)


def test_what_waits_survives_a_restart_with_its_attempts_and_its_time() -> None:
    receiver = Receiver(answer=lambda _, now: BROKEN if now < NOON + 20 * MINUTE else OK)

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.until(NOON + 10 * MINUTE)
        assert len(receiver.attempts) == 3
        await world.end()
        world.begin()
        await world.until(NOON + 12 * MINUTE)
        assert len(receiver.attempts) == 3, "a restart is no reason to try"
        await world.until(NOON + HOUR)

    world = play(story, a=receiver)
    assert receiver.accepted == [key(1)]
    (fact,) = world.log.deliveries().values()
    assert (fact["attempts"], fact["status"]) == (4, "delivered")


def test_a_receiver_that_is_down_for_twenty_minutes_gets_all_of_them_in_order() -> None:
    receiver = Receiver(answer=lambda _, now: DOWN if now < NOON + 20 * MINUTE else OK)
    told = [alert(1, v, at=NOON + v * MINUTE) for v in range(1, 20)]
    told.append(alert(1, 20, status="resolved", resolved_at=NOON + 20 * MINUTE))

    async def story(world: World) -> None:
        for n, fact in enumerate(told):
            await world.until(NOON + n * MINUTE)
            await world.take(("alerts", records([fact], n)))
        await world.until(NOON + HOUR)

    play(story, a=receiver)
    assert receiver.accepted == [key(1, v) for v in range(1, 21)]
    assert len(receiver.attempts) < 120


# -- one endpoint and the others


def test_an_endpoint_that_hangs_delays_no_other() -> None:
    hanging = Receiver()
    lively = Receiver()

    async def story(world: World) -> None:
        hanging.gate = asyncio.Event()
        for n in range(50):
            await world.take(("alerts", records([alert(n)], n)))
        await world.rest()
        assert len(lively.accepted) == 50
        assert len(hanging.attempts) == UNDER_WAY
        hanging.gate.set()
        await world.rest()

    play(story, a=hanging, b=lively)
    assert len(hanging.accepted) == 50


def test_an_alert_does_not_stand_behind_facts_of_customers() -> None:
    receiver = Receiver()

    async def story(world: World) -> None:
        receiver.gate = asyncio.Event()
        await world.take(("segments", records([segment(f"c{n}") for n in range(100)])))
        await world.rest()
        await world.take(("alerts", records([alert(7)])))
        receiver.gate.set()
        await world.rest()

    play(story, a=receiver)
    assert receiver.accepted.index(key(7)) <= UNDER_WAY


def test_a_receiver_that_has_too_much_to_do_is_left_alone_for_as_long_as_it_says() -> None:
    full = Answer(429, "answered 429", 30_000)
    receiver = Receiver(answer=lambda _, now: full if now < NOON + 30_000 else OK)

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        await world.take(("alerts", records([alert(n) for n in range(2, 30)], 1)))
        await world.until(NOON + MINUTE)

    play(story, a=receiver)
    assert len([answer for _, _, answer in receiver.attempts if not answer.ok]) == 1
    assert min(at for at, _, answer in receiver.attempts if answer.ok) >= NOON + 30_000
    assert len(receiver.accepted) == 29


def test_too_many_facts_of_customers_are_told_dead_and_alerts_still_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hook_loop, "MOST_WAITING", 3)

    async def story(world: World) -> None:
        await world.take(("segments", records([segment(f"c{n}") for n in range(5)])))
        await world.take(("alerts", records([alert(1)])))
        assert world.hooks.waiting() == {"a": 4}

    world = play(story, a=Receiver(answer=lambda *_: DOWN))
    found = sorted(statuses(world).values())
    assert found == ["dead", "dead", "waiting", "waiting", "waiting", "waiting"]


# -- revisions


def test_a_revision_waits_for_the_one_before_it_while_that_is_soon_tried() -> None:
    answers = {key(1, 1): iter([BROKEN, OK])}
    receiver = Receiver(answer=lambda d, _: next(answers.get(d.webhook_id, iter([OK])), OK))

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1, 1), alert(1, 2), alert(1, 3)])))
        await world.until(NOON + MINUTE)

    play(story, a=receiver)
    assert receiver.accepted == [key(1, 1), key(1, 2), key(1, 3)]
    assert receiver.times(key(1, 2))[0] < NOON + 6_000, "at once when the one before it has arrived"


@pytest.mark.parametrize(
    ("kind", "end"), [("webhook", "waiting"), ("alertmanager", "cancelled"), ("slack", "cancelled")]
)
def test_a_revision_that_is_refused_for_long_holds_up_none_and_is_not_sent_where_it_would_bring_back_the_past(
    kind: str, end: str
) -> None:
    receiver = Receiver(kind, answer=lambda d, _: BROKEN if d.revision == 1 else OK)

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1, 1), alert(1, 2, status="resolved", resolved_at=NOON)])))
        await world.until(NOON + 10 * MINUTE)

    world = play(story, a=receiver)
    assert receiver.accepted == [key(1, 2)]
    assert statuses(world) == {key(1, 1): end, key(1, 2): "delivered"}


# -- 410, requests


def test_410_disables_the_endpoint_everywhere_it_stays_so_and_enabling_it_sends_what_was_held() -> None:
    gone = True
    receiver = Receiver(answer=lambda *_: Answer(410, "answered 410") if gone else OK)

    async def story(world: World) -> None:
        nonlocal gone
        await world.take(("alerts", records([alert(1), alert(2)])))
        await world.until(NOON + HOUR)
        sent = [json.loads(value or b"") for _, value in world.log.sent["hook-requests"]]
        assert [(each["do"], each["endpoint"]) for each in sent] == [("disable", "a")]
        before = len(receiver.attempts)
        assert before <= 2
        await world.end()
        world.begin()
        await world.take(("alerts", records([alert(3)], 2)))
        await world.take(("hook-requests", [asked(0, "retry", world.now)]))
        await world.until(NOON + 2 * HOUR)
        assert len(receiver.attempts) == before, "nothing is sent to a disabled endpoint"
        assert set(statuses(world).values()) == {"dead"}
        gone = False
        world.now += 1
        requests = [asked(1, "enable", world.now, endpoint="a"), asked(2, "retry", world.now, endpoint="a")]
        await world.take(("hook-requests", requests))
        await world.until(NOON + 3 * HOUR)

    world = play(story, a=receiver)
    assert sorted(receiver.accepted) == [key(1), key(2), key(3)]
    assert set(statuses(world).values()) == {"delivered"}


def test_410_to_one_ends_what_else_waits_for_the_endpoint() -> None:
    receiver = Receiver(answer=lambda d, _: DOWN if d.webhook_id == key(1) else Answer(410, "answered 410"))

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        await world.take(("alerts", records([alert(2)], 1)))
        await world.until(NOON + 24 * HOUR)

    world = play(story, a=receiver)
    assert [name for _, name, _ in receiver.attempts] == [key(1), key(2)]
    assert statuses(world) == {key(1): "dead", key(2): "dead"}


def test_an_endpoint_that_another_partition_found_gone_is_sent_nothing_more() -> None:
    receiver = Receiver(answer=lambda *_: DOWN)

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        await world.take(("hook-requests", [asked(0, "disable", world.now, endpoint="a")]))
        await world.until(NOON + 24 * HOUR)

    world = play(story, a=receiver)
    assert len(receiver.attempts) == 1
    assert statuses(world) == {key(1): "dead"}


def test_what_is_dead_is_sent_again_when_it_is_asked_for_by_id_by_endpoint_or_all() -> None:
    up = False
    a = Receiver(answer=lambda *_: OK if up else DOWN)
    b = Receiver(answer=lambda *_: OK if up else DOWN)

    async def story(world: World) -> None:
        nonlocal up
        await world.take(("alerts", records([alert(1), alert(2)])))
        await world.until(NOON + 4 * 24 * HOUR)
        assert set(statuses(world).values()) == {"dead"}
        up = True
        ids = {
            f["webhook_id"]: f["delivery_id"] for f in world.log.deliveries().values() if f["endpoint"] == "a"
        }
        await world.take(("hook-requests", [asked(0, "retry", world.now, delivery_id=ids[key(1)])]))
        await world.rest()
        assert (a.accepted, b.accepted) == ([key(1)], [])
        await world.take(("hook-requests", [asked(1, "retry", world.now, endpoint="a")]))
        await world.rest()
        assert (a.accepted, b.accepted) == ([key(1), key(2)], [])
        await world.take(("hook-requests", [asked(2, "retry", world.now)]))
        await world.rest()

    world = play(story, a=a, b=b)
    assert (a.accepted, sorted(b.accepted)) == ([key(1), key(2)], [key(1), key(2)])
    assert set(statuses(world).values()) == {"delivered"}

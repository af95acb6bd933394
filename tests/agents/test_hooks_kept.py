"""What the hooks agent keeps back, cancels and forgets: held alerts, quiet hours, erased customers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streams.agents.couriers import UNDER_WAY
from streams.domain.deliveries import Answer, Delivery
from tests.agents.hooks_play import (
    BROKEN,
    DOWN,
    HOUR,
    MINUTE,
    Receiver,
    Record,
    World,
    alert,
    erased,
    key,
    play,
    records,
    segment,
)
from tests.builders import NOON

# -- held, quiet, gone


def test_a_held_alert_is_told_to_nobody_nor_that_it_is_over() -> None:
    async def story(world: World) -> None:
        held = alert(1, 1, status="held", held_by=["silent_topic"])
        over = alert(1, 2, status="resolved", resolved_at=NOON)
        await world.take(("alerts", records([held, over, over])))
        await world.take(("alerts", records([alert(2, 1, status="held", held_by=["lag"]), alert(2, 2)], 3)))
        await world.until(NOON + HOUR)

    assert play(story).receivers["a"].accepted == [key(2, 2)]


def test_in_quiet_hours_an_alert_waits_for_their_end_and_is_told_as_it_stands_then() -> None:
    async def story(world: World) -> None:
        world.routes.quiet = lambda now: NOON + HOUR if now < NOON + HOUR else None
        await world.take(("alerts", records([alert(1, 1), alert(1, 2), alert(2, 1)])))
        await world.until(NOON + 30 * MINUTE)
        await world.end()
        world.begin()
        over = alert(2, 2, status="resolved", resolved_at=NOON)
        await world.take(("alerts", records([over], 3)))
        await world.until(NOON + HOUR - 1)
        assert world.receivers["a"].attempts == []
        await world.until(NOON + 2 * HOUR)

    world = play(story)
    assert world.receivers["a"].accepted == [key(1, 2)]
    assert world.receivers["a"].times(key(1, 2)) == [NOON + HOUR]


def test_what_was_told_before_the_quiet_hours_is_told_to_be_over_after_them() -> None:
    async def story(world: World) -> None:
        world.routes.quiet = lambda now: NOON + HOUR if NOON < now < NOON + HOUR else None
        await world.take(("alerts", records([alert(1, 1)])))
        await world.rest()
        world.now += 1
        await world.take(("alerts", records([alert(1, 2, status="resolved", resolved_at=NOON)], 1)))
        await world.until(NOON + 2 * HOUR)

    world = play(story)
    assert world.receivers["a"].accepted == [key(1, 1), key(1, 2)]
    assert world.receivers["a"].times(key(1, 2)) == [NOON + HOUR]


def test_what_waits_for_an_endpoint_that_is_no_longer_there_is_cancelled() -> None:
    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        await world.end()
        del world.receivers["a"]
        world.routes.names = ("b",)
        world.begin()
        await world.hooks.tend()
        await world.until(NOON + 24 * HOUR)

    world = play(story, a=Receiver(answer=lambda *_: DOWN), b=Receiver())
    by_endpoint = {fact["endpoint"]: fact for fact in world.log.deliveries().values()}
    assert by_endpoint["a"]["status"] == "cancelled"
    assert by_endpoint["b"]["status"] == "delivered"


def test_topics_that_go_to_nobody_are_not_even_decoded() -> None:
    async def story(world: World) -> None:
        world.routes.unread = frozenset({"segments"})
        await world.take(("segments", [Record(0, b"c", b"{not json", NOON)]))

    assert play(story).log.sent == {}


def test_what_is_no_fact_goes_to_dead_letters_and_holds_up_nothing() -> None:
    async def story(world: World) -> None:
        odd = [Record(0, b"s1", b"{not json", NOON), Record(1, b"s1", None, NOON)]
        await world.take(("alerts", [*odd, *records([alert(1)], 2)]))
        await world.take(("hook-requests", [Record(0, b"x", b'{"do":"enable","at":1}', NOON)]))
        await world.rest()

    world = play(story)
    assert world.receivers["a"].accepted == [key(1)]
    assert len(world.log.sent["dead-letters"]) == 3


# -- erasure


@pytest.mark.parametrize("answer", [DOWN, Answer(410, "answered 410")])
def test_an_erased_customers_deliveries_are_cancelled_and_nothing_of_them_is_kept(answer: Answer) -> None:
    async def story(world: World) -> None:
        facts = [segment("erika"), segment("max")]
        await world.take(("segments", records(facts)))
        await world.until(NOON + MINUTE)
        await world.take(("erased", [erased("erika", NOON + MINUTE)]))
        # It is read again, and so is what the pipeline sent of her before.
        await world.take(("segments", records([segment("erika", 2)], 2)))
        await world.take(("alerts", records([alert(1)])))
        await world.until(NOON + 2 * MINUTE)
        assert not any(b"erika" in value for _, value in world.log.items(0))
        await world.end()
        world.begin()
        await world.until(NOON + 4 * 24 * HOUR)

    world = play(story, a=Receiver(answer=lambda *_: answer))
    found = sorted(fact["status"] for fact in world.log.deliveries().values() if fact["topic"] == "segments")
    assert found == ["cancelled", "dead"]
    assert not any(b"erika" in (value or b"") for _, value in world.log.sent["deliveries"])


def test_whoever_has_the_id_later_is_somebody_new_and_is_told_of() -> None:
    async def story(world: World) -> None:
        await world.take(("erased", [erased("erika", NOON)]), ("segments", records([segment("erika")])))
        await world.rest()
        assert world.receivers["a"].attempts == []
        await world.take(("segments", records([segment("erika", 2)], 1, at=NOON + 1)))
        await world.take(("erased", [Record(1, b"", erased("erika", NOON).value, NOON)]))
        await world.rest()

    world = play(story)
    assert len(world.receivers["a"].accepted) == 1


def test_facts_of_customers_from_days_ago_are_not_told_and_alerts_are() -> None:
    async def story(world: World) -> None:
        old = NOON - 4 * 24 * HOUR
        await world.take(("segments", records([segment()], at=old)), ("alerts", records([alert(1)], at=old)))
        await world.rest()

    assert play(story).receivers["a"].accepted == [key(1)]


# -- what is kept


def test_after_all_is_delivered_nothing_is_kept_but_how_far_it_was_read_and_what_stands() -> None:
    async def story(world: World) -> None:
        over = alert(1, 2, status="resolved", resolved_at=NOON)
        await world.take(("alerts", records([alert(1, 1), over])), ("segments", records([segment()])))
        await world.take(("erased", [erased("c2", NOON)]))
        await world.until(NOON + 9 * 24 * HOUR)
        assert [key for key, _ in world.log.items(0)] == [b"\0marker"]

    play(story)


def test_what_was_given_up_is_forgotten_after_two_weeks() -> None:
    async def story(world: World) -> None:
        await world.take(("segments", records([segment()])))
        await world.until(NOON + 10 * 24 * HOUR)
        assert len(list(world.log.items(0))) == 2
        await world.until(NOON + 20 * 24 * HOUR)
        assert [key for key, _ in world.log.items(0)] == [b"\0marker"]

    play(story, a=Receiver(answer=lambda *_: BROKEN))


def test_a_partition_that_is_taken_away_is_sent_nothing_more_for_and_nothing_is_written() -> None:
    receiver = Receiver()

    async def story(world: World) -> None:
        receiver.gate = asyncio.Event()
        await world.take(("alerts", records([alert(n) for n in range(20)])))
        await world.rest()
        rows = len(world.log.rows)
        (courier,) = world.hooks.couriers.values()
        assert courier.under_way == UNDER_WAY
        world.hooks.revoke(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert courier.under_way == 0, "what was under way is broken off"
        receiver.gate.set()
        for courier in world.hooks.couriers.values():
            courier.nudge()
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(receiver.attempts) == UNDER_WAY
        assert len(world.log.rows) == rows
        assert world.failure is None
        await world.end()
        world.begin()
        await world.until(world.now + MINUTE)

    play(story, a=receiver)
    assert set(receiver.accepted) == {key(n) for n in range(20)}


def test_a_row_of_a_worker_that_had_lost_the_partition_does_not_take_back_what_its_successor_wrote() -> None:
    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        stale = list(world.log.rows)
        await world.until(NOON + MINUTE)
        world.log.rows += stale
        await world.end()
        world.begin()
        await world.until(NOON + 10 * MINUTE)

    assert play(story).receivers["a"].accepted == [key(1)]


def test_the_payload_is_kept_only_while_it_may_be_sent() -> None:
    def facts(delivery: Delivery) -> bytes:
        return delivery.fact

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        (delivery,) = world.hooks._partitions[0].deliveries.values()
        assert facts(delivery) == b""
        assert msgspec.json.decode(world.log.sent["deliveries"][-1][1] or b"")["status"] == "delivered"

    play(story)

"""Bundles of one partition keep their order, those of two overlap, and nothing follows a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streams.adapters.kafka.lanes import MOST_WAITING, Lanes


class Bench:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: list[str] = []

    async def work(self, lane: int, names: Sequence[str]) -> None:
        name = "+".join(names)
        self.begun.append(name)
        gate = self.gates.setdefault(name, asyncio.Event())
        await gate.wait()
        if name.startswith("bad"):
            raise ValueError(name)
        self.done.append(name)

    async def fail(self, exc: BaseException) -> None:
        self.failures.append(str(exc))

    async def finish(self, name: str) -> None:
        self.gates[name].set()
        await settled()


async def settled() -> None:
    """Everything that can run now has run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_lane_keeps_its_order_and_two_lanes_overlap() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 100) as lanes:
            for lane, name in ((0, "a1"), (1, "b1"), (0, "a2")):
                await lanes.put(lane, name, 40)
            await settled()
            assert bench.begun == ["a1", "b1"]
            await bench.finish("b1")
            assert bench.begun == ["a1", "b1"], "b1 makes room, but a2 must wait for a1"
            await bench.finish("a1")
            assert bench.begun == ["a1", "b1", "a2"]
            await bench.finish("a2")
            assert bench.done == ["b1", "a1", "a2"]

    asyncio.run(scenario())


def test_what_waits_in_a_lane_makes_one_batch_up_to_the_bound() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 100) as lanes:
            for name in ("a", "b", "c", "d", "e"):
                await lanes.put(0, name, 40)
            await settled()
            await bench.finish("a")
            assert bench.begun == ["a", "b+c+d"], "120 records are the first to reach 100"
            await bench.finish("b+c+d")
            assert bench.begun == ["a", "b+c+d", "e"]

    asyncio.run(scenario())


def test_a_full_waiting_room_holds_the_reader_back() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 1) as lanes:
            for number in range(MOST_WAITING + 1):
                await lanes.put(0, str(number), 40)
            putting = asyncio.create_task(lanes.put(0, "last", 40))
            await settled()
            assert not putting.done()
            await bench.finish("0")
            assert putting.done()

    asyncio.run(scenario())


def test_no_more_than_so_many_run_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 100, side_by_side=2) as lanes:
            await lanes.put(0, "a", 40)
            await lanes.put(1, "b", 40)
            await lanes.put(2, "c", 40)
            await settled()
            assert bench.begun == ["a", "b"]
            await bench.finish("a")
            assert bench.begun == ["a", "b", "c"]

    asyncio.run(scenario())


@pytest.mark.parametrize("lane", [0, 1])
def test_nothing_is_begun_after_a_failure(lane: int) -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 100) as lanes:
            await lanes.put(0, "bad", 40)
            await settled()
            await bench.finish("bad")
            assert bench.failures == ["bad"]
            putting = asyncio.create_task(lanes.put(lane, "later", 40))
            await settled()
            assert not putting.done()
            assert bench.begun == ["bad"]
            putting.cancel()

    asyncio.run(scenario())


def test_leaving_cancels_what_is_still_running() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with Lanes(bench.work, bench.fail, 100) as lanes:
            await lanes.put(0, "a", 40)
            await settled()
        await settled()
        bench.gates["a"].set()
        await settled()
        assert (bench.begun, bench.done, bench.failures) == (["a"], [], [])

    asyncio.run(scenario())

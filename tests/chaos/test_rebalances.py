"""Two workers that come and go while there is work."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.chaos.autopsy import Autopsy
from tests.chaos.conftest import World
from tests.chaos.deployment import Servers, deployed

pytestmark = pytest.mark.chaos

STEPS = 14


def test_workers_that_join_and_leave_in_the_midst_of_the_load_change_nothing(
    servers: Servers, world: World, seed: int, folder: Path
) -> None:
    """Politely or by kill -9, each time with partitions handed over; all that comes out is exact."""
    chance = random.Random(f"rebalances:{seed}")
    polite = abrupt = joined = 0
    with deployed(servers, folder, seed) as deployment:
        fleet = deployment.fleet
        feed = deployment.start_feed(world.records, rate=500)
        workers = fleet.add("customers", 2)
        fleet.add("sink")
        with closing(Autopsy(deployment.settings)) as autopsy:
            for step in range(STEPS):
                feed.allow(0.95 * (step + 1) / STEPS)
                autopsy.wait_until_working()
                autopsy.read_for(chance.uniform(0.0, 1.5))
                away = [worker for worker in workers if not worker.wanted]
                if away:
                    fleet.join(away[0])
                    joined += 1
                elif chance.random() < 0.6:
                    leaving = chance.choice(workers)
                    code = fleet.leave(leaving)
                    # One that is told to leave before it has begun goes by the signal.
                    assert code in (0, -SIGTERM), f"{leaving.name} left with code {code}, see {leaving.log}"
                    polite += 1
                else:
                    fleet.crash(chance.choice(workers))
                    abrupt += 1
        deployment.report(f"{joined} joined, {polite} left politely, {abrupt} by kill -9")
        for worker in workers:
            if not worker.wanted:
                fleet.join(worker)
        deployment.must_be_exact(world.truth)

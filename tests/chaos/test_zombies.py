"""Workers that stand still until they are given up for dead, and then go on."""

from __future__ import annotations

import random
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.autopsy import Autopsy
from tests.chaos.conftest import World
from tests.chaos.deployment import Servers, deployed

pytestmark = pytest.mark.chaos

ROUNDS = 4


def test_a_worker_stopped_past_its_session_timeout_does_no_harm_when_it_goes_on(
    servers: Servers, world: World, seed: int, folder: Path
) -> None:
    """SIGSTOP, the other one takes over and works on, SIGCONT; all that comes out is exact."""
    chance = random.Random(f"zombies:{seed}")
    with deployed(servers, folder, seed) as deployment:
        fleet = deployment.fleet
        feed = deployment.start_feed(world.records, rate=400)
        workers = fleet.add("customers", 2)
        (sink,) = fleet.add("sink")
        past = deployment.settings.session_timeout_s + 2
        with closing(Autopsy(deployment.settings)) as autopsy:
            for number in range(ROUNDS):
                feed.allow(0.95 * (number + 1) / ROUNDS)
                autopsy.wait_until_working()
                autopsy.read_for(chance.uniform(0.0, 1.5))
                stopped = [chance.choice(workers)] if number < ROUNDS - 1 else workers
                if number % 2:
                    stopped = [*stopped, sink]
                for worker in stopped:
                    fleet.signal(worker, signal.SIGSTOP)
                autopsy.read_for(past)
                if number < ROUNDS - 1:
                    autopsy.wait_until_working(share=1.0)
                for worker in stopped:
                    fleet.signal(worker, signal.SIGCONT)
                deployment.say(f"{', '.join(w.name for w in stopped)} went on after {past:g} s or more")
        deployment.must_be_exact(world.truth)
        ended = [failure for failure in fleet.failures if "stood still" in failure]
        assert ended, "no worker noticed that it had stood still"

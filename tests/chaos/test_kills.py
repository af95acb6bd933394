"""kill -9 at random points of the batch loop, under load."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.autopsy import Autopsy
from tests.chaos.conftest import World
from tests.chaos.deployment import Deployment, Servers, deployed

pytestmark = pytest.mark.chaos

WORKERS = 4
KILLS = 52


def test_fifty_kills_of_customers_workers_and_some_of_the_sink_change_nothing(
    servers: Servers, big_world: World, seed: int, folder: Path
) -> None:
    """Every worker dies in the midst of its work, again and again; all that comes out is exact."""
    chance = random.Random(f"kills:{seed}")
    with deployed(servers, folder, seed) as deployment:
        fleet = deployment.fleet
        feed = deployment.start_feed(big_world.records, rate=400)
        fleet.add("customers", WORKERS)
        (sink,) = fleet.add("sink")
        autopsy = Autopsy(deployment.settings)
        kills = sink_kills = at_start = round_number = 0
        try:
            while kills < KILLS:
                round_number += 1
                feed.allow(0.95 * (kills + WORKERS) / KILLS)
                autopsy.wait_until_working()
                autopsy.read_for(chance.uniform(0.0, 1.2))
                kills += fleet.kill(fleet.of("customers"), lambda: _tell(autopsy, deployment))
                if round_number % 3 == 0:
                    sink_kills += fleet.kill([sink])
                if round_number % 4 == 0:
                    # Once more while it joins the group, restores its table or begins.
                    autopsy.read_for(chance.uniform(2.0, 9.0))
                    at_start += fleet.kill([chance.choice(fleet.of("customers"))])
        finally:
            autopsy.close()
        deployment.report(
            f"{kills} kills at work in {round_number} rounds, {at_start} at start, {sink_kills} of the sink"
        )
        conditions = ", ".join(f"{count} {what}" for what, count in autopsy.found.items())
        deployment.report(f"partitions found after kills: {conditions}")
        deployment.must_be_exact(big_world.truth)
    assert autopsy.found["states written, batch not acked"] >= round_number
    assert autopsy.found["states written, facts owed"] >= 1


def _tell(autopsy: Autopsy, deployment: Deployment) -> None:
    began = time.monotonic()
    found = autopsy.examine()
    deployment.say(f"killed: {dict(found)} (examined in {time.monotonic() - began:.2f} s)")

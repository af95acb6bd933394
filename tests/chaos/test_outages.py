"""Servers that go away under load and come back."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import topics
from streams.embedded.clickhouse import ClickHouse
from tests.chaos.autopsy import Autopsy
from tests.chaos.conftest import World
from tests.chaos.deployment import Servers, deployed, wait_for

pytestmark = pytest.mark.chaos

OUTAGES = 3
BUFFER_ROWS = 1_500
READ_BY_SINK = (*topics.FACTS, *topics.INPUTS)


def test_clickhouse_killed_for_longer_than_the_sink_can_buffer_loses_nothing(
    servers: Servers, world: World, seed: int, folder: Path
) -> None:
    """kill -9 of the endpoint while rows go in; it is back after more has come than the sink may hold."""
    chance = random.Random(f"outages:{seed}")
    with ClickHouse(folder / "clickhouse", folder) as store:
        own = replace(servers, clickhouse=store.url)
        sizes = {"sink_buffer_rows": BUFFER_ROWS, "sink_max_rows": 500}
        with deployed(own, folder, seed, **sizes) as deployment:
            fleet = deployment.fleet
            feed = deployment.start_feed(world.records, rate=800)
            fleet.add("customers", 2)
            (sink,) = fleet.add("sink")
            with closing(Autopsy(deployment.settings)) as autopsy:
                for outage in range(OUTAGES):
                    feed.allow(0.95 * (outage + 0.3) / OUTAGES)
                    autopsy.wait_until_working()
                    autopsy.read_for(chance.uniform(0.5, 2.0))
                    store.kill()
                    # However slow the machine is, enough is still to come when nobody stores it.
                    feed.allow(0.95 * (outage + 1) / OUTAGES)
                    wait_for(
                        lambda: deployment.lag_of("sink", READ_BY_SINK) > 2 * BUFFER_ROWS,
                        "more to come than the sink may hold",
                        90,
                    )
                    if outage == OUTAGES - 1:
                        fleet.kill([sink])
                    behind = deployment.lag_of("sink", READ_BY_SINK)
                    store.restart()
                    wait_for(
                        lambda b=behind: deployment.lag_of("sink", READ_BY_SINK) < b,  # type: ignore[misc] # a bound default
                        "the sink to go on",
                        90,
                    )
                    deployment.say(f"ClickHouse back; the sink was {behind} records behind")
            deployment.must_be_exact(world.truth)
            ended = [failure for failure in fleet.failures if failure.startswith(sink.name)]
            assert not ended, f"an outage is no reason for the sink to end: {ended}"


def test_brokers_killed_one_after_the_other_under_load_change_nothing(
    servers: Servers, world: World, seed: int, folder: Path
) -> None:
    """Each of three brokers dies and comes back while work goes on with two; all that comes out is exact."""
    cluster = servers.cluster
    if cluster is None:
        pytest.skip("needs three brokers of Apache Kafka, so Java 17 and Maven")
    chance = random.Random(f"brokers:{seed}")
    order = [0, 1, 2]
    chance.shuffle(order)
    with deployed(servers, folder, seed) as deployment:
        feed = deployment.start_feed(world.records, rate=400)
        deployment.fleet.add("customers", 2)
        deployment.fleet.add("sink")
        with closing(Autopsy(deployment.settings)) as autopsy:
            for number, broker in enumerate(order):
                feed.allow(0.95 * (number + 1) / len(order))
                autopsy.wait_until_working()
                autopsy.read_for(chance.uniform(0.5, 2.0))
                cluster.kill(broker)
                deployment.say(f"broker {broker} killed")
                try:
                    autopsy.wait_until_working(share=1.0)
                    deployment.say("all partitions are worked on by the two that are left")
                finally:
                    cluster.restart(broker)
                deployment.say(f"broker {broker} is back in sync")
        deployment.must_be_exact(world.truth)

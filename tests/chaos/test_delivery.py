"""What producers do to us: events twice, and everything once more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.domain.policy import DAY, Policy
from streams.sources.delivery import Redelivered
from streams.sources.record import SourceRecord
from tests.chaos.conftest import World
from tests.chaos.deployment import Servers, deployed, wait_for

pytestmark = pytest.mark.chaos


class Listed:
    """Records as a source."""

    fraction = 0.0

    def __init__(self, records: tuple[SourceRecord, ...]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[SourceRecord]:
        return iter(self._records)


def test_each_third_event_twice_and_then_everything_again_changes_nothing(
    servers: Servers, world: World, seed: int, folder: Path
) -> None:
    """Duplicates are counted, and that is all they do; workers are killed in between for good measure."""
    twice = list(Redelivered(Listed(world.records), every=3, after=700))
    again = [*twice, *world.records]
    # Within the horizon a second delivery is a duplicate however late it comes; beyond it, it would be late.
    policy = Policy(horizon=14 * DAY)
    with deployed(servers, folder, seed, policy=policy) as deployment:
        fleet = deployment.fleet
        feed = deployment.start_feed(again, rate=4_000)
        fleet.add("customers", 2)
        fleet.add("sink")
        for share in (0.3, 0.7):
            feed.allow(share)
            wait_for(lambda s=share: feed.sent >= s * len(again) * 0.9, "the feed", 120)  # type: ignore[misc] # a bound default
            fleet.kill(fleet.of("customers"))
        deployment.must_be_exact(world.truth)

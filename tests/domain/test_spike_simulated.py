"""Spikes in simulated shops: rarely wrong, and found in minutes."""

from __future__ import annotations

import numpy as np
import pytest

from streams.domain.spike import SpikeRule
from tests.domain.spike_shops import CLOSES, WEEK, Shop, alarms, minutes

RULE = SpikeRule()
SHOPS = (Shop(40, 0.9), Shop(200, 0.5), Shop(1500, 0.7))


def days_of(shop: Shop, seed: int, rule: SpikeRule, days: int) -> list[tuple[int, str]]:
    readings = minutes(shop, seed, weeks=4)
    return alarms(readings, 3 * WEEK, 3 * WEEK + days * 1440, rule)


def test_ordinary_weeks_with_campaigns_raise_few_alarms() -> None:
    # Six shop-weeks: at one alarm in four, more than four are a chance of less than two in a hundred.
    found = [days_of(shop, seed, RULE, 7) for shop in SHOPS for seed in (1, 2)]
    assert sum(map(len, found)) <= 4


def test_where_many_alarms_are_allowed_there_are_many() -> None:
    # The control: the same weeks do hold chance enough.
    found = [days_of(shop, 1, SpikeRule(false_alarms=3000.0), 3) for shop in SHOPS]
    assert min(map(len, found)) >= 3


@pytest.mark.parametrize(
    ("shop", "plant", "within", "least"),
    [
        (Shop(400, 0.6), "loss", 10, 7),
        (Shop(1500, 0.7), "loss", 10, 8),
        (Shop(150, 0.6), "checkout", 5, 8),
        (Shop(1500, 0.7), "checkout", 5, 8),
    ],
    ids=lambda each: str(each),
)
def test_a_spike_is_found_soon_after_its_first_closed_lost_sessions(
    shop: Shop, plant: str, within: int, least: int
) -> None:
    rng = np.random.default_rng(5)
    found = 0
    for seed in range(8):
        at = 2 * WEEK + int(rng.integers(5)) * 1440 + 14 * 60 + int(rng.integers(180))
        readings = minutes(shop, seed, 3, "loss" if plant == "loss" else "checkout", at)
        first_closed = next(each.minute for each in readings[at + CLOSES :] if each.lost)
        raised = [m for m, _ in alarms(readings, at - 60, first_closed + within + 1, RULE) if m >= at]
        found += bool(raised)
    assert found >= least


def test_without_a_spike_nothing_is_found_in_the_same_minutes() -> None:
    raised = 0
    for seed in range(8):
        at = 2 * WEEK + 2 * 1440 + 15 * 60
        raised += bool(alarms(minutes(Shop(400, 0.6), seed, 3), at - 60, at + CLOSES + 10, RULE))
    assert raised <= 1

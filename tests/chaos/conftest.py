"""Servers for the fault scenarios: three brokers of Apache Kafka where they can run, else the embedded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.sources.record import SourceRecord
from streams.sources.simulation import Simulation, Truth
from tests.chaos.deployment import REPORT, Servers
from tests.chaos.nursery import Nursery
from tests.integration import providers
from tests.integration.kafka_jars import kafka_version
from tests.integration.kafka_server import KafkaCluster

ROOT = Path(__file__).resolve().parents[2]
_notes: list[str] = []

# It warns whenever a busy machine lets it wait for a tenth of a second.
logging.getLogger("kafka").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class World:
    """Simulated deliveries, in order, and what must come of them."""

    records: tuple[SourceRecord, ...]
    truth: Truth


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks the workers of this source tree."""
    with Nursery(ROOT) as started:
        yield started


@pytest.fixture(scope="session")
def servers(nursery: Nursery) -> Iterator[Servers]:
    """Kafka and ClickHouse in use: three brokers, replication 3 and min.insync 2, where they can run."""
    with ExitStack() as stack:
        try:
            clickhouse = stack.enter_context(providers.clickhouse())
            _notes.append(clickhouse.what)
            kafka, replication, cluster = _kafka(stack)
        except providers.Unavailable as exc:
            pytest.skip(f"a server is missing: {exc}")
        yield Servers(kafka, replication, cluster, clickhouse.address, nursery)


def _kafka(stack: ExitStack) -> tuple[str, int, KafkaCluster | None]:
    if os.environ.get("EBBTIDE_TEST_KAFKA", "jars") == "jars":
        try:
            cluster = stack.enter_context(providers.kafka_cluster())
        except providers.Unavailable as exc:
            _notes.append(f"passed over three brokers: {exc}")
        else:
            _notes.append(f"Apache Kafka {kafka_version()}, three brokers, replication 3, min.insync 2")
            return cluster.bootstrap, 3, cluster
    server = stack.enter_context(providers.kafka())
    _notes.append(server.what)
    return server.address, 1, None


@pytest.fixture(scope="session")
def seed() -> int:
    """Of everything left to chance; EBBTIDE_TEST_SEED."""
    return int(os.environ.get("EBBTIDE_TEST_SEED", "1"))


@pytest.fixture(scope="session")
def big_world(seed: int) -> World:
    """About 70,000 events."""
    return _world(seed, 4_000)


@pytest.fixture(scope="session")
def world(seed: int) -> World:
    """About 27,000 events."""
    return _world(seed + 1, 1_500)


def _world(seed: int, customers: int) -> World:
    simulation = Simulation(seed=seed, customers=customers)
    return World(tuple(simulation), simulation.truth())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the workers of a scenario write their logs."""
    return tmp_path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the scenarios ran against, and what came of them."""
    if _notes:
        terminalreporter.section("fault scenarios")
        for line in (*dict.fromkeys(_notes), *REPORT):
            terminalreporter.write_line(line)

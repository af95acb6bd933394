"""Servers for the tests that want real ones, and a line at the end that says which they were.

One server of a kind serves the whole run; ``topic_prefix`` and ``database`` keep tests apart on it, so a
shared one can be used too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import clickhouse_connect
import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.settings import Settings
from tests.integration import providers
from tests.integration.kafka_jars import kafka_version
from tests.integration.kafka_server import KafkaCluster

_used: list[str] = []


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[providers.Server]:
    """The Kafka in use: its address and whether it is a real one."""
    try:
        with providers.kafka() as server:
            _note("Kafka", server)
            yield server
    except providers.Unavailable as exc:
        pytest.skip(f"no Kafka: {exc}")


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[providers.Server]:
    """The ClickHouse in use: its URL and whether it is a real one."""
    try:
        with providers.clickhouse() as server:
            _note("ClickHouse", server)
            yield server
    except providers.Unavailable as exc:
        pytest.skip(f"no ClickHouse: {exc}")


@pytest.fixture(scope="session")
def kafka(kafka_server: providers.Server) -> str:
    """Bootstrap servers of the Kafka in use."""
    return kafka_server.address


@pytest.fixture(scope="session")
def clickhouse(clickhouse_server: providers.Server) -> str:
    """URL of the ClickHouse in use."""
    return clickhouse_server.address


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three real brokers to kill and restart; a test restarts what it killed."""
    try:
        with providers.kafka_cluster() as cluster:
            _used.append(f"Kafka cluster: Apache Kafka {kafka_version()} from its jars, three brokers")
            yield cluster
    except providers.Unavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture
def topic_prefix(kafka: str) -> Iterator[str]:
    """A prefix that is this test's alone; topics that carry it are deleted afterwards."""
    prefix = f"t{uuid.uuid4().hex[:10]}-"
    yield prefix
    with closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:
        mine = [name for name in admin.list_topics() if name.startswith(prefix)]
        if mine:
            try:
                admin.delete_topics(mine)
            except KafkaError as exc:  # what a test proved does not hang on how its broker tidies up
                _used.append(f"Kafka kept {len(mine)} topic(s) of a test: {type(exc).__name__}")


@pytest.fixture
def database(clickhouse: str) -> Iterator[str]:
    """The URL of an empty database that is this test's alone; dropped afterwards."""
    name = f"t{uuid.uuid4().hex[:10]}"
    with closing(clickhouse_connect.get_client(dsn=clickhouse)) as client:
        client.command(f"CREATE DATABASE {name} ENGINE = Atomic")
        yield urlunsplit(urlsplit(clickhouse)._replace(path=f"/{name}"))
        client.command(f"DROP DATABASE {name}")


@pytest.fixture
def settings(kafka: str, database: str, topic_prefix: str) -> Settings:
    """Settings of a deployment that is this test's alone, on the servers in use."""
    return Settings(kafka=kafka, clickhouse=database, topic_prefix=topic_prefix)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests ran against."""
    if _used:
        terminalreporter.section("servers")
        for line in dict.fromkeys(_used):
            terminalreporter.write_line(line)


def _note(name: str, server: providers.Server) -> None:
    _used.append(f"{name}: {server.what}")
    _used.extend(f"  passed over {reason}" for reason in server.passed_over)

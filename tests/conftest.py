"""Servers for the tests that want real ones, and a line at the end that says which they were.

One server of a kind serves the whole run, also when test workers (pytest-xdist) share the tests;
``topic_prefix`` and ``database`` keep tests apart on it, so a shared one can be used too.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import clickhouse_connect
import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.settings import Settings
from tests.integration import providers
from tests.integration.kafka_jars import kafka_version
from tests.integration.kafka_server import KafkaCluster
from tests.integration.sharing import shared

#: What takes a minute or so, the longest first: begun last, it would leave one worker alone at the end.
LONG: Final = (
    "test_pipeline_real_data.py",
    "test_shop_report_real_data.py",
    "test_transport.py",
    "test_erase.py",
    "test_verify_losses.py",
    "test_verify_segments.py",
    "test_verify_buyers.py",
    "test_shop_report_calendar.py",
    "test_segments.py",
    "test_telemetry.py",
    "test_buyer.py",
    "test_kafka_contract.py",
    "test_hooks_live.py",
    "test_hooks_receiver.py",
    "test_shops_live.py",
    "test_pipeline_live.py",
    "test_laws.py",
)
#: Here tests share nothing that takes time to make; elsewhere those of a module share what it started.
PURE: Final = "tests/domain/"
MOST_WORKERS: Final = 4

_used: list[str] = []
#: Starts the server of a name with the function given, or finds the one that another worker started.
Serve = Callable[
    [str, Callable[[], AbstractContextManager[providers.Server]]], AbstractContextManager[providers.Server]
]


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """How a session gets a server: its own, or that of all workers of the run."""
    if not hasattr(request.config, "workerinput"):
        return lambda _name, start: start()
    of_all_workers = tmp_path_factory.getbasetemp().parent
    return lambda name, start: shared(of_all_workers, name, start)


@pytest.fixture(scope="session")
def kafka_server(serve: Serve) -> Iterator[providers.Server]:
    """The Kafka in use: its address and whether it is a real one."""
    try:
        with serve("kafka", providers.kafka) as server:
            _note("Kafka", server)
            yield server
    except providers.Unavailable as exc:
        pytest.skip(f"no Kafka: {exc}")


@pytest.fixture(scope="session")
def clickhouse_server(serve: Serve) -> Iterator[providers.Server]:
    """The ClickHouse in use: its URL and whether it is a real one."""
    try:
        with serve("clickhouse", providers.clickhouse) as server:
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


# Of a module, not of the run: three brokers that nobody needs any more keep a core busy.
@pytest.fixture(scope="module")
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


@pytest.hookimpl(optionalhook=True)  # as all that is of pytest-xdist: without it nobody knows the hook
def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores, for each waits longer than it computes; but all of them wait
    for the same servers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 2, MOST_WORKERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the tests, the long modules come first; inside of a module nothing moves."""
    if hasattr(config, "workerinput"):
        rank = {name: at for at, name in enumerate(LONG)}
        items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, but pure tests go to whoever is free: a module of laws is long."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(PURE) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this worker's tests ran against to the process that prints it."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = _used


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker's tests ran against; one that crashed cannot say it."""
    _used.extend(getattr(node, "workeroutput", {}).get("servers", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests ran against."""
    if _used:
        terminalreporter.section("servers")
        # Backwards by name: Kafka, its cluster, ClickHouse, whichever worker had it first.
        told = sorted(dict.fromkeys(_used), reverse=True)
        for line in dict.fromkeys(line for lines in told for line in lines.splitlines()):
            terminalreporter.write_line(line)


def _note(name: str, server: providers.Server) -> None:
    said = [f"{name}: {server.what}", *(f"  passed over {reason}" for reason in server.passed_over)]
    _used.append("\n".join(said))

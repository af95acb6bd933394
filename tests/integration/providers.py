"""Which Kafka and which ClickHouse the tests run against: the most real one that is there.

In this order: the URLs in ``EBBTIDE_TEST_KAFKA`` and ``EBBTIDE_TEST_CLICKHOUSE``; containers, when a Docker
engine answers; for Kafka its published jars, when Java 17 and Maven are here; the embedded stack. Either
variable may also hold the name of a kind, ``docker``, ``jars`` or ``embedded``, to have that one and no
other. A kind that is not there is passed over; one that is there and does not work is an error.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.error import URLError
from urllib.parse import urlsplit

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.embedded.broker import Broker
from streams.embedded.clickhouse import ClickHouse
from streams.embedded.process import StackError, free_port
from tests.integration import kafka_jars
from tests.integration.kafka_server import KafkaCluster

Kind = Literal["given", "docker", "jars", "embedded"]

KAFKA_IMAGE: Final = f"apache/kafka:{kafka_jars.kafka_version()}"
CLICKHOUSE_IMAGE: Final = "clickhouse/clickhouse-server:26.8"
CONTAINER_DEADLINE_S: Final = 120.0


class Unavailable(RuntimeError):
    """A server cannot be had here; the text says why, for a skip."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server in use: ``address`` is Kafka's bootstrap servers or ClickHouse's URL with its database.

    ``real`` is False for the embedded stand-ins, whose gaps some tests have to skip. ``passed_over`` says
    why each more real kind was not used.
    """

    kind: Kind
    what: str
    address: str
    passed_over: tuple[str, ...] = ()

    @property
    def real(self) -> bool:
        return self.kind != "embedded"


_Start = Callable[[], Iterator[Server]]


@contextmanager
def kafka() -> Iterator[Server]:
    """A Kafka of one broker, or the one given; stopped at the end unless it was given. Raises Unavailable."""
    kinds: dict[Kind, _Start] = {"docker": _kafka_container, "jars": _kafka_jars, "embedded": _kafka_embedded}
    yield from _first("EBBTIDE_TEST_KAFKA", kinds, _kafka_given)


@contextmanager
def clickhouse() -> Iterator[Server]:
    """A ClickHouse over HTTP, or the one given; stopped at the end unless given. Raises Unavailable."""
    kinds: dict[Kind, _Start] = {"docker": _clickhouse_container, "embedded": _clickhouse_embedded}
    yield from _first("EBBTIDE_TEST_CLICKHOUSE", kinds, _clickhouse_given)


@contextmanager
def kafka_cluster(properties: Mapping[str, str] | None = None) -> Iterator[KafkaCluster]:
    """Three brokers of Apache Kafka that a test may kill and restart.

    They come from the jars, whatever else is there: a given cluster is not ours to break. Raises Unavailable.
    """
    cluster = KafkaCluster(3, properties)
    try:
        cluster.start()
    except kafka_jars.NoKafkaJars as exc:
        raise Unavailable(f"three brokers need Java 17 and Maven: {exc}") from exc
    try:
        yield cluster
    finally:
        cluster.stop()


def _first(variable: str, kinds: dict[Kind, _Start], given: Callable[[str], Server]) -> Iterator[Server]:
    wanted = os.environ.get(variable, "").strip()
    if wanted and wanted not in kinds:
        yield given(wanted)
        return
    passed_over: list[str] = []
    for kind, start in kinds.items():
        if wanted and kind != wanted:
            continue
        servers = start()
        try:
            server = next(servers)
        except (Unavailable, kafka_jars.NoKafkaJars, StackError) as exc:
            passed_over.append(f"{kind}: {exc}")
            continue
        try:
            yield Server(server.kind, server.what, server.address, tuple(passed_over))
        finally:
            next(servers, None)  # past its yield: it stops what it started
        return
    raise Unavailable("; ".join(passed_over))


def _kafka_given(bootstrap: str) -> Server:
    if not _kafka_answers(bootstrap):
        raise RuntimeError(f"EBBTIDE_TEST_KAFKA={bootstrap} does not answer")
    return Server("given", "the Kafka of EBBTIDE_TEST_KAFKA", bootstrap)


def _clickhouse_given(url: str) -> Server:
    if not _clickhouse_answers(url):
        raise RuntimeError(f"EBBTIDE_TEST_CLICKHOUSE={_without_password(url)} does not answer")
    return Server("given", "the ClickHouse of EBBTIDE_TEST_CLICKHOUSE", url)


def _kafka_jars() -> Iterator[Server]:
    with KafkaCluster(1) as cluster:
        what = f"Apache Kafka {kafka_jars.kafka_version()} from its jars, one broker"
        yield Server("jars", what, cluster.bootstrap)


def _kafka_embedded() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ebbtide-test-") as folder, Broker(Path(folder)) as broker:
        yield Server("embedded", "the embedded broker", broker.address)


def _clickhouse_embedded() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ebbtide-test-") as name:
        folder = Path(name)
        with ClickHouse(folder / "data", folder) as server:
            yield Server("embedded", "the embedded ClickHouse endpoint (chDB)", server.url)


def _kafka_container() -> Iterator[Server]:
    port = free_port()
    # Setting any of these drops the image's own defaults, so this is all a single node needs.
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    address = f"127.0.0.1:{port}"
    with _container(KAFKA_IMAGE, 9092, port, environment, lambda: _kafka_answers(address)):
        yield Server("docker", f"{KAFKA_IMAGE} in a container", address)


def _clickhouse_container() -> Iterator[Server]:
    port = free_port()
    environment = {"CLICKHOUSE_DB": "ebbtide", "CLICKHOUSE_USER": "ebbtide", "CLICKHOUSE_PASSWORD": "ebbtide"}
    url = f"http://ebbtide:ebbtide@127.0.0.1:{port}/ebbtide"
    with _container(CLICKHOUSE_IMAGE, 8123, port, environment, lambda: _clickhouse_answers(url)):
        yield Server("docker", f"{CLICKHOUSE_IMAGE} in a container", url)


@contextmanager
def _container(
    image: str, inner: int, port: int, environment: dict[str, str], answers: Callable[[], bool]
) -> Iterator[None]:
    """A container of ``image`` with its port ``inner`` on 127.0.0.1:``port``, once it answers."""
    # Asked for only here: importing it reads Docker's configuration.
    import docker  # type: ignore[import-untyped] # it has no types
    from docker.errors import DockerException  # type: ignore[import-untyped] # it has no types
    from testcontainers.core.container import DockerContainer

    try:
        docker.from_env(timeout=5).ping()
    except (DockerException, OSError) as exc:
        raise Unavailable("no Docker engine answers") from exc
    container = DockerContainer(image).with_envs(**environment)
    container.with_kwargs(ports={f"{inner}/tcp": ("127.0.0.1", port)})
    try:
        container.start()
    except (DockerException, OSError) as exc:
        raise Unavailable(f"{image} cannot be started: {exc}") from exc
    try:
        ends = time.monotonic() + CONTAINER_DEADLINE_S
        while not answers():
            if time.monotonic() > ends:
                raise Unavailable(f"{image} did not answer within {CONTAINER_DEADLINE_S:.0f} s")
            time.sleep(0.2)
        yield
    finally:
        container.stop()


def _kafka_answers(bootstrap: str) -> bool:
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=5_000)) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except (KafkaError, OSError, ValueError):
        return False


def _clickhouse_answers(url: str) -> bool:
    parts = urlsplit(url)
    ping = f"{parts.scheme}://{parts.hostname}:{parts.port or 8123}/ping"
    try:
        with urllib.request.urlopen(ping, timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":…@") if parts.password else url

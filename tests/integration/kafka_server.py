"""Apache Kafka itself, one broker or three, from its published jars: for tests, faults and measurements.

Needs Java 17 and Maven (kafka_jars.py). Each node is broker and controller (KRaft) and listens on 127.0.0.1
only. By hand: ``python -m tests.integration.kafka_server --brokers 3`` prints the bootstrap servers and runs
until Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.embedded.process import HOST, ServerProcess, StackError
from tests.integration.kafka_jars import NoKafkaJars, kafka_version, resolve_jars, why_not

START_DEADLINE_S: Final = 240.0  # three JVMs on two busy cores have taken 60
STOP_DEADLINE_S: Final = 30.0

_JVM: Final = (
    "-Xmx384m",
    "-XX:+UseSerialGC",  # two cores: a concurrent collector would take one from the pipeline
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class KafkaServerError(RuntimeError):
    """Kafka's jars are here, but it did not come up, or broke; the text says why."""


def _free_ports(count: int) -> list[int]:
    """Ports free on 127.0.0.1, all different: the sockets are held until the last one is known."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class _Node:
    """One broker and controller: its folder, its ports (kept over restarts) and its process."""

    number: int
    folder: Path
    port: int
    controller_port: int
    process: ServerProcess

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def settings_file(self) -> str:
        return str(self.folder / "server.properties")

    def last_words(self) -> str:
        lines = (self.folder / "broker.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


class KafkaCluster:
    """A cluster of 1 or 3 Apache Kafka nodes in a temporary folder; brokers are counted from 0.

    ``properties`` are laid over the settings of every node; $ours in one is what it is otherwise. Use it
    as a context manager, or call ``start`` and ``stop``. The brokers die with this process, however it
    dies. Every wait has a deadline and ends in KafkaServerError; NoKafkaJars is raised where Java or
    Maven cannot give what it runs on.
    """

    def __init__(self, brokers: int = 1, properties: Mapping[str, str] | None = None) -> None:
        if brokers not in (1, 3):
            raise ValueError("a cluster has 1 or 3 brokers")
        self._brokers = brokers
        self._properties = dict(properties or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._nodes: list[_Node] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """All brokers, running or not, as ``host:port,host:port``; the same after restarts."""
        return ",".join(node.address for node in self._nodes)

    @property
    def running(self) -> list[int]:
        """The numbers of the brokers whose process is alive."""
        return [i for i, node in enumerate(self._nodes) if node.process.running]

    def start(self) -> None:
        """Resolve the jars, format the storage, start every node and wait until the cluster is whole."""
        if (reason := why_not()) is not None:
            raise NoKafkaJars(f"Apache Kafka cannot run here: {reason}")
        java = ["java", *_JVM, "-cp", str(resolve_jars() / "*")]
        self._folder = tempfile.TemporaryDirectory(prefix="ebbtide-kafka-")
        ports = _free_ports(2 * self._brokers)
        for i in range(self._brokers):
            folder = Path(self._folder.name) / f"broker-{i}"
            folder.mkdir()
            self._nodes.append(_node(i + 1, folder, ports[2 * i], ports[2 * i + 1], java))
        try:
            self._format(java)
            for node in self._nodes:
                self._launch(node)
            self.wait_whole()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill every node and remove its data. Calling it again does nothing."""
        for node in self._nodes:
            node.process.kill()
        self._nodes = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self, i: int) -> None:
        """``kill -9`` of broker ``i``; its data stays. Clients find the new leaders by themselves."""
        self._nodes[i].process.kill()

    def restart(self, i: int) -> None:
        """Start broker ``i`` again on its data and port, after a clean stop if it runs, and wait until the
        cluster is whole; brokers that were killed and not restarted are not waited for."""
        self._nodes[i].process.stop(STOP_DEADLINE_S)
        self._launch(self._nodes[i])
        self.wait_whole()

    def wait_whole(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Wait until the controllers have a leader, the running brokers and only they are registered
        and unfenced, and every partition has a leader and all its running replicas in sync."""
        nodes = [self._nodes[i] for i in self.running]
        ends = time.monotonic() + deadline_s
        missing = "no broker runs"
        while nodes and time.monotonic() < ends:
            for node in nodes:
                if not node.process.running:
                    raise KafkaServerError(f"broker {node.number - 1} ended by itself:\n{node.last_words()}")
            try:
                missing = _missing(nodes)
            except (KafkaError, OSError) as exc:
                missing = f"{type(exc).__name__}: {exc}"
            if not missing:
                return
            time.sleep(0.1)
        words = "\n".join(node.last_words() for node in nodes)
        raise KafkaServerError(f"Kafka is not whole after {deadline_s:.0f} s ({missing}):\n{words}")

    def _format(self, java: list[str]) -> None:
        """Write every node's storage folder, side by side: most of a format is the start of its JVM."""
        cluster_id = uuid.uuid4().hex[:22]  # as long as Kafka's own, and never read as an option
        voters = ",".join(f"{node.number}@{HOST}:{node.controller_port}" for node in self._nodes)
        formatting: list[tuple[_Node, subprocess.Popen[bytes]]] = []
        for node in self._nodes:
            settings = _settings(node, voters, self._brokers)
            for name, value in self._properties.items():
                settings[name] = value.replace("$ours", settings.get(name, ""))
            Path(node.settings_file).write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
            command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", node.settings_file]
            with (node.folder / "broker.log").open("ab") as log:
                formatting.append(
                    (node, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
                )
        for node, process in formatting:
            if process.wait(START_DEADLINE_S) != 0:
                raise KafkaServerError(f"the storage folder could not be formatted:\n{node.last_words()}")

    def _launch(self, node: _Node) -> None:
        try:
            node.process.spawn(node.port)
        except StackError as exc:
            raise KafkaServerError(str(exc)) from exc


def _node(number: int, folder: Path, port: int, controller_port: int, java: list[str]) -> _Node:
    def command(_port: int) -> list[str]:
        return [*java, "kafka.Kafka", str(folder / "server.properties")]

    # Health is the cluster's (wait_whole), never one process's.
    process = ServerProcess(f"broker {number - 1}", command, lambda _port, _pid: True, folder / "broker.log")
    return _Node(number, folder, port, controller_port, process)


def _settings(node: _Node, voters: str, brokers: int) -> dict[str, str]:
    """``server.properties`` of a node: a production shape, with small pools, buffers and internal topics."""
    in_sync = str(min(brokers, 2))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(brokers),
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": str(brokers),
        "offsets.topic.num.partitions": "3",
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "3",
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker's partitions move after this long, not after the default 9 s.
        "broker.session.timeout.ms": "6000",
        "broker.heartbeat.interval.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "1",
        "group.coordinator.threads": "1",
        "log.segment.bytes": str(64 * 1024 * 1024),
        "log.index.size.max.bytes": str(1024 * 1024),
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def _admin(addresses: list[str]) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=addresses, bootstrap_timeout_ms=2_000, request_timeout_ms=5_000)


def _missing(nodes: list[_Node]) -> str:
    """What a whole cluster of these nodes lacks; empty if nothing."""
    expected = {node.number for node in nodes}
    for node in nodes:
        socket.create_connection((HOST, node.port), 1).close()
    with closing(_admin([node.address for node in nodes])) as admin:
        registered = {b["broker_id"] for b in admin.describe_cluster()["brokers"] if not b["is_fenced"]}
        if registered != expected:
            return f"registered are {sorted(registered)}, expected {sorted(expected)}"
        quorum = admin.describe_metadata_quorum()["topics"][0]["partitions"][0]
        if quorum["leader_id"] not in expected:
            return "the controllers have no leader"
        for topic in admin.describe_topics():
            for partition in topic["partitions"]:
                where = f"{topic['name']}-{partition['partition_index']}"
                if partition["leader_id"] not in expected:
                    return f"{where} has no leader"
                if set(partition["replica_nodes"]) & expected - set(partition["isr_nodes"]):
                    return f"{where} is not in sync"
    return ""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run a cluster until Ctrl-C or SIGTERM; the bootstrap servers are the only line on stdout."""
    parser = argparse.ArgumentParser(description="Apache Kafka on 127.0.0.1, for development.")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    brokers: int = parser.parse_args().brokers
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        with KafkaCluster(brokers) as cluster:
            up = time.monotonic() - began
            print(f"Apache Kafka {kafka_version()}, {brokers} broker(s), up in {up:.1f} s", file=sys.stderr)
            print(cluster.bootstrap, flush=True)
            signal.pause()
    except (KafkaServerError, NoKafkaJars) as exc:
        raise SystemExit(str(exc)) from None
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

"""Apache Kafka itself, one broker or three, from its published jars: for tests, faults and measurements.

Needs Java 17 and Maven. Maven resolves the jars named in ``kafka-pom.xml`` once into ``.cache/kafka``
(or below ``EBBTIDE_CACHE_DIR``). Each node is broker and controller (KRaft) and listens on 127.0.0.1 only.
By hand: ``python -m tests.integration.kafka_server --brokers 3`` prints the bootstrap servers and runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

ROOT: Final = Path(__file__).resolve().parents[2]
POM: Final = Path(__file__).with_name("kafka-pom.xml")
RESOLVE_DEADLINE_S: Final = 600.0
START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 30.0

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
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
    """Kafka could not be had or did not come up; the text is one sentence that says why."""


def why_not() -> str | None:
    """Why Apache Kafka cannot be run on this machine, or None if Java 17 and Maven are here."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        said = subprocess.run(
            ["java", "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return "java does not run"
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        return f"Java 17 or newer is needed, here is {version[1] if version else 'an unknown version'}"
    return None


def cache_dir() -> Path:
    """Where resolved jars are kept: ``EBBTIDE_CACHE_DIR``, else ``.cache`` of the project."""
    return Path(os.environ.get("EBBTIDE_CACHE_DIR") or ROOT / ".cache")


def kafka_version() -> str:
    """The version of Apache Kafka that ``kafka-pom.xml`` names."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", POM.read_text())
    if found is None:
        raise KafkaServerError(f"{POM.name} names no version of kafka_2.13")
    return found[1]


def resolve_jars() -> Path:
    """The folder with Kafka's jars; resolved through Maven the first time, which can take a minute.

    Processes that ask at the same time resolve once. Raises KafkaServerError if Maven cannot.
    """
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    home = cache_dir() / "kafka"
    jars = home / f"{kafka_version()}-{digest}"
    if jars.is_dir():
        return jars
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        print(
            f"Resolving Apache Kafka {kafka_version()} with Maven (once, into {home}) …",
            file=sys.stderr,
            flush=True,
        )
        began = time.monotonic()
        # Complete or absent: the folder gets its name only when every jar is in it.
        with tempfile.TemporaryDirectory(dir=home) as unfinished:
            _maven(Path(unfinished) / "jars")
            (Path(unfinished) / "jars").rename(jars)
        print(
            f"Resolved {len(list(jars.glob('*.jar')))} jars in {time.monotonic() - began:.0f} s",
            file=sys.stderr,
        )
    return jars


def _maven(into: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={into}"]
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "--file", str(POM), *goal]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RESOLVE_DEADLINE_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise KafkaServerError(f"Maven did not resolve Apache Kafka: {exc}") from exc
    if done.returncode != 0:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise KafkaServerError(
            f"Maven did not resolve Apache Kafka: {errors[0] if errors else 'no reason given'}"
        )


def _die_with_parent() -> None:
    """Runs in the child before exec: a test run that is killed leaves no broker behind (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    """Ports free on 127.0.0.1, all different: the sockets are held until the last one is known."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class _Node:
    """One broker and controller: its folder, ports and, while it runs, its process."""

    number: int
    folder: Path
    port: int
    controller_port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def last_words(self) -> str:
        log = self.folder / "broker.log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        return "\n".join(lines[-15:])


class KafkaCluster:
    """A cluster of 1 or 3 Apache Kafka nodes in a temporary folder; brokers are counted from 0.

    ``properties`` are laid over the settings of every node. Start it from a thread that outlives it:
    on Linux the brokers are killed with the thread that started them. Use as a context manager, or
    call ``start`` and ``stop``. Every wait has a deadline and ends in KafkaServerError.
    """

    def __init__(self, brokers: int = 1, properties: Mapping[str, str] | None = None) -> None:
        if brokers not in (1, 3):
            raise ValueError("a cluster has 1 or 3 brokers")
        self._properties = dict(properties or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._classpath = ""
        self._nodes: list[_Node] = []
        self._brokers = brokers

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
        return [i for i, node in enumerate(self._nodes) if node.running]

    def start(self) -> None:
        """Resolve the jars, format the storage, start every node and wait until the cluster is whole."""
        if (reason := why_not()) is not None:
            raise KafkaServerError(f"Apache Kafka cannot run here: {reason}")
        self._classpath = f"{resolve_jars()}{os.sep}*"
        self._folder = tempfile.TemporaryDirectory(prefix="ebbtide-kafka-")
        ports = _free_ports(2 * self._brokers)
        for i in range(self._brokers):
            folder = Path(self._folder.name) / f"broker-{i}"
            folder.mkdir()
            self._nodes.append(_Node(i + 1, folder, ports[2 * i], ports[2 * i + 1]))
        try:
            self._format()
            for node in self._nodes:
                self._launch(node)
            self.wait_whole()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill every node and remove its data. Calling it again does nothing."""
        for node in self._nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait(STOP_DEADLINE_S)
        self._nodes = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self, i: int) -> None:
        """``kill -9`` of broker ``i``; its data stays. Clients find the new leaders by themselves."""
        process = self._nodes[i].process
        if process is not None:
            process.kill()
            process.wait(STOP_DEADLINE_S)

    def restart(self, i: int) -> None:
        """Start broker ``i`` again on its data and port, after a clean stop if it runs; wait until the cluster is whole.

        Whole means every running broker; those killed and not restarted are not waited for.
        """
        node = self._nodes[i]
        if node.running:
            assert node.process is not None
            node.process.terminate()
            try:
                node.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill(i)
        self._launch(node)
        self.wait_whole()

    def wait_whole(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Wait until the controllers have a leader, the running brokers and only they are registered
        and unfenced, and every partition has a leader and all its running replicas in sync."""
        expected = {node.number for node in self._nodes if node.running}
        ends = time.monotonic() + deadline_s
        missing = "no broker runs"
        while time.monotonic() < ends:
            for node in self._nodes:
                if node.number in expected and not node.running:
                    raise KafkaServerError(
                        f"broker {node.number - 1} ended while starting:\n{node.last_words()}"
                    )
            try:
                missing = self._missing(expected)
            except (KafkaError, OSError) as exc:
                missing = f"{type(exc).__name__}: {exc}"
            if not missing:
                return
            time.sleep(0.1)
        words = "\n".join(node.last_words() for node in self._nodes if node.running)
        raise KafkaServerError(f"Kafka is not whole after {deadline_s:.0f} s ({missing}):\n{words}")

    def _missing(self, expected: set[int]) -> str:
        """What a whole cluster of the ``expected`` node numbers lacks; empty if nothing."""
        running = [node for node in self._nodes if node.number in expected]
        if not running:
            return "no broker runs"
        for node in running:
            socket.create_connection(("127.0.0.1", node.port), 1).close()
        with closing(_admin([node.address for node in running])) as admin:
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

    def _format(self) -> None:
        """Write every node's storage folder, side by side: most of a format is the start of its JVM."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        voters = ",".join(f"{node.number}@127.0.0.1:{node.controller_port}" for node in self._nodes)
        formatting: list[tuple[_Node, subprocess.Popen[bytes]]] = []
        for node in self._nodes:
            settings = {**_settings(node, voters, self._brokers), **self._properties}
            text = "".join(f"{key}={value}\n" for key, value in settings.items())
            (node.folder / "server.properties").write_text(text)
            arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"]
            formatting.append((node, self._java(node, *arguments, str(node.folder / "server.properties"))))
        for node, process in formatting:
            if process.wait(START_DEADLINE_S) != 0:
                raise KafkaServerError(f"the storage folder could not be formatted:\n{node.last_words()}")

    def _launch(self, node: _Node) -> None:
        node.process = self._java(node, "kafka.Kafka", str(node.folder / "server.properties"))

    def _java(self, node: _Node, *arguments: str) -> subprocess.Popen[bytes]:
        with (node.folder / "broker.log").open("ab") as log:
            return subprocess.Popen(
                ["java", *_JVM, "-cp", self._classpath, *arguments],
                cwd=node.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                start_new_session=True,  # Ctrl-C reaches the tests, which stop the brokers in order
            )


def _settings(node: _Node, voters: str, brokers: int) -> dict[str, str]:
    """``server.properties`` of a node: a production shape, with small threads, buffers and internal topics."""
    in_sync = str(min(brokers, 2))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://127.0.0.1:{node.controller_port}",
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


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Treats SIGTERM like Ctrl-C, so that both end in an orderly stop."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass


def main() -> None:
    """Run a cluster until Ctrl-C or SIGTERM; the bootstrap servers are the only line on stdout."""
    parser = argparse.ArgumentParser(description="Apache Kafka on 127.0.0.1, for development.")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    brokers: int = parser.parse_args().brokers
    began = time.monotonic()
    try:
        with _until_interrupted(), KafkaCluster(brokers) as cluster:
            print(f"Apache Kafka {kafka_version()} up in {time.monotonic() - began:.1f} s", file=sys.stderr)
            print(cluster.bootstrap, flush=True)
            signal.pause()
    except KafkaServerError as exc:
        raise SystemExit(str(exc)) from None


if __name__ == "__main__":
    main()

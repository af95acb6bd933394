"""The embedded ClickHouse endpoint as a child process; ordinary ClickHouse clients talk to it."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.embedded.clickhouse_reader import USER as READER
from streams.embedded.process import HOST, ServerProcess


class ClickHouse:
    """A ClickHouse HTTP endpoint over the database in ``data_dir``, which is made if it is not there.

    ``kill`` and ``restart`` make outages: the address and the data stay the same.
    """

    def __init__(self, data_dir: Path, work_dir: Path) -> None:
        module = "streams.embedded.clickhouse_server"
        data_dir = data_dir.resolve()

        def command(port: int) -> list[str]:
            return [sys.executable, "-m", module, "--path", str(data_dir), "--port", str(port)]

        self.process = ServerProcess(
            "the embedded ClickHouse endpoint", command, _healthy, work_dir / "clickhouse.log"
        )

    @property
    def url(self) -> str:
        """``http://default@127.0.0.1:PORT/ebbtide``"""
        return f"http://default@{HOST}:{self.process.port}/ebbtide"

    @property
    def reader_url(self) -> str:
        """The same, for a user who may only read: ``http://bi@127.0.0.1:PORT/ebbtide``."""
        return f"http://{READER}@{HOST}:{self.process.port}/ebbtide"

    def start(self) -> None:
        self.process.spawn()
        self.process.wait_ready()

    def stop(self) -> None:
        """Lets running queries end and closes the database."""
        self.process.stop()

    def kill(self) -> None:
        """An outage: SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """On the same port over the same data, after ``kill`` or ``stop`` or while it runs."""
        self.process.restart()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def _healthy(port: int, pid: int) -> bool:
    """``SELECT 1`` is answered, and by our process, not by one that took the port before it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/?query=SELECT%201")
        response = connection.getresponse()
        name = response.getheader("X-ClickHouse-Server-Display-Name", "")
        return response.read() == b"1\n" and name == f"ebbtide-embedded-{pid}"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

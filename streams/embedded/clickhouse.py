"""The embedded ClickHouse endpoint as a child process; ordinary ClickHouse clients talk to it."""

from __future__ import annotations

import http.client
import os
import secrets
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from streams.embedded.clickhouse_reader import USER as READER
from streams.embedded.process import HOST, ServerProcess


class ClickHouse:
    """A ClickHouse HTTP endpoint over the database in ``data_dir``, which is made if it is not there.

    With a ``reader_password`` the user who may only read has it, and the owner has one that is made up anew;
    both are in ``work_dir``, for nobody else to read. ``kill`` and ``restart`` make outages: the address and
    the data stay the same.
    """

    def __init__(self, data_dir: Path, work_dir: Path, reader_password: str = "") -> None:
        module = "streams.embedded.clickhouse_server"
        data_dir = data_dir.resolve()
        self._reader_password = reader_password
        # A reader's password would keep nobody out if the owner had none.
        self._password = secrets.token_urlsafe(24) if reader_password else ""

        def command(port: int) -> list[str]:
            told = [sys.executable, "-m", module, "--path", str(data_dir), "--port", str(port)]
            for option, password in (
                ("--password-file", self._password),
                ("--reader-password-file", reader_password),
            ):
                if password:
                    told += [option, str(_secret(work_dir / f"clickhouse{option}", password))]
            return told

        self.process = ServerProcess(
            "the embedded ClickHouse endpoint",
            command,
            partial(_healthy, self._password),
            work_dir / "clickhouse.log",
        )

    @property
    def url(self) -> str:
        """For the owner, who may do all: ``http://default[:PASSWORD]@127.0.0.1:PORT/ebbtide``."""
        return self._url("default", self._password)

    @property
    def reader_url(self) -> str:
        """For a user who may only read: ``http://bi[:PASSWORD]@127.0.0.1:PORT/ebbtide``."""
        return self._url(READER, self._reader_password)

    def _url(self, user: str, password: str) -> str:
        secret = f":{quote(password, safe='')}" if password else ""
        return f"http://{user}{secret}@{HOST}:{self.process.port}/ebbtide"

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


def _secret(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    with open(path, "x", opener=partial(os.open, mode=0o600)) as file:
        file.write(text)
    return path


def _healthy(password: str, port: int, pid: int) -> bool:
    """``SELECT 1`` is answered, and by our process, not by one that took the port before it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(
            "GET",
            "/?query=SELECT%201",
            headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": password},
        )
        response = connection.getresponse()
        name = response.getheader("X-ClickHouse-Server-Display-Name", "")
        return response.read() == b"1\n" and name == f"ebbtide-embedded-{pid}"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

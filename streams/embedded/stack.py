"""Kafka and ClickHouse without Kafka and ClickHouse: both parts started together, and stopped together."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.embedded.broker import Broker
from streams.embedded.clickhouse import ClickHouse
from streams.embedded.process import StackError

__all__ = ["EmbeddedStack", "StackError"]


class EmbeddedStack:
    """``with EmbeddedStack(data_dir) as stack:`` runs the two servers on free ports of 127.0.0.1.

    With ``data_dir`` the ClickHouse data is kept in ``data_dir/clickhouse``, the logs beside it; otherwise
    everything is in a temporary directory that goes at the end. The broker is memory only either way: each
    run begins with no topic. ``bi_password`` is that of who only reads. Raises StackError when a part cannot
    run.
    """

    def __init__(self, data_dir: Path | None = None, bi_password: str = "") -> None:
        self._temporary = data_dir is None
        self.directory = Path(tempfile.mkdtemp(prefix="ebbtide-")) if data_dir is None else data_dir.resolve()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.broker = Broker(self.directory)
        except OSError as exc:
            raise StackError(f"the data directory {self.directory} cannot be used: {exc}") from exc
        except StackError:
            self._remove_temporary()
            raise
        self.database = ClickHouse(self.directory / "clickhouse", self.directory, bi_password)

    @property
    def kafka(self) -> str:
        """Bootstrap servers: ``127.0.0.1:PORT``."""
        return self.broker.address

    @property
    def clickhouse(self) -> str:
        """ClickHouse's address for who may do all: ``http://default@127.0.0.1:PORT/ebbtide``"""
        return self.database.url

    @property
    def reader(self) -> str:
        """ClickHouse's address for who only reads."""
        return self.database.reader_url

    def start(self) -> None:
        """Starts both and returns when both answer; neither is left running if one does not."""
        try:
            # One after the other here, but both start up at the same time.
            self.database.process.spawn()
            self.broker.process.spawn()
            self.broker.process.wait_ready()
            self.database.process.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        try:
            self.broker.stop()
            self.database.stop()
        finally:
            self._remove_temporary()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def _remove_temporary(self) -> None:
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

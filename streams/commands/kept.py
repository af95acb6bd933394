"""Which ClickHouse a command asks: the one of the settings, or what a demo kept in a directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.embedded.clickhouse import ClickHouse
from streams.embedded.process import StackError
from streams.settings import Settings


@contextmanager
def clickhouse_url(settings: Settings, data_dir: Path | None) -> Iterator[str]:
    """The URL to ask. With ``data_dir`` the embedded endpoint runs over its data meanwhile.

    Raises StackError if the directory holds no data of a demo.
    """
    if data_dir is None:
        yield settings.clickhouse
        return
    if not (data_dir / "clickhouse").is_dir():
        raise StackError(
            f"{data_dir} holds no data of a demo; run `ebbtide demo --data-dir {data_dir}` first"
        )
    with ClickHouse(data_dir / "clickhouse", data_dir) as database:
        yield database.url

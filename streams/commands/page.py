"""``ebbtide page``: what ClickHouse holds, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from streams.commands import options
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.settings import Settings


@click.command(
    epilog=options.epilog(
        "ebbtide page",
        "ebbtide page --data-dir ./demo-data",
        "EBBTIDE_PAGE_TOKEN_FILE=/run/secrets/page ebbtide page --host 0.0.0.0 --port 8080",
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Where to listen."
)
@options.clickhouse
@options.data_dir
@told
def page(host: str, port: int, data_dir: Path | None, **given: Any) -> None:
    """Serve the page: who is being lost now, where they go, and what can still be done.

    It reads ClickHouse and nothing else; give it a user who may only read. Unless it listens on this machine
    alone it needs EBBTIDE_PAGE_TOKEN, or EBBTIDE_PAGE_TOKEN_FILE.
    """
    # What draws is imported by this command alone.
    from streams.dashboard.door import check
    from streams.dashboard.server import serve

    settings = Settings.from_env(**given)
    check(host, settings.page_token)
    with clickhouse_url(settings, data_dir) as url:
        serve(url, settings.policy, host, port, settings.page_token)

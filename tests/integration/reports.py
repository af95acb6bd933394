"""What the tests of the shop report share: storing facts, and asking as a person at a terminal does."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any, Final

from click.testing import CliRunner, Result

from streams.adapters.clickhouse import Store, migrate
from streams.cli import main
from tests.integration.stored import store

Facts = dict[str, list[dict[str, Any]]]

#: A shop with one session, on the last day but one that is over.
SOME: Final[Facts] = {
    "shops": [{"shop_id": "s1", "name": "Tide & Co", "zone": "Europe/London", "currency": "GBP"}],
    "sessions": [{"started_at": "2026-03-28 10:00", "orders": 0}],
    "ingest": [{"topic": "orders", "partition": 0, "watermark": "2026-03-29 12:00"}],
}


def filled(url: str, facts: Facts) -> None:
    """Make a schema and store ``facts`` by topic, in the order given."""
    migrate(url)
    with closing(Store(url)) as into:
        store(into, {topic: told for topic, told in facts.items() if told})


def run(*args: str, **env: str) -> Result:
    """``ebbtide report`` in this process, with ``env`` as its only settings."""
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, ["report", *args], env={**clean, **env}, catch_exceptions=False)

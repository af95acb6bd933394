"""A Kafka to replay into: the one EBBTIDE_TEST_KAFKA names, else the embedded broker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from streams.embedded.broker import Broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that is up for the whole session."""
    if given := os.environ.get("EBBTIDE_TEST_KAFKA"):
        yield given
        return
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.address

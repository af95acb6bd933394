"""The pipeline by the wall clock: sessions close in silence, and a restart forgets nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from streams.domain.policy import SECOND, Policy
from streams.settings import Settings
from streams.workers import Workers
from tests.builders import body, cart, visit
from tests.integration.pipelines import deployed, send, wait_until

pytestmark = pytest.mark.replay

#: Workers restart inside of it, unless the machine is very busy; then the test shows a little less.
GAP_S = 8
ROLES = ("customers", "sink")


@pytest.fixture(scope="module")
def live(kafka: str, clickhouse: str) -> Iterator[tuple[Settings, Client]]:
    policy = Policy(gap=GAP_S * SECOND)
    with deployed(kafka, clickhouse, partitions=2, policy=policy, tick_interval_s=0.1) as deployment:
        yield deployment


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_session_closes_in_silence_and_a_restart_in_its_midst_keeps_it(
    live: tuple[Settings, Client], tmp_path: Path
) -> None:
    settings, client = live
    with Workers(settings, ROLES, tmp_path):
        early = visit(now_ms(), customer_id="early")
        asyncio.run(send(settings, [("visits", b"early", body(early), 0)]))
        wait_until("the workers work", lambda: _applied(client) >= 1)
        began = now_ms()
        first = [visit(began, customer_id=customer) for customer in ("wanderer", "patient")]
        asyncio.run(
            send(settings, [("visits", event["customer_id"].encode(), body(event), 0) for event in first])
        )
        wait_until("the visits are counted", lambda: _applied(client) >= 3)
    # Sent while nobody works; after this, nothing is sent at all.
    put = cart(began + 1, customer_id="wanderer", event_id="put")
    quiet = visit(now_ms(), customer_id="quiet", event_id="quiet")
    asyncio.run(send(settings, [("carts", b"wanderer", body(put), 0), ("visits", b"quiet", body(quiet), 1)]))
    with Workers(settings, ROLES, tmp_path) as workers:
        wait_until("the cart joins, and silence closes all sessions", lambda: _closed(client, workers))
        assert now_ms() > quiet["occurred_at"] + GAP_S * SECOND
    found = {
        row["customer_id"]: (row["lost_stage"], row["events"])
        for row in client.query("SELECT * FROM sessions FINAL").named_results()
    }
    assert found == {
        "early": ("bounced", 1),
        "patient": ("bounced", 1),
        "wanderer": ("carted", 2),
        "quiet": ("bounced", 1),
    }


def _applied(client: Client) -> int:
    return int(client.query("SELECT sum(applied) FROM ingest FINAL").result_rows[0][0])


def _closed(client: Client, workers: Workers) -> bool:
    workers.check()
    events, customers = client.query("SELECT sum(events), count() FROM sessions FINAL").result_rows[0]
    return (events, customers) == (5, 4)

"""Windows of loss through the real pipeline: what the shops agent counts is what SQL says of the sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from streams.commands.demo import Drain
from streams.domain.policy import Policy
from streams.sources.replayer import TickPlan, replay
from streams.sources.simulation import Simulation
from streams.workers import Workers
from tests.integration.pipelines import deployed, wait_until

pytestmark = pytest.mark.replay

POLICY = Policy()
#: One row a series and minute: of each shop and of all together, by channel, by lost stage.
_BY_DEFINITION = """
WITH
    closed AS (
        SELECT arrayJoin(['', shop_id]) AS shop_id, ifNull(channel, '') AS channel, is_bot, outcome,
            ifNull(lost_stage, '') AS lost_stage, toStartOfMinute(ended_at + INTERVAL 30 MINUTE) AS minute
        FROM sessions FINAL
    ),
    series AS (
        SELECT shop_id, 'shop' AS scope, '' AS scope_value, minute, countIf(NOT is_bot) AS closed,
            countIf(NOT is_bot AND outcome = 'lost') AS lost, countIf(is_bot) AS bots
        FROM closed GROUP BY shop_id, minute
        UNION ALL
        SELECT shop_id, 'channel', channel, minute, count(), countIf(outcome = 'lost'), 0
        FROM closed WHERE NOT is_bot GROUP BY shop_id, channel, minute
        UNION ALL
        SELECT shop_id, 'stage', stage, minute, count(), countIf(lost_stage = stage), 0
        FROM closed ARRAY JOIN ['bounced', 'browsed', 'favorited', 'carted'] AS stage
        WHERE NOT is_bot GROUP BY shop_id, stage, minute
    )
"""

_ALL_COUNTED = """
SELECT (SELECT count() FROM sessions FINAL) = (
    SELECT sum(closed) + sum(bots) FROM loss_windows FINAL WHERE scope = 'shop' AND shop_id = ''
)
"""


@pytest.fixture(scope="module")
def client(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    logs = tmp_path_factory.mktemp("workers")
    with (
        deployed(kafka, clickhouse, partitions=2, ticks="off", policy=POLICY) as (settings, client),
        Workers(settings, ("customers", "sink", "shops"), logs) as workers,
    ):
        simulation = Simulation(seed=11, customers=70, policy=POLICY)
        plan = TickPlan(every=400, drained=Drain(settings, client, workers, watched=True), deadline_s=120)
        sent = asyncio.run(replay(simulation, settings, ticks=plan))
        assert sent.drained, "\n".join(log.read_text()[-2_000:] for log in logs.glob("*.log"))

        def counted() -> bool:
            # A watermark holds once all before it has been read: that may be a moment after it came.
            return bool(client.query(_ALL_COUNTED).result_rows[0][0])

        wait_until("all sessions are counted", counted)
        yield client


def test_every_window_is_what_sql_says_of_the_sessions(client: Client) -> None:
    told = "SELECT shop_id, scope, scope_value, minute, closed, lost, bots FROM loss_windows FINAL"
    [(expected, missing)] = client.query(
        f"{_BY_DEFINITION} SELECT count(), countIf((shop_id, scope, scope_value, minute, closed, lost, bots)"
        f" NOT IN ({told})) FROM series"
    ).result_rows
    assert expected > 1_000
    assert missing == 0
    [(extra,)] = client.query(
        f"{_BY_DEFINITION} SELECT count() FROM ({told}) WHERE (closed > 0 OR bots > 0)"
        " AND (shop_id, scope, scope_value, minute, closed, lost, bots) NOT IN"
        " (SELECT shop_id, scope, scope_value, minute, closed, lost, bots FROM series)"
    ).result_rows
    assert extra == 0


def test_value_at_risk_is_that_of_the_lost_sessions_carts(client: Client) -> None:
    told = client.query(
        "SELECT shop_id, sumMap(value_at_risk) FROM loss_windows FINAL WHERE scope = 'shop' AND shop_id != ''"
        " GROUP BY shop_id ORDER BY shop_id"
    ).result_rows
    by_definition = client.query(
        "SELECT shop_id, sumMap(map(ifNull(currency, ''), cart_value)) FROM sessions FINAL"
        " WHERE outcome = 'lost' AND NOT is_bot AND cart_value > 0 GROUP BY shop_id ORDER BY shop_id"
    ).result_rows
    assert [row for row in told if row[1]] == by_definition
    assert by_definition


def test_orders_and_active_carts_are_those_of_the_raw_events(client: Client) -> None:
    told = client.query(
        "SELECT sum(orders), sum(active_carts) FROM loss_windows FINAL WHERE scope = 'shop' AND shop_id != ''"
    ).result_rows
    by_definition = client.query(
        "SELECT uniqExactIf((shop_id, order_id), topic = 'orders' AND action IN ('placed', 'paid')),"
        " uniqExactIf((shop_id, customer_id, toStartOfMinute(occurred_at)), topic = 'carts')"
        " FROM events FINAL"
    ).result_rows
    assert told == by_definition
    assert told[0][0] > 0 < told[0][1]


def test_ordinary_traffic_has_told_of_no_loss(client: Client) -> None:
    assert client.query("SELECT count() FROM alerts FINAL WHERE kind = 'loss'").result_rows == [(0,)]

"""What a run has come to, read from ClickHouse: events, sessions by outcome, buyers and their stages.

A guest is no buyer: one purchase under an id that never returns, ``guest-`` and more, as the online-retail
reader names them. They are in the counts of events and sessions, and not among stages and buyers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from streams.domain.lifecycle import STAGE_TRANSITIONS
from streams.domain.policy import Policy
from streams.sources.online_retail import GUEST

_SESSIONS = """
SELECT count(), countIf(outcome = 'converted'), countIf(lost_stage = 'bounced'),
       countIf(lost_stage = 'browsed'), countIf(lost_stage = 'favorited'), countIf(lost_stage = 'carted'),
       countIf(recovered), uniqExactIf(customer_id, orders > 0)
FROM sessions FINAL
"""
_EVENTS = """
SELECT sum(received), sum(applied), sum(duplicate), sum(late), sum(rejected) FROM ingest FINAL
"""
_MONEY = """
SELECT currency, sumIf(cart_value, outcome = 'lost') AS at_risk, sum(revenue) AS revenue
FROM sessions FINAL WHERE currency IS NOT NULL GROUP BY currency ORDER BY currency
"""
_STAGES = """
SELECT stage, count() FROM customers FINAL WHERE NOT startsWith(customer_id, {guest:String}) GROUP BY stage
"""
# An order is what its earliest placed event says, or its earliest paid one; amendments alone are none.
_ORDERS = """
    SELECT
        customer_id, shop_id, order_id,
        startsWith(customer_id, {guest:String}) AS is_guest,
        countIf(action IN ('placed', 'paid')) > 0 AS is_known,
        argMinIf(
            (occurred_at, total, lines), (action = 'paid', occurred_at, id), action IN ('placed', 'paid')
        ) AS said,
        if(
            isNotNull(said.2),
            toDecimal128(ifNull(said.2, 0), 4),
            arraySum(
                x -> if(
                    isNull(x.price),
                    toDecimal128(0, 4),
                    toDecimal128(ifNull(x.price, 0), 4) * x.quantity - toDecimal128(ifNull(x.discount, 0), 4)
                ),
                said.3
            )
        ) AS worth,
        argMin(currency, (action = 'paid', occurred_at, id)) AS currency,
        if(
            countIf(action = 'cancelled' OR (action = 'refunded' AND isNull(refund_amount))) > 0,
            worth,
            sumIf(toDecimal128(ifNull(refund_amount, 0), 4), action = 'refunded')
        ) AS given_back
    FROM events FINAL
    WHERE topic = 'orders'
    GROUP BY customer_id, shop_id, order_id
"""
# Every order that was placed is a purchase: one that was free, or was given back later, too.
_RFM = f"""
WITH
    (SELECT toInt32(toDate32(toTimeZone(max(occurred_at), {{zone:String}}))) FROM events) AS as_of
SELECT
    count() AS buyers,
    sum(days - 1) AS repeat_purchases,
    countIf(days > 1) AS repeaters,
    sum(last_day - first_day) AS recency_sum_days,
    sum(as_of - first_day) AS age_sum_days,
    countIf(as_of - last_day > 90) AS over_90_days,
    countIf(as_of - last_day > 180) AS over_180_days
FROM
(
    SELECT
        customer_id, shop_id, uniqExact(day) AS days, min(day) AS first_day, max(day) AS last_day
    FROM
    (
        SELECT customer_id, shop_id, toInt32(toDate32(toTimeZone(said.1, {{zone:String}}))) AS day
        FROM ({_ORDERS})
        WHERE is_known AND NOT is_guest
    )
    GROUP BY customer_id, shop_id
)
"""
# Whatever was given back counts, however late, and for an order that nobody has told of too.
_NET = f"""
SELECT currency, sumIf(worth - given_back, NOT is_guest) AS of_buyers, sum(worth - given_back) AS of_all
FROM ({_ORDERS}) WHERE currency IS NOT NULL GROUP BY currency ORDER BY currency
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of all that ClickHouse holds; money by currency, as decimal text.

    lifecycle: customers by stage. rfm: of all orders that were placed, by shop-local day, as of the day
    of the last event: repeat purchases are days after a buyer's first, recency is from the first to the last,
    age from the first until now. Its net revenue is all totals less all that was given back; churn_rate is
    the share of lapsed among those who have bought; null without any.
    """

    events: dict[str, int]
    sessions: dict[str, int]
    recovered: int
    buyers: int
    value_at_risk: dict[str, str]
    revenue: dict[str, str]
    lifecycle: dict[str, int]
    rfm: dict[str, Any]

    def as_json(self, elapsed_s: float) -> dict[str, Any]:
        """The report as one JSON object, with the time that the run took."""
        received = self.events["in"]
        return {
            **asdict(self),
            "elapsed_s": round(elapsed_s, 3),
            "events_per_s": round(received / elapsed_s) if elapsed_s > 0 else 0,
        }


def read_report(client: Client, zone: str = Policy().zone) -> Report:
    """The figures as they stand now; ``zone``: of the shops' calendars."""
    events = client.query(_EVENTS).result_rows[0]
    total, *stages, recovered, buyers = client.query(_SESSIONS).result_rows[0]
    money = client.query(_MONEY).result_rows
    names = ("converted", "bounced", "browsed", "favorited", "carted")
    return Report(
        events=dict(zip(("in", "applied", "duplicate", "late", "rejected"), events, strict=True)),
        sessions={"total": total, **dict(zip(names, stages, strict=True))},
        recovered=recovered,
        buyers=buyers,
        value_at_risk={currency: str(at_risk) for currency, at_risk, _ in money if at_risk},
        revenue={currency: str(revenue) for currency, _, revenue in money if revenue},
        lifecycle=(lifecycle := _lifecycle(client)),
        rfm=_rfm(client, zone, lifecycle),
    )


def _lifecycle(client: Client) -> dict[str, int]:
    stages: dict[str, int] = dict.fromkeys(["prospect", *STAGE_TRANSITIONS.values()], 0)
    for stage, count in client.query(_STAGES, parameters={"guest": GUEST}).result_rows:
        stages[stage] = count
    return stages


def _rfm(client: Client, zone: str, lifecycle: dict[str, int]) -> dict[str, Any]:
    given = {"zone": zone, "guest": GUEST}
    figures: dict[str, Any] = next(iter(client.query(_RFM, parameters=given).named_results()))
    money = client.query(_NET, parameters=given).result_rows
    bought = sum(lifecycle.values()) - lifecycle["prospect"]
    return {
        **figures,
        "net_revenue": {currency: str(buyers) for currency, buyers, _ in money},
        "net_revenue_with_guests": {currency: str(everybody) for currency, _, everybody in money},
        "churn_rate": round(lifecycle["lapsed"] / bought, 4) if bought else None,
    }

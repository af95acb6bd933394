"""What a run has come to, read from ClickHouse: counts of events, sessions by outcome, buyers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

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


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of all that ClickHouse holds; money by currency, as decimal text."""

    events: dict[str, int]
    sessions: dict[str, int]
    recovered: int
    buyers: int
    value_at_risk: dict[str, str]
    revenue: dict[str, str]

    def as_json(self, elapsed_s: float) -> dict[str, Any]:
        """The report as one JSON object, with the time that the run took."""
        received = self.events["in"]
        return {
            **asdict(self),
            "elapsed_s": round(elapsed_s, 3),
            "events_per_s": round(received / elapsed_s) if elapsed_s > 0 else 0,
        }


def read_report(client: Client) -> Report:
    """The figures as they stand now."""
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
    )

"""What is told of the pipeline itself: that its data is in doubt, and that it is no more."""

from __future__ import annotations

from msgspec import Struct

from streams.domain.alert_facts import AlertFact, Trouble
from streams.domain.health import TroubleNow
from streams.domain.policy import MINUTE
from streams.domain.windows import ALL_SHOPS


class PipelineAlert(Struct, array_like=True):
    """A trouble that has been told."""

    alert_id: str
    trouble: Trouble
    topic: str
    since: int
    version: int


def over(told: PipelineAlert, minute: int) -> AlertFact:
    trouble = told.trouble
    found = TroubleNow(trouble, told.topic, told.since, 0.0, None, None, "")
    of = f" of {told.topic}" if told.topic else ""
    said = f"{trouble.replace('_', ' ')}{of} is over; loss alerts are told again"
    return pipeline(told.alert_id, found, "resolved", told.version + 1, minute, said)


def pipeline(name: str, found: TroubleNow, status: str, version: int, minute: int, summary: str) -> AlertFact:
    ends = (minute + 1) * MINUTE
    over = status == "resolved"
    return AlertFact(
        alert_id=name,
        kind="pipeline",
        shop_id=ALL_SHOPS,
        scope="shop",
        scope_value=found.topic,
        signal=found.trouble,
        status="resolved" if over else "firing",
        severity="critical" if found.trouble in ("silent_topic", "lag") else "warning",
        rule="health",
        began_at=found.since * MINUTE,
        at=ends,
        resolved_at=ends if over else None,
        observed=None if over else round(found.observed, 4),
        expected=None if found.expected is None else round(found.expected, 4),
        band=None if found.band is None else round(found.band, 4),
        sessions=0,
        lost=0,
        value_at_risk={},
        contributors=(),
        held_by=(),
        summary=summary,
        version=version,
        is_deleted=False,
    )

"""Facts as tests write them, with only what a test is about said, into ClickHouse as the sink writes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from schemas.facts import MODELS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.rows import TABLES
from streams.domain.alert_facts import alert_id
from streams.domain.facts import action_id, session_id, transition_id
from streams.domain.loss_facts import leak_id, reason_id
from streams.settings import Settings
from tests.builders import record

Fact = dict[str, Any]

_NOBODY: Final = {"shop_id": "s1", "customer_id": "c1", "version": 1, "is_deleted": False}
_CHANCES: Final = {"p_alive": None, "p_return_90d": None, "overdue_days": None, "usual_gap_days": None}
_TIMES: Final = frozenset(
    {"at", "anchor", "started_at", "ended_at", "watermark", "stage_since", "last_seen_at"}
    | {"first_order_at", "last_order_at", "ordered_at", "seen_at", "first_at"}
    | {"minute", "began_at", "resolved_at"}
)


def _session(said: Fact) -> Fact:
    orders = said.get("orders", 0)
    whole = {
        **dict.fromkeys(("events", "visits", "favorites", "carts", "orders"), 0),
        **dict.fromkeys(("currency", "recovered_at", "recovered_by", "landing_item", "channel", "campaign")),
        **dict.fromkeys(("mixed_currency", "recovered", "is_bot"), False),
        "outcome": "converted" if orders else "lost",
        "lost_stage": None if orders else "browsed",
        "cart_value": "0.0000",
        "revenue": "0.0000",
        "ended_at": said["started_at"],
        "day": day_of(said["started_at"]),
        "bot_by": "told" if said.get("is_bot") else None,
        **_NOBODY,
        **said,
    }
    named = session_id(whole["customer_id"], whole["shop_id"], whole["started_at"])
    return {"session_id": named, **whole}


def _profile(said: Fact) -> Fact:
    activity = [f"{kind}_{days}d" for kind in ("visits", "favorites", "carts") for days in (30, 90)]
    return {
        **dict.fromkeys(MODELS["customers"].model_fields),
        **dict.fromkeys(activity, 0),
        **dict.fromkeys(("purchase_days", "orders", "reversed_orders", "model_version"), 0),
        "as_of": "2024-01-05",
        "stage": "prospect",
        "monetary": "0.0000",
        "average_order_value": "0.0000",
        "mixed_currency": False,
        "preferred_categories": [],
        **_NOBODY,
        **said,
    }


def _transition(said: Fact) -> Fact:
    whole = {"kind": "stage", "at": said["anchor"], "model_version": 0, **_CHANCES, **_NOBODY, **said}
    state = whole["to_state"] if whole["kind"] == "stage" else None
    named = transition_id(whole["customer_id"], whole["shop_id"], whole["kind"], whole["anchor"], state)
    return {"transition_id": named, **whole}


def _action(said: Fact) -> Fact:
    whole = {
        "kind": "repurchase_due",
        "category": None,
        "anchor": 0,
        "expected_on": None,
        "priority": 2,
        "holdout": False,
        "reason": "said by a test",
        "stage": "active",
        "discount_affinity": None,
        "model_version": 0,
        **_CHANCES,
        **_NOBODY,
        **said,
    }
    category = whole["category"]
    named = action_id(whole["customer_id"], whole["shop_id"], whole["kind"], category, whole["anchor"])
    return {"action_id": named, **whole}


def _purchase(said: Fact) -> Fact:
    """Unless told, the lines' nets are the total, and the day is in UTC."""
    lines = [
        {"category": None, "quantity": 1, "discount": "0.0000", "gross": line["net"], **line}
        for line in said.get("lines", [])
    ]
    total = f"{sum((Decimal(line['net']) for line in lines), Decimal()):.4f}"
    return {
        "day": day_of(said["ordered_at"]),
        "total": total,
        "refunded": "0.0000",
        "is_reversed": False,
        "currency": "CNY",
        **_NOBODY,
        **said,
        "lines": lines,
    }


def _item_days(said: Fact) -> Fact:
    item = {"category": "k", "disposition": "nothing", "visits": 1, "favorited": False, "carted": False}
    first_at = ms(f"{said['day']} 10:00")
    items = [{**item, "first_at": first_at, **_in_ms(one)} for one in said.get("items", [])]
    return {"is_bot": False, **_NOBODY, **said, "items": items}


def _leak(said: Fact) -> Fact:
    """Unless told: one piece of z1 in s2 for 10 CNY, a look at i1 before it and nothing more."""
    whole = {
        "seen_at": said["ordered_at"],
        "day": day_of(said["ordered_at"]),
        "item_ids": ["i1"],
        "categories": ["k"],
        "intent": None,
        "to_shop_id": "s2",
        "to_item_ids": ["z1"],
        "pieces": 1,
        "amount": "10.0000",
        "currency": "CNY",
        "price_here": None,
        "price_there": None,
        "is_bot": False,
        **_NOBODY,
        **said,
    }
    named = leak_id(whole["customer_id"], whole["shop_id"], whole["to_shop_id"], whole["order_id"])
    return {"leak_id": named, **whole}


def _reason(said: Fact) -> Fact:
    whole = {
        "kind": "session",
        "day": day_of(said["at"]),
        "category": "k",
        "reason": "unknown",
        "score": 0.0,
        "scores": {},
        "evidence": {},
        "is_bot": False,
        **_NOBODY,
        **said,
    }
    return {"reason_id": reason_id(whole["kind"], whole["subject_id"]), **whole}


def _segment(said: Fact) -> Fact:
    return {"is_member": True, "cause": "event", "rules_version": 1, **_NOBODY, **said}


def _shop(said: Fact) -> Fact:
    return {"name": said["shop_id"], "zone": "UTC", "currency": None, "version": 1, **said}


def _ingest(said: Fact) -> Fact:
    counts = dict.fromkeys(("next_offset", "received", "applied", "duplicate", "late", "rejected"), 0)
    return {**counts, **said}


def _window(said: Fact) -> Fact:
    """Of a whole shop unless told; nothing was known of it yet."""
    judged = ("observed", "expected", "band", "expected_lost", "orders_per_cart")
    return {
        **dict.fromkeys((*judged, "expected_orders_per_cart", "band_orders_per_cart")),
        **dict.fromkeys(("closed", "lost", "bots", "active_carts", "orders"), 0),
        "shop_id": "s1",
        "scope": "shop",
        "scope_value": "",
        "value_at_risk": {},
        "verdict": "learning",
        "version": 1,
        "is_deleted": False,
        **said,
    }


def _alert(said: Fact) -> Fact:
    whole = {
        **dict.fromkeys(("resolved_at", "observed", "expected", "band")),
        "kind": "loss",
        "shop_id": "s1",
        "scope": "shop",
        "scope_value": "",
        "signal": "loss_rate",
        "status": "firing",
        "severity": "warning",
        "rule": "default",
        "at": said["began_at"],
        "sessions": 0,
        "lost": 0,
        "value_at_risk": {},
        "contributors": [],
        "held_by": [],
        "summary": "said by a test",
        "version": 1,
        "is_deleted": False,
        **said,
    }
    place = whole["scope"], whole["scope_value"], whole["began_at"]
    return {"alert_id": alert_id(whole["shop_id"], whole["signal"], *place), **whole}


_WHOLE: Final = {
    "sessions": _session,
    "customers": _profile,
    "transitions": _transition,
    "actions": _action,
    "purchases": _purchase,
    "item-days": _item_days,
    "leaks": _leak,
    "reasons": _reason,
    "segments": _segment,
    "shops": _shop,
    "ingest": _ingest,
    "loss-windows": _window,
    "alerts": _alert,
}


def ms(text: str) -> int:
    """``2024-01-05 10:00`` UTC in ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def day_of(at: int) -> str:
    """The day in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _in_ms(said: Fact) -> Fact:
    return {name: ms(v) if name in _TIMES and isinstance(v, str) else v for name, v in said.items()}


def store(store: Store, facts: Mapping[str, Iterable[Fact]]) -> None:
    """Store ``facts`` by topic, in the order given, through the rows that the sink makes.

    Times may be text; what is only ``about`` others is for the reader. ``partition`` is the record's, except
    of ingest counts, whose field it is.
    """
    settings = Settings()
    for topic, told in facts.items():
        table, rows_of = TABLES[topic]
        records = []
        for said in told:
            if said.keys() == {"about"}:
                continue
            at = _in_ms(said)
            partition = at["partition"] if topic == "ingest" else at.pop("partition", 0)
            fact = MODELS[topic].model_validate_json(msgspec.json.encode(_WHOLE[topic](at)))
            records.append(record(topic, fact.model_dump_json().encode(), partition=partition, key=b"c"))
        store.insert(table, rows_of(records, settings))


@contextmanager
def database_of(clickhouse: str, *facts: Mapping[str, Iterable[Fact]]) -> Iterator[str]:
    """The URL of a database of its own with the schema and ``facts`` by topic; dropped afterwards."""
    name = f"t{uuid.uuid4().hex[:10]}"
    url = urlunsplit(urlsplit(clickhouse)._replace(path=f"/{name}"))
    migrate(url)
    with closing(Store(url)) as into:
        for told in facts:
            store(into, told)
    yield url
    with closing(connect(clickhouse)) as client:
        client.command(f"DROP DATABASE {name}")

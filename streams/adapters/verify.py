"""Is what the stream said true? Batch SQL over the raw events against what was published.

The SQL is in ``sql/verify`` and shares nothing with the engine. It runs inside of ClickHouse, one slice
of the customers after the other, so that its memory is bounded however many events there are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, sql_dir
from streams.adapters.segment_sql import segment_sql
from streams.domain.crawlers import is_crawler
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric, PersonalRhythm
from streams.domain.outlook import DEFAULT_MODEL, ShopModel
from streams.domain.policy import DAY, Policy
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import RuleSet

#: Partitions of the table `events`.
_PARTS: Final = 8
#: Raw events judged in one query, about.
_SLICE_EVENTS: Final = 500_000
_SAMPLES: Final = 20
#: What is compared, each by a file of sql/verify; and what one row of it is.
_SESSIONS: Final = {"sessions": "session"}
_BUYERS: Final = {"customers": "profile", "transitions": "transition", "segments": "membership"}
_LOSSES: Final = {"purchases": "purchase", "item_days": "item of a day", "leaks": "leak", "reasons": "reason"}
#: For these, orders in all shops count.
_EVERYWHERE: Final = frozenset({"item_days", "leaks", "reasons"})
#: In ``segments.sql``: where the rules are put.
_RULES: Final = "/* rules */"
#: In place of a model that is not given: of a version that no row has.
_UNKNOWN: Final = ShopModel(version=(1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that is not as it must be.

    kind: missing, extra or different; of: what a row is; which: of several of the customer in that shop;
    differences: (column, must be, is).
    """

    kind: str
    of: str
    customer_id: str
    shop_id: str
    which: str
    differences: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        row = f"{self.of} of {self.customer_id} in {self.shop_id}{self.which}"
        cells = "; ".join(
            f"{column} must be {must} and is {found}" for column, must, found in self.differences
        )
        return f"{self.kind} {row}" + (f": {cells}" if cells else "")


class Compared(NamedTuple):
    """How the rows of one table compare. rows: judged; open: not judged: sessions that had not closed by the
    watermark, what rests on them, and customers of whom the raw events do not say what the stream remembered,
    nor whether they must be in a segment.
    """

    rows: int
    missing: int
    extra: int
    different: int
    open: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` found.

    tables: how those that the policy has fill compare, by name; samples: some of the findings; conservation:
    the sums over all input topics of received, applied, duplicate, late and rejected; leaks: one sentence for
    each count that does not agree with another.
    """

    tables: Mapping[str, Compared]
    samples: tuple[Finding, ...]
    conservation: Mapping[str, int]
    leaks: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Of all tables."""
        return sum(table.missing for table in self.tables.values())

    @property
    def extra(self) -> int:
        """Of all tables."""
        return sum(table.extra for table in self.tables.values())

    @property
    def different(self) -> int:
        """Of all tables."""
        return sum(table.different for table in self.tables.values())

    @property
    def exact(self) -> bool:
        """Nothing missing, nothing extra, nothing different, nothing unaccounted for."""
        return not (self.missing or self.extra or self.different or self.leaks)


def verify(
    client: Client,
    policy: Policy,
    *,
    watermark: int | None = None,
    broker_counts: Mapping[tuple[str, int], int] | None = None,
    models: Mapping[str, ShopModel] | None = None,
    segments: RuleSet | None = None,
    tables: Collection[str] | None = None,
) -> VerifyReport:
    """Compare what is published with the raw events, once everything that was sent has been stored.

    Judges the sessions that had closed by their partition's watermark, or by ``watermark`` (ms) if given, and
    what rests on them; customers, transitions and segments by their partition's watermark, which is what they
    speak of. Days are those of each shop's calendar, so all is asked once for each zone that `shops` has.
    ``broker_counts``: records ever written to each (input topic, partition); compared with `received`.
    ``models``: the newest that were published, by shop; "" is for shops without one of their own. What
    follows from a model that is not given is not judged. ``segments``: the rules that were published, the
    ready-made ones if none were. Who is still to be looked at by them is not judged. ``tables``: the names of
    those to compare; None for all that the policy has filled.
    Raises StoreError if raw events are not stored.
    """
    conservation, leaks = _conservation(client, broker_counts)
    stored = int(client.query("SELECT count() FROM events").result_rows[0][0])
    if conservation["applied"] and not stored:
        raise StoreError("there are no raw events to verify against; store them with EBBTIDE_STORE_EVENTS=1")
    subs = max(1, stored // (_PARTS * _SLICE_EVENTS))
    step = _PARTS if stored <= _SLICE_EVENTS else 1
    meaning = parameters(policy, dict.fromkeys(fitted_shops(client), _UNKNOWN) | dict(models or {}))
    meaning["watermark_ms"] = -1 if watermark is None else watermark
    zones = _zones(client, policy)
    compared = {
        table: _Table(row_name)
        for table, row_name in (
            _SESSIONS | (_BUYERS if policy.buyers else {}) | (_LOSSES if policy.losses else {})
        ).items()
        if tables is None or table in tables
    }
    queries = {name: text(f"compare_{name}") for name in compared}
    if "segments" in queries:
        rules = READY_MADE.rule_set if segments is None else segments
        queries["segments"], told = with_rules(queries["segments"], rules)
        meaning |= told
    for part in range(0, _PARTS, step):
        for sub in range(subs):
            meaning |= {"parts": list(range(part, part + step)), "sub": sub, "subs": subs}
            meaning["bot_agents"] = _bot_agents(client, meaning)
            for name, table in compared.items():
                for zone in zones:
                    meaning |= {
                        "zone": zone,
                        "is_listed": int(zone != policy.zone),
                        "everywhere": int(name in _EVERYWHERE),
                    }
                    table.add(next(iter(client.query(queries[name], parameters=meaning).named_results())))
    return VerifyReport(
        {name: table.compared() for name, table in compared.items()},
        tuple(sample for table in compared.values() for sample in table.samples[:_SAMPLES]),
        conservation,
        tuple(leaks),
    )


class _Table:
    """What the slices of one table have come to."""

    def __init__(self, row_name: str) -> None:
        self._row_name = row_name
        self._totals = dict.fromkeys(("same", "missing", "extra", "different", "open"), 0)
        self.samples: list[Finding] = []

    def add(self, found: Mapping[str, Any]) -> None:
        """Take in the row that the comparison of a slice gives."""
        for name in self._totals:
            self._totals[name] += found[name]
        self.samples += (_finding(self._row_name, sample) for sample in found["samples"])

    def compared(self) -> Compared:
        same, missing, extra, different, open_ = self._totals.values()
        return Compared(same + missing + extra + different, missing, extra, different, open_)


def _zones(client: Client, policy: Policy) -> list[str]:
    """Of the shops' calendars; the policy's is that of all shops of which none is told."""
    rows = client.query("SELECT DISTINCT zone FROM shops FINAL").result_rows
    return sorted({policy.zone, *(zone for (zone,) in rows)})


def _bot_agents(client: Client, slice_of: Mapping[str, Any]) -> list[int]:
    """Hashes of the user agents of a slice's events that are machines'."""
    rows = client.query(text("user_agents"), parameters=dict(slice_of)).result_rows
    return [number for agent, number in rows if is_crawler(agent)]


def fitted_shops(client: Client) -> list[str]:
    """The shops of which something was told by a published model."""
    rows = client.query("SELECT DISTINCT shop_id FROM customers WHERE model_version > 0").result_rows
    return [shop_id for (shop_id,) in rows]


def are_rules_published(client: Client) -> bool:
    """Whether anybody has been looked at by other rules of segments than the ready-made ones."""
    rows = client.query("SELECT count() FROM segment_runs WHERE rules_version > 0").result_rows
    return bool(rows[0][0])


def text(name: str) -> str:
    """The query of that name in ``sql/verify``, with its parts in their places."""
    query = (sql_dir() / "verify" / f"{name}.sql").read_text().rstrip()
    return re.sub(r"/\* (\w+)\.sql \*/", lambda part: text(part[1]), query)


def with_rules(query: str, rules: RuleSet) -> tuple[str, dict[str, Any]]:
    """``query``, that holds ``segments.sql``, with the rules in their place; and its parameters for them."""
    said = segment_sql(rules)
    meaning = {"words": said.words, "silences": said.silences, "rules_version": rules.version}
    return query.replace(_RULES, said.expression), meaning


def parameters(policy: Policy, models: Mapping[str, ShopModel]) -> dict[str, Any]:
    """What the queries of ``sql/verify`` are told of the policy and of the shops' models.

    So as it is, of all customers, in the shops with the policy's zone, and without machines' user agents.
    """
    everybody = models.get("", DEFAULT_MODEL)
    by_shop = [_model(shop_id, model, policy) for shop_id, model in models.items() if shop_id]
    return {
        "gap_ms": policy.gap,
        "horizon_ms": policy.horizon,
        "recovery_ms": policy.recovery_window,
        "amendment_ms": policy.amendment_window,
        "prospect_memory_ms": policy.prospect_memory,
        "buyer_memory_ms": policy.buyer_memory,
        "lapsed_days": policy.lapsed_after // DAY,
        "leak_days": policy.leak_window // DAY,
        "grievance_ms": policy.grievance_window,
        "bot_events": policy.bot_events,
        "bot_dwell_ms": policy.bot_dwell,
        "bot_rate": policy.bot_rate,
        "bot_agents": [],
        "zone": policy.zone,
        "is_listed": 0,
        "everywhere": 1,
        "watermark_ms": -1,
        "parts": list(range(_PARTS)),
        "sub": 0,
        "subs": 1,
        "models": [*by_shop, _model("", everybody, policy)],
    }


def _model(
    shop_id: str, model: ShopModel, policy: Policy
) -> tuple[str, int, str, float, float, float, float, float, int]:
    """(shop, version, kind, r, alpha, a, b, threshold, whether calibrated), as buyers.sql has it."""
    threshold = policy.lapse_threshold if model.threshold is None else model.threshold
    match model.lapse:
        case PersonalRhythm(default_gap, weight, lapse):
            shape = ("personal_rhythm", weight, weight * default_gap, lapse, 0.0)
        case BetaGeometric(r, alpha, a, b):
            shape = ("bg_nbd", r, alpha, a, b)
        case ModifiedBetaGeometric(r, alpha, a, b):
            shape = ("mbg_nbd", r, alpha, a, b)
    return (shop_id, model.version, *shape, threshold, int(model.comeback is not None))


def _finding(of: str, sample: tuple[str, str, str, Any, list[tuple[str, str, str]]]) -> Finding:
    kind, customer_id, shop_id, which, differences = sample
    return Finding(kind, of, customer_id, shop_id, which, tuple(differences))


def _conservation(
    client: Client, broker_counts: Mapping[tuple[str, int], int] | None
) -> tuple[dict[str, int], list[str]]:
    sums = dict.fromkeys(("received", "applied", "duplicate", "late", "rejected"), 0)
    leaks = []
    received = dict.fromkeys(broker_counts or (), 0)
    for row in client.query(text("conservation")).named_results():
        place = f"{row['topic']}[{row['partition']}]"
        received[row["topic"], row["partition"]] = row["received"]
        for name in sums:
            sums[name] += row[name]
        if row["unaccounted"]:
            leaks.append(f"{place}: {row['unaccounted']} of {row['received']} records have no fate")
        for name in ("applied", "late", "rejected"):
            if row[name] != row[f"stored_{name}"]:
                leaks.append(f"{place}: {row[name]} records were {name}, {row[f'stored_{name}']} are stored")
    for (topic, partition), count in (broker_counts or {}).items():
        if received[topic, partition] != count:
            leaks.append(
                f"{topic}[{partition}]: {received[topic, partition]} records of {count} were received"
            )
    return sums, leaks

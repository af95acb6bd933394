"""Reasons against planted causes: ``make bench-reasons``.

The stories of ``streams.sources.causes`` go through the engine in this process, its facts into ClickHouse,
and what the view ``loss_reasons`` says of each loss is held against why it happened. A lost session's reason
is the one that stands in the end; a lapse's that of its latest change of stage. As a control the same is done
with the causes shuffled among the losses of a kind: it shows what figures mean nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final, get_args

import msgspec

from schemas.topics import INPUTS
from streams.adapters.clickhouse import Store, connect, migrate
from streams.adapters.codec import decode_batch
from streams.adapters.rows import TABLES
from streams.domain.context import Context
from streams.domain.events import Input
from streams.domain.facts import SessionFact, TransitionFact
from streams.domain.loss_facts import LeakFact, ReasonFact
from streams.domain.policy import DAY, Policy
from streams.domain.segment_rules import RuleSet
from streams.domain.segments import Rules
from streams.domain.state import header
from streams.domain.visitor import advance
from streams.settings import Settings
from streams.sources.causes import DAYS, START, Cause, Causes, Planted
from streams.sources.lives import Noise
from streams.sources.record import SourceRecord
from tests.builders import record
from tests.integration.providers import clickhouse

SEEDS: Final = (1, 2, 3)
#: Of noise, how much worse it is made.
FACTORS: Final = (2, 4)
POLICY: Final = Policy()
END: Final = START + (DAYS + 3) * DAY
NO_SEGMENTS: Final = Rules(RuleSet(0, ()))
#: Between two looks at who is due: what silence says, it says as of the moment it became true.
STEP: Final = 10 * DAY
REAL: Final[tuple[Cause, ...]] = tuple(cause for cause in get_args(Cause) if cause != "unknown")
#: What is stored, by topic.
_KEPT: Final[dict[str, type[Any]]] = {
    "sessions": SessionFact,
    "transitions": TransitionFact,
    "leaks": LeakFact,
    "reasons": ReasonFact,
}
_SAID: Final = """
SELECT r.customer_id, r.shop_id, r.kind,
    toUnixTimestamp64Milli(if(r.kind = 'session', s.started_at, t.anchor)) AS began,
    argMax(r.reason, r.at) AS reason
FROM loss_reasons AS r
LEFT JOIN (SELECT session_id, started_at FROM sessions FINAL) AS s ON s.session_id = r.subject_id
LEFT JOIN (SELECT transition_id, anchor FROM transitions FINAL) AS t ON t.transition_id = r.subject_id
GROUP BY ALL
"""

Key = tuple[str, str, str, int]


def run(source: Iterable[SourceRecord]) -> dict[str, list[Any]]:
    """The facts that stand in the end, by topic, of events that come in order."""
    states: dict[str, bytes] = {}
    facts: dict[str, dict[str, Any]] = defaultdict(dict)
    names = {kind: topic for topic, kind in _KEPT.items()}
    done = [-1] * len(INPUTS)
    batch, watermark = 0, START - 365 * DAY

    def handle(customers: Mapping[str, Sequence[Input]]) -> None:
        nonlocal batch
        batch += 1
        for customer, inputs in customers.items():
            context = Context(watermark, POLICY, batch, batch - 1, tuple(done), rules=NO_SEGMENTS)
            result = advance(customer, states.pop(customer, None), inputs, context)
            if result.stored is not None:
                states[customer] = result.stored
            for fact in result.facts:
                topic = names.get(type(fact))
                if topic is not None:
                    identity = msgspec.structs.astuple(fact)[0]
                    facts[topic][identity] = fact
        for event in (event for inputs in customers.values() for event in inputs):
            done[event.topic] = max(done[event.topic], event.offset)

    def settle() -> None:
        for _ in range(200):
            due = {c: () for c, stored in states.items() if header(stored)[0] <= watermark}
            if not due:
                return
            handle(due)
        raise AssertionError("somebody stays due")

    for step, events in groupby(_decoded(source), key=lambda event: event.t // STEP):
        watermark = max(watermark, step * STEP - 1)
        settle()
        by_customer: dict[str, list[Input]] = defaultdict(list)
        for event in events:
            by_customer[event.body.customer_id].append(event)
        handle(by_customer)
    while watermark < END:
        watermark += STEP
        settle()
    return {topic: list(told.values()) for topic, told in facts.items()}


def _decoded(source: Iterable[SourceRecord]) -> Iterator[Input]:
    indexes = {topic.name: index for index, topic in enumerate(INPUTS)}
    offsets = [0] * len(INPUTS)
    for each in source:
        index = indexes[each.topic.name]
        consumed = record(each.topic.name, each.value, offset=offsets[index], key=each.key, arrived=each.at)
        offsets[index] += 1
        (event,), refused = decode_batch(index, [consumed], POLICY.ahead_tolerance)
        assert not refused
        yield event


def said(url: str, facts: Mapping[str, Sequence[Any]]) -> dict[Key, str]:
    """What the view says of each loss: by customer, shop, kind, and start or last order."""
    migrate(url)
    with closing(Store(url)) as store:
        for topic, told in facts.items():
            table, rows_of = TABLES[topic]
            records = [record(topic, msgspec.json.encode(fact), key=b"c") for fact in told]
            store.insert(table, rows_of(records, Settings()))
    with closing(connect(url)) as client:
        return {tuple(row[:4]): row[4] for row in client.query(_SAID).result_rows}


@dataclass(frozen=True, slots=True)
class Score:
    """Of one cause: how many there were, how often it was said, and how often rightly."""

    planted: int
    told: int
    right: int

    @property
    def precision(self) -> float:
        return self.right / self.told if self.told else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.planted if self.planted else 0.0

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def scores(pairs: Sequence[tuple[Cause, str]]) -> dict[Cause, Score]:
    """By cause, of (cause, what was said) pairs. Nothing said, or unknown, is a miss of the cause."""
    planted = Counter(cause for cause, _ in pairs)
    told = Counter(found for _, found in pairs)
    right = Counter(cause for cause, found in pairs if cause == found)
    return {cause: Score(planted[cause], told[cause], right[cause]) for cause in get_args(Cause)}


def macro_f1(found: Mapping[Cause, Score], causes: Sequence[Cause] = REAL) -> float:
    """The mean over causes of which there were any."""
    each = [found[cause].f1 for cause in causes if found[cause].planted]
    return sum(each) / len(each)


def paired(truth: Sequence[Planted], by_view: Mapping[Key, str]) -> list[tuple[Cause, str]]:
    """Each planted loss with what was said of it."""
    return [(p.cause, by_view.get((p.customer_id, p.shop_id, p.kind, p.at), "nothing")) for p in truth]


def shuffled(truth: Sequence[Planted], chance: random.Random) -> list[Planted]:
    """The same losses with the causes dealt out anew among those of a kind."""
    dealt = []
    for kind in ("session", "lapse"):
        losses = [p for p in truth if p.kind == kind]
        causes = [p.cause for p in losses]
        chance.shuffle(causes)
        dealt += [
            Planted(p.kind, p.customer_id, p.shop_id, p.at, cause)
            for p, cause in zip(losses, causes, strict=True)
        ]
    return dealt


def table(title: str, pairs: Sequence[tuple[Cause, str]]) -> str:
    """Precision and recall by cause, and what was said where it was wrong."""
    found = scores(pairs)
    lines = [
        title,
        f"  {'cause':13}{'planted':>8}{'said':>7}{'precision':>11}{'recall':>8}{'F1':>7}   instead",
    ]
    for cause, score in found.items():
        if not score.planted:
            continue
        wrong = Counter(found for truth, found in pairs if truth == cause != found).most_common(3)
        instead = ", ".join(f"{name} {count}" for name, count in wrong)
        lines.append(
            f"  {cause:13}{score.planted:8,}{score.told:7,}{score.precision:11.3f}{score.recall:8.3f}"
            f"{score.f1:7.3f}   {instead}"
        )
    lines.append(
        f"  macro-F1 without unknown {macro_f1(found):.3f}, with it {macro_f1(found, get_args(Cause)):.3f}"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--each", type=int, default=60, help="stories a cause and kind of loss")
    args = parser.parse_args()
    print("noise, in percent:", ", ".join(f"{name} {value}" for name, value in asdict(Noise()).items()))
    figures = []
    with clickhouse() as server:
        address = server.address.rsplit("/", 1)[0]
        for seed in SEEDS:
            source = Causes(seed=seed, each=args.each)
            by_view = said(f"{address}/reasons_{seed}", run(source))
            truth = source.truth()
            pairs = paired(truth, by_view)
            figures.append(macro_f1(scores(pairs)))
            print(table(f"seed {seed}: {len(source):,} events, {len(truth):,} losses", pairs))
            if seed == SEEDS[0]:
                for kind in ("session", "lapse"):
                    of_kind = paired([p for p in truth if p.kind == kind], by_view)
                    print(table(f"seed {seed}, each {kind} alone", of_kind))
            control = paired(shuffled(truth, random.Random(seed)), by_view)
            print(f"  control, causes shuffled: macro-F1 {macro_f1(scores(control)):.3f}")
        for factor in FACTORS:
            source = Causes(seed=SEEDS[0], each=args.each, noise=Noise().times(factor))
            pairs = paired(source.truth(), said(f"{address}/reasons_{factor}_times", run(source)))
            print(f"{factor} times the noise: macro-F1 {macro_f1(scores(pairs)):.3f}")
    print(f"macro-F1, lowest of {len(SEEDS)} seeds: {min(figures):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

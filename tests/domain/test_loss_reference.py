"""Stories of losses with rows worked out by hand: the slow reference gives them, and so does the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from streams.adapters.codec import decode_batch
from streams.domain.events import Input
from streams.domain.policy import DAY, Policy
from streams.settings import duration_ms
from tests.builders import TOPIC_INDEX, record
from tests.domain import loss_reference
from tests.domain.loss_reference import Row
from tests.domain.loss_stories import deliver
from tests.domain.loss_worker import Worker
from tests.golden.test_stories import MIDNIGHT, moment

STORIES: Final = {
    story["name"]: story
    for chapter in json.loads(
        (Path(__file__).parents[1] / "golden" / "losses" / "stories.json").read_text()
    ).values()
    for story in chapter
}
_IDENTITIES: Final = {
    "purchases": ("customer_id", "shop_id", "order_id"),
    "item_days": ("customer_id", "shop_id", "day", "item_id"),
    "leaks": ("customer_id", "shop_id", "to_shop_id", "order_id"),
}
_MOMENTS: Final = ("ordered_at", "first_at", "seen_at")


class Slow:
    """The definitions, asked anew each time."""

    def __init__(self, policy: Policy, zones: Mapping[str, str]) -> None:
        self._policy, self._zones = policy, zones
        self._told: list[Input] = []

    def tell(self, events: Sequence[Input]) -> None:
        self._told += events

    def pass_until(self, watermark: int) -> None:
        """What is true does not hang on when it is asked."""

    def rows(self, kind: str) -> list[Row]:
        rows: list[Row] = getattr(loss_reference, kind)(self._told, self._policy, self._zones)
        return rows


class Engine:
    """One event a batch, in the order they arrive."""

    def __init__(self, policy: Policy, zones: Mapping[str, str]) -> None:
        self._worker = Worker(policy, zones)
        self._told: list[Input] = []
        self.rows = self._worker.rows

    def tell(self, events: Sequence[Input]) -> None:
        told = len(self._told)
        self._told = deliver([*self._told, *events])
        for event in self._told[told:]:
            self._worker.handle([event], -1)

    def pass_until(self, watermark: int) -> None:
        self._worker.handle([], watermark)
        self._worker.settle(watermark)


def input_of(place: int, event: Mapping[str, Any]) -> Input:
    """The event at ``place`` of its story, through the decoder."""
    given = {"customer_id": "c", "shop_id": "s", "event_id": f"e{place}"}
    body = {**given, **event, "occurred_at": moment(event["at"])}
    topic = body.pop("topic")
    del body["at"]
    accepted, refused = decode_batch(
        TOPIC_INDEX[topic], [record(topic, body, arrived=MIDNIGHT + 365 * DAY)], DAY
    )
    assert not refused, refused
    return accepted[0]


def policy_of(story: Mapping[str, Any]) -> Policy:
    said = story.get("policy", {})
    return Policy(**{name: text if name == "zone" else duration_ms(text) for name, text in said.items()})


def flat(kind: str, rows: Sequence[Row]) -> list[Row]:
    """Rows by identity; of item-days one an item."""
    if kind == "item_days":
        rows = [{**row, **item} for row in rows for item in row["items"]]
    return by_identity(kind, rows)


def expected(kind: str, rows: Sequence[Row]) -> list[Row]:
    """Rows of a story in the columns of facts."""
    given = {"customer_id": "c", "shop_id": "s"}
    if kind == "item_days":
        given["day"] = "2026-03-02"
    if kind == "leaks":
        given["to_shop_id"] = "t"
    told = [{**given, **row} for row in rows]
    for row in told:
        row |= {name: moment(row[name]) for name in _MOMENTS if name in row}
    return by_identity(kind, told)


def by_identity(kind: str, rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in _IDENTITIES[kind]))


@pytest.mark.parametrize("told_by", [Slow, Engine])
@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_in_the_rows_that_were_worked_out(name: str, told_by: type[Slow | Engine]) -> None:
    story = STORIES[name]
    policy = policy_of(story)
    teller = told_by(policy, story.get("zones", {}))
    place, ends = 0, 0
    for act in (story, *story.get("then", ())):
        for event in act["events"]:
            if "watermark" in event:
                teller.pass_until(moment(event["watermark"]))
                continue
            told = input_of(place, event)
            teller.tell([told])
            place, ends = place + 1, max(ends, told.t + policy.gap + 1)
        teller.pass_until(ends)
        for kind in _IDENTITIES:
            if kind == "purchases" and kind not in act:
                continue
            rows, wanted = flat(kind, teller.rows(kind)), expected(kind, act.get(kind, ()))
            seen = [{key: row[key] for key in want} for row, want in zip(rows, wanted, strict=False)]
            assert (seen, len(rows)) == (wanted, len(wanted)), kind


def test_every_story_says_what_it_proves() -> None:
    for story in STORIES.values():
        assert story["proves"].endswith(".")
        assert all("item_days" in act for act in (story, *story.get("then", ())))

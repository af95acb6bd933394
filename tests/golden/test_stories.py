"""The golden stories, through the engine and through the definitions computed the slow way."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from streams.adapters.codec import decode_batch
from streams.domain.checkup import NEVER
from streams.domain.context import Context
from streams.domain.events import Input
from streams.domain.facts import SessionFact
from streams.domain.policy import DAY, Policy
from streams.domain.state import header
from streams.domain.visitor import DUPLICATE, LATE, advance
from streams.settings import duration_ms
from tests.builders import TOPIC_INDEX, record
from tests.domain.reference import sessions

#: 2026-03-02T00:00:00Z, the day that the stories begin on.
MIDNIGHT: Final = 1_772_409_600_000
STORIES: Final = {
    story["name"]: story
    for file in sorted(Path(__file__).parent.glob("*.json"))
    for chapter in json.loads(file.read_text()).values()
    for story in chapter
}


def moment(text: str) -> int:
    """``1d 00:30:00.001`` in ms since 1970."""
    match = re.fullmatch(r"(?:(\d+)d )?(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{3}))?)?", text)
    assert match is not None, text
    days, hours, minutes, seconds, thousandths = (int(part or 0) for part in match.groups())
    return MIDNIGHT + days * DAY + ((hours * 60 + minutes) * 60 + seconds) * 1_000 + thousandths


class Teller:
    """Tells one story to the engine, each event a batch of its own."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.states: dict[str, bytes] = {}
        self.facts: dict[str, SessionFact] = {}
        self.taken_back: set[int] = set()
        self.told: list[Input] = []
        self.odd: Counter[int] = Counter()
        self.watermark = -1
        self._done = [-1] * len(TOPIC_INDEX)
        self._batch = 0

    def tell(self, place: int, event: dict[str, Any]) -> None:
        fields = dict(event)
        topic = TOPIC_INDEX[fields.pop("topic")]
        name = next(name for name, index in TOPIC_INDEX.items() if index == topic)
        given = {"customer_id": "c", "shop_id": "s", "event_id": f"e{place}"}
        body = {**given, **fields, "occurred_at": moment(fields.pop("at"))}
        body.pop("at", None)
        offset = self._done[topic] + 1
        arrived = MIDNIGHT + 365 * DAY
        accepted, refused = decode_batch(topic, [record(name, body, offset=offset, arrived=arrived)], DAY)
        assert not refused, refused
        self.told += accepted
        self._advance(accepted[0].body.customer_id, accepted)
        self._done[topic] = offset

    def pass_until(self, watermark: int) -> None:
        """Let time pass: advance whoever is due by ``watermark``."""
        self.watermark = watermark
        for _ in range(100):
            due = [customer for customer, state in self.states.items() if header(state)[0] <= watermark]
            if not due:
                return
            for customer in due:
                self._advance(customer, [])
        raise AssertionError("somebody is due again and again")

    def _advance(self, customer: str, inputs: list[Input]) -> None:
        self._batch += 1
        context = Context(self.watermark, self.policy, self._batch, self._batch - 1, self._done)
        result = advance(customer, self.states.get(customer), inputs, context)
        self.odd.update(kind for _, kind in result.odd)
        if result.stored is None:
            self.states.pop(customer, None)
        else:
            self.states[customer] = result.stored
        for fact in result.facts:
            if not isinstance(fact, SessionFact):
                continue  # of buyers there are laws and examples of their own
            before = self.facts.get(fact.session_id)
            assert before is None or fact.version > before.version, "a version is said once"
            self.facts[fact.session_id] = fact
            if fact.is_deleted:
                self.taken_back.add(fact.started_at)

    def rows(self) -> list[dict[str, Any]]:
        """The sessions that stand."""
        standing = [msgspec.structs.asdict(fact) for fact in self.facts.values() if not fact.is_deleted]
        return sorted(standing, key=lambda row: (row["customer_id"], row["started_at"]))


def expected(session: dict[str, Any]) -> dict[str, Any]:
    """A session of a story in the columns of a row."""
    row = {"customer_id": "c", "shop_id": "s", **session, "started_at": moment(session["start"])}
    if "end" in row:
        row["ended_at"] = moment(row.pop("end"))
    del row["start"]
    return row


@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_as_it_must(name: str) -> None:
    story = STORIES[name]
    changes = {key: duration_ms(text) for key, text in story.get("policy", {}).items()}
    teller = Teller(Policy(**changes))
    for place, event in enumerate(story["events"]):
        if "watermark" in event:
            teller.pass_until(moment(event["watermark"]))
        else:
            teller.tell(place, event)
    last = max(event.t for event in teller.told) + teller.policy.gap + 1
    teller.pass_until(max(last, teller.watermark))

    rows = teller.rows()
    wanted = sorted(map(expected, story["sessions"]), key=lambda row: (row["customer_id"], row["started_at"]))
    assert [{key: row[key] for key in want} for row, want in zip(rows, wanted, strict=True)] == wanted
    assert teller.taken_back == {moment(start) for start in story.get("taken_back", ())}
    assert teller.odd[LATE] == story.get("late", 0)
    assert teller.odd[DUPLICATE] == story.get("duplicate", 0)

    if not story.get("late"):
        slow = sessions(teller.told, teller.policy)
        assert sorted(slow, key=lambda row: (row["customer_id"], row["started_at"])) == rows

    # A buyer is looked after every day until lapsed, and forgotten years later.
    for _ in range(1_000):
        if not teller.states:
            break
        wake_at = min(header(state)[0] for state in teller.states.values())
        assert wake_at < NEVER, "a state without a deadline would stay for ever"
        teller.pass_until(max(wake_at, teller.watermark))
    assert teller.states == {}
    assert teller.rows() == rows, "time alone changes no verdict"


def test_every_story_says_what_it_proves() -> None:
    for story in STORIES.values():
        assert story["proves"].endswith(".")
        assert story["sessions"]

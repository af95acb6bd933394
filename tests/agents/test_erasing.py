"""Erasing in the batch loop, over a log in memory that may be cut anywhere; and the sink's part in it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.facts import ErasedFact, RejectReason
from streams.adapters.codec import Rejected, dead_letter_headers, decode_erasure, encode_erasure, encode_tick
from streams.adapters.door import known_as, pseudonym, take_in
from streams.adapters.erasing import Erasure, sifted
from streams.adapters.kafka.producing import partition_of
from streams.agents import sink as sink_agent
from streams.agents.customers import Bundle, Customers
from streams.agents.sink import Sink
from streams.domain.erasure import digest, names_erased, told_apart
from streams.domain.progress import ERASED_KEY, is_stale
from streams.settings import Settings, SettingsError, unknown_variables
from tests.agents.test_batch_loop_laws import NEVER, Crash, Log, Record, States, _run, counts
from tests.builders import NOON, TOPIC_INDEX, Event, body, cart, identify, inputs, record, visit
from tests.domain.stories import POLICY
from tests.domain.test_laws import laws

SETTINGS = Settings(policy=POLICY, ticks="off", partitions=1)
ERIKA = "erika"
FAR = 10**13


def events(count: int) -> list[Event]:
    """Visits of Erika and of somebody else in turns, a minute apart."""
    return [visit(NOON + n * 60_000, customer_id=(ERIKA, "max")[n % 2]) for n in range(count)]


def as_records(told: Sequence[Event | bytes], first: int = 0) -> list[Record]:
    return [
        Record(first + n, (b"max" if isinstance(e, bytes) else e["customer_id"].encode()), _value(e), FAR)
        for n, e in enumerate(told)
    ]


def _value(event: Event | bytes) -> bytes:
    return event if isinstance(event, bytes) else body(event)


class Worker:
    """Lives of workers over one log: what a crash has cut, the next one begins again."""

    def __init__(self) -> None:
        self.log = Log()

    def handle(self, *batches: Sequence[Bundle], fuses: Sequence[int] = ()) -> None:
        for fuse in (*fuses, NEVER):
            self.log.fuse = fuse
            try:
                _run(self._live(batches))
            except Crash:
                continue
            return

    async def _live(self, batches: Sequence[Sequence[Bundle]]) -> None:
        worker = Customers(SETTINGS, States(self.log), self.log.send, lambda *_: True)
        worker.assign(0)
        for batch in batches:
            await worker.handle(0, batch)

    def states(self) -> dict[bytes, bytes]:
        return States(self.log).store

    def facts(self, topic: topics.Topic) -> list[Any]:
        return [json.loads(value or b"") for name, _, value in self.log.sent if name == topic.name]


def visits(told: Sequence[Event | bytes], first: int = 0) -> list[Bundle]:
    return [Bundle("visits", as_records(told, first), 0.0)]


def order(customer: str, at: int) -> list[Bundle]:
    return [Bundle("erasures", [Record(0, *encode_erasure(digest(customer.encode()), at), FAR)], 0.0)]


def tick(at: int) -> list[Bundle]:
    return [Bundle("ticks", [Record(0, None, encode_tick(at), FAR)], 0.0)]


@settings(laws, max_examples=60)
@given(st.lists(st.integers(0, 25), max_size=4), st.integers(0, 12))
def test_cut_anywhere_the_erased_stays_away_and_every_record_is_accounted_for(
    fuses: list[int], before: int
) -> None:
    """The order comes before, between or after the events; all come again with a later batch."""
    told = events(12)
    worker = Worker()
    parts: list[Sequence[Bundle]] = [visits(told[:before])] if before else []
    parts.append(order(ERIKA, NOON + 11 * 60_000))
    if told[before:]:
        parts.append(visits(told[before:], before))
    worker.handle(*parts, visits(told, 12), tick(NOON + 10**8), tick(NOON + 10**8), fuses=fuses)
    assert ERIKA.encode() not in worker.states()
    assert ERASED_KEY + digest(ERIKA.encode()) in worker.states()
    assert not any(b"erika" in key + value for key, value in worker.states().items())
    count = counts(worker.log)["visits"]
    assert (count.received, count.applied + count.duplicate + count.rejected + count.late) == (24, 24)
    assert count.late == 0
    assert count.rejected >= 6, "what she did, sent again"
    sessions = {fact["customer_id"]: fact["events"] for fact in worker.facts(topics.SESSIONS)}
    assert sessions.pop("max") == 6
    assert sessions.keys() <= {ERIKA}
    facts = [ErasedFact.model_validate_json(json.dumps(one)) for one in worker.facts(topics.ERASED)]
    assert {fact.customer_digest for fact in facts} == {digest(ERIKA.encode()).hex()}
    assert {fact.erased_at for fact in facts} == {NOON + 11 * 60_000}


def test_what_comes_after_the_erasure_is_of_somebody_new() -> None:
    worker = Worker()
    later = visit(NOON + 1, customer_id=ERIKA)
    worker.handle(visits(events(2)), order(ERIKA, NOON), visits([visit(NOON, customer_id=ERIKA), later], 2))
    assert ERIKA.encode() in worker.states()
    count = counts(worker.log)["visits"]
    assert (count.applied, count.rejected) == (3, 1)
    assert worker.log.letters == {("visits", "2"): "erased"}


def test_an_order_and_the_events_of_one_batch_are_taken_in_that_order() -> None:
    worker = Worker()
    worker.handle([*visits(events(2)), *order(ERIKA, NOON)])
    assert ERIKA.encode() not in worker.states()
    assert b"max" in worker.states()


def test_an_event_that_was_counted_before_is_told_nothing_of_when_it_is_read_again() -> None:
    worker = Worker()
    worker.handle(visits(events(2)))
    before = counts(worker.log)["visits"]
    worker.handle(order(ERIKA, NOON), visits(events(2)))
    assert ERIKA.encode() not in worker.states()
    assert worker.log.letters == {}
    assert counts(worker.log)["visits"] == before


def test_a_state_written_by_a_worker_that_had_lost_the_partition_is_gone_with_the_next_batch() -> None:
    worker = Worker()
    worker.handle(visits(events(2)))
    hers = worker.states()[ERIKA.encode()]
    worker.handle(order(ERIKA, NOON))
    worker.log.changelog.append((ERIKA.encode(), hers))
    assert ERIKA.encode() in worker.states()
    worker.handle(tick(NOON))
    assert ERIKA.encode() not in worker.states()
    # Of somebody new it is not, whatever life reads it.
    worker.handle(visits([visit(NOON + 1, customer_id=ERIKA)], 2), tick(NOON), tick(NOON))
    worker.handle(tick(NOON))
    assert ERIKA.encode() in worker.states()


def test_an_earlier_order_that_comes_later_takes_nothing_back() -> None:
    worker = Worker()
    worker.handle(order(ERIKA, NOON + 5), order(ERIKA, NOON), visits([visit(NOON + 5, customer_id=ERIKA)]))
    assert ERIKA.encode() not in worker.states()
    kept = worker.states()[ERASED_KEY + digest(ERIKA.encode())]
    assert [fact["erased_at"] for fact in worker.facts(topics.ERASED)] == [NOON + 5, NOON + 5]
    assert not is_stale(kept, kept)


def test_what_is_no_order_is_refused_and_erases_nobody() -> None:
    worker = Worker()
    good = encode_erasure(digest(b"max"), NOON)
    odd = [(None, good[1]), (b"max", good[1]), (good[0][:-2], good[1]), (good[0], None), (good[0], b"{}")]
    records = [Record(n, key, value, FAR) for n, (key, value) in enumerate(odd)]
    worker.handle(visits(events(2)), [Bundle("erasures", records, 0.0)])
    assert {b"max", ERIKA.encode()} <= worker.states().keys()
    assert set(worker.log.letters.values()) == {"invalid_field"}
    assert len(worker.log.letters) == 5
    assert decode_erasure(*good) == (digest(b"max"), NOON)


def test_a_refused_record_that_names_the_erased_is_told_without_key_and_body() -> None:
    worker = Worker()
    sent: list[tuple[Any, ...]] = []
    send = worker.log.send

    async def heard(partition: int, records: Mapping[str, Sequence[Any]]) -> None:
        sent.extend(records.get("dead-letters", ()))
        await send(partition, records)

    worker.log.send = heard  # type: ignore[method-assign]
    named = [b'{"userId": "erika"', b"x;erika;y", b'{"a":"erik"}']
    worker.handle(order(ERIKA, NOON), visits(named))
    assert [(key, value) for key, value, _ in sent] == [(None, None), (None, None), (b"max", named[2])]
    assert not any(b"erika" in text for _, _, headers in sent for _, text in headers)


def test_names_are_found_as_key_in_json_and_as_a_word() -> None:
    erased = {digest(b"erika"): 1}
    assert names_erased(b"erika", None, erased)
    assert names_erased(None, b'{"customer_id" : "erika"', erased)
    assert names_erased(None, b"1,erika\n", erased)
    assert not names_erased(b"erik", b'{"customer_id":"erikas"}', erased)
    assert not names_erased(b"erika", None, {})


def test_events_are_told_apart_by_customer_and_moment() -> None:
    told = inputs("visits", *events(4))
    counting, gone = told_apart(told, {digest(b"erika"): NOON})
    assert [event.t for event in gone] == [NOON]
    assert counting == told[1:]


# -- the sink


class Store:
    """Rows by table, and who was erased, in the order of things."""

    def __init__(self, noted: dict[bytes, Erasure]) -> None:
        self.done: list[tuple[str, Any]] = []
        self._noted = noted

    def insert(self, table: str, rows: pa.Table) -> None:
        self.done.append((table, rows.to_pylist()))

    def noted(self) -> dict[bytes, Erasure]:
        return dict(self._noted)

    def erase(self, erasures: Mapping[bytes, Erasure]) -> None:
        self.done.append(("erase", set(erasures)))


def erased_record(customer: str, erased_at: int, at: int) -> Any:
    value = {"customer_digest": digest(customer.encode()).hex(), "erased_at": erased_at, "at": at}
    return record("erased", msgspec.json.encode(value), key=b"")


def stored(store: Store, known: dict[bytes, Erasure], *bundles: tuple[str, Sequence[Any]]) -> None:
    async def run() -> None:
        sink = Sink(store, replace(SETTINGS, sink_max_wait_s=0.0), eraser=store)
        await sink.catch_up(known)
        running = asyncio.create_task(sink.run())
        try:
            for topic, records in bundles:
                done = asyncio.Event()
                await sink.put(sink_agent.Bundle(topic, records, done.set))
                async with asyncio.timeout(10):
                    await done.wait()
        finally:
            running.cancel()

    asyncio.run(run())


def test_the_sink_deletes_then_notes_and_takes_nothing_of_the_erased_in_again() -> None:
    store = Store({})
    hers = [record("visits", each, offset=n, arrived=FAR) for n, each in enumerate(events(3))]
    later = record("visits", visit(NOON + 10**6, customer_id=ERIKA), offset=3)
    stored(
        store,
        {},
        ("erased", [erased_record(ERIKA, NOON + 10**5, 5)]),
        ("visits", hers),
        ("visits", [later]),
    )
    assert [name for name, _ in store.done] == ["erase", "erased", "erased_records", "events", "events"]
    assert [row["offset"] for row in store.done[2][1]] == [0]
    assert [row["customer_id"] for row in store.done[3][1]] == ["max", ERIKA]
    assert [row["offset"] for row in store.done[3][1]] == [1, 2]


def test_a_sink_that_starts_deletes_whom_a_crash_left_and_nobody_twice() -> None:
    known = {digest(b"erika"): Erasure(NOON, 5), digest(b"max"): Erasure(NOON, 6)}
    store = Store({digest(b"max"): Erasure(NOON, 6)})
    stored(store, known, ("erased", [erased_record("max", NOON, 6)]))
    assert store.done[0] == ("erase", {digest(b"erika")})
    assert [name for name, _ in store.done] == ["erase", "erased"]


def test_facts_sent_before_the_erasure_are_refused_and_those_sent_later_are_not() -> None:
    erased = {digest(b"erika"): Erasure(NOON, NOON + 500)}
    sent = [record("sessions", b"{}", key=b"erika", offset=n, arrived=NOON + 499 + n) for n in range(4)]
    other = record("sessions", b"{}", key=b"max", arrived=NOON, offset=9)
    kept, gone = sifted("sessions", [*sent, other], erased, SETTINGS)
    assert [each.offset for each in kept] == [2, 3, 9]
    assert gone.num_rows == 0


def test_a_late_event_of_the_erased_leaves_its_place_alone() -> None:
    late = {"topic": "carts", "partition": 2, "offset": 7, "occurred_at": NOON, "customer_id": ERIKA}
    letter = record("late-events", msgspec.json.encode(late), key=b"erika")
    kept, gone = sifted("late-events", [letter], {digest(b"erika"): Erasure(NOON, 0)}, SETTINGS)
    assert list(kept) == []
    assert gone.to_pylist() == [
        {"of_table": "late_events", "topic": "carts", "partition": 2, "offset": 7, "event": 7}
    ]
    assert list(sifted("late-events", [letter], {digest(b"erika"): Erasure(NOON - 1, 0)}, SETTINGS)[0])


def test_a_letter_of_the_erased_keeps_its_place_and_reason_alone() -> None:
    headers = dead_letter_headers(
        Rejected(7, NOON, RejectReason.KEY_MISMATCH, "key 'erika'", b"erika", b"{}"), "visits", 1
    )
    letter = record("dead-letters", b"{}", key=b"erika", headers=tuple(headers))
    [blank], _ = sifted("dead-letters", [letter], {digest(b"erika"): Erasure(0, 0)}, SETTINGS)
    assert (blank.key, blank.value) == (None, None)
    said = dict(blank.headers)
    assert (said["ebbtide-reason"], said["ebbtide-offset"]) == (b"key_mismatch", b"7")
    assert b"erika" not in said["ebbtide-detail"]


# -- pseudonyms at the door

KEYED = replace(SETTINGS, customer_key="sixteen or more characters")


def test_behind_the_door_there_are_pseudonyms_alone() -> None:
    hidden = known_as(KEYED, ERIKA)
    [good, odd], [letter, mismatch] = take_in(
        0,
        [
            record("visits", visit(customer_id=ERIKA)),
            record("visits", {**visit(customer_id=ERIKA), "userId": ERIKA}, offset=1),
            record("visits", b'{"customer_id":"erika"', key=b"erika", offset=2),
            record("visits", visit(customer_id=ERIKA), key=b"max", offset=3),
        ],
        KEYED,
    )
    for event in (good, odd):
        assert event.body.customer_id == hidden
        assert json.loads(event.raw)["customer_id"] == hidden
        assert b"erika" not in event.raw
    assert (letter.key, letter.value, letter.reason) == (hidden.encode(), None, "malformed_json")
    assert mismatch.key == known_as(KEYED, "max").encode()
    assert "erika" not in letter.detail + mismatch.detail


def test_what_was_written_anew_is_the_same_event_to_the_contract() -> None:
    event = cart(customer_id=ERIKA)
    [hidden], _ = take_in(TOPIC_INDEX["carts"], [record("carts", event)], KEYED)
    known = hidden.body.customer_id.encode()
    [again], _ = take_in(TOPIC_INDEX["carts"], [record("carts", hidden.raw, key=known)], SETTINGS)
    assert again.body == hidden.body


def test_a_pseudonym_hangs_on_the_key_and_on_nothing_else() -> None:
    assert pseudonym("k" * 16, ERIKA) == pseudonym("k" * 16, ERIKA)
    assert len({pseudonym(key, who) for key in ("k" * 16, "l" * 16) for who in ("a", "b")}) == 4
    assert known_as(SETTINGS, ERIKA) == ERIKA


def test_the_key_comes_from_the_environment_or_a_file_and_is_never_told(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sixteen or more characters\n")
    of_file = Settings.from_env({"EBBTIDE_CUSTOMER_KEY_FILE": str(file)})
    assert of_file.customer_key == KEYED.customer_key
    # A child has the file's name from its parent's environment beside the key.
    child = {"EBBTIDE_CUSTOMER_KEY_FILE": str(file), **of_file.to_env()}
    assert Settings.from_env(child) == of_file
    assert "sixteen" not in repr(of_file)
    assert unknown_variables(child) == []


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"EBBTIDE_CUSTOMER_KEY": "short"}, "at least 16 characters"),
        ({"EBBTIDE_CUSTOMER_KEY_FILE": "/nowhere/at/all"}, "cannot be read"),
        ({"EBBTIDE_CUSTOMER_KEY_FILE": os.devnull}, "is empty"),
        ({"EBBTIDE_CUSTOMER_KEY_FILE": __file__, "EBBTIDE_CUSTOMER_KEY": "k" * 16}, "both set, and differ"),
    ],
)
def test_a_key_that_cannot_be_used_is_said_in_one_sentence(env: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_env(env)


def test_whom_a_guest_is_has_a_pseudonym_too_and_their_partition_is_that_of_the_id() -> None:
    told = identify(guest="guest", heir=ERIKA)
    for given_ in (SETTINGS, replace(KEYED, partitions=6)):
        [event], _ = take_in(TOPIC_INDEX["identities"], [record("identities", told)], given_)
        said: Any = event.body
        assert said.customer_id == known_as(given_, "guest")
        assert said.identified_as == known_as(given_, ERIKA)
        assert said.partition == partition_of(ERIKA.encode(), given_.partitions)
        assert json.loads(event.raw).get("partition") is None


def test_an_identity_that_names_the_erased_is_not_stored() -> None:
    told = [record("identities", identify(heir=heir), offset=n) for n, heir in enumerate((ERIKA, "max"))]
    kept, gone = sifted("identities", told, {digest(ERIKA.encode()): Erasure(NOON, 0)}, SETTINGS)
    assert [each.offset for each in kept] == [1]
    assert gone.num_rows == 1

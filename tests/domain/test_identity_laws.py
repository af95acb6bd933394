"""Laws of identities: whatever the order, the cuts and the partitions, the facts are those of the reference,
in which the events that were claimed of a guest carry the customer's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import cycle
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from schemas import topics
from streams.domain.checkup import NEVER
from streams.domain.events import ArrivalTime, EventTime, Input, Introduction, Order, Visit
from streams.domain.facts import ProfileFact, SessionFact
from streams.domain.loss_facts import ItemDaysFact, LeakFact, PurchaseFact
from streams.domain.policy import MINUTE
from streams.domain.state import header
from streams.domain.visitor import APPLIED, DUPLICATE, REFUSED
from tests.domain import loss_reference, loss_stories
from tests.domain.identity_reference import attributed
from tests.domain.identity_worker import NEVER_CUT, Cut, World
from tests.domain.loss_worker import ordered as in_some_order
from tests.domain.reference import sessions
from tests.domain.stories import POLICY, make, story
from tests.domain.test_laws import EXAMPLES, Run, ordered
from tests.domain.test_laws import laws as laws_of_sessions

IDENTITIES = topics.INPUTS.index(topics.IDENTITIES)
#: In stories "c" has most events and "d" the others: here "c" is the guest, and "d" the customer.
GUEST, CUSTOMER, OTHER = "c", "d", "e"
EARLIEST = 10**9 - 2

#: Two workers and a reference each time: a fifth of the examples.
laws = settings(laws_of_sessions, max_examples=max(1, EXAMPLES // 5))


def identify(
    t: int, event_id: str, heir: str = CUSTOMER, guest: str = GUEST, shop: str | None = None
) -> Input:
    """An identify event at ``t`` ms."""
    body: Any = Introduction(
        event_id=event_id, occurred_at=t, customer_id=guest, identified_as=heir, shop_id=shop, partition=0
    )
    digest = xxh3_64_intdigest((chr(IDENTITIES) + event_id).encode())
    return Input(IDENTITIES, 0, digest, EventTime(t), ArrivalTime(t), body, b"{}")


@st.composite
def identifications(draw: st.DrawFn, others: bool = True) -> list[Input]:
    """Up to three, on the stories' grid."""
    made = []
    for number in range(draw(st.integers(1, 3))):
        t = 10**9 + draw(st.integers(0, 26)) * 15 * MINUTE + draw(st.integers(-1, 1))
        heir = draw(st.sampled_from([CUSTOMER, CUSTOMER, OTHER])) if others else CUSTOMER
        made.append(identify(t, f"i{number}", heir, shop=draw(st.sampled_from([None, None, "s", "z"]))))
    return made


def deliver(events: Sequence[Input], partition_of: dict[str, int]) -> list[Input]:
    """``events`` in the order given, the offsets of each topic-partition counted up."""
    offsets: dict[tuple[int, int], int] = {}
    out = []
    for event in events:
        place = partition_of[event.body.customer_id], event.topic
        offset = offsets[place] = offsets.get(place, -1) + 1
        body: Any = event.body
        if isinstance(body, Introduction):
            body = msgspec.structs.replace(body, partition=partition_of[body.identified_as])
        out.append(msgspec.structs.replace(event, offset=offset, body=body))
    return out


def check(world: World, events: Sequence[Input], identities: Sequence[Input], watermark: int) -> None:
    """Sessions, purchases, profiles and stages are those of the definitions."""
    wanted = attributed(events, identities, POLICY)
    assert ordered(world.standing(SessionFact)) == ordered(wire(sessions(wanted, POLICY)))
    stand = [{k: v for k, v in row.items() if k != "is_deleted"} for row in world.standing(PurchaseFact)]
    assert by_order(stand) == by_order(loss_reference.purchases(wanted, POLICY, {}))
    whole = Run()
    whole.step(deliver(wanted, dict.fromkeys((GUEST, CUSTOMER, OTHER), 0)), -1)
    whole.settle(watermark)
    assert world.buyers() == whole.buyers()


def wire(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(rows))
    return found


def by_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["customer_id"], row["shop_id"], row["order_id"]))


def end_of(events: Sequence[Input]) -> int:
    return max(e.t for e in events) + POLICY.gap + 1


partitions = st.sampled_from(
    [{GUEST: 0, CUSTOMER: 1, OTHER: 1}, {GUEST: 0, CUSTOMER: 1, OTHER: 0}, {GUEST: 0, CUSTOMER: 0, OTHER: 1}]
)


@laws
@given(story(), identifications(), partitions, st.data())
def test_any_interleaving_over_two_partitions_ends_in_the_facts_of_the_reference(
    events: list[Input], identities: list[Input], partition_of: dict[str, int], data: st.DataObject
) -> None:
    """Any order, duplicates, batches cut anywhere, handovers early or late, each at its own time."""
    everything = [*events, *identities]
    again = data.draw(st.lists(st.sampled_from(everything), max_size=4))
    delivery = deliver(data.draw(st.permutations(everything + again)), partition_of)
    world = World(POLICY, partition_of, {})
    feeds = [[e for e in delivery if partition_of[e.body.customer_id] == n] for n in range(2)]
    while any(feeds) or any(worker.waiting() for worker in world.workers):
        number = data.draw(st.integers(0, 1))
        if not feeds[number] and not world.workers[number].waiting():
            number = 1 - number
        worker, feed = world.workers[number], feeds[number]
        size = data.draw(st.integers(0, max(1, len(feed))))
        handed = data.draw(st.integers(0, 3))
        if not (size and feed) and not (handed and worker.waiting()):
            size, handed = len(feed), 9
        batch, feeds[number] = feed[:size], feed[size:]
        worker.handle(batch, data.draw(st.integers(EARLIEST, EARLIEST + POLICY.horizon)), handed)
    watermark = max(EARLIEST + POLICY.horizon, end_of(everything))
    world.settle(watermark)
    in_order = [e for e in delivery if e.topic == IDENTITIES]
    check(world, events, in_order, watermark)
    tally = [sum(worker.tally[kind] for worker in world.workers) for kind in range(4)]
    heir = in_order[0].body.identified_as  # type: ignore[union-attr]
    refused = [e for e in in_order if e.body.identified_as != heir]  # type: ignore[union-attr]
    assert sum(tally) == len(delivery)
    assert tally[REFUSED] == len(refused)
    assert tally[APPLIED] == len(events) + len({e.id for e in in_order} - {e.id for e in refused})
    assert tally[DUPLICATE] == len(delivery) - tally[APPLIED] - len(refused)


@laws
@given(
    story(10),
    identifications(others=False),
    partitions,
    st.lists(st.integers(0, 14), min_size=1, max_size=6),
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.data(),
)
def test_a_cut_at_any_record_written_changes_nothing(
    events: list[Input],
    identities: list[Input],
    partition_of: dict[str, int],
    fuses: list[int],
    sizes: list[int],
    data: st.DataObject,
) -> None:
    """States may be newer than the marker, facts and handovers may not have been sent, or have been twice."""
    delivery = deliver(data.draw(st.permutations([*events, *identities])), partition_of)
    world = World(POLICY, partition_of, {})
    feeds = [[e for e in delivery if partition_of[e.body.customer_id] == n] for n in range(2)]
    acked, watermark = [0, 0], EARLIEST + POLICY.horizon + POLICY.gap
    for life, fuse in enumerate([*fuses, NEVER_CUT]):
        world.fuse = fuse
        size_of = cycle(sizes[life % len(sizes) :] + sizes[: life % len(sizes)])
        try:
            while any(acked[n] < len(feeds[n]) for n in range(2)):
                for number, worker in enumerate(world.workers):
                    batch = feeds[number][acked[number] : acked[number] + next(size_of)]
                    worker.handle(batch, EARLIEST + next(size_of) * POLICY.gap, next(size_of))
                    acked[number] += len(batch)
            world.settle(watermark)
        except Cut:
            world.restart()
    check(world, events, [e for e in delivery if e.topic == IDENTITIES], watermark)


@laws
@given(story(), identifications(others=False), st.data())
def test_handovers_twice_and_in_another_order_change_nothing(
    events: list[Input], identities: list[Input], data: st.DataObject
) -> None:
    """What the guest's partition sends is a set: the customer's takes it in any order, however often."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    delivery = deliver(data.draw(st.permutations([*events, *identities])), partition_of)
    world = World(POLICY, partition_of, {})
    guest, customer = world.workers
    waiting = [e for e in delivery if partition_of[e.body.customer_id] == 0]
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        guest.handle(waiting[:size], data.draw(st.integers(EARLIEST, EARLIEST + POLICY.horizon)))
        waiting = waiting[size:]
    log = world.handed[1]
    told = data.draw(st.permutations(log + data.draw(st.lists(st.sampled_from(log), max_size=3))))
    world.handed[1] = [replace(record, offset=offset) for offset, record in enumerate(told)]
    while customer.waiting():
        handed = data.draw(st.integers(1, customer.waiting()))
        customer.handle([], data.draw(st.integers(EARLIEST, EARLIEST + POLICY.horizon)), handed)
    customer.handle([e for e in delivery if partition_of[e.body.customer_id] == 1], EARLIEST)
    watermark = EARLIEST + POLICY.horizon + POLICY.gap
    world.settle(watermark)
    check(world, events, [e for e in delivery if e.topic == IDENTITIES], watermark)


@laws
@given(story(), st.lists(st.tuples(st.booleans(), st.integers(0, 26)), max_size=3), partitions)
def test_two_known_customers_never_merge(
    events: list[Input], said: list[tuple[bool, int]], partition_of: dict[str, int]
) -> None:
    """Both have been guests' customers: whatever says that one is the other is refused, and nothing moves."""
    partition_of = {**partition_of, "g": 0, "h": 1}
    known = [identify(10**9, "k0", CUSTOMER, guest="g"), identify(10**9, "k1", GUEST, guest="h")]
    world = World(POLICY, partition_of, {})
    pairs = [
        identify(10**9 + slot * 15 * MINUTE, f"i{n}", *((GUEST, CUSTOMER) if which else (CUSTOMER, GUEST)))
        for n, (which, slot) in enumerate(said)
    ]
    delivery = deliver([*known, *events, *pairs], partition_of)
    for first in (True, False):
        for number, worker in enumerate(world.workers):
            mine = [e for e in delivery if partition_of[e.body.customer_id] == number]
            worker.handle([e for e in mine if (e.body.event_id in ("k0", "k1")) == first], EARLIEST)
        for worker in world.workers:
            worker.handle([], EARLIEST, worker.waiting())
    watermark = EARLIEST + POLICY.horizon + POLICY.gap
    world.settle(watermark)
    assert sum(worker.tally[REFUSED] for worker in world.workers) == len(pairs)
    check(world, events, [], watermark)


def test_two_guests_who_are_said_to_be_each_other_hand_over_once_and_for_all() -> None:
    """What is handed over is never handed on, so it does not go round."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    events = [make(10**9, "a", Visit, customer_id=GUEST), make(10**9, "b", Visit, customer_id=CUSTOMER)]
    said = [identify(10**9 + 1, "i", CUSTOMER, GUEST), identify(10**9 + 1, "j", GUEST, CUSTOMER)]
    delivery = deliver([*events, *said], partition_of)
    world = World(POLICY, partition_of, {})
    for number, worker in enumerate(world.workers):
        worker.handle([e for e in delivery if partition_of[e.body.customer_id] == number], EARLIEST)
    world.settle(end_of(events))
    found = {(row["customer_id"], row["visits"]) for row in world.standing(SessionFact)}
    assert found == {(CUSTOMER, 1), (GUEST, 1)}
    assert [len(log) for log in world.handed] == [2, 2]


def test_a_profile_that_a_crash_may_have_kept_back_is_taken_back_with_the_guest() -> None:
    """It was sent, or it was not: once the guest is the customer, it is not there."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    events = [make(10**9, f"e{n}", Visit, customer_id=GUEST) for n in range(2)]
    delivery = deliver([*events, identify(10**9, "i")], partition_of)
    world = World(POLICY, partition_of, {})
    guest = world.workers[0]
    guest.handle(delivery[:1], 10**9 + POLICY.gap + 1)
    # Cut after the state, the marker, the session and the profile.
    world.fuse = 4
    with pytest.raises(Cut):
        guest.handle(delivery[1:2], 10**9 + POLICY.gap + 1)
    assert [row["customer_id"] for row in world.standing(ProfileFact)] == [GUEST]
    world.fuse = NEVER_CUT
    world.restart()
    guest.handle(delivery[1:], 10**9 + POLICY.gap + 1)
    world.settle(10**9 + POLICY.gap + 1)
    assert [row["customer_id"] for row in world.standing(ProfileFact)] == [CUSTOMER]


def test_after_the_last_timer_nothing_is_left_of_guest_and_customer() -> None:
    """Claims, what was handed over and who is known are remembered for a time, and then no more."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    placed = make(10**9, "o", Order, customer_id=GUEST, action="placed", order_id="o1")
    delivery = deliver([placed, identify(10**9, "i")], partition_of)
    world = World(POLICY, partition_of, {})
    world.workers[0].handle(delivery, EARLIEST)
    watermark = end_of(delivery)
    for _ in range(200):
        world.settle(watermark)
        left = [state for worker in world.workers for state in worker.states.values()]
        if not left:
            break
        watermark = min(header(state)[0] for state in left)
        assert watermark < NEVER
    assert not any(worker.states for worker in world.workers)
    assert [row["customer_id"] for row in world.standing(SessionFact)] == [CUSTOMER]


def test_what_comes_late_beside_a_session_that_went_over_follows_it() -> None:
    """No identify event lies in the new event's own interval, but it is of the session that was claimed."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    visits = [make(10**9 + n * 20 * MINUTE, f"e{n}", Visit, customer_id=GUEST) for n in (0, 1, 4)]
    delivery = deliver([visits[0], identify(10**9, "i"), *visits[1:]], partition_of)
    world = World(POLICY, partition_of, {})
    world.workers[0].handle(delivery[:2], EARLIEST)
    world.workers[0].handle(delivery[2:], EARLIEST)
    world.settle(end_of(visits))
    found = {(row["customer_id"], row["visits"], row["started_at"]) for row in world.standing(SessionFact)}
    assert found == {(CUSTOMER, 2, visits[0].t), (GUEST, 1, visits[2].t)}


@pytest.mark.parametrize("guest_first", [True, False])
def test_an_order_of_both_is_one_order_and_says_what_its_earliest_mention_says(guest_first: bool) -> None:
    """A guest placed it, the customer paid: one purchase, of the customer."""
    partition_of = {GUEST: 0, CUSTOMER: 1, OTHER: 1}
    placed = make(10**9, "p", Order, customer_id=GUEST, action="placed", order_id="o", total=Decimal(10))
    paid = make(10**9 + 1, "q", Order, customer_id=CUSTOMER, action="paid", order_id="o", total=Decimal(20))
    delivery = deliver([placed, identify(10**9, "i"), paid], partition_of)
    world = World(POLICY, partition_of, {})
    guest, customer = world.workers
    for worker in world.workers if guest_first else reversed(world.workers):
        number = world.workers.index(worker)
        worker.handle(
            [e for e in delivery if partition_of[e.body.customer_id] == number], EARLIEST, worker.waiting()
        )
    world.settle(end_of(delivery))
    assert not guest.waiting()
    assert not customer.waiting()
    [purchase] = world.standing(PurchaseFact)
    assert (purchase["customer_id"], purchase["total"]) == (CUSTOMER, "10.0000")
    [session] = world.standing(SessionFact)
    assert (session["customer_id"], session["revenue"], session["version"]) == (CUSTOMER, "10.0000", 4)


@laws
@given(loss_stories.story(), st.integers(0, 7), st.booleans(), partitions, st.data())
def test_identified_before_their_sessions_close_guests_leave_no_item_days_and_no_leaks(
    events: list[Input], which: int, later: bool, partition_of: dict[str, int], data: st.DataObject
) -> None:
    """Touches that have not closed yet go over as well, and all that is derived of them is the customer's."""
    policy, zones = loss_stories.POLICY, loss_stories.ZONES
    said = [identify(events[which % len(events)].t + later * policy.gap, "i")]
    delivery = deliver(data.draw(st.permutations([*events, *said])), partition_of)
    world = World(policy, partition_of, zones)
    for number, worker in enumerate(world.workers):
        mine = [e for e in delivery if partition_of[e.body.customer_id] == number]
        cut = data.draw(st.integers(0, len(mine)))
        worker.handle(mine[:cut], loss_stories.EARLIEST)
        worker.handle(mine[cut:], loss_stories.EARLIEST)
    world.settle(loss_stories.end_of(events))
    wanted = attributed(events, said, policy)
    for kind, rows in (
        (PurchaseFact, loss_reference.purchases),
        (ItemDaysFact, loss_reference.item_days),
        (LeakFact, loss_reference.leaks),
    ):
        told = [without_version(row) for row in world.standing(kind)]
        expected = [without_version(row) for row in rows(wanted, policy, zones)]
        assert in_some_order(told) == in_some_order(expected)


def without_version(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("version", "is_deleted")}

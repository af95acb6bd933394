"""Laws of losses: purchases, item-days and leaks, each against the slow reference, over generated stories."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain import trail
from streams.domain.checkup import NEVER
from streams.domain.events import Input, Visit
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.state import decode, header
from tests.domain import loss_reference
from tests.domain.buyer_reference import local_date
from tests.domain.loss_reference import Row
from tests.domain.loss_stories import (
    EARLIEST,
    POLICY,
    ZONES,
    deliver,
    end_of,
    in_order,
    policies,
    scene,
    story,
)
from tests.domain.loss_worker import NEVER_CUT, Cut, Worker, ordered

EXAMPLES = int(
    os.environ.get("EBBTIDE_TEST_EXAMPLES", "500" if os.environ.get("EBBTIDE_TEST_DEEP") else "200")
)
laws = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
#: Where more stories would show what the laws above them show already.
lesser_laws = settings(laws, max_examples=max(1, EXAMPLES // 3))

Rows = dict[str, list[Row]]


def defined(events: Sequence[Input], policy: Policy) -> Rows:
    """What the definitions say of ``events``."""
    kinds = {
        "purchases": loss_reference.purchases,
        "item_days": loss_reference.item_days,
        "leaks": loss_reference.leaks,
    }
    return {kind: ordered(rows(events, policy, ZONES)) for kind, rows in kinds.items()}


def told(worker: Worker) -> Rows:
    """What stands of all that the engine has said."""
    return {kind: ordered(worker.rows(kind)) for kind in ("purchases", "item_days", "leaks")}


def late(events: Sequence[Input], horizon: int, data: st.DataObject) -> list[Input]:
    """``events`` in the order in which they arrive, each up to ``horizon`` after it has happened."""
    delays = data.draw(st.lists(st.integers(0, 12), min_size=len(events), max_size=len(events)))
    arrivals = [
        (e.t + delay * horizon // 12, n) for n, (e, delay) in enumerate(zip(events, delays, strict=True))
    ]
    return [events[n] for _, n in sorted(arrivals)]


@laws
@given(story(), policies(shortest=0))
def test_a_sorted_stream_ends_in_the_rows_of_the_definitions(events: list[Input], policy: Policy) -> None:
    """One event a batch, the watermark right behind, so that everything is told early, and told anew; and no
    horizon is needed for that."""
    worker = Worker(policy, ZONES)
    for event in deliver(in_order(events)):
        worker.settle(event.t - 1)
        worker.handle([event], event.t - 1)
    worker.settle(end_of(events))
    assert told(worker) == defined(events, policy)


@laws
@given(story(), policies(shortest=0), st.data())
def test_order_duplication_and_lateness_inside_the_horizon_do_not_matter(
    events: list[Input], policy: Policy, data: st.DataObject
) -> None:
    """Any order, any duplication, batches cut anywhere, the watermark as far ahead as the horizon allows."""
    told_twice = data.draw(st.lists(st.sampled_from(events), max_size=4))
    worker = Worker(policy, ZONES)
    waiting = deliver(late(events + told_twice, policy.horizon, data))
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        most = min((e.t for e in waiting), default=EARLIEST) + policy.horizon
        worker.handle(batch, data.draw(st.integers(EARLIEST, most)))
        if data.draw(st.booleans()):
            worker.settle(worker.watermark)
    worker.settle(max(worker.watermark, end_of(events)))
    assert told(worker) == defined(events, policy)


@laws
@given(
    story(),
    policies(shortest=3 * HOUR),
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.data(),
)
def test_a_cut_at_any_record_written_changes_nothing(
    events: list[Input], policy: Policy, fuses: list[int], sizes: list[int], data: st.DataObject
) -> None:
    """States may be newer than the marker, facts may not have been sent, and what was not acked comes again
    in other batches, perhaps as of an earlier watermark."""
    worker = lived(deliver(late(events, policy.horizon, data)), policy, fuses, sizes, end_of(events))
    assert told(worker) == defined(events, policy)


def lived(
    feed: Sequence[Input], policy: Policy, fuses: Sequence[int], sizes: Sequence[int], end: int
) -> Worker:
    """A worker after lives that were cut after so many records written, and a last one up to ``end``."""
    worker = Worker(policy, ZONES)
    acked = 0
    for life, fuse in enumerate([*fuses, NEVER_CUT]):
        worker.fuse = fuse
        size_of = cycle([*sizes[life % len(sizes) :], *sizes[: life % len(sizes)]])
        try:
            while acked < len(feed):
                batch = feed[acked : acked + next(size_of)]
                worker.handle(batch, batch[-1].t - 1)
                acked += len(batch)
            worker.settle(end)
        except Cut:
            worker.restart()
    return worker


def test_a_day_that_was_told_late_is_not_judged_again_without_the_orders_that_bore_on_it() -> None:
    """A crash kept a day's facts back until its orders were free to go, and the day with them: what comes at
    that very watermark afterwards is of another day, and of another order."""
    looked, bought, other = (0, 1, 0, (0, 0, 0), 0), (0, 6, 0, (0, 0, 0), 0), (7, 4, 0, (0, 481, 1), 0)
    told_by_another, liked, came_back = (
        (0, 1, 21, (0, 0, 0), 0),
        (0, 2, 0, (0, 0, 0), 0),
        (22, 1, 0, (0, 0, 0), 0),
    )
    drawn = [looked, looked, looked, told_by_another, liked, bought, other, came_back]
    events = [event for number, each in enumerate(drawn) for event in scene(number, each)]
    events.sort(key=lambda event: event.t)
    policy = replace(POLICY, leak_window=0, horizon=3 * HOUR, buyers=True)
    worker = lived(deliver(events), policy, [8, 0, 0], [1, 4, 6], end_of(events))
    assert told(worker) == defined(events, policy)


@lesser_laws
@given(story(), policies(shortest=3 * HOUR))
def test_after_the_last_timer_nothing_is_left_and_what_was_said_stands(
    events: list[Input], policy: Policy
) -> None:
    """Every state has a deadline until it is gone, and time alone takes nothing back."""
    worker = Worker(policy, ZONES)
    for event in deliver(in_order(events)):
        worker.handle([event], event.t - 1)
    watermark = end_of(events)
    worker.settle(watermark)
    for _ in range(1_000):
        if not worker.states:
            break
        watermark = min(header(state)[0] for state in worker.states.values())
        assert watermark < NEVER, "a state without a deadline would stay for ever"
        worker.settle(watermark)
    assert worker.states == {}
    assert told(worker) == defined(events, policy)


@lesser_laws
@given(story(), policies(shortest=3 * HOUR), st.integers(0, 400))
def test_time_may_pass_in_one_leap(events: list[Input], policy: Policy, days: int) -> None:
    """After an outage sessions close, orders settle and days are forgotten in one step, and all is told."""
    worker = Worker(policy, ZONES)
    worker.handle(deliver(events), EARLIEST)
    worker.handle([], end_of(events) + days * DAY)
    worker.settle(worker.watermark)
    assert told(worker) == defined(events, policy)


@lesser_laws
@given(story(), policies(shortest=0))
def test_no_day_is_kept_longer_than_something_can_change_it(events: list[Input], policy: Policy) -> None:
    """The end of the leak window and the horizon, and of orders that bear on it the amendment window."""
    worker = Worker(policy, ZONES)
    for event in deliver(in_order(events)):
        worker.handle([event], event.t - 1)
    worker.settle(end_of(events))
    ends = max(e.t for e in events) + 2 * DAY + policy.leak_window
    worker.settle(ends + policy.amendment_window + policy.horizon)
    worker.settle(worker.watermark + 1)  # what may have to be told again stays a step longer
    for state in worker.states.values():
        kept = trail.read(decode(state).trail)
        assert not kept.leaks
        assert not any(trace.days for trace in kept.traces.values())


@lesser_laws
@given(story(), policies())
def test_buckets_sum_to_visitors_and_leaks_to_the_net_lines_of_their_orders(
    events: list[Input], policy: Policy
) -> None:
    """Counted from what the engine has told alone, by figures that do not come from the rows in question."""
    worker = Worker(policy, ZONES)
    worker.handle(deliver(events), EARLIEST)
    worker.settle(end_of(events))
    days, orders = worker.rows("item_days"), worker.rows("purchases")
    visitors: dict[tuple[str, str, str], set[str]] = {}
    for body, day in looks(events):
        visitors.setdefault((body.shop_id, day, str(body.item_id)), set()).add(body.customer_id)
    buckets: dict[tuple[str, str, str], Counter[str]] = {}
    for row in days:
        for item in row["items"]:
            counted = buckets.setdefault((row["shop_id"], row["day"], item["item_id"]), Counter())
            counted[item["disposition"]] += 1
    assert {key: each.total() for key, each in buckets.items()} == {k: len(v) for k, v in visitors.items()}
    nets = {(o["customer_id"], o["shop_id"], o["order_id"]): o for o in orders}
    for leak in worker.rows("leaks"):
        order = nets[leak["customer_id"], leak["to_shop_id"], leak["order_id"]]
        lines = [line for line in order["lines"] if line["category"] in leak["categories"]]
        assert Decimal(leak["amount"]) == sum(Decimal(line["net"]) for line in lines)
        assert not order["is_reversed"]
    for order in orders:
        nets_of_it = [Decimal(line["net"]) for line in order["lines"]]
        left = Decimal(order["total"]) - Decimal(order["refunded"])
        assert sum(nets_of_it) == (left if order["lines"] else 0)
        assert all(net >= 0 for net in nets_of_it)


def looks(events: Sequence[Input]) -> Iterator[tuple[Visit, str]]:
    """Each look at an item's page, and its local day."""
    for event in events:
        body = event.body
        if isinstance(body, Visit) and body.item_id is not None:
            yield body, local_date(event.t, ZONES.get(body.shop_id, POLICY.zone)).isoformat()

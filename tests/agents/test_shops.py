"""The shops agent: windows are what the sessions say, in any order, told twice, or cut by crashes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from streams.domain.facts import SessionFact, tombstone
from streams.domain.policy import MINUTE, Policy
from streams.domain.tally import OPEN
from tests.agents.shop_world import MONDAY, NEVER, Broker, Crash, work
from tests.builders import cart, order
from tests.domain.test_laws import EXAMPLES, laws

GAP = Policy().gap
PARTITIONS = 2
SHOPS = ("s1", "s2", "s3")


def session(
    customer: str, shop: str, minute: int, version: int = 1, stage: str | None = "browsed", **more: Any
) -> SessionFact:
    """A session that closes in that minute after MONDAY."""
    started = MONDAY + minute * MINUTE - GAP
    fact = tombstone(customer, shop, started, version)
    told = {"outcome": "converted" if stage is None else "lost", "lost_stage": stage, **more}
    return msgspec.structs.replace(fact, ended_at=started, events=1, is_deleted=False, **told)


def counted(facts: Sequence[SessionFact]) -> dict[tuple[str, str, str, int], tuple[int, int]]:
    """(closed, lost) by definition: of the highest version of each session, without tombstones and bots."""
    standing: dict[str, SessionFact] = {}
    for fact in facts:
        had = standing.get(fact.session_id)
        if had is None or had.version < fact.version:
            standing[fact.session_id] = fact
    found: defaultdict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for fact in standing.values():
        if fact.is_deleted or fact.is_bot:
            continue
        minute = (fact.ended_at + GAP) // MINUTE
        lost = fact.outcome == "lost"
        for shop in (fact.shop_id, ""):
            places = [("shop", "", lost), ("channel", fact.channel or "", lost)]
            stages = ("bounced", "browsed", "favorited", "carted")
            places += [("stage", stage, fact.lost_stage == stage) for stage in stages]
            for scope, value, one in places:
                found[shop, scope, value, minute][0] += 1
                found[shop, scope, value, minute][1] += one
    return {key: (closed, lost) for key, (closed, lost) in found.items()}


def told(broker: Broker) -> dict[tuple[str, str, str, int], tuple[int, int]]:
    return {key: (fact.closed, fact.lost) for key, fact in broker.windows().items() if fact.closed}


def live(broker: Broker, crashes: Sequence[int], sizes: Sequence[int]) -> None:
    """Workers one after the other, each cut after so many records, the last one to the end."""
    for fuse in (*crashes, NEVER):
        broker.fuse = fuse
        try:
            work(broker, sizes=sizes)
        except Crash:
            sizes = sizes[::-1]


sessions = st.lists(
    st.builds(
        session,
        customer=st.sampled_from(("a", "b", "c", "d")),
        shop=st.sampled_from(SHOPS),
        minute=st.integers(60, 75),
        version=st.integers(1, 4),
        stage=st.sampled_from((None, "bounced", "carted")),
        channel=st.sampled_from((None, "ads", "search")),
        is_bot=st.booleans(),
    ),
    max_size=12,
)


@settings(laws, max_examples=EXAMPLES // 3)
@given(
    facts=sessions,
    gone=st.lists(st.integers(0, 11), max_size=3),
    crashes=st.lists(st.integers(0, 60), max_size=4),
    sizes=st.lists(st.integers(1, 4), max_size=30),
    marks=st.lists(st.integers(58, 78), max_size=4),
)
def test_windows_are_what_the_sessions_say_in_any_order_twice_and_through_crashes(
    facts: list[SessionFact], gone: list[int], crashes: list[int], sizes: list[int], marks: list[int]
) -> None:
    facts = facts + [
        msgspec.structs.replace(facts[n], version=5, is_deleted=True) for n in gone if n < len(facts)
    ]
    # Versions of a session are told apart by content only as far as the version goes.
    unique = {(fact.session_id, fact.version): fact for fact in facts}
    facts = [unique[fact.session_id, fact.version] for fact in facts]
    broker = Broker(PARTITIONS)
    each = max(1, len(facts) // (len(marks) + 1))
    for at, fact in enumerate(facts):
        # All of one customer's facts are in one partition.
        partition = ord(fact.customer_id[0]) % PARTITIONS
        broker.session(partition, fact)
        if at % each == each - 1 and at // each < len(marks):
            broker.watermark(MONDAY + marks[at // each] * MINUTE)
            live(broker, crashes[:1], sizes)
    broker.watermark(MONDAY + 80 * MINUTE)
    live(broker, crashes, sizes)
    assert told(broker) == {key: pair for key, pair in counted(facts).items() if pair[0]}


def test_a_correction_inside_the_open_window_is_told_again_and_a_later_one_is_not() -> None:
    broker = Broker(1)
    broker.session(0, session("a", "s1", 60))
    broker.watermark(MONDAY + 61 * MINUTE)
    work(broker)
    assert told(broker)["s1", "shop", "", MONDAY // MINUTE + 60] == (1, 1)
    broker.session(0, session("a", "s1", 60, version=2, stage=None))
    broker.watermark(MONDAY + (60 + OPEN) * MINUTE)
    work(broker)
    assert told(broker)["s1", "shop", "", MONDAY // MINUTE + 60] == (1, 0)
    broker.watermark(MONDAY + (61 + OPEN) * MINUTE)
    work(broker)
    broker.session(0, session("a", "s1", 60, version=3))
    broker.watermark(MONDAY + (62 + OPEN) * MINUTE)
    work(broker)
    assert told(broker)["s1", "shop", "", MONDAY // MINUTE + 60] == (1, 0)


def test_a_channel_that_one_correction_brings_and_the_next_takes_away_is_told_to_be_empty() -> None:
    broker = Broker(1)
    broker.session(0, session("a", "s1", 60))
    broker.watermark(MONDAY + 61 * MINUTE)
    work(broker)
    for version, changes in ((2, {"channel": "ads"}), (3, {"is_deleted": True})):
        broker.session(0, msgspec.structs.replace(session("a", "s1", 60, version=version), **changes))
        broker.watermark(MONDAY + (60 + version) * MINUTE)
        work(broker)
        at = MONDAY // MINUTE + 60
        assert broker.windows()["s1", "channel", "ads", at].closed == (1 if version == 2 else 0)
    assert told(broker) == {}


def test_carts_count_customers_and_orders_count_once_however_often_they_come() -> None:
    broker = Broker(PARTITIONS)
    at = MONDAY + 60 * MINUTE
    for number, customer in enumerate(("a", "a", "b", "c")):
        broker.event(
            ord(customer) % 2, "carts", cart(at + number, customer_id=customer, event_id=f"e{number}")
        )
    for number, name in enumerate(("o1", "o1", "o2")):
        broker.event(0, "orders", order(at + number, order_id=name, customer_id="b", event_id=f"o{number}"))
    broker.event(0, "orders", order(at + 9, "cancelled", order_id="o2", customer_id="b", event_id="x"))
    broker.watermark(at + 2 * MINUTE)
    work(broker)
    window = broker.windows()["s1", "shop", "", at // MINUTE]
    assert (window.active_carts, window.orders) == (3, 2)
    everywhere = broker.windows()["", "shop", "", at // MINUTE]
    assert (everywhere.active_carts, everywhere.orders) == (3, 2)


def test_bots_are_counted_apart_and_value_at_risk_by_currency() -> None:
    broker = Broker(1)
    broker.session(0, session("a", "s1", 60, stage="carted", cart_value="10.5000", currency="CNY"))
    broker.session(0, session("b", "s1", 60, stage="carted", cart_value="2.0000", currency="EUR"))
    broker.session(
        0, session("c", "s1", 60, stage="carted", cart_value="9.0000", currency="EUR", is_bot=True)
    )
    broker.session(0, session("d", "s1", 60, stage=None, cart_value="7.0000", currency="EUR"))
    broker.watermark(MONDAY + 62 * MINUTE)
    work(broker)
    minute = MONDAY // MINUTE + 60
    for shop in ("s1", ""):
        window = broker.windows()[shop, "shop", "", minute]
        assert (window.closed, window.lost, window.bots) == (3, 2, 1)
        assert window.value_at_risk == {"CNY": "10.5000", "EUR": "2.0000"}
        assert broker.windows()[shop, "stage", "carted", minute].value_at_risk == window.value_at_risk


def test_a_leap_of_time_leaves_out_no_minute_that_anybody_did_anything_in() -> None:
    broker = Broker(PARTITIONS)
    facts = [session(name, "s1", 60 + hours * 60) for hours in (0, 30, 31, 500) for name in ("a", "b", "c")]
    for fact in facts:
        broker.session(ord(fact.customer_id[0]) % PARTITIONS, fact)
    broker.watermark(MONDAY + 2000 * 60 * MINUTE)
    work(broker)
    assert {key: pair for key, pair in counted(facts).items() if pair[0]} == told(broker)


def test_nothing_is_judged_before_every_partition_is_complete() -> None:
    broker = Broker(PARTITIONS)
    broker.session(0, session("b", "s1", 60))
    broker.watermark(MONDAY + 62 * MINUTE, partitions=[0])
    work(broker)
    assert not broker.windows()
    broker.session(1, session("a", "s1", 60))
    broker.watermark(MONDAY + 61 * MINUTE, partitions=[1])
    work(broker)
    assert told(broker)["s1", "shop", "", MONDAY // MINUTE + 60] == (2, 2)


@pytest.mark.parametrize("shops", [1, 40])
def test_a_hot_shop_costs_the_others_nothing_but_its_own_sessions(shops: int) -> None:
    """What is sent of a minute is one cell a shop and partition, however many sessions it has."""
    broker = Broker(1)
    for number in range(500):
        broker.session(0, session(f"c{number}", "hot", 60))
    for number in range(shops):
        broker.session(0, session("a", f"cold{number}", 60))
    broker.watermark(MONDAY + 61 * MINUTE)
    work(broker)
    cells = Counter(each.key for each in broker.logs[topics.SHOP_MINUTES.name, 0] if each.key)
    assert cells[b"hot"] == 1
    assert all(cells[f"cold{number}".encode()] == 1 for number in range(shops))
    assert told(broker)["hot", "shop", "", MONDAY // MINUTE + 60] == (500, 500)

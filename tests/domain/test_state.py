"""The state's kept form: old states decode, foreign ones are refused, idle ones are small."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from streams.domain.checkup import AT_ONCE
from streams.domain.context import Context
from streams.domain.events import Cart, Favorite, Order, OrderLine, Visit
from streams.domain.facts import SessionFact
from streams.domain.order import Orders
from streams.domain.progress import MARKER_KEY, Progress, decode_marker, encode_marker, is_stale
from streams.domain.session import Session
from streams.domain.shop import Shop
from streams.domain.state import decode, encode, header
from streams.domain.visitor import DUPLICATE, advance
from tests.domain.stories import POLICY, deliver, make

#: States as each version wrote them; never to be written anew, only joined by those of later versions.
GOLDEN = {1: Path(__file__).parent / "state_v1.hex", 2: Path(__file__).parent / "state_v2.hex"}


def written(batch: int = 3) -> bytes:
    """A state with something in every field."""
    t = 10**12
    events = deliver(
        [
            make(t, "v", Visit, item_id="a", channel="ads", campaign="11.11"),
            make(t + 1, "f", Favorite, action="add", item_id="a"),
            make(t + 2, "c", Cart, action="add", item_id="b", price=Decimal("9.99"), currency="CNY"),
            make(t + 3, "o", Order, action="placed", order_id="o1", lines=(OrderLine(item_id="a"),)),
            make(t + 4, "r", Order, action="refunded", order_id="o1", refund_amount=Decimal(1)),
            make(t + 5, "b", Visit, shop_id="z", is_bot=True),
        ]
    )
    stored = advance("c", None, events, Context(-1, POLICY, batch - 1, batch - 2, [-1] * 4)).stored
    again = [make(t, "v", Visit, offset=9)]
    context = Context(t + POLICY.gap + 10, POLICY, batch, batch - 1, [-1] * 4)
    kept = advance("c", stored, again, context).stored
    assert kept is not None
    return kept


def test_every_version_has_a_golden_state() -> None:
    assert [*GOLDEN] == list(range(1, written()[0] + 1))


@pytest.mark.parametrize("version", GOLDEN)
def test_a_state_of_any_version_goes_on_as_one_of_this_release(version: int) -> None:
    """Whoever changes the layout adds a version and keeps reading the old one; what follows is the same."""
    golden = bytes.fromhex(GOLDEN[version].read_text())
    assert golden[0] == version
    assert header(golden)[1] == 3
    visitor = decode(golden)
    assert set(visitor.shops) == {"s", "z"}
    assert visitor.odd == [(0, 9, 1)]
    t = 10**12 + POLICY.gap + 20
    told = [
        make(t, "o2", Order, offset=9, action="placed", order_id="o2"),
        make(10**12, "v", Visit, offset=10),
    ]
    context = Context(t, POLICY, 4, 3, [-1] * 4)
    old, new = (advance("c", stored, told, context) for stored in (golden, written()))
    sessions_of = [[f for f in each.facts if isinstance(f, SessionFact)] for each in (old, new)]
    assert sessions_of[0] == sessions_of[1] != []
    kept_of = [decode(each.stored or b"") for each in (old, new)]
    for shop_id in ("s", "z"):
        shops = [kept.shops[shop_id] for kept in kept_of]
        closed = [[(each.session(), each.until) for each in shop.closed] for shop in shops]
        assert closed[0] == closed[1]
        assert _without_details(shops[0]) == _without_details(shops[1])
        # Who they are to the shop is drawn up from what was kept.
        buyers = [shop.buyer() for shop in shops]
        assert buyers[0] is not None
        assert buyers[1] is not None
        assert buyers[0].profile == buyers[1].profile != 0
    assert list(new.odd) == [(0, DUPLICATE)]


def _without_details(shop: Shop) -> Orders:
    """The orders but for what their lines say, which earlier versions did not keep."""
    orders = shop.orders()
    for record in orders.values():
        record.details = []
    return orders


def test_a_state_of_a_newer_release_is_refused_and_not_misread() -> None:
    """Going back to an older release with newer state stops with a sentence."""
    with pytest.raises(ValueError, match="version 9 is newer"):
        decode(b"\x09" + written()[1:])


def test_the_header_is_read_without_the_body() -> None:
    """Deadlines are rebuilt from headers alone."""
    kept = written(batch=7)
    wake_at, batch, owes = header(kept[:18])
    assert (batch, owes) == (7, True)
    assert wake_at > AT_ONCE
    assert encode(decode(kept), wake_at, 7) == kept


def test_rows_of_a_worker_that_had_lost_the_partition_are_stale() -> None:
    """An older batch, or fewer events seen in the same one, never replaces what its successor wrote."""
    new, old = written(batch=8), written(batch=7)
    assert is_stale(new, old)
    assert not is_stale(old, new)
    fewer = decode(new)
    fewer.applied[0] -= 1
    assert is_stale(new, encode(fewer, 1, 8))
    assert not is_stale(encode(fewer, 1, 8), new)


def test_a_marker_is_no_state_and_is_stale_by_its_batch() -> None:
    """The marker's key is no customer's, its form no state's."""
    earlier, later = Progress.start(5, 4), Progress.start(5, 4)
    later.batch = 1
    assert is_stale(encode_marker(later), encode_marker(earlier))
    assert not is_stale(encode_marker(earlier), encode_marker(later))
    assert decode_marker(encode_marker(later)) == later
    assert MARKER_KEY.startswith(b"\x00")
    with pytest.raises(ValueError, match="marker"):
        decode_marker(written())


def test_an_idle_customer_takes_at_most_400_bytes_for_sessions_alone() -> None:
    """One closed session of five events, one of them an order, waiting for what may still change it."""
    policy = replace(POLICY, buyers=False, losses=False)
    t = 10**12
    events = [make(t + n, f"event-{n}", Visit, shop_id="shop-00017", item_id="item-123456") for n in range(4)]
    order = make(t + 9, "order-event", Order, shop_id="shop-00017", action="placed", order_id="order-123456")
    stored = advance("c", None, deliver([*events, order]), Context(-1, policy, 1, 0, [-1] * 4)).stored
    closed = advance("c", stored, (), Context(t + POLICY.gap + 10, policy, 2, 1, [-1] * 4)).stored
    assert closed is not None
    assert len(closed) <= 400


def test_a_digest_found_across_two_others_is_nobodys() -> None:
    """The digests stand side by side; only one that begins where a digest begins is known."""
    session = Session(0, 0)
    session.ids = bytes(range(16))
    shop = Shop([session])
    assert shop.knows(int.from_bytes(bytes(range(8)), "big"))
    assert shop.knows(int.from_bytes(bytes(range(8, 16)), "big"))
    assert not shop.knows(int.from_bytes(bytes(range(3, 11)), "big"))
    assert shop.retained() == 2

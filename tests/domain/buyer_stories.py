"""Orders of one customer in one shop as hypothesis draws them, and the shop's ledger that they go through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec
from hypothesis import strategies as st

from streams.domain.buyer import Buyer, is_settled, leave
from streams.domain.checkup import AT_ONCE, NEVER, Evaluation, Fact, evaluate
from streams.domain.events import ArrivalTime, EventTime, Input, Order, OrderLine
from streams.domain.facts import ActionFact, ProfileFact, TransitionFact
from streams.domain.lapse import PersonalRhythm
from streams.domain.order import OrderRecord
from streams.domain.outlook import ShopModel
from streams.domain.policy import DAY, HOUR, Policy
from streams.domain.session import Session
from tests.domain.buyer_reference import Said

#: Short windows and a quick rhythm, so that three months cross every boundary; a zone whose clocks change.
POLICY = Policy(
    zone="Europe/London",
    horizon=2 * DAY,
    amendment_window=5 * DAY,
    lapsed_after=25 * DAY,
    repurchase_lead=2 * DAY,
    prospect_memory=1000 * DAY,
    buyer_memory=1000 * DAY,
)
MODEL = ShopModel("s", 1, PersonalRhythm(5.0, 1.0, 0.3), None, 0.5)
#: Ten days before clocks go forward.
START = 1_710_979_200_000
_decode = msgspec.msgpack.Decoder(Buyer).decode

_ORDER = st.tuples(
    st.integers(0, 80), st.integers(0, 3), st.integers(0, 47), st.integers(0, 9), st.integers(0, 6)
)


def _said(number: int, drawn: tuple[int, int, int, int, int]) -> list[Said]:
    day, money, half_hours, fate, later = drawn
    at = START + day * DAY + half_hours * (HOUR // 2) - (number % 2)
    name = f"o{number}"
    total = (0, 50_000, 199_900, 70_000)[money]
    placed = Said(
        at,
        2 * number,
        name,
        "placed",
        total,
        ("GBP", "EUR", None, "GBP")[money],
        (("tea",), ("tea", "mugs"), (), ("cups",))[number % 4],
        (0, 10_000)[later % 2],
    )
    if fate > 3:
        return [placed]
    what = "cancelled" if fate == 0 else "refunded"
    return [
        placed,
        Said(at + later * DAY, 2 * number + 1, name, what, amount=(None, None, 20_000, 60_000)[fate]),
    ]


def purchases(most: int = 7) -> st.SearchStrategy[list[Said]]:
    """Up to ``most`` orders, some of them taken back, wholly or in part, in time or too late."""
    return st.lists(_ORDER, min_size=1, max_size=most).map(
        lambda drawn: [said for number, one in enumerate(drawn) for said in _said(number, one)]
    )


def event(said: Said) -> tuple[Input, Order]:
    lines = tuple(
        OrderLine(item_id=name, category=name, discount=Decimal(said.discount) / 10_000 if not i else None)
        for i, name in enumerate(said.categories or ("",))
    )
    if said.discount:
        # What has no price is not taken off: the discount needs a priced line.
        lines = tuple(msgspec.structs.replace(line, price=Decimal(said.total) / 10_000) for line in lines)
    order = Order(
        event_id=str(said.id),
        occurred_at=said.at,
        customer_id="c",
        shop_id="s",
        action=said.what,
        order_id=said.order,
        lines=lines,
        total=Decimal(said.total) / 10_000 if said.what == "placed" else None,
        currency=said.currency,
        refund_amount=None if said.amount is None else Decimal(said.amount) / 10_000,
    )
    return Input(3, said.id, said.id, EventTime(said.at), ArrivalTime(said.at), order, b""), order


class Counter:
    """One customer in one shop: the ledger, the buyer as bytes, and the facts that stand."""

    def __init__(self, policy: Policy = POLICY, model: ShopModel = MODEL) -> None:
        self.policy, self.model = policy, model
        self.ledger: dict[str, OrderRecord] = {}
        self.sessions: list[Session] = []
        self.seen: set[int] = set()
        self.stored: bytes | None = None
        self.wake_at = NEVER
        self.now = -1
        self.profile: ProfileFact | None = None
        self.transitions: dict[str, TransitionFact] = {}
        self.actions: dict[str, ActionFact] = {}
        self.told: list[Fact] = []

    @property
    def buyer(self) -> Buyer | None:
        return None if self.stored is None else _decode(self.stored)

    def take(self, events: Iterable[Said]) -> None:
        for said in events:
            if said.id in self.seen:
                continue
            self.seen.add(said.id)
            record = self.ledger.setdefault(said.order, OrderRecord())
            taken, order = event(said)
            self.wake_at = AT_ONCE
            (record.mention if said.what == "placed" else record.amend)(taken, order)

    def leave(self, session: Session) -> None:
        """A session leaves the state."""
        self.sessions.remove(session)
        buyer = self.buyer or Buyer()
        leave(buyer, session, self.policy)
        self.stored = msgspec.msgpack.encode(buyer)

    def look(self, now: int, unpaid: bool = False) -> list[Fact]:
        """One check-up, all the way through bytes."""
        got: Evaluation = evaluate(
            "c", "s", self.buyer, self.ledger.values(), self.sessions, self.model, now, self.policy, unpaid
        )
        self.stored = None if got.buyer is None else msgspec.msgpack.encode(got.buyer)
        self.wake_at = got.wake_at
        for fact in got.facts:
            self._stand(fact)
        self.told += got.facts
        for order_id, record in list(self.ledger.items()):
            if now > record.expires(self.policy.amendment_window, self.policy.horizon) and is_settled(
                got.buyer, record
            ):
                del self.ledger[order_id]
        return got.facts

    def _stand(self, fact: Fact) -> None:
        if isinstance(fact, ProfileFact):
            assert self.profile is None or fact.version > self.profile.version
            self.profile = fact
            return
        table: dict[str, TransitionFact] | dict[str, ActionFact]
        table, key = (
            (self.transitions, fact.transition_id)
            if isinstance(fact, TransitionFact)
            else (self.actions, fact.action_id)
        )
        before = table.get(key)  # type: ignore[attr-defined]
        assert before is None or fact.version >= before.version
        table[key] = fact  # type: ignore[index]

    def until(self, now: int) -> None:
        """Time passes to ``now``, and whoever is due is looked at; the last look is at ``now`` itself."""
        for _ in range(3000):
            due = max(self.wake_at, self.now)
            if due > now:
                break
            self.now = due
            self.look(due)
        else:
            raise AssertionError("somebody stays due, so a worker would never rest")
        self.now = max(now, self.now)
        self.look(self.now)

    def stages(self) -> list[tuple[int, int, str | None, str | None, str]]:
        """The stages' transitions that stand, by time."""
        return sorted(
            (t.anchor, t.at, t.from_state, t.to_state, t.cause)
            for t in self.transitions.values()
            if t.kind == "stage" and not t.is_deleted
        )


def in_order(events: Sequence[Said]) -> list[Said]:
    return sorted(events, key=lambda e: (e.at, e.id))


def counted(events: Sequence[Said], days: int) -> Counter:
    """A counter that has seen ``events`` as they came, and ``days`` days from START pass."""
    counter = Counter()
    for said in in_order(events):
        counter.until(said.at)
        counter.take([said])
    counter.until(START + days * DAY)
    return counter

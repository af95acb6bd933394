"""Made-up traffic of some shops, minute by minute, for the shops agent."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec

from streams.domain.facts import SessionFact, tombstone
from streams.domain.policy import MINUTE, Policy
from tests.agents.shop_world import MONDAY, Broker
from tests.builders import cart, order, visit

_GAP = Policy().gap // MINUTE


@dataclass
class Traffic:
    """Sessions of a minute each; ``rates``: of a shop, sessions a minute and the part of them that is
    lost."""

    broker: Broker
    rates: dict[str, tuple[float, float]]
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    count: int = 0

    def minute(self, number: int, orders: bool = True, loss: dict[str, float] | None = None) -> None:
        """One minute after MONDAY. Without ``orders`` nobody's order arrives; ``loss``: other rates for
        now."""
        for shop, (rate, usual) in self.rates.items():
            for _ in range(sum(self.chance.random() < rate / 20 for _ in range(20))):
                self._customer(number, shop, (loss or {}).get(shop, usual), orders)
        self.broker.watermark(MONDAY + (number + 1) * MINUTE)

    def _customer(self, number: int, shop: str, loss: float, orders: bool) -> None:
        self.count += 1
        name = f"c{self.count}"
        partition = self.count % self.broker.partitions
        at = MONDAY + number * MINUTE + self.chance.randrange(MINUTE)
        about = {"shop_id": shop, "customer_id": name}
        self.broker.event(partition, "visits", visit(at, event_id=f"v{self.count}", **about))
        lost = self.chance.random() < loss
        stage = self.chance.choice(("bounced", "browsed", "carted"))
        channel = self.chance.choice(("ads", "search"))
        if not lost or stage == "carted":
            self.broker.event(partition, "carts", cart(at, event_id=f"k{self.count}", **about))
        if not lost and orders:
            made = order(at, order_id=f"o{self.count}", event_id=f"o{self.count}", **about)
            self.broker.event(partition, "orders", made)
        bought = not lost and orders
        self.broker.session(partition, _session(name, shop, at, None if bought else stage, channel))


def _session(customer: str, shop: str, at: int, stage: str | None, channel: str) -> SessionFact:
    told = {"outcome": "converted" if stage is None else "lost", "lost_stage": stage, "channel": channel}
    fact = tombstone(customer, shop, at, 1)
    return msgspec.structs.replace(fact, ended_at=at, events=1, is_deleted=False, **told)

"""What a batch's customers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from streams.domain.outlook import DEFAULT_MODEL, ShopModel
from streams.domain.policy import Policy
from streams.domain.ready_made import READY_MADE
from streams.domain.segments import Rules


class Context(Struct, frozen=True, gc=False):
    """The same for all customers of a batch.

    watermark: to judge lateness by, it must be one that a crash does not take back: what is late stays late.
    done: per input topic, the highest offset that a completed batch covers. batch: this batch's number in its
    partition, growing. paid: facts owed by batches up to this number have been sent.
    models: the published parameters by shop; under "" those of shops without their own.
    policies: of the shops whose calendar is in a zone of its own.
    rules: of segments. other_rules: who was last asked by others is looked at.
    """

    watermark: int
    policy: Policy
    batch: int
    paid: int
    done: Sequence[int]
    models: Mapping[str, ShopModel] = {}
    policies: Mapping[str, Policy] = {}
    rules: Rules = READY_MADE
    other_rules: bool = False

    def policy_of(self, shop_id: str) -> Policy:
        """The policy, with the zone of the shop."""
        return self.policies.get(shop_id, self.policy)

    def model(self, shop_id: str) -> ShopModel:
        """The parameters in force for a shop."""
        return self.models.get(shop_id) or self.models.get("", DEFAULT_MODEL)

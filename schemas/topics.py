"""Every topic of the pipeline: name, key, what it carries, how it is kept.

Topics whose records belong to one customer share a key (the customer's id, UTF-8) and a partition
count, so that a customer's events, state and facts live under the same partition number everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["input", "internal", "fact"]

#: A dead letter carries the refused bytes as they came; a refused 1 MiB body plus headers must fit.
DEAD_LETTER_MAX_BYTES: Final = 4 * 1024 * 1024
#: A state record is bounded by the policy's event bound; several share one record batch.
CHANGELOG_MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    ``name`` is without the deployment's prefix; ``model`` names the class of ``schemas.events``,
    ``schemas.facts``, ``schemas.losses`` or ``schemas.alerts`` that its values follow, or None for records
    that are ours alone.
    """

    name: str
    kind: Kind
    key: str
    model: str | None
    cleanup_policy: Literal["delete", "compact"] = "delete"
    max_message_bytes: int | None = None
    #: None leaves it to the broker's default.
    retention_ms: int | None = None

    def config(self) -> dict[str, str]:
        """The broker-side settings that this topic must have."""
        config: dict[str, str] = {"cleanup.policy": self.cleanup_policy}
        if self.max_message_bytes is not None:
            config["max.message.bytes"] = str(self.max_message_bytes)
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        return config


VISITS: Final = Topic("visits", "input", "customer_id", "Visit")
FAVORITES: Final = Topic("favorites", "input", "customer_id", "Favorite")
CARTS: Final = Topic("carts", "input", "customer_id", "Cart")
ORDERS: Final = Topic("orders", "input", "customer_id", "Order")
#: Optional: what customers say of a shop; where nothing is sent to it, nothing waits for it.
FEEDBACK: Final = Topic("feedback", "input", "customer_id", "Feedback")
#: Optional: that a guest is a customer. It goes where the guest's events go.
IDENTITIES: Final = Topic("identities", "input", "customer_id, of the guest", "Identify")
#: What guests had, for the customers that they are: from partition to partition.
HANDOVERS: Final = Topic("handovers", "internal", "customer_id", None, max_message_bytes=CHANGELOG_MAX_BYTES)
#: A tick is of no use once a later one is there, and there are a few a second.
TICKS: Final = Topic(
    "ticks", "internal", "none; the sender names the partition", None, retention_ms=60 * 60 * 1000
)
CUSTOMERS_CHANGELOG: Final = Topic(
    "customers-state", "internal", "customer_id", None, "compact", CHANGELOG_MAX_BYTES
)
SESSIONS: Final = Topic("sessions", "fact", "customer_id", "SessionFact")
LATE_EVENTS: Final = Topic("late-events", "fact", "customer_id", "LateEvent")
INGEST: Final = Topic("ingest", "fact", "topic:partition", "IngestCount")
DEAD_LETTERS: Final = Topic(
    "dead-letters", "fact", "the refused key", "DeadLetter", max_message_bytes=DEAD_LETTER_MAX_BYTES
)
CUSTOMERS: Final = Topic("customers", "fact", "customer_id", "ProfileFact")
TRANSITIONS: Final = Topic("transitions", "fact", "customer_id", "TransitionFact")
ACTIONS: Final = Topic("actions", "fact", "customer_id", "ActionFact")
PURCHASES: Final = Topic("purchases", "fact", "customer_id", "PurchaseFact")
ITEM_DAYS: Final = Topic("item-days", "fact", "customer_id", "ItemDaysFact")
LEAKS: Final = Topic("leaks", "fact", "customer_id", "LeakFact")
REASONS: Final = Topic("reasons", "fact", "customer_id", "ReasonFact")
SEGMENTS: Final = Topic("segments", "fact", "customer_id", "SegmentFact")
SEGMENT_RUNS: Final = Topic("segment-runs", "fact", "partition", "SegmentRun")
#: What is known of each shop, its zone above all; every worker reads all of it, and the sink stores it.
SHOPS: Final = Topic("shops", "fact", "shop_id", "ShopFact", "compact")
#: The rules of all segments, as one record; every worker reads it.
SEGMENT_RULES: Final = Topic("segment-rules", "internal", "the word rules", None, "compact")
#: Whom to forget. The partition is that of the customer's own records; what is kept here names nobody, and
#: it is kept for ever: who reads all inputs anew must know it.
ERASURES: Final = Topic(
    "erasures", "internal", "digest of customer_id; the sender names the partition", None, "compact"
)
#: Each shop's lapse model and cut points; every worker reads all of it.
MODELS: Final = Topic("models", "internal", "shop_id", None, "compact")

#: Who has been forgotten; kept for ever like what asked for it.
ERASED: Final = Topic("erased", "fact", "customer_digest", "ErasedFact", "compact")

#: What the partitions tell of each shop's minutes, to the partition that watches the shop.
SHOP_MINUTES: Final = Topic("shop-minutes", "internal", "shop_id; the sender names the partition", None)
SHOPS_CHANGELOG: Final = Topic(
    "shops-state", "internal", "of our own making", None, "compact", CHANGELOG_MAX_BYTES
)
LOSS_WINDOWS: Final = Topic("loss-windows", "fact", "shop_id", "LossWindowFact")
ALERTS: Final = Topic("alerts", "fact", "shop_id", "AlertFact")
#: What people ask of the hooks agent: to send again what was given up.
HOOK_REQUESTS: Final = Topic("hook-requests", "internal", "delivery_id; the sender names the partition", None)
HOOKS_CHANGELOG: Final = Topic("hooks-state", "internal", "delivery_id", None, "compact", CHANGELOG_MAX_BYTES)
DELIVERIES: Final = Topic("deliveries", "fact", "delivery_id", "DeliveryFact")

#: Input topics in the order that indexes them in the state's offset guard: append, never reorder.
INPUTS: Final = (VISITS, FAVORITES, CARTS, ORDERS, FEEDBACK, IDENTITIES)
#: The first so many of them have events wherever Ebbtide is used.
ALWAYS: Final = 4
#: What the offset guard covers: the inputs, and behind them what customers are handed. An input appended to
#: these must stand behind HANDOVERS, and its index is then the one in READ.
READ: Final = (*INPUTS, HANDOVERS)
FACTS: Final = (
    SESSIONS,
    LATE_EVENTS,
    INGEST,
    DEAD_LETTERS,
    CUSTOMERS,
    TRANSITIONS,
    ACTIONS,
    PURCHASES,
    ITEM_DAYS,
    LEAKS,
    REASONS,
    SEGMENTS,
    SEGMENT_RUNS,
    SHOPS,
    ERASED,
    LOSS_WINDOWS,
    ALERTS,
    DELIVERIES,
)
ALL: Final = (
    *READ,
    TICKS,
    CUSTOMERS_CHANGELOG,
    MODELS,
    SEGMENT_RULES,
    ERASURES,
    SHOP_MINUTES,
    SHOPS_CHANGELOG,
    HOOK_REQUESTS,
    HOOKS_CHANGELOG,
    *FACTS,
)

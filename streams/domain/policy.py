"""What words mean here: every number that changes a verdict. One frozen value, no environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
LONGEST_LEAK_WINDOW: Final = 7 * DAY


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules' parameters; durations in milliseconds of event time.

    gap: silence of more than this splits two sessions; exactly this does not.
    horizon: how far behind the watermark an event may be and still correct a verdict.
    recovery_window: how long after a lost session closed an order in that shop recovers it.
    amendment_window: how long after an order its cancellation or refund still changes verdicts.
    ahead_tolerance: how far ahead of its arrival an event may be stamped.
    max_events: retained events per customer; more are refused, so that no state grows without bound.
    buyers: whether customers are looked after beyond their sessions: profiles, transitions, actions.
    zone: the IANA zone of the shops' calendars.
    lapsed_after: a buyer whose last purchase day is this long ago is lapsed; whole days.
    lapse_threshold: a buyer is lapsing when the chance that the shop's model gives has come down to it,
    unless the model brings a threshold of its own.
    holdout_percent: of all customers, the share that is left alone, per kind of action.
    repurchase_lead: how long before the expected purchase a reminder is due; whole days.
    discount_prone: from this share of orders with a discount on, a buyer is one who waits for discounts.
    prospect_memory, buyer_memory: how long someone who shows nothing more is remembered: from the last
    session, or the last purchase day if later; of a prospect, and of a buyer.
    losses: whether it is looked into where the lost went: purchases, item-days, leaks and reasons.
    leak_window: whole days after the day of a visit in which a purchase elsewhere is a leak; 0: that day.
    grievance_window: how long before a loss something bad makes it one of a dissatisfied customer.
    bot_events, bot_dwell, bot_rate: a session with this many looks is a bot's if the mean time from one to
    the next is below the dwell, or if they are more than the rate a minute, over five minutes at least.
    """

    gap: int = 30 * MINUTE
    horizon: int = 24 * HOUR
    recovery_window: int = 24 * HOUR
    amendment_window: int = 30 * DAY
    ahead_tolerance: int = 5 * MINUTE
    max_events: int = 10_000
    buyers: bool = True
    zone: str = "UTC"
    lapsed_after: int = 365 * DAY
    lapse_threshold: float = 0.5
    holdout_percent: float = 10.0
    repurchase_lead: int = 3 * DAY
    discount_prone: float = 0.5
    prospect_memory: int = 90 * DAY
    buyer_memory: int = 1095 * DAY
    losses: bool = True
    leak_window: int = 0
    grievance_window: int = 90 * DAY
    bot_events: int = 50
    bot_dwell: int = 300
    bot_rate: int = 60

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise ValueError("gap must be positive")
        for name in (
            "horizon",
            "recovery_window",
            "amendment_window",
            "ahead_tolerance",
            "repurchase_lead",
            "prospect_memory",
            "leak_window",
            "grievance_window",
            "bot_dwell",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.max_events < 1:
            raise ValueError("max_events must be at least 1")
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"zone {self.zone!r} is no IANA zone, like Europe/London") from None
        if self.lapsed_after < DAY:
            raise ValueError("lapsed_after must be at least a day")
        # Forgotten earlier, a buyer would never be seen to lapse, nor to be won back.
        if self.buyer_memory <= self.lapsed_after:
            raise ValueError("buyer_memory must be more than lapsed_after")
        if not 0 < self.lapse_threshold < 1:
            raise ValueError("lapse_threshold must be between 0 and 1, both excluded")
        if not 0 <= self.holdout_percent <= 100:
            raise ValueError("holdout_percent must be from 0 to 100")
        if self.leak_window > LONGEST_LEAK_WINDOW or self.leak_window % DAY:
            raise ValueError("leak_window must be whole days, 7 at most")
        if self.bot_events < 2 or self.bot_rate < 1:
            raise ValueError("bot_events must be at least 2 and bot_rate at least 1")
        if not 0 < self.discount_prone <= 1:
            raise ValueError("discount_prone must be above 0 and at most 1")

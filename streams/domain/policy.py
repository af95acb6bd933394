"""What words mean here: every number that changes a verdict. One frozen value, no environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules' parameters; durations in milliseconds of event time.

    gap: silence of more than this splits two sessions; exactly this does not.
    horizon: how far behind the watermark an event may be and still correct a verdict.
    recovery_window: how long after a lost session closed an order in that shop recovers it.
    amendment_window: how long after an order its cancellation or refund still changes verdicts.
    ahead_tolerance: how far ahead of its arrival an event may be stamped.
    max_events: retained events per customer; more are refused, so that no state grows without bound.
    """

    gap: int = 30 * MINUTE
    horizon: int = 24 * HOUR
    recovery_window: int = 24 * HOUR
    amendment_window: int = 30 * DAY
    ahead_tolerance: int = 5 * MINUTE
    max_events: int = 10_000

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise ValueError("gap must be positive")
        for name in ("horizon", "recovery_window", "amendment_window", "ahead_tolerance"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.max_events < 1:
            raise ValueError("max_events must be at least 1")

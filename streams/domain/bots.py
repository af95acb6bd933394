"""Sessions of machines: told by the events themselves, by the user agent, or by how they behave."""

from __future__ import annotations

from streams.domain.facts import BotSign
from streams.domain.policy import MINUTE, Policy
from streams.domain.session import Session


def bot_sign(session: Session, policy: Policy) -> BotSign | None:
    """What gives the session away as a machine's, the surest sign first; None for a person's."""
    if session.is_bot:
        return "told"
    if session.by_agent:
        return "user_agent"
    if session.events >= policy.bot_events:
        length = session.end - session.start
        if length < policy.bot_dwell * (session.events - 1):
            return "no_dwell"
        if session.events * MINUTE > policy.bot_rate * length:
            return "rate"
    return None

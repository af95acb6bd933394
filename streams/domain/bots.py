"""Sessions of machines: told by the events themselves, by the user agent, or by how they behave.

A session is a person's unless shown otherwise: a buyer taken for a machine is missing from every report, a
machine taken for a person is one visitor more. So behaviour is judged by looks alone (a cart or a list of
favorites that is sent over at log-in is many events at once, and nobody's haste), by means over the whole
session (its end, not a burst in it), and with room for storefronts that tell each page twice:

* ``no_dwell``: at least ``bot_events`` looks (50), on average under ``bot_dwell`` (300 ms) from one to the
  next. Somebody who swipes through a gallery takes longer over a picture, and stops before it is 50.
* ``rate``: more than ``bot_rate`` looks a minute (60), over the session or, if it is shorter, five minutes:
  301 looks at least. 30 quick ones in a minute, or 100, are no sign; keeping up a look a second for five
  minutes is.

What is missed: machines that take their time, or change their name and customer with every few pages. All
that is asked of a session is a count, its start and its end, so no order of arrival changes the answer.
"""

from __future__ import annotations

from typing import Final

from streams.domain.facts import BotSign
from streams.domain.policy import MINUTE, Policy
from streams.domain.session import Session

#: A rate is one that is kept up for this many minutes.
_MINUTES: Final = 5


def bot_sign(session: Session, policy: Policy) -> BotSign | None:
    """What gives the session away as a machine's, the surest sign first; None for a person's."""
    if session.is_bot:
        return "told"
    if session.by_agent:
        return "user_agent"
    looks = session.visits
    if looks >= policy.bot_events:
        length = session.end - session.start
        if length < policy.bot_dwell * (looks - 1):
            return "no_dwell"
        if looks > policy.bot_rate * _MINUTES and looks * MINUTE > policy.bot_rate * length:
            return "rate"
    return None

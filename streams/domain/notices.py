"""Whether a revision of an alert is told: not what is held, and not in quiet hours before they end.

What is remembered of an alert is one small record; the rest follows from the revisions, which come in their
order. Times are wall clock, in ms.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgspec import Struct

Status = Literal["firing", "held", "resolved"]

_DAY_MS: Final = 86_400_000
#: An alert that has ended is remembered for as long as its end may be sent again; one that stands, for as
#: long as news of it may come.
_ENDED_MS: Final = _DAY_MS
_STANDS_MS: Final = 30 * _DAY_MS


class Notice(Struct, array_like=True, frozen=True, gc=False):
    """What is known of an alert.

    revision: the newest. told: some revision was passed on. at: when the last news came. ended: by what the
    newest says. withheld: the newest as JSON, kept back until ``until``, for quiet hours; empty: none is.
    """

    alert_id: str
    revision: int
    told: bool
    at: int
    ended: bool = False
    withheld: bytes = b""
    until: int | None = None

    @property
    def due(self) -> int:
        """When to look at it again: what is withheld may be told, or it is forgotten."""
        if self.until is not None:
            return self.until
        return self.at + (_ENDED_MS if self.ended else _STANDS_MS)


class Decision(NamedTuple):
    """What is kept of the alert from now on, and whether the revision is passed on."""

    notice: Notice
    tell: bool


def decide(
    known: Notice | None,
    alert_id: str,
    revision: int,
    status: Status,
    fact: bytes,
    quiet_until: int | None,
    now: int,
) -> Decision:
    """What becomes of a revision that is read at ``now``; quiet_until: when the quiet hours end, if there
    are any now.

    Of an alert that nobody was told of, its end is not told either. One that is not known is told whatever
    it says: somebody may have been told of it before.
    """
    if known is not None and revision <= known.revision:
        # Sent again. Where it was passed on, the delivery is known by its id.
        return Decision(known, known.told and status != "held" and not known.withheld)
    told = known is not None and known.told
    ended = status == "resolved"
    if status == "held" or (ended and not told and (known is not None or quiet_until is not None)):
        return Decision(Notice(alert_id, revision, told, now, ended), False)
    if quiet_until is not None:
        return Decision(Notice(alert_id, revision, told, now, ended, fact, quiet_until), False)
    return Decision(Notice(alert_id, revision, True, now, ended), True)


def when_over(known: Notice, quiet_until: int | None, now: int) -> Decision:
    """What becomes of the revision that was withheld, at ``until``: told, or withheld on while there are
    quiet hours."""
    if quiet_until is not None:
        kept = Notice(
            known.alert_id, known.revision, known.told, now, known.ended, known.withheld, quiet_until
        )
        return Decision(kept, False)
    return Decision(Notice(known.alert_id, known.revision, True, now, known.ended), True)

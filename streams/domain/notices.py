"""Whether a revision of an alert is told: not what is held, and not in quiet hours before they end.

What is remembered of an alert is one small record while it stands; the rest follows from the revisions,
which come in their order.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgspec import Struct

#: An alert that nothing has been heard of for so long is forgotten; in ms.
FORGOTTEN_AFTER_MS: Final = 30 * 86_400_000


class Notice(Struct, array_like=True, frozen=True, gc=False):
    """An alert that has not ended.

    revision: the newest. told: some revision was passed on. withheld: the newest as JSON, kept back until
    ``until``, for quiet hours; empty: none is. at: when the last news came. Times are wall clock, in ms.
    """

    alert_id: str
    revision: int
    told: bool
    at: int
    withheld: bytes = b""
    until: int | None = None


class Decision(NamedTuple):
    """What is kept of the alert from now on (None: nothing), and whether this revision is passed on."""

    notice: Notice | None
    tell: bool


def decide(
    notice: Notice | None,
    alert_id: str,
    revision: int,
    status: Literal["firing", "held", "resolved"],
    fact: bytes,
    quiet_until: int | None,
    now: int,
) -> Decision:
    """What becomes of a revision that is read at ``now``; quiet_until: when the quiet hours end, if there
    are any now.

    Of an alert that nobody was told of, its end is not told either. One that is not known is told whatever
    it says, for it may have been told by whoever kept the record before.
    """
    if notice is not None and revision <= notice.revision:
        # Sent again. Where it was passed on, the delivery is known by its id.
        return Decision(notice, notice.told and status != "held" and not notice.withheld)
    told = notice is not None and notice.told
    if status == "held":
        return Decision(Notice(alert_id, revision, told, now), False)
    if status == "firing":
        if quiet_until is not None:
            return Decision(Notice(alert_id, revision, told, now, fact, quiet_until), False)
        return Decision(Notice(alert_id, revision, True, now), True)
    if quiet_until is not None and told:
        return Decision(Notice(alert_id, revision, told, now, fact, quiet_until), False)
    return Decision(None, told or (notice is None and quiet_until is None))


def when_over(notice: Notice, stands: bool, quiet_until: int | None, now: int) -> Decision:
    """The same for the revision that was withheld, at ``until``; stands: it fires. It is withheld on while
    there are quiet hours."""
    if quiet_until is not None:
        kept = Notice(notice.alert_id, notice.revision, notice.told, now, notice.withheld, quiet_until)
        return Decision(kept, False)
    if stands:
        return Decision(Notice(notice.alert_id, notice.revision, True, now), True)
    return Decision(None, notice.told)

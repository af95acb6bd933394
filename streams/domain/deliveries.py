"""One fact on its way to one endpoint: when it is tried, what an answer makes of it, when it is given up.

The schedule and what answers mean are those of the Standard Webhooks specification 1.0.0, "Deliverability
and reliability" and "Delivery success and failure". All times are the wall clock's, in ms, and are given.

Every revision of a fact is a message of its own, with an id of its own, and none is left out because a newer
one waits: what fired and what resolved are both told, however long the receiver was away. They are sent in
their order as long as that costs little (see ``goes_first``). Only where a newer revision *was delivered*,
to an endpoint that keeps one state of each alert, an older one is withdrawn: it would bring back what is
over, and the alert did arrive.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

Status = Literal["waiting", "delivered", "dead", "cancelled"]

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

#: What passes before each attempt, since the one before it.
SCHEDULE_MS: Final = (
    0,
    5 * _SECOND,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
#: Each wait is longer by a part of up to this, so that what failed together does not come back together.
JITTER: Final = 0.1
#: A receiver is not obeyed that asks for more.
LONGEST_WAIT_MS: Final = _DAY
#: From the first attempt on; beyond it nothing is tried again, whatever the receiver asks for.
LIFETIME_MS: Final = round(sum(SCHEDULE_MS) * (1 + JITTER)) + _MINUTE
#: A newer revision lets an older one go first that is to be tried within this.
ORDER_MS: Final = 6 * _MINUTE

#: An answer of this says that the endpoint is no more.
GONE: Final = 410
_LONGEST_ERROR: Final = 300


class Delivery(Struct, array_like=True, frozen=True, gc=False):
    """One revision of a fact for one endpoint.

    fact: its JSON as on its topic; empty once it is delivered or cancelled. sent_at: when it was sent there.
    customer: the hexadecimal digest of whom it is about; empty: of nobody. since: when the schedule began.
    step: attempts of the schedule that failed; postponed: attempts in a row that the receiver asked to be
    made later.
    """

    delivery_id: str
    endpoint: str
    topic: str
    subject_id: str
    revision: int
    fact: bytes
    created_at: int
    since: int
    next_at: int | None
    version: int
    sent_at: int = 0
    customer: str = ""
    status: Status = "waiting"
    step: int = 0
    postponed: int = 0
    attempts: int = 0
    at: int | None = None
    http_status: int | None = None
    error: str | None = None

    @property
    def webhook_id(self) -> str:
        """The idempotency key: of one revision, the same at every attempt and for every endpoint.

        Without a full stop, which the signed text uses between its parts.
        """
        return f"{self.subject_id}-{self.revision}"

    @property
    def chain(self) -> tuple[str, str, str]:
        """What all revisions of one fact for one endpoint have in common."""
        return self.endpoint, self.topic, self.subject_id


class Answer(NamedTuple):
    """What became of one attempt. http_status: None where no answer came. retry_after_ms: what the receiver
    asks for. error: one line, without secrets; None where it went well. final: trying again cannot help."""

    http_status: int | None
    error: str | None = None
    retry_after_ms: int | None = None
    final: bool = False

    @property
    def ok(self) -> bool:
        """The receiver has it."""
        return self.error is None and self.http_status is not None and 200 <= self.http_status < 300


def identity(endpoint: str, topic: str, subject_id: str, revision: int) -> str:
    """The delivery_id: XXH3 128 of these, NUL between, hexadecimal."""
    return xxh3_128_hexdigest("\0".join((endpoint, topic, subject_id, str(revision))).encode())


def begun(
    endpoint: str,
    topic: str,
    subject_id: str,
    revision: int,
    fact: bytes,
    now: int,
    *,
    sent_at: int = 0,
    customer: str = "",
) -> Delivery:
    """A delivery to be attempted at once. It counts as created when the fact was sent: however often that is
    read, it stays so."""
    return Delivery(
        identity(endpoint, topic, subject_id, revision),
        endpoint,
        topic,
        subject_id,
        revision,
        fact,
        created_at=sent_at or now,
        since=now,
        next_at=now,
        version=now,
        sent_at=sent_at,
        customer=customer,
    )


def wait_ms(delivery_id: str, step: int) -> int:
    """What passes between the attempts ``step`` and ``step`` + 1, ``step`` of them having failed: the
    schedule's, and a part of it more that hangs on the delivery alone."""
    wait = SCHEDULE_MS[step]
    chance = xxh3_64_intdigest(f"{delivery_id}\0{step}".encode()) / 2**64
    return wait + int(wait * JITTER * chance)


def after(delivery: Delivery, answer: Answer, now: int) -> Delivery:
    """The delivery once an attempt has ended at ``now``.

    A receiver that asks for a later attempt is given it in place of the schedule's next one, each time in a
    row a second later at least; it has ``LIFETIME_MS`` for that.
    """
    tried = _tried(delivery, answer, now)
    if answer.ok:
        return msgspec.structs.replace(tried, status="delivered", next_at=None, fact=b"")
    if answer.http_status == GONE or answer.final:
        return msgspec.structs.replace(tried, status="dead", next_at=None)
    if answer.retry_after_ms is not None:
        postponed = delivery.postponed + 1
        asked = max(answer.retry_after_ms, postponed * _SECOND)
        next_at = now + min(asked, LONGEST_WAIT_MS)
        if next_at - delivery.since <= LIFETIME_MS:
            return msgspec.structs.replace(tried, postponed=postponed, next_at=next_at)
        return msgspec.structs.replace(tried, status="dead", next_at=None)
    step = delivery.step + 1
    if step == len(SCHEDULE_MS):
        return msgspec.structs.replace(tried, status="dead", step=step, next_at=None)
    next_at = now + wait_ms(delivery.delivery_id, step)
    return msgspec.structs.replace(tried, step=step, postponed=0, next_at=next_at)


def beside(delivery: Delivery, answer: Answer, now: int) -> Delivery:
    """The delivery once an attempt beside its schedule has ended: one that failed costs it nothing."""
    if answer.ok or answer.http_status == GONE:
        return after(delivery, answer, now)
    next_at = delivery.next_at
    if next_at is not None and answer.retry_after_ms is not None:
        next_at = max(next_at, now + min(answer.retry_after_ms, LONGEST_WAIT_MS))
    return msgspec.structs.replace(_tried(delivery, answer, now), next_at=next_at)


def _tried(delivery: Delivery, answer: Answer, now: int) -> Delivery:
    return msgspec.structs.replace(
        delivery,
        attempts=delivery.attempts + 1,
        at=now,
        http_status=answer.http_status,
        error=None if answer.ok else one_line(answer.error or f"answered {answer.http_status}"),
        version=newer(delivery, now),
    )


def again(delivery: Delivery, now: int) -> Delivery:
    """A dead or waiting delivery on the schedule from its beginning; others as they are."""
    if delivery.status not in ("dead", "waiting"):
        return delivery
    return msgspec.structs.replace(
        delivery,
        status="waiting",
        step=0,
        postponed=0,
        since=now,
        next_at=now,
        version=newer(delivery, now),
    )


def hurried(delivery: Delivery, now: int) -> Delivery:
    """A waiting delivery to be tried at once, on the schedule as before: an older revision of the same fact
    has just arrived. One that the receiver wants later is left as it is."""
    if delivery.status != "waiting" or delivery.postponed:
        return delivery
    return msgspec.structs.replace(delivery, next_at=now, version=newer(delivery, now))


def given_up(delivery: Delivery, why: str, now: int) -> Delivery:
    """Dead without an attempt; it can be had again."""
    return msgspec.structs.replace(
        delivery, status="dead", next_at=None, error=one_line(why), version=newer(delivery, now)
    )


def cancelled(delivery: Delivery, why: str, now: int) -> Delivery:
    """Not to be sent, now or ever; what it would have told is dropped."""
    return msgspec.structs.replace(
        delivery,
        status="cancelled",
        next_at=None,
        fact=b"",
        error=one_line(why),
        version=newer(delivery, now),
    )


def goes_first(older: Delivery, now: int) -> bool:
    """Whether a newer revision waits for ``older``, of the same fact and endpoint, which is waiting.

    It does while the older one is to be tried soon. One that has hours to wait is tried beside its schedule
    before a newer one is (see ``beside``): if the endpoint is back they arrive in their order, and if it
    takes anything but this one, that holds up nothing.
    """
    return older.next_at is not None and older.next_at - now <= ORDER_MS


def newer(delivery: Delivery, now: int) -> int:
    """The next version: it grows even if the wall clock is put back, or what was told last is forgotten."""
    return max(delivery.version + 1, now)


def retry_after_ms(text: str | None, now: int) -> int | None:
    """What a Retry-After header asks for (RFC 9110, 10.2.3): seconds, or a date; None if it is neither.

    A date that has passed is 0. Not bounded.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9]) * _SECOND
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0, round(date.timestamp() * 1000) - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def one_line(text: str) -> str:
    """``text`` for a person: printable, on one line, not long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_ERROR else line[: _LONGEST_ERROR - 1] + "…"

"""The crash law in memory, as a command: is it kept by the source tree that this is run in?

``python -m tests.chaos.law`` prints ``kept`` or ``broken``. The same examples every time: one story cut at
every record that is written, then generated ones, looked for and not made small.
"""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import Phase, settings

EXAMPLES = "1000"
#: More than all that the story has its worker write.
_MOST_RECORDS = 60


def main() -> int:
    settings.register_profile(
        "search", phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False, database=None
    )
    settings.load_profile("search")
    from tests.agents import test_batch_loop_laws as laws

    try:
        _a_session_turns_out_to_have_begun_earlier(laws)
        laws.test_a_crash_at_any_record_written_changes_nothing()
    except AssertionError as exc:
        print(exc, file=sys.stderr)
        print("broken")
    else:
        print("kept")
    return 0


def _a_session_turns_out_to_have_begun_earlier(laws: Any) -> None:
    """Another customer's event makes a verdict due, and a third event, in the next batch, moves its start.

    After the crash both come in one batch: what the first life published must have been kept, or never said.
    """
    from streams.domain.events import Visit
    from tests.domain.stories import POLICY, make

    begin = 2 * 10**9
    told = laws.shifted(
        [
            make(begin, "e0", Visit, customer_id="c"),
            make(begin + 3 * POLICY.gap, "e1", Visit, customer_id="d"),
            make(begin - POLICY.gap // 2, "e2", Visit, customer_id="c"),
        ]
    )
    end = max(event.t for event in told) + POLICY.gap + 1 + laws.DEADLINE_GRANULE_MS
    for fuse in range(_MOST_RECORDS):
        log, feed = laws.Log(), laws.feed_of(told, [], [end, end, end])
        # The first life reads the ticks and then single events, the second one whole batches.
        laws.live(log, feed, [fuse], [1] * 6 + [8] * 6, [1] * 3)
        laws.check(log, feed, told, 0, 0)


def owed_when_it_expires(laws: Any) -> None:
    """One tick makes a verdict due and lies beyond all that could change it: it goes out none the less.

    Cut between the state that owes the fact and the fact, the state must still be able to tell it.
    """
    from streams.domain.events import Visit
    from tests.domain.stories import POLICY, make

    told = laws.shifted([make(2 * 10**9, "e0", Visit)])
    far = told[0].t + POLICY.gap + POLICY.recovery_window + POLICY.horizon + 10 * laws.DEADLINE_GRANULE_MS
    for fuse in range(_MOST_RECORDS):
        log, feed = laws.Log(), laws.feed_of(told, [], [far, far, far])
        laws.live(log, feed, [fuse], [1] * 6, [])
        laws.check(log, feed, told, 0, 0)


if __name__ == "__main__":
    sys.exit(main())

"""The crash law in memory, as a command: is it kept by the source tree that this is run in?

``python -m tests.chaos.law`` prints ``kept`` or ``broken``. The same examples every time; it looks for one
that breaks the law and does not make it small.
"""

from __future__ import annotations

import sys

from hypothesis import Phase, settings

EXAMPLES = "3000"


def main() -> int:
    settings.register_profile(
        "search", phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False, database=None
    )
    settings.load_profile("search")
    from tests.agents import test_batch_loop_laws as laws

    try:
        laws.test_a_crash_at_any_record_written_changes_nothing()
    except AssertionError as exc:
        print(exc, file=sys.stderr)
        print("broken")
    else:
        print("kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())

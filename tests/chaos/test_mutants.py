"""Three ways to spoil the batch loop, each in a copy of the source tree: the checks must find each.

The offset guard and the order of facts and states are broken where the crash law in memory finds it: it cuts
the loop at every record that is written, so a mutant cannot survive by luck. Acknowledging first is outside
of what runs in memory: there real workers are killed, at the moment they commit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas import topics
from streams.adapters.kafka.admin import committed_offsets
from tests.agents import test_batch_loop_laws
from tests.chaos.conftest import ROOT, World
from tests.chaos.deployment import Deployment, Servers, deployed
from tests.chaos.law import EXAMPLES, owed_when_it_expires
from tests.chaos.nursery import Nursery

pytestmark = pytest.mark.chaos

LAW_S = 300.0
KILLS = 3

GUARD = "if offset <= seen[topic] or offset <= done[topic]:"
NO_GUARD = "if False:"

HANDLE = """\
            await customers.handle(number, [Bundle.of(event) for event in batch])
            for event in batch:
                event.ack()
"""
# The pause is longer than the commit interval: a kill at the commit strikes between the two.
ACK_FIRST = """\
            import asyncio

            for event in batch:
                event.ack()
            await asyncio.sleep(2.0)
            await customers.handle(number, [Bundle.of(event) for event in batch])
"""

WRITE = """\
            await self._states.write(number, step.changes)
"""
PAY = """\
        if step.facts:
            await self._send(number, self._by_topic(step.facts))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, to be spoiled."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("schemas", "streams", "sql", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def replace_once(file: Path, old: str, new: str) -> None:
    """Replace ``old``, there exactly once: a mutant of code that has moved on proves nothing."""
    text = file.read_text()
    assert text.count(old) == 1, (
        f"{file.name} no longer holds this once, so the mutant must be written anew:\n{old}"
    )
    file.write_text(text.replace(old, new))


def law_of(tree: Path) -> str:
    """``kept`` or ``broken``: what the crash law says of the code in ``tree``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.law"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "EBBTIDE_TEST_EXAMPLES": EXAMPLES},
        capture_output=True,
        text=True,
        timeout=LAW_S,
        check=False,
    )
    assert done.returncode == 0, f"the law could not be put to {tree}:\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def test_the_crash_law_is_kept_by_the_code_as_it_is(tree: Path) -> None:
    """The other side of the mutants: what finds them finds nothing here."""
    assert law_of(tree) == "kept"


def test_a_fact_owed_when_its_session_expires_survives_a_crash() -> None:
    """Found by killing real workers at their commits, with a week of events to be read at once."""
    owed_when_it_expires(test_batch_loop_laws)


def test_without_the_offset_guard_what_is_delivered_again_is_counted_again(tree: Path) -> None:
    replace_once(tree / "streams/domain/visitor.py", GUARD, NO_GUARD)
    assert law_of(tree) == "broken"


def test_facts_paid_before_the_states_are_written_are_found_out(tree: Path) -> None:
    """A fact goes out, the state that gave it is lost, and the batch comes again in another order."""
    agent = tree / "streams/agents/customers.py"
    replace_once(agent, PAY, "")
    replace_once(
        agent, WRITE, PAY.replace("\n    ", "\n        ").replace("        if", "            if", 1) + WRITE
    )
    assert law_of(tree) == "broken"


def test_batches_acknowledged_before_they_are_handled_are_lost_by_a_kill(
    tree: Path, servers: Servers, world: World, seed: int, folder: Path
) -> None:
    replace_once(tree / "streams/agents/customers.py", HANDLE, ACK_FIRST)
    with (
        Nursery(tree) as nursery,
        deployed(servers, folder, seed, nursery=nursery, partitions=2) as deployment,
    ):
        _kill_at_commits(deployment, world)
        deployment.drain(deadline_s=60)
        wrong = deployment.problems(world.truth)
    lost = [each for each in wrong if "were received" in each]
    assert lost, "the mutant survived"
    deployment.report(f"the mutant that acknowledges first is found out: {lost[0]}")


def _kill_at_commits(deployment: Deployment, world: World) -> None:
    """Everything is there to be read; the worker is killed the moment it has committed something new."""
    deployment.fleet.batch_records = (50_000,)
    deployment.start_feed(world.records, rate=1_000_000).finish()
    (worker,) = deployment.fleet.add("customers")
    deployment.fleet.add("sink")
    group = deployment.settings.group("customers")
    inputs = {deployment.settings.topic(topic.name) for topic in topics.INPUTS}
    committed: dict[tuple[str, int], int] = {}
    for _ in range(KILLS):
        ends = time.monotonic() + 90
        while True:
            now = {
                tp: at for tp, at in committed_offsets(deployment.settings, group).items() if tp[0] in inputs
            }
            if now != committed:
                break
            assert time.monotonic() < ends, f"nothing was committed; logs in {deployment.folder}"
        deployment.fleet.kill([worker])
        committed = now

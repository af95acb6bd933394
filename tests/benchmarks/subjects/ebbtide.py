"""Ebbtide's customers worker as ``ebbtide worker --agents customers`` runs it.

The one difference: its input topics are the ones that all subjects share, while everything it writes is
under the run's own prefix. It tells nothing itself; its ``ingest`` topic says how far it is.
"""

from __future__ import annotations

import os
import sys

from schemas import topics
from streams.adapters.kafka.worker import run_worker
from streams.app import create_app
from streams.settings import Settings
from tests.benchmarks.subjects.telling import SESSION_TIMEOUT_S, Options

_INPUTS = [topic.name for topic in topics.INPUTS]


class SharedInputs(Settings):
    """Settings whose input topics are ``shared``."""

    shared: tuple[str, ...] = ()

    def topic(self, name: str) -> str:
        if name in _INPUTS:
            return type(self).shared[_INPUTS.index(name)]
        return f"{self.topic_prefix}{name}"


if __name__ == "__main__":
    options = Options.from_argv()
    SharedInputs.shared = options.inputs
    settings = SharedInputs.from_env(
        kafka=options.kafka,
        topic_prefix=f"{options.run}-",
        partitions=options.partitions,
        ticks=os.environ.get("EBBTIDE_TICKS", "off"),
        session_timeout_s=float(SESSION_TIMEOUT_S),
    )
    sys.exit(run_worker(create_app(settings, "customers"), os.environ.get("BENCH_LOG_LEVEL", "WARNING")))

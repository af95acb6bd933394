"""Errors as users meet them: one clear sentence and a non-zero exit, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from streams.adapters.clickhouse import StoreError, StoreUnavailable
from streams.adapters.kafka.admin import AdminError
from streams.commands.demo import DemoError
from streams.embedded.process import StackError
from streams.settings import SettingsError
from streams.sources.record import SourceError
from streams.sources.replayer import ReplayError
from streams.workers import WorkerError

P = ParamSpec("P")
R = TypeVar("R")

#: Errors whose text was written for the person at the command line.
TOLD = (
    StoreError,
    StoreUnavailable,
    AdminError,
    StackError,
    SettingsError,
    SourceError,
    ReplayError,
    WorkerError,
    DemoError,
)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with expected errors said in one sentence."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except TOLD as exc:
            raise click.ClickException(" ".join(str(exc).split())) from exc
        except KeyboardInterrupt:
            raise click.Abort from None

    return run

"""Asking ClickHouse for the page: questions of ``sql/page``, ``queries`` and ``report``, off the event loop.

Any number of readers of one view cost one answer: an answer is kept for a moment, and who asks meanwhile
waits for it.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import Endpoint, StoreError, connect, explained, sql_dir
from streams.adapters.queries import Question

#: Answers are as old as this at most, seconds.
KEPT_S: Final = 2.0
#: Questions asked at once: more than that wait, and do not weigh on who writes.
_AT_ONCE: Final = 4
_TIMEOUT_S: Final = 20.0
_MOST_KEPT: Final = 500
_PARAMETER: Final = re.compile(r"\{(\w+):([\w()]+)\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows by column, in order; ``elapsed_ms`` as asked. ``wrong``: one sentence if it could not be had."""

    rows: tuple[Mapping[str, Any], ...] = ()
    elapsed_ms: float = 0.0
    wrong: str = ""


@cache
def page_question(name: str) -> Question:
    """The question of that name that the page asks; StoreError if there is none."""
    for folder in ("page", "queries", "report"):
        path = sql_dir() / folder / f"{name}.sql"
        if name.isidentifier() and path.is_file():
            return Question.read(path)
    raise StoreError(f"the page asks no question {name!r}")


def spelled_out(question: Question, given: Mapping[str, str]) -> str:
    """The question's SQL with its parameters in their places, to be run as it stands by any client."""
    # One parameter may be asked for as two types.
    return _PARAMETER.sub(lambda asked: _literal(given[asked[1]], asked[2]), question.text)


def _literal(value: str, kind: str) -> str:
    if kind == "Bool":
        return "true" if value == "true" else "false"
    if "Int" in kind:
        return str(int(value))
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'" if kind == "String" else f"to{kind}('{quoted}')"


@dataclass
class Asker:
    """Asks the ClickHouse at ``url``."""

    url: str = field(repr=False)
    _clients: threading.local = field(default_factory=threading.local, repr=False)
    _kept: dict[tuple[str, tuple[str, ...]], tuple[float, asyncio.Future[Answer]]] = field(
        default_factory=dict, repr=False
    )
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="asking"), repr=False
    )

    async def ask(self, name: str, given: Mapping[str, str]) -> Answer:
        """The answer to the question of that name; of ``given`` those parameters that it takes."""
        asked = page_question(name)
        values = {parameter: given[parameter] for parameter in asked.parameters}
        key = (name, tuple(values.values()))
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is None or (kept[0] < now and kept[1].done()):
            if len(self._kept) >= _MOST_KEPT:
                self._kept = {k: v for k, v in self._kept.items() if v[0] >= now}
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(loop.run_in_executor(self._threads, self.ask_now, asked, values))
            kept = self._kept[key] = (now + KEPT_S, task)
        # One reader who leaves must not take the answer from the others.
        return await asyncio.shield(kept[1])

    def ask_now(self, question: Question, given: Mapping[str, str]) -> Answer:
        """Blocks until answered; one client a thread."""
        started = time.perf_counter()
        try:
            client = self.client()
            with explained(Endpoint.parse(self.url), f"asking {question.name}"):
                result = client.query(question.text, parameters=dict(given))
                rows = tuple(dict(zip(result.column_names, row, strict=True)) for row in result.result_rows)
        except StoreError as exc:
            self.let_go()
            return Answer(wrong=str(exc))
        return Answer(rows, (time.perf_counter() - started) * 1000)

    def client(self) -> Client:
        """This thread's client."""
        found: Client | None = getattr(self._clients, "client", None)
        if found is None:
            found = self._clients.client = connect(self.url, timeout_s=_TIMEOUT_S)
        return found

    def let_go(self) -> None:
        """After a failure this thread connects anew."""
        found: Client | None = getattr(self._clients, "client", None)
        self._clients.client = None
        if found is not None:
            found.close()


def plain_number(value: Any) -> float | None:
    """A cell as a chart takes it."""
    return None if value is None or isinstance(value, str | date) else float(value)

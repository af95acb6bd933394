"""The questions that ``sql/queries`` answers: what each asks, which parameters it takes, and asking it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.query import QueryResult

from streams.adapters.clickhouse import StoreError, sql_dir

_PARAMETER: Final = re.compile(r"\{(\w+):([\w()]+)\}")
_COMMENT: Final = re.compile(r"^\s*--.*$", re.MULTILINE)

#: The day up to which every partition has come. One that nothing is known of yet holds nobody back.
_REACHED: Final = """
SELECT toDate32(min(reached), {zone:String}) FROM
(
    SELECT max(watermark) AS reached FROM ingest FINAL
    WHERE toUnixTimestamp64Milli(watermark) > 0 GROUP BY partition
)
HAVING count() > 0
"""


@dataclass(frozen=True, slots=True)
class Question:
    """One file of ``sql/queries``. ``parameters``: ClickHouse types by name, in order of appearance."""

    name: str
    asks: str
    text: str = field(repr=False)
    parameters: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Question:
        """The question that the file holds; its first comment says what it asks."""
        text = path.read_text()
        said = re.match(r"-- Question: (.*(?:\n--   .*)*)", text)
        asks = " ".join(said[1].replace("\n--  ", "").split()) if said else path.stem
        return cls(path.stem, asks, text, dict(_PARAMETER.findall(_COMMENT.sub("", text))))

    def ask(self, client: Client, given: Mapping[str, str]) -> QueryResult:
        """The answer. StoreError unless ``given`` has exactly the question's parameters, each as text."""
        unknown = [name for name in given if name not in self.parameters]
        missing = [name for name in self.parameters if name not in given]
        if unknown or missing:
            takes = ", ".join(f"{name} ({kind})" for name, kind in self.parameters.items())
            wrong = f"does not take {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
            raise StoreError(f"{self.name} {wrong}; it takes {takes}")
        return client.query(self.text, parameters=dict(given))


def questions() -> Iterator[Question]:
    """All questions by name."""
    for path in sorted((sql_dir() / "queries").glob("*.sql")):
        yield Question.read(path)


def question(name: str) -> Question:
    """The question of that name; StoreError if there is none."""
    found = {one.name: one for one in questions()}
    if name not in found:
        raise StoreError(f"there is no query {name!r}; there are {', '.join(found)}")
    return found[name]


def reached_day(client: Client, zone: str) -> date | None:
    """The shop-local day that the whole pipeline has come to; None if it has read nothing yet."""
    rows = client.query(_REACHED, parameters={"zone": zone}).result_rows
    day: date | None = rows[0][0] if rows else None
    return day


def plain(value: Any) -> Any:
    """A cell as JSON holds it: days and times in ISO 8601, amounts as decimal text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value)

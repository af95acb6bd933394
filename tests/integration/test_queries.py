"""The questions of sql/queries: each answers the golden facts with its golden result, and as a command."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, connect, migrate, sql_dir
from streams.adapters.queries import Question, plain, question, questions, reached_day
from streams.adapters.rows import TABLES
from streams.cli import main
from streams.commands.query import filled
from streams.settings import Settings
from tests.integration.stored import database_of

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "queries"
NAMES: Final = [one.name for one in questions()]
#: They read with FINAL themselves.
VIEWS: Final = [
    path.stem.split("_", 1)[1]
    for path in (sql_dir() / "migrations").glob("*.sql")
    if " VIEW " in path.read_text()
]


@pytest.fixture(scope="module")
def url(clickhouse: str) -> Iterator[str]:
    """A database with the golden facts in it, which no test changes."""
    with database_of(clickhouse, json.loads((GOLDEN / "facts.json").read_text())) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with closing(connect(url)) as client:
        yield client


def answer(client: Client, name: str, **given: str) -> list[dict[str, Any]]:
    """The rows, as JSON would have them."""
    result = question(name).ask(client, given)
    return [
        {column: plain(cell) for column, cell in zip(result.column_names, row, strict=True)}
        for row in result.result_rows
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_query_answers_the_golden_facts_with_its_golden_result(client: Client, name: str) -> None:
    cases = json.loads((GOLDEN / f"{name}.json").read_text())
    assert cases
    for case in cases:
        assert answer(client, name, **case["parameters"]) == case["rows"], case["proves"]
        assert case["rows"], "a result without rows shows nothing"


def test_no_golden_result_is_of_a_query_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {"facts", *NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_asks_its_parameters_and_its_grain(name: str) -> None:
    text = (sql_dir() / "queries" / f"{name}.sql").read_text()
    said = dict(re.findall(r"^-- (Question|Parameters|Grain): (.*(?:\n--   .*)*)", text, re.MULTILINE))
    assert said.keys() == {"Question", "Parameters", "Grain"}
    named = said["Parameters"].replace("\n--  ", "")
    for parameter in question(name).parameters:
        assert re.search(rf"\b{parameter}\b", named), f"{parameter} is not explained"


@pytest.mark.parametrize("name", NAMES)
def test_a_query_reads_what_stands(name: str) -> None:
    """Every table of ours is read with FINAL: without it a replaced row may still be seen."""
    text = re.sub(r"--.*", "", question(name).text)
    tables = "|".join({table for table, _ in TABLES.values()})
    read = re.findall(rf"\b(?:FROM|JOIN) (?:{tables})\b(?: AS \w+)?(?: FINAL)?", text)
    assert read or re.search(rf"\bFROM (?:{'|'.join(VIEWS)})\b", text)
    assert all(found.endswith("FINAL") for found in read)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_default(client: Client, name: str) -> None:
    asked = question(name)
    assert filled(client, asked.parameters, {}, Settings()).keys() == asked.parameters.keys()


def test_one_shop_is_what_all_shops_say_of_it(client: Client) -> None:
    for name in NAMES:
        for case in json.loads((GOLDEN / f"{name}.json").read_text()):
            if case["parameters"]["shop"] == "":
                given = {**case["parameters"], "shop": "s1"}
                of_shop = [row for row in case["rows"] if row["shop_id"] == "s1"]
                assert answer(client, name, **given) == of_shop, name


def test_the_day_reached_is_that_of_the_partition_that_lags_most(client: Client) -> None:
    assert str(reached_day(client, "UTC")) == "2024-03-10"
    assert str(reached_day(client, "America/New_York")) == "2024-03-09"


def test_days_not_given_end_with_the_day_reached_or_the_day_given(client: Client) -> None:
    def days(**given: str) -> tuple[str, str]:
        values = filled(client, question("lifecycle_flow").parameters, given, Settings())
        return values["since"], values["until"]

    assert days() == ("2024-02-10", "2024-03-10")
    assert days(until="2024-01-30") == ("2024-01-01", "2024-01-30")
    assert days(since="2023-01-01") == ("2023-01-01", "2024-03-10")


def test_a_pipeline_that_has_read_nothing_has_reached_no_day(database: str) -> None:
    migrate(database)
    with closing(connect(database)) as client:
        assert reached_day(client, "UTC") is None
        with pytest.raises(StoreError, match="read nothing yet; say --param as_of="):
            filled(client, question("rfm_tiers").parameters, {}, Settings())


def run(*args: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, list(args), env=clean, catch_exceptions=False)


def test_the_command_lists_all_questions() -> None:
    told = run("query", "--list").output
    assert [name for name in NAMES if f"{name}\n" in told] == NAMES
    assert "since (Date32), until (Date32)" in told


@pytest.mark.parametrize("name", NAMES)
def test_the_command_prints_json_csv_and_a_table(url: str, name: str) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text())[0]
    given = [word for key, value in case["parameters"].items() for word in ("--param", f"{key}={value}")]
    asked = ("query", name, "--clickhouse", url, *given, "--format")
    lines = run(*asked, "json").output.splitlines()
    assert [json.loads(line) for line in lines] == case["rows"]
    head, *rows = csv.reader(io.StringIO(run(*asked, "csv").output))
    assert (head, len(rows)) == (list(case["rows"][0]), len(case["rows"]))
    assert case["rows"][0]["shop_id"] in run(*asked, "table").output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--list"),
        (["churn"], "there are action_outcomes, alerts, bots_and_loss"),
        (["rfm_tiers", "--param", "since=2024-01-01"], "does not take since; it takes as_of"),
        (["rfm_tiers", "--param", "as_of"], "name=value"),
        (["rfm_tiers", "--param", "as_of=soon"], "soon"),
        (["churn_daily", "--param", "until=soon"], "'soon' is not a day"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(url: str, args: list[str], said: str) -> None:
    result = run("query", *args, "--clickhouse", url)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")


def test_a_question_needs_all_of_its_parameters(client: Client) -> None:
    with pytest.raises(StoreError, match=r"rfm_tiers needs as_of; it takes as_of \(Date32\), shop"):
        question("rfm_tiers").ask(client, {"shop": "", "guests": ""})


def test_a_parameter_is_a_value_and_never_sql(client: Client) -> None:
    given = {"shop": "' OR 1 = 1 --", "guests": "", "as_of": "2024-01-05"}
    assert answer(client, "rfm_tiers", **given) == []


def test_a_file_without_a_question_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "plain.sql").write_text("-- Why: {not:String}\nSELECT {n:UInt8}, {n:UInt8}\n")
    found = Question.read(tmp_path / "plain.sql")
    assert (found.asks, dict(found.parameters)) == ("plain", {"n": "UInt8"})

"""What the page asks: every question answers, is explained, has words, and its SQL runs as it is shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import StoreError, connect, sql_dir
from streams.dashboard.asking import Answer, Asker, page_question, spelled_out
from streams.dashboard.pages import PAGES, Panel
from streams.dashboard.selection import LANGS, Selection, View
from streams.dashboard.sql_text import sql_page
from streams.dashboard.words import Words
from streams.domain.policy import Policy
from tests.integration.stored import database_of

FACTS: Final = Path(__file__).parents[1] / "golden" / "queries" / "facts.json"
PANELS: Final = [panel for panels in PAGES.values() for panel in panels]
ASKED: Final = sorted({panel.asks for panel in PANELS} | {"reached", "shops"})
OWN: Final = sorted(path.stem for path in (sql_dir() / "page").glob("*.sql"))
#: 2024-03-10 00:00 UTC. The golden facts are of January to March of that year.
REACHED: Final = 1_710_028_800_000
_ALIKE: Final = {"shop_id": "s1", "customer_id": "c1"}
_MINUTE: Final = {"minute": "2024-03-09 10:00", "closed": 4, "lost": 3}
#: What the golden facts have nothing of.
_MORE: Final[dict[str, list[dict[str, Any]]]] = {
    "sessions": [
        {**_ALIKE, "started_at": "2024-03-09 10:00", "lost_stage": "carted", "currency": "CNY"},
        {**_ALIKE, "started_at": "2023-12-01 10:00", "orders": 1, "revenue": "9.0000", "currency": "EUR"},
    ],
    "customers": [{**_ALIKE, "stage": "lapsing", "orders": 2, "purchase_days": 2, "currency": "CNY"}],
    "reasons": [
        {**_ALIKE, "at": "2024-03-09 11:00", "subject_id": "0" * 32, "reason": "price", "score": 0.9}
    ],
    "item-days": [
        {
            **_ALIKE,
            "day": "2024-03-09",
            "items": [{"item_id": "i1", "disposition": "bought_elsewhere", "carted": True}],
        }
    ],
    "segments": [
        {**_ALIKE, "segment": "sleeping-vips", "at": "2024-03-09 12:00", "cause": "time"},
        {**_ALIKE, "customer_id": "c2", "segment": "sleeping-vips", "at": "2024-03-09", "is_member": False},
    ],
    "loss-windows": [
        {**_MINUTE, "scope": "stage", "scope_value": "carted"},
        {**_MINUTE, "shop_id": ""},
        {**_MINUTE, "shop_id": "s1"},
    ],
}
_LETTER: Final = """
    INSERT INTO dead_letters (topic, partition, offset, reason, detail, arrived_at, key, value)
    VALUES ('visits', 0, 7, 'null_key', 'the record has no key', '2024-03-09 10:00:00', NULL, 'x')"""
_DELIVERY: Final = """
    INSERT INTO deliveries (delivery_id, endpoint, topic, status, attempts, created_at, at, error, version)
    VALUES ('d1', 'crm', 'alerts', 'waiting', 2, '2024-03-09 10:00', '2024-03-09 10:01', 'said 503', 1)"""


@pytest.fixture(scope="module")
def url(clickhouse: str) -> Iterator[str]:
    """The golden facts in a database of their own."""
    with database_of(clickhouse, json.loads(FACTS.read_text()), _MORE) as url:
        with closing(connect(url)) as client:
            client.command(_LETTER)
            client.command(_DELIVERY)
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with closing(connect(url)) as client:
        yield client


_CHOICES: Final = ("shop", "item", "customer", "segment", "days")


def parameters(name: str, **asked: str) -> dict[str, str]:
    chosen: dict[str, Any] = {"days": 90} | {key: asked.pop(key) for key in _CHOICES if key in asked}
    view = View(Selection("en", "loss", **chosen), REACHED, "UTC")
    given = view.parameters() | {"kind": "loss", "gap_ms": "1800000"} | asked
    return {parameter: given[parameter] for parameter in page_question(name).parameters}


def ask(url: str, name: str, **chosen: str) -> Answer:
    answer = Asker(url).ask_now(page_question(name), parameters(name, **chosen))
    assert not answer.wrong
    return answer


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("shop", ["", "s1", "it's; DROP TABLE \\'"])
def test_the_sql_that_is_shown_gives_the_rows_that_are_shown(
    url: str, client: Client, name: str, shop: str
) -> None:
    for chosen in ({"shop": shop}, {"shop": shop, "item": "i1", "customer": "c1", "segment": "vips"}):
        answer = ask(url, name, **chosen)
        result = client.query(spelled_out(page_question(name), parameters(name, **chosen)))
        shown = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
        assert repr(shown) == repr([dict(row) for row in answer.rows])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_each_panel_has_something_to_show(url: str, panel: Panel) -> None:
    chosen = {"shop": "s1", "item": "i1", "customer": "c1", "segment": "sleeping-vips"} | dict(panel.given)
    shown = ask(url, panel.asks, **chosen)
    assert shown.rows or panel.title == "pipeline alerts", "a question without an answer shows nothing"


def test_figures_are_those_of_the_sessions_one_by_one(url: str, client: Client) -> None:
    given = parameters("figures")
    one_by_one = """
        SELECT count() AS sessions, countIf(outcome = 'lost') AS lost,
            sumMapIf(map(ifNull(currency, ''), cart_value), outcome = 'lost' AND cart_value > 0)
                AS value_at_risk,
            sumMapIf(map(ifNull(currency, ''), revenue), revenue > 0) AS revenue
        FROM sessions FINAL
        WHERE NOT is_bot AND started_at >= fromUnixTimestamp64Milli({from_ms:Int64})
            AND started_at < fromUnixTimestamp64Milli({to_ms:Int64})"""
    result = client.query(one_by_one, parameters=given)
    [now] = [row for row in ask(url, "figures").rows if row["span"] == "now"]
    assert {name: now[name] for name in result.column_names} == dict(
        zip(result.column_names, result.first_row, strict=True)
    )
    assert now["value_at_risk"] or now["revenue"]


def test_tiers_of_one_shop_are_those_of_the_question_for_analysts(url: str) -> None:
    analysts = Asker(url).ask_now(page_question("rfm_tiers"), parameters("rfm_tiers", shop="s1"))
    assert not analysts.wrong
    shown = ask(url, "tiers", shop="s1").rows
    assert len(shown) == len(analysts.rows) > 0
    assert [dict(row) for row in shown] == [
        {name: value for name, value in row.items() if name != "shop_id"} for row in analysts.rows
    ]


def test_stages_are_those_of_the_view_that_analysts_read(url: str, client: Client) -> None:
    of_view = client.query(
        "SELECT stage, sum(customers) AS customers, sum(orders) AS orders, sumMap(monetary) AS monetary"
        " FROM lifecycle_by_shop GROUP BY stage ORDER BY stage"
    )
    shown = sorted(tuple(row.values()) for row in ask(url, "stages_now").rows)
    assert shown == [tuple(row) for row in of_view.result_rows]
    assert any(monetary for *_, monetary in shown)


def test_people_of_a_segment_come_with_their_profile_the_latest_first(url: str, client: Client) -> None:
    for minute, name in enumerate(("p1", "p2", "p3")):
        client.command(
            "INSERT INTO segments (segment, shop_id, customer_id, is_member, at, cause, version)"
            f" VALUES ('regulars', 's7', '{name}', {name != 'p3'}, '2024-03-01 10:0{minute}', 'event', 1)"
        )
    client.command(
        "INSERT INTO customers (shop_id, customer_id, stage, orders, version)"
        " VALUES ('s7', 'p1', 'active', 4, 1)"
    )
    shown = ask(url, "segment_people", segment="regulars").rows
    assert [(row["customer_id"], row["stage"], row["orders"]) for row in shown] == [
        ("p2", "", 0),
        ("p1", "active", 4),
    ]
    assert not ask(url, "segment_people", segment="nobody's").rows


def test_a_reason_taken_back_is_gone_whichever_of_its_days_is_asked_for(client: Client, url: str) -> None:
    """Rows are left out by day before the newest of each reason is found: a day may differ by what a shop's
    move to another zone changes, and by as much as a lapse likes."""
    told = [("session", "a", "2024-02-10"), ("lapse", "b", "2024-02-10"), ("session", "c", "2024-02-10")]
    gone = [("session", "a", "2024-02-11"), ("lapse", "b", "2024-02-19")]
    for version, (rows, deleted) in enumerate(((told, 0), (gone, 1)), 1):
        for kind, name, day in rows:
            client.command(
                "INSERT INTO reasons (reason_id, kind, subject_id, shop_id, customer_id, at, day, reason,"
                f" score, version, is_deleted) VALUES ('{name * 32}', '{kind}', '{name * 32}', 'moved', 'c',"
                f" '{day} 10:00', '{day}', 'forgot', 1, {version}, {deleted})"
            )
    for until, losses in (("2024-02-10", 1), ("2024-02-11", 0), ("2024-02-19", 0)):
        rows = ask(url, "reasons", shop="moved", since=until, until=until).rows
        assert sum(row["losses"] for row in rows) == losses


@pytest.mark.parametrize("name", OWN)
def test_a_question_of_the_page_says_what_it_asks_its_parameters_and_its_grain(name: str) -> None:
    text = (sql_dir() / "page" / f"{name}.sql").read_text()
    said = dict(re.findall(r"^-- (Question|Parameters|Grain): (.*(?:\n--   .*)*)", text, re.MULTILINE))
    assert said.keys() == {"Question", "Parameters", "Grain"}
    for parameter in page_question(name).parameters:
        assert re.search(rf"\b{parameter}\b", said["Parameters"]), f"{parameter} is not explained"


def test_no_question_of_the_page_is_asked_by_nobody() -> None:
    marks = {panel.marks[0] for panel in PANELS if panel.marks}
    assert set(OWN) == {name for name in set(ASKED) | marks if (sql_dir() / "page" / f"{name}.sql").exists()}


@pytest.mark.parametrize("lang", LANGS)
def test_all_that_is_shown_has_a_word_in_each_language(url: str, lang: Any) -> None:
    words = Words(lang, "UTC")
    for page, panels in PAGES.items():
        assert words[f"page {page}"]
        for panel in panels:
            assert words[panel.title]
            assert words[panel.empty]
            for row in ask(url, panel.asks, **{"item": "i1"} if panel.title == "item_days" else {}).rows:
                for column, value in row.items():
                    if column not in ("span", "currency", "summary", "customer_id"):
                        assert words[column]
                    assert words.cell(column, value, row)


def test_shares_amounts_and_days_are_written_as_readers_write_them() -> None:
    english, chinese = Words("en", "UTC"), Words("zh", "UTC")
    assert english.cell("loss_rate", 0.12345, {}) == chinese.cell("loss_rate", 0.12345, {}) == "12.3%"
    assert english.cell("lost", 12345, {}) == "12,345"
    assert english.cell("value_at_risk", {"CNY": "3.5", "EUR": "20"}, {}) == "€20.00 · CN¥3.50"
    assert chinese.cell("value_at_risk", {"CNY": "3.5"}, {}) == "¥3.50"
    assert english.cell("monetary", "7", {"currency": None}) == "7.00"
    assert english.cell("day", date(2026, 3, 1), {}) == "Mar 1, 2026"
    assert chinese.cell("stage", "won_back", {}) == "回流"
    assert english.cell("loss_rate", None, {}) == "–"
    assert english.cell("shop_id", "", {}) == "All shops"


def test_the_page_about_an_sql_shows_it_and_what_it_gives(url: str) -> None:
    given = {"of": "/en/items?shop=s1", "reached": str(REACHED), "column": "lost"}

    async def both() -> tuple[str, str]:
        asker, policy = Asker(url), Policy()
        return (
            await sql_page(asker, policy, "en", "figures", given),
            await sql_page(asker, policy, "zh", "items", {**given, "of": "/en/items?shop=%3Cscript%3E"}),
        )

    english, hostile = asyncio.run(both())
    assert "s.shop_id = &#x27;s1&#x27;" in english
    assert "<code>lost</code>" in english
    assert 'href="/en/items?shop=s1"' in english
    assert "<script>" not in hostile


@pytest.mark.parametrize("name", ["nothing", "../migrations/0001_sessions", "figures; DROP"])
def test_no_other_file_is_shown(name: str) -> None:
    with pytest.raises(StoreError, match="asks no question"):
        page_question(name)


def test_one_answer_serves_all_who_ask_meanwhile(url: str) -> None:
    async def together() -> list[Answer]:
        asker = Asker(url)
        return await asyncio.gather(*(asker.ask("ingest", {}) for _ in range(20)))

    answers = asyncio.run(together())
    assert len({id(answer) for answer in answers}) == 1


def test_a_clickhouse_that_is_away_is_said_and_asked_again() -> None:
    asker = Asker("http://default@127.0.0.1:9/ebbtide")
    assert "cannot be reached" in asker.ask_now(page_question("ingest"), {}).wrong
    assert "cannot be reached" in asker.ask_now(page_question("ingest"), {}).wrong

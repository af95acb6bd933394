"""`ebbtide up` goes on when its parts are killed, and says what happened."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from playwright.sync_api import BrowserContext
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import Reader, Up, wait_until

pytestmark = pytest.mark.browser


def received(reader: Reader) -> int:
    """Records that the page says were received, of all topics."""
    column = reader.page.locator("section", has=reader.page.locator("#panel-ingest")).locator(
        "tbody td:nth-child(2)"
    )
    try:
        return sum(int(text.replace(",", "")) for text in column.all_inner_texts())
    except PlaywrightError:
        return 0  # it is being loaded anew


def goes_on(reader: Reader) -> None:
    wait_until("records", lambda: received(reader) > 0, 60)
    before = received(reader)
    wait_until("more records", lambda: received(reader) > before, 90)


def test_who_closes_the_page_stops_nothing(up: Up, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{up.url}/en/pipeline")
    page.close()
    reader = Reader(context.new_page(), [])
    reader.open(f"{up.url}/en/pipeline")
    goes_on(reader)
    assert up.process.poll() is None


@pytest.mark.parametrize("role", ["customers", "sink", "shops"])
def test_a_worker_that_is_killed_is_started_again_and_said(up: Up, reader: Reader, role: str) -> None:
    reader.open(f"{up.url}/en/pipeline")
    pid = up.pid_of("--agents", role)
    os.kill(pid, signal.SIGKILL)
    wait_until("it is said", lambda: f"the {role} worker ended (killed by SIGKILL)" in up.said, 10)
    wait_until("it is started", lambda: f"the {role} worker is started again" in up.said, 30)
    assert up.pid_of("--agents", role) != pid
    goes_on(reader)


def test_clickhouse_is_killed_the_page_says_so_and_heals(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/pipeline")
    pid = up.pid_of("streams.embedded.clickhouse_server")
    os.kill(pid, signal.SIGSTOP)  # it hangs first, as a machine that is out of memory does
    os.kill(pid, signal.SIGKILL)
    wait_until("it is said", lambda: "ClickHouse ended (killed by SIGKILL)" in up.said, 10)
    wait_until("it is started", lambda: "ClickHouse is started again" in up.said, 60)
    goes_on(reader)
    wait_until("nothing is wrong any more", lambda: page.locator(".wrong").count() == 0, 30)


def test_the_page_is_killed_and_a_reader_finds_it_again(up: Up, reader: Reader) -> None:
    reader.open(f"{up.url}/en/pipeline")
    os.kill(up.pid_of("page"), signal.SIGKILL)
    wait_until("it is said", lambda: "the page ended (killed by SIGKILL)" in up.said, 10)
    wait_until("it is started", lambda: "the page is started again" in up.said, 60)
    # The tab connects again by itself, and is loaded anew by a server that does not know it.
    goes_on(reader)


def test_what_it_says_has_a_time_and_no_noise(up: Up) -> None:
    lines = up.said.splitlines()
    assert lines
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines


def test_every_record_was_accounted_for_after_all_of_it(up: Up, reader: Reader) -> None:
    reader.open(f"{up.url}/en/pipeline")
    rows = reader.page.locator("section", has=reader.page.locator("#panel-ingest")).locator("tbody tr")

    def balanced() -> bool:
        counts = [
            [int(text.replace(",", "")) for text in row.locator("td").all_inner_texts()[1:]]
            for row in rows.all()
        ]
        return bool(counts) and all(row[0] == sum(row[1:]) for row in counts)

    end = time.monotonic() + 30
    while not balanced():
        assert time.monotonic() < end, "received is not applied + duplicate + late + rejected"

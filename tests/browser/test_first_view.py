"""How soon a reader sees the first page, on what the demo leaves behind."""

from __future__ import annotations

import statistics
import time
from typing import Final

import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

FIRST_VIEW_S: Final = 2.0


def test_the_first_view_is_there_within_two_seconds(still: str, browser: Browser) -> None:
    taken = []
    for _ in range(5):
        context = browser.new_context()  # with an empty cache
        page = context.new_page()
        started = time.monotonic()
        page.goto(f"{still}/en/loss")
        page.wait_for_selector(".figure-loss_rate dd a")
        taken.append(time.monotonic() - started)
        context.close()
    print(
        f"first view: {', '.join(f'{each:.2f}' for each in taken)} s; median {statistics.median(taken):.2f} s"
    )
    assert statistics.median(taken) < FIRST_VIEW_S

"""What a person sees: every page, in both languages, alive, usable by keyboard and by screen readers."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from streams.dashboard.pages import PAGES
from streams.dashboard.selection import LANGS
from streams.dashboard.words import Words
from tests.browser.conftest import Reader, Up, wait_until

pytestmark = pytest.mark.browser

SHOP: Final = "?shop=shop-1&days=14"
#: What axe calls what keeps somebody out.
_SERIOUS: Final = {"serious", "critical"}


@pytest.fixture(autouse=True, scope="module")
def filled(up: Up) -> None:
    """History has come, and the shops agent has told minutes of it."""

    def told() -> bool:
        with urlopen(
            f"{up.url}/en/sql/curve?of=/en/loss%3Fdays%3D90&reached={int(time.time() * 1000)}"
        ) as page:
            return not re.search(rb": 0 rows", page.read())

    wait_until("minutes of history", told)


def figure(page: Page, name: str) -> str:
    return page.locator(f".figure-{name} dd a").inner_text()


def serious(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in _SERIOUS
    ]


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_says_what_it_is_and_keeps_nobody_out(
    up: Up, reader: Reader, lang: Any, name: str, shots: Path
) -> None:
    page = reader.open(f"{up.url}/{lang}/{name}{SHOP}")
    words = Words(lang, "UTC")
    expect(page.locator("h1")).to_have_text(words[f"page {name}"])
    assert (page.get_attribute("html", "lang") or "").startswith(lang)
    for panel in PAGES[name]:
        if panel.when is PAGES["loss"][0].when:
            expect(page.locator("h2", has_text=words[panel.title]).first).to_be_visible()
    page.wait_for_timeout(300)  # what charts draw themselves is drawn in the next frames
    page.screenshot(path=shots / f"{lang}-{name}.png", full_page=True)
    assert serious(page) == []
    assert reader.wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_in_the_dark_and_on_a_phone(
    up: Up, browser: Browser, name: str, shots: Path
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{up.url}/en/{name}{SHOP}")
    page.wait_for_selector("main h1")
    page.wait_for_function("document.body.classList.contains('body--dark')")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.screenshot(path=shots / f"phone-{name}.png", full_page=True)
    found = serious(page)
    context.close()
    assert wide <= 0, "the page is wider than the phone"
    assert found == []


def test_what_is_shown_changes_by_itself_while_events_come(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/loss?days=14")
    page.evaluate("window.here = true")
    before, at = figure(page, "sessions"), page.locator(".reached").inner_text()
    wait_until("more sessions", lambda: figure(page, "sessions") != before, 60)
    # Not at the same moment: sessions come as each partition goes on, and this is the one furthest behind.
    wait_until("a later moment", lambda: page.locator(".reached").inner_text() != at, 60)
    assert page.evaluate("window.here"), "it was loaded anew"
    assert reader.wrong == []


def test_an_item_is_looked_at_closely_and_left_again(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/items{SHOP}")
    item = page.locator("td a", has_text=re.compile(r"^s1-")).first.inner_text()
    # Of another place, if others were lost meanwhile.
    page.get_by_role("link", name=item, exact=True).first.click()
    page.wait_for_selector("h2:has-text('This item, day by day')")
    assert f"item={item}" in page.url
    assert page.locator("section", has_text="This item, day by day").locator("tbody tr").count() >= 5
    page.get_by_role("link", name="← Back").click()
    page.wait_for_selector("h2:has-text('Items by visitors lost')")
    assert "item=" not in page.url
    assert reader.wrong == []


def test_from_a_segment_to_its_people_to_one_of_them(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/segments{SHOP}")
    rows = page.locator("section", has=page.locator("#panel-segments_now")).locator("tbody tr")
    rows.first.locator("a").first.click()
    people = page.locator("section", has=page.locator("#panel-segment_people"))
    # Who came last may be in their first session, and have none that is over: who has been in it longest.
    people.locator("tbody tr").last.locator("a").first.click()
    page.wait_for_selector("#panel-customer_sessions")
    assert "customer=" in page.url
    assert page.locator("section", has=page.locator("#panel-customer_sessions")).locator("tbody tr").count()
    assert reader.wrong == []


def test_a_number_leads_to_the_sql_that_gives_it(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/loss{SHOP}")
    page.locator(".figure-lost dd a").click()
    page.wait_for_selector("pre")
    sql = page.locator("pre").inner_text()
    assert "sumIf(c.closed, c.outcome = 'lost') AS lost" in sql
    assert "s.shop_id = 'shop-1'" in sql
    assert "{" not in re.sub(r"--.*", "", sql), "a parameter is not filled in"
    assert page.locator("code", has_text="lost").first.is_visible()
    assert serious(page) == []


def test_a_number_of_the_report_leads_to_the_sql_that_gives_it(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/report?shop=shop-1&days=3")
    report = page.frame_locator("iframe")
    row = report.locator("tr", has=report.locator("th", has_text=re.compile("^lost$")))
    row.locator("td.now a").click()
    page.wait_for_selector("pre")
    assert page.locator("code", has_text="(sessions - converted) / sessions").is_visible()
    assert "AS converted" in page.locator("pre").inner_text()
    assert serious(page) == []


def test_a_table_is_sorted_by_what_is_asked(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/items{SHOP}")
    page.get_by_role("link", name=re.compile("^visitors")).first.click()
    page.wait_for_selector("th[aria-sort=descending]")
    column = page.locator("tbody tr td:nth-child(4)").all_inner_texts()
    shown = [int(text.replace(",", "")) for text in column]
    assert shown == sorted(shown, reverse=True)


def test_all_of_it_can_be_reached_by_keyboard(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/en/loss")
    page.keyboard.press("Tab")
    skip = page.evaluate("document.activeElement.className")
    assert skip == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto(f"{up.url}/en/loss")
    page.wait_for_selector("main h1")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"Items", "Pipeline", "shop", "days", "Show", "SQL"} <= reached


def test_choosing_a_shop_is_a_link_that_can_be_sent(up: Up, reader: Reader) -> None:
    page = reader.open(f"{up.url}/zh/loss")
    page.select_option("#shop", "shop-2")
    page.select_option("#days", "14")
    page.get_by_role("button", name="查看").click()
    page.wait_for_url("**/zh/loss?shop=shop-2&days=14")
    assert page.locator("#shop").input_value() == "shop-2"


def test_nothing_is_asked_of_any_other_machine(up: Up, context: BrowserContext) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{up.url}/en/where")
    page.wait_for_selector(".chart svg")
    assert asked
    assert [url for url in asked if not url.startswith((up.url, "data:", "ws://127.0.0.1"))] == []


def test_a_page_of_another_name_that_points_here_is_refused(up: Up) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError) as refused:
        urlopen(Request(f"{up.url}/en/loss", headers={"Host": "evil.example"}))
    assert refused.value.code == 421

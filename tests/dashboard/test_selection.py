"""What an address of the page says, and what is made of it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dashboard.selection import LANGS, SPANS, THEMES, Selection, View

_text = st.text(max_size=60).filter(lambda text: "\x00" not in text and text.isprintable())
_selections = st.builds(
    Selection,
    lang=st.sampled_from(LANGS),
    page=st.just("items"),
    shop=_text,
    days=st.sampled_from(SPANS),
    theme=st.sampled_from(THEMES),
    item=_text,
    customer=_text,
    segment=_text,
    sort=_text,
)


@given(_selections)
def test_an_address_says_all_that_was_chosen(chosen: Selection) -> None:
    parts = urlsplit(chosen.address())
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    assert parts.path == f"/{chosen.lang}/items"
    assert Selection.read(chosen.lang, "items", said) == chosen


@given(st.dictionaries(st.sampled_from(["shop", "days", "theme", "item", "sort", "x"]), st.text(max_size=30)))
def test_whatever_an_address_says_is_a_view(query: dict[str, str]) -> None:
    chosen = Selection.read("en", "loss", query)
    assert chosen.days in SPANS
    assert chosen.theme in THEMES


def test_another_page_keeps_the_shop_and_forgets_what_was_looked_at() -> None:
    chosen = Selection("en", "items", shop="s 1", days=30, item="i/1", sort="-lost")
    assert chosen.link(page="where") == "/en/where?shop=s+1&days=30"


@pytest.mark.parametrize(
    ("zone", "until"),
    [("UTC", "2026-03-01"), ("Asia/Shanghai", "2026-03-02"), ("America/New_York", "2026-03-01")],
)
def test_days_are_those_of_the_zone(zone: str, until: str) -> None:
    # 2026-03-01 18:30:30 UTC.
    view = View(Selection("en", "loss", days=7), 1_772_389_830_000, zone)
    given = view.parameters()
    assert given["until"] == until
    assert int(given["to_ms"]) - int(given["from_ms"]) == 7 * 86_400_000
    assert int(given["to_ms"]) % 60_000 == 0
    assert int(given["to_ms"]) - 60_000 < view.reached <= int(given["to_ms"])


@pytest.mark.parametrize("days", SPANS)
def test_a_curve_has_as_many_points_as_a_screen_shows(days: int) -> None:
    bucket = View(Selection("en", "loss", days=days), 0, "UTC").bucket_s
    assert 80 <= days * 86_400 / bucket <= 300

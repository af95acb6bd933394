"""What is drawn says what the rows say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from streams.dashboard import charts
from streams.dashboard.words import Words

WORDS = Words("en", "UTC")


def at(hour: int) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=UTC)


def point(hour: int, **said: Any) -> dict[str, Any]:
    return {"at": at(hour), "loss_rate": 0.5, "expected": None, "band": None, **said}


def alert(began: int, resolved: int | None) -> dict[str, Any]:
    return {"signal": "loss_rate", "began_at": at(began), "resolved_at": resolved and at(resolved)}


def ms(hour: int) -> int:
    return round(at(hour).timestamp() * 1000)


def test_a_curve_has_its_band_and_marks_where_alerts_stood() -> None:
    rows = [point(8), point(9, loss_rate=0.625, expected=0.5, band=0.6), point(12, loss_rate=None)]
    drawn = charts.curve(rows, [alert(7, 9), alert(10, None)], WORDS)
    rate, expected, band = drawn["series"]
    assert rate["data"] == [[ms(8), 50.0], [ms(9), 62.5], [ms(12), None]]
    assert expected["data"][1] == [ms(9), 50.0]
    assert band["data"][1] == [ms(9), 60.0]
    areas = [[side["xAxis"] for side in area] for area in rate["markArea"]["data"]]
    # One that began before the curve does begins with it; one that stands still goes on to its end.
    assert areas == [[ms(8), ms(9)], [ms(10), ms(12)]]


def test_a_curve_without_alerts_marks_nothing() -> None:
    assert "markArea" not in charts.curve([point(8)], [], WORDS)["series"][0]


def test_flows_go_from_left_to_right_though_a_shop_is_on_both_sides() -> None:
    rows = [
        {"shop_id": "a", "category": "tea", "to_shop_id": "b", "orders": 2},
        {"shop_id": "b", "category": "tea", "to_shop_id": "a", "orders": 3},
    ]
    [flow] = charts.sankey(rows, ("shop_id", "category", "to_shop_id"), "orders", WORDS)["series"]
    assert {(each["source"], each["target"]): each["value"] for each in flow["links"]} == {
        ("0:a", "1:tea"): 2,
        ("0:b", "1:tea"): 3,
        ("1:tea", "2:a"): 3,
        ("1:tea", "2:b"): 2,
    }
    assert {each["name"] for each in flow["data"]} == {"0:a", "0:b", "1:tea", "2:a", "2:b"}


def test_an_items_buckets_are_all_of_its_visitors() -> None:
    row = {"item_id": "i", "bought_item": 1, "bought_similar": 2, "bought_other": 3, "bought_elsewhere": 4}
    drawn = charts.item_buckets([{**row, "nothing": 5}], "item_id", WORDS)
    assert sum(series["data"][0] for series in drawn["series"]) == 15
    assert {series["stack"] for series in drawn["series"]} == {"visitors"}


def test_the_first_of_the_bars_is_on_top() -> None:
    rows = [{"stage": "new", "customers": 9}, {"stage": "active", "customers": 4}]
    drawn = charts.bars(rows, ("stage",), "customers", WORDS)
    assert drawn["yAxis"]["data"] == ["active", "new"]
    assert drawn["series"][0]["data"] == [4.0, 9.0]


def test_items_without_a_role_are_not_on_the_matrix() -> None:
    rated = {"item_id": "i", "role": "profit", "visitors": 9, "traffic_score": 0.2, "profit_score": 0.9}
    unrated = {**rated, "role": "unrated", "traffic_score": None, "profit_score": None}
    [series] = charts.matrix([rated, unrated], WORDS)["series"]
    assert [each["value"] for each in series["data"]] == [[0.2, 0.9]]


def test_what_is_drawn_can_be_sent_to_a_browser() -> None:
    for drawn in (charts.curve([point(8)], [alert(7, None)], WORDS), charts.stages([], WORDS)):
        json.dumps(drawn)

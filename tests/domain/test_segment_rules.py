"""What rules may say, what is wrong with those that cannot be read, and that they come back as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from streams.domain.policy import DAY
from streams.domain.ready_made import READY_MADE
from streams.domain.segment_rules import (
    All,
    AnyOf,
    Compare,
    Count,
    Not,
    RuleError,
    RuleSet,
    Segment,
    Silence,
    condition,
    read,
    text,
)
from tests.domain.test_segments import RULES, laws


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("orders_90d >= 2", Count("orders", 90, ">=", 2)),
        ("carts_1d==0", Count("carts", 1, "==", 0)),
        ("since_last_visit >= 14d", Silence("visit", ">=", 14 * DAY)),
        ("since_last_order < 2w", Silence("order", "<", 14 * DAY)),
        ("stage in [lapsing, lapsed]", Compare("stage", "in", ("lapsing", "lapsed"))),
        ("tier != null", Compare("tier", "!=", None)),
        ("monetary > 99.9", Compare("monetary", ">", 999_000)),
        ("discount_affinity <= 0.25", Compare("discount_affinity", "<=", 0.25)),
        ("mixed_currency == true", Compare("mixed_currency", "==", True)),
        (
            'preferred_categories contains "Tea, green"',
            Compare("preferred_categories", "contains", "Tea, green"),
        ),
        ("preferred_categories contains 手机", Compare("preferred_categories", "contains", "手机")),
    ],
)
def test_a_condition_is_read_as_it_is_meant(written: str, meant: Any) -> None:
    assert condition(written, "rule") == meant


def test_conditions_are_joined_by_all_any_and_not() -> None:
    rule = read({"all": ["orders >= 1", {"any": ["r_score == 5", {"not": "orders_7d == 0"}]}]})
    assert rule == All(
        (
            Compare("orders", ">=", 1),
            AnyOf((Compare("r_score", "==", 5), Not(Count("orders", 7, "==", 0)))),
        )
    )


@pytest.mark.parametrize(
    ("written", "where", "wrong"),
    [
        ("visit_7d >= 2", "rule", "there is no field 'visit_7d'; the nearest is 'visits_7d'"),
        ("recencydays > 3", "rule", "there is no field 'recencydays'; the nearest is 'recency_days'"),
        ("stage == laping", "rule", "stage is never 'laping'; the nearest is 'lapsing'"),
        ("orders = 2", "rule", "for equality write =="),
        ("orders => 2", "rule", "not '=>'"),
        ("orders >=", "rule", "is no condition"),
        ("orders", "rule", "is no condition"),
        ("orders >= many", "rule", "'many' is no number"),
        ("orders >= nan", "rule", "no number that a field can have"),
        ("monetary >= 0.00001", "rule", "more than four decimals"),
        ("visits_91d > 2", "rule", "1 to 90 days, not 91"),
        ("visits_7d > -1", "rule", "no whole number"),
        ("visits_7d in [1, 2]", "rule", "compared with one of"),
        ("since_last_visit >= 14", "rule", "'14' is no duration; write it like 30m, 24h or 14d"),
        ("since_last_visit == 14d", "rule", "compared with one of < <= > >="),
        ("since_last_visit >= 0d", "rule", "more than nothing"),
        ("stage in lapsing", "rule", "is no list; write it like [a, b]"),
        ("mixed_currency == yes", "rule", "neither true nor false"),
        (
            {"all": ["orders > 1", {"an": []}]},
            "rule.all[1]",
            "is none of all, any, not; the nearest is 'any'",
        ),
        ({"any": []}, "rule.any", "a list of at least one condition"),
        ({"any": "orders > 1"}, "rule.any", "a list of at least one condition"),
        ({"not": {"all": ["x > 1"]}}, "rule.not.all[0]", "there is no field 'x'"),
        (["orders > 1"], "rule", "or one of all:, any:, not:"),
        ({"all": ["orders > 1"], "any": ["orders > 1"]}, "rule", "or one of all:, any:, not:"),
        ({"all": ["orders > 1"] * 25}, "rule", "it has 25 conditions; at most 24"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(written: Any, where: str, wrong: str) -> None:
    with pytest.raises(RuleError) as found:
        read(written)
    assert found.value.where == where
    assert wrong in found.value.wrong


def test_a_rule_that_is_nested_too_deep_is_refused() -> None:
    rule: Any = "orders > 1"
    for _ in range(7):
        rule = {"not": rule}
    with pytest.raises(RuleError, match="nested more than 6 deep"):
        read(rule)


@laws
@given(RULES)
def test_a_rule_comes_back_from_its_text_and_from_the_wire(written: Any) -> None:
    rule = read(written)
    assert read(text(rule)) == rule
    rules = RuleSet(7, (Segment("s", "", rule, ("a",)),))
    assert msgspec.json.decode(msgspec.json.encode(rules), type=RuleSet) == rules
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(rules), type=RuleSet) == rules


def test_the_ready_made_rules_are_version_nought_and_said_in_text_too() -> None:
    assert READY_MADE.version == 0
    assert [s.name for s in READY_MADE.of("any shop")] == [
        "price-sensitive-one-time",
        "profit-item-loyal",
        "cart-abandoner-today",
        "fan-without-order",
        "sleeping-vip",
    ]
    for segment in READY_MADE.rule_set.segments:
        assert read(text(segment.rule)) == segment.rule

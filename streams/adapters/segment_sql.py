"""Rules of segments as SQL, for the oracle that judges what the stream said of memberships.

One expression a rule, over the columns of ``asked`` in ``sql/verify/segments.sql``: 1, 0, or NULL where a
field that it hangs on is not known. Numbers stand in the text as they are; texts are words of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from streams.domain.segment_rules import All, AnyOf, Compare, Count, Rule, RuleSet, Silence, Value

#: The column of a field where it has another name.
_COLUMNS: Final = {
    "r_score": "score",
    "f_score": "score",
    "m_score": "score",
    "price_band": "score",
    "monetary": "net",
    "average_order_value": "average",
    "recency_days": "recency",
    "overdue_days": "overdue",
    "p_alive": "alive",
    "p_return_90d": "returns",
    "expected_orders_90d": "expected",
    "usual_gap_days": "gap",
    "discount_affinity": "discounts",
}
#: These are pairs: rounded down and up where they lie half-way.
_ROUNDED: Final = frozenset(
    {"p_alive", "p_return_90d", "expected_orders_90d", "usual_gap_days", "discount_affinity"}
)
#: Places in a session of ``sessions``, whose first is its day.
_COUNTED: Final = {"visits": 2, "favorites": 3, "carts": 4, "carted": 5}
_OPS: Final = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class SegmentSql(NamedTuple):
    """expression: an array of (name, whether the rule holds, whether the shop has the segment); words: the
    parameter that it speaks of; silences: in ms, those after which an answer may be another."""

    expression: str
    words: list[str]
    silences: list[int]


def segment_sql(rules: RuleSet) -> SegmentSql:
    """All rules, in the order of the set."""
    words: dict[str, int] = {}
    parts = []
    for segment in rules.segments:
        shops = " OR ".join(f"shop_id = {_word(shop, words)}" for shop in segment.shops or ())
        holds = _holds(segment.rule, words)
        parts.append(f"({_word(segment.name, words)}, {holds}, {shops or '1'})")
    spans = {span for segment in rules.segments for span in _silences(segment.rule)}
    return SegmentSql(f"[{', '.join(parts)}]", list(words), sorted(spans))


def _holds(rule: Rule, words: dict[str, int]) -> str:
    if isinstance(rule, All | AnyOf):
        joint = " AND " if isinstance(rule, All) else " OR "
        return f"({joint.join(_holds(part, words) for part in rule.of)})"
    if isinstance(rule, Compare):
        return _compare(rule, words)
    if isinstance(rule, Count):
        return _count(rule)
    if isinstance(rule, Silence):
        # A silence that never began is of no length.
        return f"ifNull(since_{rule.of} {_OPS[rule.op]} {rule.value}, 0)"
    return f"NOT {_holds(rule.of, words)}"


def _count(rule: Count) -> str:
    since = f"today - {rule.days}"
    if rule.of == "orders":
        return f"(arrayCount(d -> d > {since}, order_days) {_OPS[rule.op]} {rule.value})"
    in_days = f"s -> if(s.1 > {since}, s.{_COUNTED[rule.of]}, 0)"
    counted = f"arraySum({in_days}, sessions) {_OPS[rule.op]} {rule.value}"
    return f"if(arraySum({in_days}, blurred) > 0, NULL, {counted})"


def _compare(rule: Compare, words: dict[str, int]) -> str:
    column = _COLUMNS.get(rule.field, rule.field)
    if rule.field in _ROUNDED:
        down, up = (_compares(rule, f"{column}[{place}]", words) for place in (1, 2))
        return _if_known(rule.field, f"if({down} = {up}, {down}, NULL)")
    return _if_known(rule.field, _compares(rule, column, words))


def _compares(rule: Compare, column: str, words: dict[str, int]) -> str:
    """Of a value that is known, be it that there is none."""
    if rule.value is None:
        return f"isNull({column})" if rule.op == "==" else f"isNotNull({column})"
    if isinstance(rule.value, tuple):
        return f"ifNull({' OR '.join(f'{column} = {_literal(each, words)}' for each in rule.value)}, 0)"
    value = _literal(rule.value, words)
    if rule.op == "contains":
        return f"has({column}, {value})"
    return f"ifNull({column} {_OPS[rule.op]} {value}, {int(rule.op == '!=')})"


def _if_known(field: str, condition: str) -> str:
    return f"if(has(unknown, '{field}'), NULL, {condition})"


def _literal(value: Value, words: dict[str, int]) -> str:
    if isinstance(value, str):
        return _word(value, words)
    return repr(int(value) if isinstance(value, bool) else value)


def _word(word: str, words: dict[str, int]) -> str:
    return f"words[{words.setdefault(word, len(words) + 1)}]"


def _silences(rule: Rule) -> Iterator[int]:
    if isinstance(rule, Silence):
        yield rule.value + (rule.op in (">", "<="))
    elif not isinstance(rule, Compare | Count):
        parts: Iterable[Rule] = rule.of if isinstance(rule, All | AnyOf) else (rule.of,)
        for part in parts:
            yield from _silences(part)

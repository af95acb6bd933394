"""Rules of segments: what a condition may say, and how its text is read.

    orders_90d >= 2             a rolling count: standing orders of the last 90 local days, today among them
    since_last_visit >= 14d     silence, to the millisecond
    stage in [lapsing, lapsed]  a field of the profile
    preferred_categories contains "tea"

A field without a value satisfies ``!=``, or ``== null``, and no other comparison; ``not`` is plain negation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args

from msgspec import Struct

from streams.domain.activity import LONG_SPAN
from streams.domain.facts import MONEY_SCALE, Stage, Tier, to_amount

Op = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains"]
#: carts: changes of the cart; carted: sessions that left something in it.
Counted = Literal["orders", "visits", "favorites", "carts", "carted"]
Value = bool | int | float | str | None
Kind = Literal["number", "money", "flag", "word", "words"]


class Compare(Struct, frozen=True, tag="compare"):
    """A field of the profile against ``value``; a list for ``in``. Money in ten-thousandths."""

    field: str
    op: Op
    value: Value | tuple[Value, ...]


class Count(Struct, frozen=True, tag="count"):
    """How many on the last ``days`` local days, today among them."""

    of: Counted
    days: int
    op: Op
    value: int


class Silence(Struct, frozen=True, tag="silence"):
    """How long ago the last one was; ``value`` in ms. A visit is a session: any activity."""

    of: Literal["visit", "order"]
    op: Op
    value: int


class All(Struct, frozen=True, tag="all"):
    """Every one of them."""

    of: tuple[Rule, ...]


class AnyOf(Struct, frozen=True, tag="any"):
    """At least one of them."""

    of: tuple[Rule, ...]


class Not(Struct, frozen=True, tag="not"):
    """Not this one."""

    of: Rule


Rule = Compare | Count | Silence | All | AnyOf | Not


class Segment(Struct, frozen=True):
    """Who belongs to it: in ``shops``, or in every shop if that is None."""

    name: str
    description: str
    rule: Rule
    shops: tuple[str, ...] | None = None


class RuleSet(Struct, frozen=True):
    """All segments in force; version 0 are the ready-made ones."""

    version: int
    segments: tuple[Segment, ...]


class RuleError(ValueError):
    """A rule that cannot be read: ``where`` in it, the ``text``, and ``wrong``, one sentence."""

    def __init__(self, where: str, text: str, wrong: str) -> None:
        super().__init__(f"{where}: {text!r}: {wrong}")
        self.where, self.text, self.wrong = where, text, wrong


#: Bounds, so that no file makes every check-up dear.
MOST_SEGMENTS: Final = 64
MOST_CONDITIONS: Final = 24
DEEPEST: Final = 6
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

#: What a rule may ask of a profile: the fact's field, and what kind of value it has.
FIELDS: Final[Mapping[str, Kind]] = {
    "stage": "word",
    "tier": "word",
    "r_score": "number",
    "f_score": "number",
    "m_score": "number",
    "p_alive": "number",
    "p_return_90d": "number",
    "expected_orders_90d": "number",
    "overdue_days": "number",
    "usual_gap_days": "number",
    "purchase_days": "number",
    "orders": "number",
    "reversed_orders": "number",
    "recency_days": "number",
    "monetary": "money",
    "average_order_value": "money",
    "currency": "word",
    "mixed_currency": "flag",
    "preferred_categories": "words",
    "price_band": "number",
    "discount_affinity": "number",
}
SILENCES: Final = ("since_last_visit", "since_last_order")
_CLOSED: Final[Mapping[str, tuple[str, ...]]] = {"stage": get_args(Stage), "tier": get_args(Tier)}
_OPS: Final[Mapping[Kind, tuple[Op, ...]]] = {
    "number": ("==", "!=", "<", "<=", ">", ">=", "in"),
    "money": ("==", "!=", "<", "<=", ">", ">="),
    "flag": ("==", "!="),
    "word": ("==", "!=", "in"),
    "words": ("contains",),
}
_COUNT_OPS: Final[tuple[Op, ...]] = ("==", "!=", "<", "<=", ">", ">=")
_SILENCE_OPS: Final[tuple[Op, ...]] = ("<", "<=", ">", ">=")

_CONDITION: Final = re.compile(
    r"\s*(?P<field>[A-Za-z_]\w*)\s*(?P<op>[=!<>]+|\b\w+\b|\S+)\s*(?P<value>.*?)\s*"
)
_COUNT: Final = re.compile(r"([a-z]+)_(\d{1,6})d")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_KEYS: Final = ("all", "any", "not")
_WORD: Final = re.compile(r"[^\s\"'\[\],]+(?: [^\s\"'\[\],]+)*")
_LONGEST_MS: Final = 3650 * 86_400_000


def read(rule: Any, where: str = "rule") -> Rule:
    """The rule in ``rule``: a condition's text, or a mapping with one of all, any, not. Raises RuleError."""
    found = _read(rule, where, 0)
    if (conditions := _conditions(found)) > MOST_CONDITIONS:
        raise RuleError(where, "…", f"it has {conditions} conditions; at most {MOST_CONDITIONS} are allowed")
    return found


def _read(rule: Any, where: str, depth: int) -> Rule:
    if isinstance(rule, str):
        return condition(rule, where)
    if depth >= DEEPEST:
        raise RuleError(where, _shown(rule), f"nested more than {DEEPEST} deep")
    if not isinstance(rule, Mapping) or len(rule) != 1:
        wrong = "must be a condition like 'orders_90d >= 2', or one of all:, any:, not:"
        raise RuleError(where, _shown(rule), wrong)
    ((key, parts),) = rule.items()
    if key == "not":
        return Not(_read(parts, f"{where}.not", depth + 1))
    if key not in ("all", "any"):
        raise RuleError(where, _shown(key), f"is none of all, any, not{_nearest(str(key), _KEYS)}")
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise RuleError(f"{where}.{key}", _shown(parts), "must be a list of at least one condition")
    each = tuple(_read(part, f"{where}.{key}[{n}]", depth + 1) for n, part in enumerate(parts))
    return All(each) if key == "all" else AnyOf(each)


def condition(text: str, where: str) -> Rule:
    """One condition from its text. Raises RuleError."""
    match = _CONDITION.fullmatch(text)
    if match is None or not match["value"]:
        wrong = "is no condition: write a field, a comparison and a value, like 'orders >= 2'"
        raise RuleError(where, text, wrong)
    name, op, value = match["field"], match["op"], match["value"]
    if name in SILENCES:
        return _silence(name, _op(op, _SILENCE_OPS, name, where, text), value, where, text)
    if name in FIELDS:
        return _compare(name, _op(op, _OPS[FIELDS[name]], name, where, text), value, where, text)
    count = _COUNT.fullmatch(name)
    if count is not None and count[1] in get_args(Counted):
        return _count(count, _op(op, _COUNT_OPS, name, where, text), value, where, text)
    days = count[2] if count else 30
    known = [*FIELDS, *SILENCES, *(f"{counted}_{days}d" for counted in get_args(Counted))]
    raise RuleError(where, text, f"there is no field {name!r}{_nearest(name, known)}")


def _op(op: str, allowed: Sequence[Op], name: str, where: str, text: str) -> Op:
    for each in allowed:
        if op == each:
            return each
    hint = "; for equality write ==" if op == "=" else ""
    raise RuleError(where, text, f"{name} is compared with one of {' '.join(allowed)}, not {op!r}{hint}")


def _silence(name: str, op: Op, value: str, where: str, text: str) -> Silence:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise RuleError(where, text, f"{value!r} is no duration; write it like 30m, 24h or 14d")
    ms = round(float(match[1]) * _UNIT_MS[match[2]])
    if not 0 < ms <= _LONGEST_MS:
        raise RuleError(where, text, f"{value!r} must be more than nothing and at most 3650d")
    return Silence("visit" if name == "since_last_visit" else "order", op, ms)


def _count(count: re.Match[str], op: Op, value: str, where: str, text: str) -> Count:
    days = int(count[2])
    if not 1 <= days <= LONG_SPAN:
        raise RuleError(where, text, f"counts roll over 1 to {LONG_SPAN} days, not {days}")
    if not value.isdecimal() or int(value) > 1_000_000:
        raise RuleError(where, text, f"{value!r} is no whole number from 0 to 1000000")
    for of in get_args(Counted):
        if count[1] == of:
            return Count(of, days, op, int(value))
    raise AssertionError(count[1])


def _compare(name: str, op: Op, value: str, where: str, text: str) -> Compare:
    if op != "in":
        return Compare(name, op, _value(name, op, value, where, text))
    if not (value.startswith("[") and value.endswith("]")):
        raise RuleError(where, text, f"{value!r} is no list; write it like [a, b]")
    parts = [part.strip() for part in value[1:-1].split(",")]
    return Compare(name, op, tuple(_value(name, op, part, where, text) for part in parts))


def _value(name: str, op: Op, value: str, where: str, text: str) -> Value:
    kind = FIELDS[name]
    if value == "null" and op in ("==", "!="):
        return None
    if kind == "flag":
        if value not in ("true", "false"):
            raise RuleError(where, text, f"{value!r} is neither true nor false")
        return value == "true"
    if kind in ("number", "money"):
        return _number(kind, value, where, text)
    word = value
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        word = value[1:-1]
    elif not _WORD.fullmatch(value):
        raise RuleError(where, text, f"{value!r} is no word; put it in double quotes")
    allowed = _CLOSED.get(name)
    if allowed is not None and word not in allowed:
        raise RuleError(where, text, f"{name} is never {word!r}{_nearest(word, allowed)}")
    return word


def _number(kind: Kind, value: str, where: str, text: str) -> int | float:
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise RuleError(where, text, f"{value!r} is no number") from None
    if not number.is_finite() or abs(number) > 10**12:
        raise RuleError(where, text, f"{value!r} is no number that a field can have")
    if kind == "money":
        if number != round(number, 4):
            raise RuleError(where, text, f"{value!r} has more than four decimals")
        return to_amount(number)
    return int(number) if number == int(number) else float(number)


def text(rule: Rule) -> Any:
    """The rule as ``read`` takes it: a condition's text, or a mapping."""
    if isinstance(rule, All | AnyOf):
        return {"all" if isinstance(rule, All) else "any": [text(each) for each in rule.of]}
    if isinstance(rule, Not):
        return {"not": text(rule.of)}
    if isinstance(rule, Count):
        return f"{rule.of}_{rule.days}d {rule.op} {rule.value}"
    if isinstance(rule, Silence):
        unit = next(unit for unit in ("d", "h", "m", "s", "ms") if rule.value % _UNIT_MS[unit] == 0)
        return f"since_last_{rule.of} {rule.op} {rule.value // _UNIT_MS[unit]}{unit}"
    if isinstance(rule.value, tuple):
        return f"{rule.field} {rule.op} [{', '.join(_written(rule.field, each) for each in rule.value)}]"
    return f"{rule.field} {rule.op} {_written(rule.field, rule.value)}"


def _written(field: str, value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value != "null" else f'"{value}"'
    return str((Decimal(value) / MONEY_SCALE).normalize()) if FIELDS[field] == "money" else str(value)


def _conditions(rule: Rule) -> int:
    if isinstance(rule, All | AnyOf):
        return sum(map(_conditions, rule.of))
    return _conditions(rule.of) if isinstance(rule, Not) else 1


def _nearest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, 1, 0.5)
    return f"; the nearest is {close[0]!r}" if close else f"; it must be one of {', '.join(known)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"

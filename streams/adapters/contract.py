"""The slow reading of a record: the contract itself decides, and says why it refuses.

Only what the fast reading in ``codec`` will not take comes here: other names for fields, undeclared
fields, and whatever is wrong.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from schemas import topics
from schemas.events import MAX_BODY_BYTES, MAX_DEPTH, MODELS, OrderLine
from schemas.facts import RejectReason
from streams.domain import events
from streams.domain.events import Body, Identify

#: By the topic's name, what its records are read into.
STRUCTS: Final[dict[str, type[Body | Identify]]] = {
    "visits": events.Visit,
    "favorites": events.Favorite,
    "carts": events.Cart,
    "orders": events.Order,
    "feedback": events.Feedback,
    "identities": events.Identify,
}
_BY_TOPIC: Final = tuple((MODELS[topic.name], STRUCTS[topic.name]) for topic in topics.INPUTS)
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[{\]}]")
_DETAIL_LENGTH: Final = 300

#: The contract's own error types, and pydantic's, that have a reason; all others are ``invalid_field``.
_REASONS: Final = {
    "missing": RejectReason.MISSING_FIELD,
    "missing_item_id": RejectReason.MISSING_FIELD,
    "missing_rating": RejectReason.MISSING_FIELD,
    "missing_reply_ms": RejectReason.MISSING_FIELD,
    "non_finite_number": RejectReason.NON_FINITE_NUMBER,
    "timestamp_out_of_range": RejectReason.TIMESTAMP_OUT_OF_RANGE,
    "json_invalid": RejectReason.MALFORMED_JSON,
}


class RefusedError(ValueError):
    """A record that the contract does not accept: the reason, and one line of detail for a person."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        line = " ".join(detail.split())
        self.reason = reason
        self.detail = line if len(line) <= _DETAIL_LENGTH else line[: _DETAIL_LENGTH - 1] + "…"
        super().__init__(f"{reason}: {self.detail}")


def read(topic: int, value: bytes) -> Body | Identify:
    """The event in a record's value, ``topic`` indexing ``schemas.topics.INPUTS``; RefusedError if none.

    Of several faults the first in this order is named: size, encoding, depth, JSON, object, fields.
    """
    if len(value) > MAX_BODY_BYTES:
        raise RefusedError(
            RejectReason.TOO_LARGE, f"{len(value)} bytes; at most {MAX_BODY_BYTES} are accepted"
        )
    text = _decoded(value)
    if _deeper_than(text, MAX_DEPTH):
        raise RefusedError(RejectReason.TOO_DEEP, f"nested deeper than {MAX_DEPTH}")
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:
        raise _why_not_json(text, exc) from None
    if not isinstance(found, dict):
        name = "null" if found is None else type(found).__name__
        raise RefusedError(RejectReason.NOT_AN_OBJECT, f"expected a JSON object, got {name}")
    model, struct = _BY_TOPIC[topic]
    try:
        event = model.model_validate_json(text)
    except ValidationError as exc:
        raise _why_invalid(exc) from None
    fields: dict[str, Any] = dict(event.__dict__)
    if "lines" in fields:
        fields["lines"] = tuple(_line(line) for line in fields["lines"])
    return struct(**fields)


def _line(line: OrderLine) -> events.OrderLine:
    return events.OrderLine(**line.__dict__)


def _decoded(value: bytes) -> str:
    if value.startswith(b"\xef\xbb\xbf"):
        raise RefusedError(RejectReason.BAD_ENCODING, "begins with a byte order mark; send plain UTF-8")
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise RefusedError(RejectReason.BAD_ENCODING, f"not UTF-8 at byte {exc.start}") from None


def _deeper_than(text: str, limit: int) -> bool:
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > limit:
            return True
    return False


def _why_not_json(text: str, exc: Exception) -> RefusedError:
    """Why the strict decoder refused: Python's own lets non-finite numbers and half pairs through."""
    odd: list[str] = []

    def number(digits: str) -> float:
        if (value := float(digits)) in (float("inf"), float("-inf")):
            odd.append(digits)
        return value

    try:
        lax = json.loads(text, parse_constant=odd.append, parse_int=number, parse_float=number)
    except (ValueError, RecursionError):
        return RefusedError(RejectReason.MALFORMED_JSON, str(exc) if text.strip() else "the body is empty")
    if odd:
        return RefusedError(RejectReason.NON_FINITE_NUMBER, f"{odd[0][:20]} is not a number that can be held")
    try:
        json.dumps(lax, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return RefusedError(RejectReason.BAD_ENCODING, "an escape stands for half a surrogate pair")
    return RefusedError(RejectReason.MALFORMED_JSON, str(exc))


def _why_invalid(exc: ValidationError) -> RefusedError:
    errors = exc.errors(include_url=False, include_context=False)
    first = errors[0]
    kind = first["type"]
    if kind == "literal_error":
        known = isinstance(first["input"], str)
        reason = RejectReason.UNKNOWN_KIND if known else RejectReason.INVALID_FIELD
    else:
        reason = _REASONS.get(kind, RejectReason.INVALID_FIELD)
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return RefusedError(reason, f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}")

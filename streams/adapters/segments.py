"""Rules of segments as people write them, in YAML, and as they travel, in JSON on the topic segment-rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from streams.adapters import strict_yaml
from streams.domain.segment_rules import MOST_SEGMENTS, NAME, RuleError, RuleSet, Segment, read, text

#: The key of the only record that counts.
RULES_RECORD: Final = b"rules"
_FIELDS: Final = ("name", "description", "shops", "rule")
_LARGEST_BYTES: Final = 256 * 1024
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(RuleSet).decode


class SegmentsError(ValueError):
    """A file of segments that cannot be used; its text has one line for each thing that is wrong."""


def encode_rules_record(rules: RuleSet) -> bytes:
    """The record's value."""
    return _encode(rules)


def decode_rules_record(key: bytes | None, value: bytes | None) -> RuleSet:
    """The rules in a record; ValueError, one sentence, if it holds none."""
    if key != RULES_RECORD:
        raise ValueError(f"rules of segments under the key {key!r}, not {RULES_RECORD!r}")
    try:
        rules = _decode(value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise ValueError(f"no rules of segments: {exc}") from None
    try:
        for segment in rules.segments:
            read(text(segment.rule), segment.name)
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"rules that no release has written: {exc}") from None
    return rules


def read_file(path: Path, version: int) -> RuleSet:
    """The segments of a file. Raises SegmentsError with everything that is wrong in it."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise SegmentsError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    return read_text(data, str(path), version)


def read_text(data: bytes, name: str, version: int) -> RuleSet:
    """The segments in the YAML ``data``, that messages call ``name``. Raises SegmentsError."""
    if len(data) > _LARGEST_BYTES:
        raise SegmentsError(f"{name}: is larger than {_LARGEST_BYTES // 1024} KiB")
    try:
        found = yaml.load(data, strict_yaml.Loader)  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise SegmentsError(f"{name}: is no YAML: {' '.join(str(exc).split())}") from None
    if not isinstance(found, Mapping) or set(found) != {"segments"}:
        raise SegmentsError(f"{name}: must have one key, segments:, with a list of segments")
    listed = found["segments"]
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise SegmentsError(f"{name}: segments: must be a list")
    if len(listed) > MOST_SEGMENTS:
        raise SegmentsError(f"{name}: {len(listed)} segments; at most {MOST_SEGMENTS} are allowed")
    wrong: list[str] = []
    segments: dict[str, Segment] = {}
    for number, each in enumerate(listed, 1):
        segment = _segment(each, number, wrong)
        if segment is None:
            continue
        if segment.name in segments:
            wrong.append(f"segment {segment.name!r}: there are two of this name")
        segments[segment.name] = segment
    if wrong:
        raise SegmentsError("\n".join(f"{name}: {each}" for each in wrong))
    return RuleSet(version, tuple(segments.values()))


def write_text(rules: RuleSet) -> str:
    """The YAML that ``read_text`` reads as these rules."""
    listed = []
    for segment in rules.segments:
        each: dict[str, Any] = {"name": segment.name, "description": segment.description}
        if segment.shops is not None:
            each["shops"] = list(segment.shops)
        listed.append({**each, "rule": text(segment.rule)})
    return yaml.safe_dump({"segments": listed}, sort_keys=False, allow_unicode=True, width=100)


def _segment(found: Any, number: int, wrong: list[str]) -> Segment | None:
    """The segment, or None and what is wrong with it in ``wrong``."""
    place = f"segment {number}"
    if not isinstance(found, Mapping):
        wrong.append(f"{place}: must have the fields {', '.join(_FIELDS)}")
        return None
    before = len(wrong)
    name, description, shops = found.get("name"), found.get("description", ""), found.get("shops")
    if isinstance(name, str):
        place = f"segment {name!r}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        says = "must have a name of at most 40 small letters, digits and hyphens"
        wrong.append(f"{place}: {says}, not {name!r}" if name is not None else f"{place}: {says}")
    for key in found:
        if key not in _FIELDS:
            close = get_close_matches(str(key), _FIELDS, 1, 0.5)
            hint = f"; the nearest is {close[0]!r}" if close else f"; there are {', '.join(_FIELDS)}"
            wrong.append(f"{place}: there is no field {str(key)!r}{hint}")
    if not isinstance(description, str):
        wrong.append(f"{place}: description must be text")
    if shops is not None and not (
        isinstance(shops, list) and shops and all(isinstance(shop, str) and shop for shop in shops)
    ):
        wrong.append(f"{place}: shops must be a list of shop ids; leave it out for all shops")
    rule = None
    if "rule" not in found:
        wrong.append(f"{place}: has no rule")
    else:
        try:
            rule = read(found["rule"])
        except RuleError as exc:
            wrong.append(f"{place}: {exc}")
    if rule is None or len(wrong) > before:
        return None
    return Segment(str(name), description, rule, None if shops is None else tuple(sorted(set(shops))))

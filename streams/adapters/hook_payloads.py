"""What endpoints are sent: a fact as a Standard Webhooks message, for Alertmanager, or as a line of text.

A body follows from the fact alone, so every attempt of a delivery sends the same bytes. Bodies are UTF-8
JSON of at most MOST_BYTES: of a longer one the long texts and the tail of contributors are cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import xxhash

from schemas.topics import ACTIONS, ALERTS, SEGMENTS, TRANSITIONS

Kind = Literal["webhook", "alertmanager", "alertmanager-webhook", "slack"]

#: What the Standard Webhooks specification recommends to stay below.
MOST_BYTES: Final = 20_000
_LONG_TEXT: Final = 200
_FEW: Final = 3
_MANY: Final = 40
#: Slack cuts what is longer.
_SLACK_CHARACTERS: Final = 3_000
#: An alert without an end would be resolved by Alertmanager after its resolve_timeout, five minutes. This is
#: as long as a delivery is tried: by then the end has come, or nothing more will. In ms.
STANDS: Final = 76 * 3_600_000

Fact = Mapping[str, Any]


class Payload(NamedTuple):
    """A body; path: to be appended to the endpoint's URL unless it is there."""

    body: bytes
    path: str = ""


class NoPayload(ValueError):
    """The fact cannot be told to such an endpoint."""


def payload(kind: Kind, topic: str, fact: Fact) -> Payload:
    """What an endpoint of ``kind`` is sent of ``fact``, a record of ``topic`` (without prefix).

    Raises NoPayload for what is no alert, to an endpoint that knows alerts only.
    """
    if topic != ALERTS.name and kind in ("alertmanager", "alertmanager-webhook"):
        raise NoPayload(f"Alertmanager is told of alerts, not of {topic}")
    build = _BUILDERS[kind]
    body = _json(build(topic, fact))
    if len(body) > MOST_BYTES:
        body = _json(build(topic, _cut(fact)))
    if len(body) > MOST_BYTES:
        raise NoPayload(f"{len(body):,} bytes, and {MOST_BYTES:,} is the most")
    return Payload(body, _PATHS.get(kind, ""))


def event_type(topic: str, fact: Fact) -> str:
    """The type of a message: what happened to what, as ``alert.firing``."""
    if topic == ALERTS.name:
        return f"alert.{'withdrawn' if fact['is_deleted'] else fact['status']}"
    if topic == SEGMENTS.name:
        return f"segment.{'entered' if fact['is_member'] and not fact['is_deleted'] else 'left'}"
    noun = {TRANSITIONS.name: "transition", ACTIONS.name: "action"}[topic]
    return f"{noun}.{'withdrawn' if fact['is_deleted'] else fact['kind']}"


def rfc3339(ms: int) -> str:
    """``2026-03-02T12:00:00.000Z``."""
    return _date(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- Standard Webhooks


def _webhook(topic: str, fact: Fact) -> object:
    return {"type": event_type(topic, fact), "timestamp": rfc3339(fact["at"]), "data": fact}


# -- Alertmanager


def _labels(fact: Fact, severity: str) -> dict[str, str]:
    """What tells one alert from every other, the same in all its revisions but for the severity.

    Alertmanager drops labels that are empty, so these are not sent.
    """
    kind = "Loss" if fact["kind"] == "loss" else "Pipeline"
    words = "".join(word.capitalize() for word in fact["signal"].split("_"))
    labels = {
        "alertname": f"Ebbtide{kind}{words}",
        "severity": severity,
        "shop": fact["shop_id"] or "all",
        "signal": fact["signal"],
        "scope": fact["scope"],
        "scope_value": fact["scope_value"],
        "rule": fact["rule"],
        "alert_id": fact["alert_id"],
    }
    return {name: value for name, value in labels.items() if value}


def _annotations(fact: Fact) -> dict[str, str]:
    found = {
        "summary": fact["summary"],
        "observed": _number(fact["observed"]),
        "expected": _number(fact["expected"]),
        "band": _number(fact["band"]),
        "sessions": f"{fact['sessions']}",
        "lost": f"{fact['lost']}",
        "value_at_risk": ", ".join(f"{amount} {name}" for name, amount in fact["value_at_risk"].items()),
        "contributors": "; ".join(map(_contributor, fact["contributors"])),
        "revision": f"{fact['version']}",
    }
    return {name: value for name, value in found.items() if value}


def _times(fact: Fact) -> dict[str, str]:
    ends = _end(fact)
    return {
        "startsAt": rfc3339(fact["began_at"]),
        "endsAt": rfc3339(fact["at"] + STANDS if ends is None else ends),
    }


def _end(fact: Fact) -> int | None:
    """When the alert ended; None: it stands."""
    if fact["status"] == "firing" and not fact["is_deleted"]:
        return None
    # Alertmanager refuses what ends before it starts.
    ended: int = max(fact["resolved_at"] or fact["at"], fact["began_at"] + 1)
    return ended


def _alertmanager(_topic: str, fact: Fact) -> object:
    alert = {
        "labels": _labels(fact, fact["severity"]),
        "annotations": _annotations(fact),
        **_times(fact),
        "generatorURL": _generator(fact),
    }
    if fact["version"] == 1:
        return [alert]
    # Labels are an alert's identity: what was told with another severity would stand beside it.
    other = "warning" if fact["severity"] == "critical" else "critical"
    ended = max(fact["at"], fact["began_at"] + 1)
    was = {**alert, "labels": _labels(fact, other), "endsAt": rfc3339(ended)}
    return [alert, was]


def _alertmanager_webhook(_topic: str, fact: Fact) -> object:
    """What Alertmanager itself sends to webhooks, version 4: a group of one alert."""
    status = "firing" if _end(fact) is None else "resolved"
    labels = _labels(fact, fact["severity"])
    annotations = _annotations(fact)
    end = _end(fact)
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(fact["began_at"]),
        # Go's zero time is how Alertmanager says that there is no end.
        "endsAt": "0001-01-01T00:00:00Z" if end is None else rfc3339(end),
        "generatorURL": _generator(fact),
        "fingerprint": _fingerprint(labels),
    }
    group = {name: labels[name] for name in ("alertname", "alert_id")}
    key = ", ".join(f'{name}="{value}"' for name, value in sorted(group.items()))
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{key}}}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "ebbtide",
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [alert],
    }


def _fingerprint(labels: Mapping[str, str]) -> str:
    """64 bits, as Alertmanager's have; the receiver only compares them."""
    text = "\xff".join(f"{name}\xff{labels[name]}" for name in sorted(labels))
    return xxhash.xxh3_64_hexdigest(text.encode())


def _generator(fact: Fact) -> str:
    return f"urn:ebbtide:alert:{fact['alert_id']}"


# -- Slack


def slack_text(text: str) -> str:
    """``text`` as Slack shows it letter by letter: no mention, link, channel or formatting comes of it.

    Slack's own escapes are for &, < and >; without these no <!channel>, <@U1> or <https://…|text> is left.
    A bare @here is read as a mention by others that take Slack's format, a bare host name as a link, and *,
    _, ~ and ` as formatting: a space of no width parts each from what follows. One line of it.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _MARKS.sub(lambda found: found[0] + "\u200b", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_MARKS: Final = re.compile(r"[@#*_~`]|:(?=//)|\.(?=[^\W\d])")


def _slack(topic: str, fact: Fact) -> object:
    text = _SENTENCES[topic](fact)
    return {"text": text[:_SLACK_CHARACTERS]}


def _alert_text(fact: Fact) -> str:
    shop = slack_text(_shortened(fact["shop_id"] or "all shops"))
    state = "withdrawn" if fact["is_deleted"] else fact["status"]
    mark = {"firing": ":rotating_light:" if fact["severity"] == "critical" else ":warning:"}.get(
        state, ":white_check_mark:"
    )
    lines = [f"{mark} {state}, {fact['severity']} ({shop}): {slack_text(_shortened(fact['summary']))}"]
    for each in fact["contributors"][:_FEW]:
        lines.append(f"• {slack_text(_shortened(_contributor(each)))}")
    lines.append(f"since {rfc3339(fact['began_at'])}, alert {fact['alert_id']}, revision {fact['version']}")
    return "\n".join(lines)


def _customer_text(fact: Fact) -> str:
    told = {
        name: fact.get(name)
        for name in ("kind", "from_state", "to_state", "segment", "is_member", "reason")
        if fact.get(name) is not None
    }
    words = ", ".join(f"{name} {value}" for name, value in told.items())
    gone = " withdrawn:" if fact["is_deleted"] else ""
    who = f"customer {_shortened(fact['customer_id'])} of {_shortened(fact['shop_id'])}"
    return f":bust_in_silhouette:{gone} {slack_text(f'{who}: {_shortened(words)}')}"


# -- parts


def _contributor(each: Fact) -> str:
    return (
        f"{each['dimension']} {each['value']}: {each['observed']:g} lost,"
        f" {each['expected']:g} expected, {each['share']:.0%} of the excess"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def _cut(fact: Fact) -> Fact:
    """The fact with long texts shortened and few of each list."""

    def cut(value: object) -> object:
        if isinstance(value, str):
            return _shortened(value)
        if isinstance(value, list):
            return [cut(each) for each in value[:_FEW]]
        if isinstance(value, dict):
            return {_shortened(name): cut(each) for name, each in islice(value.items(), _MANY)}
        return value

    return {name: cut(value) for name, value in fact.items()}


def _shortened(text: str) -> str:
    return text if len(text) <= _LONG_TEXT else text[: _LONG_TEXT - 1] + "…"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode(
        errors="replace"
    )


_PATHS: Final[dict[Kind, str]] = {"alertmanager": "/api/v2/alerts"}
_BUILDERS: Final[dict[Kind, Callable[[str, Fact], object]]] = {
    "webhook": _webhook,
    "alertmanager": _alertmanager,
    "alertmanager-webhook": _alertmanager_webhook,
    "slack": _slack,
}
_SENTENCES: Final[dict[str, Callable[[Fact], str]]] = {
    ALERTS.name: _alert_text,
    TRANSITIONS.name: _customer_text,
    ACTIONS.name: _customer_text,
    SEGMENTS.name: _customer_text,
}

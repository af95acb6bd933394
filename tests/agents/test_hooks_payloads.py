"""What endpoints are sent: the four shapes, their sizes, and that names in them are only names."""

from __future__ import annotations

import asyncio
import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, FormatChecker

from schemas.topics import ALERTS
from streams.adapters.hook_payloads import MOST_BYTES, NoPayload, payload, rfc3339, slack_text
from streams.adapters.hook_post import Post
from streams.adapters.webhook import Target
from streams.adapters.webhook_guard import Guard
from streams.domain.deliveries import begun
from tests.agents.hooks_play import alert, segment
from tests.builders import NOON
from tests.domain.test_laws import laws

API = Path(__file__).parents[1] / "integration" / "alertmanager-api-v2.yaml"

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
amounts = st.one_of(st.none(), st.floats(0, 1e9, allow_nan=False))
alerts = st.builds(
    lambda version, ended, deleted, critical, **more: alert(
        version=version,
        status="resolved" if ended else "firing",
        resolved_at=NOON + 60_000 if ended else None,
        is_deleted=deleted,
        severity="critical" if critical else "warning",
        **more,
    ),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    shop_id=names,
    scope_value=names,
    rule=names,
    summary=names,
    observed=amounts,
    expected=amounts,
    band=amounts,
    value_at_risk=st.dictionaries(st.from_regex("[A-Z]{3}", fullmatch=True), st.just("1.0000"), max_size=60),
    contributors=st.lists(
        st.fixed_dictionaries(
            {
                "dimension": st.sampled_from(["item", "stage", "channel", "destination"]),
                "value": names,
                "observed": st.floats(0, 1e6),
                "expected": st.floats(0, 1e6),
                "share": st.floats(0, 1),
            }
        ),
        max_size=5,
    ),
)


def said(kind: Any, fact: dict[str, Any], topic: str = "alerts") -> Any:
    return json.loads(payload(kind, topic, fact).body)


@cache
def api(definition: str) -> Draft4Validator:
    """A validator of one definition of Alertmanager's API, as JSON Schema: Swagger 2.0 is draft 4 of it."""
    document = yaml.safe_load(API.read_text())
    closed = deepcopy(document["definitions"])
    return Draft4Validator(
        {"$ref": f"#/definitions/{definition}", "definitions": closed}, format_checker=FormatChecker()
    )


@laws
@given(alerts)
def test_what_alertmanager_is_sent_is_what_its_api_describes(fact: dict[str, Any]) -> None:
    found = payload("alertmanager", "alerts", fact)
    assert found.path == "/api/v2/alerts"
    posted = json.loads(found.body)
    api("postableAlerts").validate(posted)
    for each in posted:
        assert set(each) == {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
        # What Alertmanager itself checks (Alert.Validate): names of labels, and an end after the start.
        assert all(
            re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) for name in (*each["labels"], *each["annotations"])
        )
        assert all(each["labels"].values())
        assert each["labels"]["alertname"].startswith("Ebbtide")
        assert each["startsAt"] < each["endsAt"]


def test_the_validator_would_see_a_request_that_is_not_of_the_api() -> None:
    validator = api("postableAlerts")
    assert not validator.is_valid([{"annotations": {}}])
    assert not validator.is_valid([{"labels": {"alertname": 1}}])
    assert not validator.is_valid({"alerts": []})


def test_an_alert_is_one_and_the_same_to_alertmanager_until_it_ends() -> None:
    (first,) = said("alertmanager", alert())
    again, _ = said("alertmanager", alert(version=2, observed=0.8))
    end, _ = said("alertmanager", alert(version=3, status="resolved", resolved_at=NOON + 5_000))
    assert first["labels"] == again["labels"] == end["labels"]
    assert first["startsAt"] == again["startsAt"] == end["startsAt"] == rfc3339(NOON - 120_000)
    assert first["endsAt"] > rfc3339(NOON + 75 * 3_600_000), (
        "it stands for longer than it is tried to be delivered"
    )
    assert end["endsAt"] == rfc3339(NOON + 5_000)


@pytest.mark.parametrize("kind", ["alertmanager", "alertmanager-webhook"])
def test_an_alert_that_ended_when_it_began_ends_after_it(kind: Any) -> None:
    """Alertmanager refuses what does not."""
    found = said(kind, alert(began_at=NOON, resolved_at=NOON, status="resolved"))
    (one,) = found if kind == "alertmanager" else found["alerts"]
    assert one["startsAt"] < one["endsAt"] == rfc3339(NOON + 1)


def test_an_alert_that_becomes_critical_ends_as_a_warning() -> None:
    now, was = said("alertmanager", alert(version=2, severity="critical"))
    assert (now["labels"]["severity"], was["labels"]["severity"]) == ("critical", "warning")
    assert now["endsAt"] > was["endsAt"] == rfc3339(NOON)
    assert {**now["labels"], "severity": ""} == {**was["labels"], "severity": ""}


def test_the_webhook_of_alertmanager_is_its_version_4() -> None:
    """The fields of template.Data and webhook.Message of Alertmanager 0.28, which its documentation lists."""
    found = said("alertmanager-webhook", alert())
    assert set(found) == {
        *("version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels"),
        *("commonAnnotations", "externalURL", "alerts"),
    }
    assert (found["version"], found["status"], found["truncatedAlerts"]) == ("4", "firing", 0)
    (one,) = found["alerts"]
    assert set(one) == {
        *("status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"),
    }
    assert re.fullmatch("[0-9a-f]{16}", one["fingerprint"])
    assert one["endsAt"] == "0001-01-01T00:00:00Z"
    over = said("alertmanager-webhook", alert(version=2, status="resolved", resolved_at=NOON))
    assert (over["status"], over["alerts"][0]["status"]) == ("resolved", "resolved")
    assert over["alerts"][0]["endsAt"] == rfc3339(NOON)
    assert over["alerts"][0]["fingerprint"] == one["fingerprint"]
    assert over["groupKey"] == found["groupKey"]


@pytest.mark.parametrize(
    ("topic", "fact", "kind"),
    [
        ("alerts", alert(), "alert.firing"),
        ("alerts", alert(status="resolved"), "alert.resolved"),
        ("alerts", alert(is_deleted=True), "alert.withdrawn"),
        ("segments", segment(), "segment.entered"),
        ("segments", segment(is_member=False), "segment.left"),
        ("segments", segment(is_deleted=True), "segment.left"),
        ("transitions", {"kind": "stage", "is_deleted": False, "at": NOON}, "transition.stage"),
        ("transitions", {"kind": "tier", "is_deleted": True, "at": NOON}, "transition.withdrawn"),
        ("actions", {"kind": "win_back", "is_deleted": False, "at": NOON}, "action.win_back"),
    ],
)
def test_a_message_says_what_happened_when_and_the_whole_fact(
    topic: str, fact: dict[str, Any], kind: str
) -> None:
    found = said("webhook", fact, topic)
    assert found == {"type": kind, "timestamp": "2026-03-02T12:00:00.000Z", "data": fact}
    # The specification, "Event types".
    assert re.fullmatch(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)+", found["type"])


@laws
@given(st.sampled_from(["webhook", "alertmanager", "alertmanager-webhook", "slack"]), alerts)
def test_no_alert_is_too_large_to_be_told_and_every_attempt_says_the_same(
    kind: Any, fact: dict[str, Any]
) -> None:
    body = payload(kind, ALERTS.name, fact).body
    assert len(body) <= MOST_BYTES
    assert body == payload(kind, ALERTS.name, json.loads(json.dumps(fact))).body
    json.loads(body.decode())


def test_a_long_alert_is_cut_and_keeps_what_identifies_it() -> None:
    long = "é" * 30_000
    each = {"dimension": "item", "value": long, "observed": 1.0, "expected": 0.0, "share": 0.2}
    fact = alert(summary=long, scope_value=long, contributors=[each] * 5)
    found = said("webhook", fact)["data"]
    assert found["alert_id"] == fact["alert_id"]
    assert len(found["summary"]) == 200
    assert found["summary"].endswith("…")
    assert len(found["contributors"]) == 3


@pytest.mark.parametrize("kind", ["alertmanager", "alertmanager-webhook"])
def test_alertmanager_is_told_of_alerts_only(kind: Any) -> None:
    with pytest.raises(NoPayload, match="alerts, not of segments"):
        payload(kind, "segments", segment())


@pytest.mark.parametrize("odd", [{"observed": float("nan")}, {"at": 10**30}, {"began_at": "x"}])
@pytest.mark.parametrize("kind", ["webhook", "alertmanager", "alertmanager-webhook", "slack"])
def test_what_cannot_be_said_is_given_up_and_nothing_breaks(kind: Any, odd: dict[str, Any]) -> None:
    post = Post(kind, Target("https://127.0.0.1/"), Guard(), lambda: NOON)
    fact = json.dumps({**alert(), **odd}).encode()
    answer = asyncio.run(post.attempt(begun("e", "alerts", "a" * 32, 1, fact, NOON)))
    assert answer.error is not None
    assert answer.final or "refused" in answer.error


# -- Slack


def test_slack_text_says_what_where_and_why() -> None:
    text = said("slack", alert(severity="critical"))["text"]
    first, why, last = text.split("\n")
    assert first.startswith(":rotating_light: firing, critical (s1): shop s1 loses 75 %")
    assert why == "• item i1: 30 lost, 10 expected, 67% of the excess"
    assert f"{1:032x}" in last


HOSTILE = [
    "<!channel>",
    "<!here|here>",
    "<@U012AB3CD>",
    "<#C012AB3CD>",
    "<https://evil.example|your bank>",
    "@here",
    "@channel @everyone",
    "https://evil.example/x",
    "www.evil.example",
    "*bold* _it_ ~no~ `code`",
    "a\n> quoted\n:rotating_light: resolved, critical (other): all is well",
    "&lt;!channel&gt;",
    "&amp;lt;",
    "\u202eright to left",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_mentions_nobody_links_nowhere_and_makes_no_line(name: str) -> None:
    plain = said("slack", alert(shop_id="s", summary="x"))["text"]
    text = said("slack", alert(shop_id=name, summary=name))["text"]
    assert "<" not in text
    assert ">" not in text
    assert not re.search(r"[@#*_~`](?!\u200b)", text.replace(":rotating_light:", "").replace(f"{1:032x}", ""))
    assert "://" not in text
    assert not re.search(r"\.[a-z]", text)
    assert len(text.split("\n")) == len(plain.split("\n"))
    assert "\u202e" not in text


@given(st.text())
def test_slack_shows_a_name_letter_by_letter(name: str) -> None:
    text = slack_text(name)
    assert "<" not in text
    assert ">" not in text
    assert "\n" not in text
    assert not re.search("&(?!(amp|lt|gt);)", text)
    shown = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("\u200b", "")
    assert shown == " ".join("".join(c if c.isprintable() else " " for c in name).split()).replace(
        "\u200b", ""
    )


@pytest.mark.parametrize(("topic", "fact"), [("segments", segment("<@U1>"))])
def test_facts_of_customers_are_said_in_a_line_too(topic: str, fact: dict[str, Any]) -> None:
    text = said("slack", fact, topic)["text"]
    assert "&lt;@\u200bU1&gt; of s1" in text
    assert "segment lapsing" in text

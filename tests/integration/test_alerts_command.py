"""alerts.yaml as people write it, right and wrong; and ``ebbtide alerts``."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streams.adapters.alert_rules import AlertRulesError, load_rules, read_file, read_text
from streams.adapters.clickhouse import Store, migrate
from streams.app import create_app
from streams.cli import main
from streams.domain.alert_rules import AlertRules, Quiet
from streams.settings import Settings, SettingsError
from tests.integration.stored import store

EXAMPLE = Path(__file__).parents[2] / "deploy" / "alerts.example.yaml"
HOOK = "endpoints: {ops: {url: 'https://x.example'}}\n"


def read(text: str, folder: Path = Path(), env: dict[str, str] | None = None) -> AlertRules:
    return read_text(text.encode(), "alerts.yaml", folder, env)


def wrong(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(AlertRulesError) as found:
        read(text, env=env)
    return str(found.value).splitlines()


def test_without_a_file_or_with_an_empty_one_the_defaults_hold() -> None:
    assert load_rules(Settings(), {}) == AlertRules()
    empty = read("")
    assert (empty.endpoints, empty.routes, empty.health) == ({}, (), AlertRules().health)
    assert [watch.shops for watch in empty.watches] == [("*", "(all)")]
    assert empty.watches[0].rule == AlertRules().watches[0].rule


def test_the_example_is_read_with_its_secrets(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("/run/secrets/crm", "crm.secret")
    (tmp_path / "crm.secret").write_text("whsec_c3Bpa2Vz\n")
    env = {
        "ONCALL_SECRET": "new",
        "ONCALL_SECRET_OLD": "old",
        "CHAT_WEBHOOK_URL": "https://c/x",
        "CRM_TEAM": "t",
    }
    rules = read(text, tmp_path, env)
    assert rules.endpoints["oncall"].secrets == ("new", "old")
    assert rules.endpoints["crm"].secrets == ("whsec_c3Bpa2Vz",)
    assert rules.endpoints["crm"].headers == (("X-Team", "t"),)
    assert rules.endpoints["chat"].url == "https://c/x"
    flagship, default = rules.watches
    assert (flagship.rule.name, flagship.rule.min_change, flagship.rule.false_alarms) == ("flagships", 0.1, 2)
    assert default.quiet == (Quiet(0, 480, frozenset({5, 6})), Quiet(1350, 420, frozenset(range(7))))
    shown = repr(rules)
    assert not [secret for secret in ("new", "old", "c3Bpa2Vz", "https://c/x") if f"'{secret}" in shown]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("watch: [{shops: [a], min_sesions: 3}]", "no such key; the nearest is 'min_sessions'"),
        ("wach: []", "wach: there is no such key; the nearest is 'watch'"),
        ("watch: [{shops: []}]", "watch.0.shops: Tuple should have at least 1 item"),
        ("watch: [{signals: [drift]}]", "watch.0.shops: Field required"),
        ("watch: [{shops: [a], signals: [drfit]}]", "Input should be 'loss_rate', 'lost_count', 'drift' or"),
        ("watch: [{shops: [a], false_alarms: 0}]", "greater than or equal to 0.001"),
        ("watch: [{shops: [a], quiet: ['25:00-07:00']}]", "a time that no clock shows"),
        ("watch: [{shops: [a], quiet: ['mo 22:00-07:00']}]", "is not like 22:00-07:00 or mon-fri"),
        ("watch: [{shops: [a], quiet: ['abc 22:00-07:00']}]", "'abc' is no day; they are mon, tue"),
        ("health: {max_lag: 300}", "health.max_lag: write it with its unit, like 15s or 5m"),
        ("health: {holds: [lagg]}", "Input should be 'lag'"),
        ("endpoints: {ops: {}}", "must have one of url, url_env, url_file"),
        ("endpoints: {ops: {url: 'https://x', secret: abc}}", "secret must not stand in this file"),
        ("endpoints: {ops: {url: 'https://x', secret_env: A, secret_file: b}}", "must not have both"),
        ("endpoints: {ops: {url: 'https://x', kind: email}}", "Input should be 'webhook', 'alertmanager'"),
        ("endpoints: {Ops!: {url: 'https://x'}}", "String should match pattern"),
        (HOOK + "routes: [{to: [opps]}]", "goes to 'opps', which is no endpoint; the nearest is 'ops'"),
        (HOOK + "routes: [{to: [ops], only: [los_rate]}]", "no signal 'los_rate'; the nearest is 'lo"),
        (HOOK + "routes: [{to: [ops], topic: segments, severity: [critical]}]", "severity is of alerts"),
        ("watch: [", "is no YAML"),
        ("watch: []\nwatch: []", "'watch' is there twice"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    [line] = wrong(text)
    assert line.startswith("alerts.yaml: ")
    assert said in line


def test_everything_that_is_wrong_is_said_at_once_with_its_line() -> None:
    text = "watch:\n  - shops: [a]\n    min_change: high\n  - shops: [b]\n    colour: red\n"
    first, second = wrong(text)
    assert first.startswith("alerts.yaml: line 3: watch.0.min_change: ")
    assert second.startswith("alerts.yaml: line 5: watch.1.colour: ")


def test_a_secret_that_is_not_there_is_named_and_what_is_there_is_not_shown() -> None:
    text = "endpoints: {ops: {url: 'https://x', secret_env: OPS_SECRET, headers: {X-Key: {env: KEY}}}}"
    assert wrong(text, {"KEY": "hush"}) == [
        "alerts.yaml: endpoints.ops.secret: the environment has no OPS_SECRET"
    ]
    [line] = wrong("endpoints: {ops: {url_file: none.txt}}", {})
    assert "none.txt cannot be read" in line


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AlertRulesError, match="cannot be read: No such file"):
        read_file(tmp_path / "none.yaml", {})


# -- the command


def run(*args: str, **env: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, ["alerts", *args], env={**clean, **env}, catch_exceptions=False)


def test_check_says_what_a_file_comes_to_for_a_shop() -> None:
    told = run("check", str(EXAMPLE), "--shop", "flagship-paris", "--shop", "other").output
    assert "2 watch(es), 4 endpoint(s), 4 route(s)" in told
    assert "flagship-paris: by flagships\n" in told
    assert "other: by default\n" in told
    assert "quiet: sat,sun 00:00-08:00" in told


def test_check_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("watch: [{shops: [a], min_sesions: 3}]")
    found = run("check", str(tmp_path / "a.yaml"))
    assert found.exit_code == 1
    assert found.output.startswith("Error: ")
    assert "the nearest is 'min_sessions'" in found.output


@pytest.mark.parametrize("role", ["shops", "hooks"])
def test_a_worker_refuses_rules_that_cannot_be_used(role: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("watch: 3")
    with pytest.raises(SettingsError, match=r"a\.yaml: line 1: watch: Input should be a valid tuple"):
        create_app(Settings(alerts_file=str(tmp_path / "a.yaml"), ticks="off"), role)


def test_list_shows_alerts_newest_first_in_three_formats(database: str) -> None:
    migrate(database)
    began = ["2024-01-05 10:00", "2024-01-06 10:00", "2023-12-01 10:00"]
    with closing(Store(database)) as into:
        facts = [{"began_at": at, "shop_id": f"s{n}", "status": "firing"} for n, at in enumerate(began)]
        store(
            into,
            {"alerts": [*facts, {"began_at": began[0], "shop_id": "s0", "status": "resolved", "version": 2}]},
        )
    asked = ("list", "--clickhouse", database, "--format")
    rows = [json.loads(line) for line in run(*asked, "json").output.splitlines()]
    assert [(row["shop_id"], row["status"], row["began_at"]) for row in rows] == [
        ("s1", "firing", "2024-01-06T10:00:00Z"),
        ("s0", "resolved", "2024-01-05T10:00:00Z"),
    ]
    assert len(list(csv.DictReader(io.StringIO(run(*asked, "csv", "--days", "90").output)))) == 3
    assert "s1" in run(*asked, "table", "--status", "firing").output
    assert run(*asked, "table", "--shop", "nobody").output == "There are none.\n"

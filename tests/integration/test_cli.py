"""The command line: every command explains itself, and every failure is one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from streams.adapters.kafka import admin
from streams.cli import main
from streams.commands.dead_letters import one_line, shown

NOWHERE = "127.0.0.1:1"
NO_STORE = "http://default@127.0.0.1:1/ebbtide"


def run(*args: str, **env: str) -> Result:
    """The command in this process, with ``env`` as its only settings."""
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, list(args), env={**clean, **env}, catch_exceptions=False)


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    examples = result.output.partition("Examples:\n")[2]
    assert f"ebbtide {' '.join(path)}".strip() in examples, "the help has no example of its own"


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is not there is not waited for as long as one that may be starting."""
    monkeypatch.setattr(admin, "_BOOTSTRAP_S", 1.0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "events.jsonl").write_text("{}\n")
    (tmp_path / "demo-less").mkdir()
    return tmp_path


#: The arguments ("@" stands for a directory with a file in it), settings, and a part of the sentence.
FAILURES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "a file that is not there": (
        ["replay", "--data", "@/none.csv", "--format", "userbehavior", "--kafka", NOWHERE],
        {},
        "",
    ),
    "a format that nobody knows": (
        ["demo", "--data", "@/events.jsonl", "--format", "xml"],
        {},
        "userbehavior",
    ),
    "a file without its format": (["demo", "--data", "@/events.jsonl"], {}, "--format"),
    "a duration without a unit": (["demo", "--horizon", "12"], {}, "12d"),
    "an agent that nobody knows": (["worker", "--agents", "customers,typo"], {}, "customers, sink"),
    "no agent at all": (["worker", "--agents", ","], {}, "customers, sink"),
    "a setting that is no number": (["topics", "check"], {"EBBTIDE_PARTITIONS": "six"}, "EBBTIDE_PARTITIONS"),
    "a setting that is no duration": (["migrate"], {"EBBTIDE_GAP": "soon"}, "soon"),
    "a gap of nothing": (["migrate"], {"EBBTIDE_GAP": "0s"}, "gap"),
    "a password in the clear": (
        ["topics", "check"],
        {"EBBTIDE_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        "unencrypted",
    ),
    "a broker that is not there": (["topics", "check", "--kafka", NOWHERE], {}, NOWHERE),
    "a broker that is not there for a replay": (
        ["replay", "--data", "@/events.jsonl", "--format", "jsonl", "--kafka", NOWHERE],
        {},
        NOWHERE,
    ),
    "a store that is not there": (["sql", "SELECT 1", "--clickhouse", NO_STORE], {}, "127.0.0.1:1"),
    "a store that is not there for migrations": (["migrate", "--clickhouse", NO_STORE], {}, "127.0.0.1:1"),
    "a store that is not there for letters": (
        ["dead-letters", "list", "--clickhouse", NO_STORE],
        {},
        "127.0.0.1:1",
    ),
    "a URL that is none": (["verify", "--clickhouse", "clickhouse"], {}, "not a ClickHouse URL"),
    "a directory without a demo": (["sql", "SELECT 1", "--data-dir", "@/demo-less"], {}, "holds no data"),
    "a directory without a demo to verify": (["verify", "--data-dir", "@/demo-less"], {}, "holds no data"),
    "a letter's place that is none": (["dead-letters", "show", "visits-3-1"], {}, "TOPIC:PARTITION:OFFSET"),
    "a broker that is not there for models": (["model", "show", "--kafka", NOWHERE], {}, NOWHERE),
    "a broker that is not there for a fit": (["model", "fit", "--kafka", NOWHERE], {}, NOWHERE),
    "a store that is not there for a fit": (
        ["model", "fit", "--dry-run", "--clickhouse", NO_STORE],
        {},
        "127.0.0.1:1",
    ),
    "a day that is none": (["model", "fit", "--as-of", "31.3.2026"], {}, "no day like 2026-03-31"),
    "a span of hours": (["model", "backtest", "--within", "36h"], {}, "whole days"),
    "a retry of nothing": (["dead-letters", "retry"], {}, "--reason R --all"),
    "a retry of all without a reason": (["dead-letters", "retry", "--all"], {}, "--reason R --all"),
    "one key for several letters": (
        ["dead-letters", "retry", "visits:0:1", "visits:0:2", "--key", "c"],
        {},
        "exactly one letter",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_sentence_and_no_traceback(failure: str, files: Path) -> None:
    args, env, part = FAILURES[failure]
    result = run(*(arg.replace("@", str(files)) for arg in args), **env)
    assert result.exit_code not in (0, None)
    said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert part in said[0]
    assert "Traceback" not in result.output


def test_a_failure_of_the_real_process_is_one_sentence() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "streams.cli", "demo", "--horizon", "soon"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode != 0
    assert "Traceback" not in found.stderr
    assert found.stderr.splitlines()[-1].startswith("Error: ")


def test_the_doctor_finds_what_is_not_there_and_says_how_to_mend_it() -> None:
    result = run("doctor", "--json", EBBTIDE_KAFKA=NOWHERE, EBBTIDE_CLICKHOUSE=NO_STORE, EBBTIDE_GAPP="3m")
    report = json.loads(result.output)
    levels = {(check["name"], check["level"]) for check in report["checks"]}
    assert result.exit_code == 1
    assert not report["ok"]
    assert {("kafka", "broken"), ("clickhouse", "broken"), ("settings", "warning")} <= levels
    assert all(check["fix"] for check in report["checks"] if check["level"] != "ok")
    assert "EBBTIDE_GAPP" in str(report)


def test_the_doctor_stops_at_settings_that_cannot_be_used() -> None:
    result = run("doctor", EBBTIDE_PARTITIONS="none")
    assert result.exit_code == 1
    assert "BROKEN  settings: EBBTIDE_PARTITIONS='none'" in result.output
    assert "1 broken" in result.output


def test_the_doctor_remarks_on_odd_settings() -> None:
    odd = {
        "EBBTIDE_GAP": "1s",
        "EBBTIDE_HORIZON": "500ms",
        "EBBTIDE_AHEAD_TOLERANCE": "1d",
        "EBBTIDE_TICKS": "off",
        "EBBTIDE_SINK_BUFFER_ROWS": "10",
    }
    report = json.loads(
        run("doctor", "--json", EBBTIDE_KAFKA=NOWHERE, EBBTIDE_CLICKHOUSE=NO_STORE, **odd).output
    )
    fixes = [check["fix"] for check in report["checks"] if check["level"] == "warning"]
    assert all(any(name in fix for fix in fixes) for name in odd), fixes


def test_the_doctor_finds_a_password_that_no_connection_would_use() -> None:
    result = run("doctor", EBBTIDE_SASL_USERNAME="me")
    assert result.exit_code == 1
    assert "SASL_SSL" in result.output


def test_what_was_refused_never_reaches_the_terminal_raw() -> None:
    hostile = '{"a":"\x1b]0;owned\x07\x9b2J\u202e"}\r\n'.encode()
    assert shown(hostile) == '{"a":"\\x1b]0;owned\\x07\\x9b2J\\u202e"}\\r\n'
    assert one_line(b"a\nb\xff\x1b") == "a\\nb\\xff\\x1b"
    assert shown(b"\xff\x1bab") == f"00000000  {'ff 1b 61 62':<47}  ..ab"
    assert shown(None) == "(none)"
    assert shown(b"") == ""

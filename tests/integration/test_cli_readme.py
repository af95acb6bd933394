"""What the README says exists: its commands and options, make targets, settings with defaults, and paths."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from streams.cli import main
from streams.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line.removeprefix(".venv/bin/") for line in SHELL if re.match(r"(\.venv/bin/)?ebbtide ", line)]
COMMANDS += re.findall(r"`(ebbtide [^`]+)`", README)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mended.json", "minutes.csv"):
        Path(name).touch()
    _, *words = shlex.split(line)
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no {words[0]!r}"
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    # Parsed, not run: a missing argument or a bad choice would be an error.
    if words:
        command.make_context(line, words)


def _targets() -> Iterator[str]:
    for line in SHELL + re.findall(r"`(make [a-z]+)`", README):
        if match := re.match(r"make ([a-z]+)", line):
            yield match[1]


@pytest.mark.parametrize("target", sorted(set(_targets())))
def test_a_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_settings_table_is_complete_and_has_the_true_defaults() -> None:
    rows = dict(re.findall(r"^\| `(EBBTIDE_\w+)` \| (?:`(.*?)`)? ?\|", README, re.MULTILINE))
    assert rows.keys() == Settings().to_env().keys()
    assert Settings.from_env(rows) == Settings()


def test_the_paths_of_the_layout_exist() -> None:
    layout = README.partition("## Layout")[2]
    paths = re.findall(r"`([\w./-]+)`", "\n".join(re.findall(r"^\| (.*?) \|", layout, re.MULTILINE)))
    assert len(paths) > 10
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_the_changelog_has_a_part_for_what_is_not_released_yet() -> None:
    assert "\n## [Unreleased]\n\n### " in (ROOT / "CHANGELOG.md").read_text()

"""Secrets come from the environment or from files, and reach the processes that a command starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.settings import Settings, SettingsError

SECRETS = {
    "CUSTOMER_KEY": "customer_key",
    "PAGE_TOKEN": "page_token",
    "SASL_PASSWORD": "sasl_password",
    "CLICKHOUSE": "clickhouse",
    "BI_PASSWORD": "bi_password",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file_and_is_never_shown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = "http://u:hidden-in-a-file@h:1/d" if name == "CLICKHOUSE" else "hidden-in-a-file"
    file.write_text(f"{secret}\n")
    settings = Settings.from_env({f"EBBTIDE_{name}_FILE": str(file)})
    assert getattr(settings, SECRETS[name]) == secret
    assert secret not in repr(settings)


@pytest.mark.parametrize("name", SECRETS)
def test_one_that_is_said_twice_and_differs_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of-the-file-0123456789")
    with pytest.raises(SettingsError, match="both set, and differ"):
        Settings.from_env(
            {f"EBBTIDE_{name}_FILE": str(file), f"EBBTIDE_{name}": "of-the-environment-0123456789"}
        )
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.from_env({f"EBBTIDE_{name}_FILE": str(tmp_path / "nowhere")})


def test_what_a_command_puts_in_its_place_reaches_its_children(tmp_path: Path) -> None:
    file = tmp_path / "clickhouse"
    file.write_text("http://of-a-file:1/d")
    parent = {"EBBTIDE_CLICKHOUSE_FILE": str(file)}
    inner = Settings.from_env(Settings.from_env(parent).to_env(), clickhouse="http://of-the-command:2/d")
    assert Settings.from_env({**parent, **inner.to_env()}).clickhouse == "http://of-the-command:2/d"

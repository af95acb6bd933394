"""Settings of one deployment, frozen. The only module that reads the environment.

Every field is read from ``EBBTIDE_<FIELD>``; durations are written ``500ms``, ``30m``, ``24h``, ``12d``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from streams.domain.policy import Policy

Ticks = Literal["wall", "off"]
LogFormat = Literal["text", "json"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_POLICY_DURATIONS = (
    "gap",
    "horizon",
    "recovery_window",
    "amendment_window",
    "ahead_tolerance",
    "lapsed_after",
    "repurchase_lead",
    "prospect_memory",
    "buyer_memory",
    "leak_window",
    "grievance_window",
    "bot_dwell",
)
_CHOICES = {
    "ticks": get_args(Ticks),
    "log_format": get_args(LogFormat),
    "security_protocol": get_args(SecurityProtocol),
}
_POLICY_DEFAULTS = {f.name: f.default for f in fields(Policy)}
#: Numbers and text, by their defaults' types.
_POLICY_VALUES = tuple(name for name in _POLICY_DEFAULTS if name not in _POLICY_DURATIONS)


#: Settings that may also be in a file, which a variable of the same name with _FILE says.
_SECRETS = ("customer_key", "page_token", "sasl_password", "clickhouse", "bi_password")
#: What a worker can be, in the order of their ports.
ROLES = ("customers", "sink", "shops", "hooks")
#: A key that can be guessed hides nobody.
_SHORTEST_KEY = 16


class SettingsError(ValueError):
    """A setting that cannot be used; its text is one sentence for the person who set it."""


def duration_ms(text: str) -> int:
    """Milliseconds of ``500ms``, ``30m``, ``24h``, ``12d`` or ``2w``; SettingsError if it is none of them."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is not a duration; write it like 500ms, 30m, 24h or 12d")
    return round(float(match[1]) * _UNIT_MS[match[2]])


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the parts are and how hard they work; what words mean is in ``policy``."""

    kafka: str = "127.0.0.1:9092"
    clickhouse: str = field(default="http://default@127.0.0.1:8123/ebbtide", repr=False)
    #: Put before every topic, group and changelog name: several deployments on one cluster.
    topic_prefix: str = ""
    partitions: int = 6
    replication: int = 1

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_cafile: str = ""
    #: SASL without TLS sends the password in the clear; refused unless this is said.
    allow_cleartext_sasl: bool = False

    #: ``wall``: the customers agent ticks by the clock. ``off``: whoever replays old data sends the ticks.
    ticks: Ticks = "wall"
    tick_interval_s: float = 0.25
    #: Input records of one topic-partition handled as one batch, at most.
    batch_records: int = 10_000
    #: Customers whose deadline has passed handled in one batch, at most; the rest follow in the next.
    due_per_batch: int = 5_000
    #: Customers looked at by other rules of segments in one batch, at most: how fast an edit goes through.
    segments_per_batch: int = 250
    #: No progress for this long while there is lag ends the process.
    watchdog_s: float = 60.0
    recovery_deadline_s: float = 600.0
    session_timeout_s: float = 30.0

    #: Customers' ids are replaced by digests under this key before anything is kept; empty: they are not.
    customer_key: str = field(default="", repr=False)

    store_events: bool = True
    sink_max_rows: int = 50_000
    sink_max_wait_s: float = 1.0
    #: Rows the sink holds while ClickHouse is away; it stops reading beyond that.
    sink_buffer_rows: int = 200_000

    #: What is watched, and who is told: alerts.yaml. Empty: the built-in rule, and nobody is told.
    alerts_file: str = ""
    #: Networks that hooks may be sent into beside the public ones: ``10.1.0.0/16, fd00::/8``.
    hooks_allow: str = ""
    #: Hooks over plain http as well; for development.
    hooks_insecure: bool = False

    #: Where workers tell of themselves, ``HOST:PORT``; a role adds its place in ROLES. Empty: nowhere.
    metrics: str = ""
    log_format: LogFormat = "text"

    #: What lets into the page; without one it is for this machine alone.
    page_token: str = field(default="", repr=False)

    #: Of the user `bi` of the embedded ClickHouse, who may only read; empty: none is asked for, on 127.0.0.1.
    bi_password: str = field(default="", repr=False)

    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        if self.partitions < 1 or self.replication < 1:
            raise SettingsError("partitions and replication must be at least 1")
        if 0 < len(self.customer_key) < _SHORTEST_KEY:
            raise SettingsError(f"EBBTIDE_CUSTOMER_KEY must have at least {_SHORTEST_KEY} characters")
        if self.security_protocol == "SASL_PLAINTEXT" and not self.allow_cleartext_sasl:
            raise SettingsError(
                "SASL_PLAINTEXT sends the password unencrypted; use SASL_SSL,"
                " or set EBBTIDE_ALLOW_CLEARTEXT_SASL=1 for development"
            )

    def topic(self, name: str) -> str:
        """The name on the broker of a topic declared in ``schemas.topics``."""
        return f"{self.topic_prefix}{name}"

    def group(self, role: str) -> str:
        """The consumer group, and Faust app id, of a role."""
        return f"{self.topic_prefix}ebbtide-{role}"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings of the environment, with ``overrides`` (None means not given) laid over it."""
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        known = {f.name: f for f in fields(cls) if f.name != "policy"}
        for name, spec in known.items():
            text = env.get(f"EBBTIDE_{name.upper()}")
            if text is not None:
                values[name] = _parse(name, text, spec.default)
        for name in _SECRETS:
            variable = f"EBBTIDE_{name.upper()}"
            if path := env.get(f"{variable}_FILE"):
                secret = _secret(f"{variable}_FILE", path)
                if (values.get(name) or secret) != secret:
                    raise SettingsError(f"{variable} and {variable}_FILE are both set, and differ")
                values[name] = secret
        policy_values: dict[str, Any] = {}
        for name in _POLICY_DURATIONS:
            text = env.get(f"EBBTIDE_{name.upper()}")
            if text is not None:
                policy_values[name] = duration_ms(text)
        for name in _POLICY_VALUES:
            text = env.get(f"EBBTIDE_{name.upper()}")
            if text is not None:
                policy_values[name] = _parse(name, text, _POLICY_DEFAULTS[name])
        given = {k: v for k, v in overrides.items() if v is not None}
        policy = given.pop("policy", None)
        if policy is None:
            try:
                policy = Policy(**policy_values)
            except ValueError as exc:
                raise SettingsError(str(exc)) from exc
        return cls(**{**values, **given, "policy": policy})

    def to_env(self) -> dict[str, str]:
        """The environment that gives these settings again, for child processes."""
        env = {
            f"EBBTIDE_{f.name.upper()}": _print(getattr(self, f.name))
            for f in fields(self)
            if f.name != "policy"
        }
        # What was in a file is said itself: another may have been given in its place.
        env |= {f"EBBTIDE_{name.upper()}_FILE": "" for name in _SECRETS}
        for name in _POLICY_DURATIONS:
            env[f"EBBTIDE_{name.upper()}"] = f"{getattr(self.policy, name)}ms"
        for name in _POLICY_VALUES:
            env[f"EBBTIDE_{name.upper()}"] = _print(getattr(self.policy, name))
        return env

    def with_policy(self, **changes: Any) -> Self:
        """These settings with parts of the policy changed."""
        return replace(self, policy=replace(self.policy, **changes))


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """Names in ``env`` that look like settings and are none: misspelt, or of another release."""
    known = {f"EBBTIDE_{name.upper()}" for name in _POLICY_DEFAULTS}
    known |= {f"EBBTIDE_{f.name.upper()}" for f in fields(Settings) if f.name != "policy"}
    known |= {f"EBBTIDE_{name.upper()}_FILE" for name in _SECRETS}
    # The tests have variables of their own.
    mine = (name for name in env if name.startswith("EBBTIDE_") and not name.startswith("EBBTIDE_TEST_"))
    return sorted(set(mine) - known)


def _secret(variable: str, path: str) -> str:
    try:
        found = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{variable}={path!r} cannot be read: {exc}") from None
    if not found:
        raise SettingsError(f"{variable}={path!r} is empty")
    return found


def _print(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _parse(name: str, text: str, default: object) -> Any:
    variable = f"EBBTIDE_{name.upper()}"
    try:
        if isinstance(default, bool):
            lowered = text.strip().lower()
            if lowered in {"1", "true", "yes", "on"}:
                return True
            if lowered in {"0", "false", "no", "off", ""}:
                return False
            raise ValueError
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError:
        raise SettingsError(f"{variable}={text!r} is not a {type(default).__name__}") from None
    choices = _CHOICES.get(name)
    if choices is not None and text not in choices:
        raise SettingsError(f"{variable}={text!r} must be one of {', '.join(choices)}")
    return text

"""``alerts.yaml`` as people write it: read, checked, and with the secrets it names fetched.

A secret stands in the environment or in a file of its own, never in the YAML; nor does what is read here show
one, or the path of an endpoint's URL, in a message or a repr.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from streams.adapters import strict_yaml
from streams.domain.alert_facts import Severity, Signal, Trouble
from streams.domain.alert_rules import (
    ALL_TOGETHER,
    DAYS,
    AlertRules,
    Endpoint,
    EndpointKind,
    Quiet,
    Route,
    Watch,
)
from streams.domain.health import HealthRule
from streams.domain.policy import SECOND
from streams.domain.spike import SpikeRule
from streams.settings import Settings, SettingsError, duration_ms

_LARGEST_BYTES: Final = 256 * 1024
_QUIET: Final = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*) )?"
    r"(?P<h1>\d\d):(?P<m1>\d\d)-(?P<h2>\d\d):(?P<m2>\d\d)"
)
_DAY_END: Final = 24 * 60
_DEFAULTS: Final = SpikeRule()
_HEALTH: Final = HealthRule()


class AlertRulesError(ValueError):
    """A file of rules that cannot be used; its text has one line for each thing that is wrong."""


def _duration_s(text: object) -> object:
    """Seconds of a duration like ``5m``; a number is none, for nobody knows of what."""
    if isinstance(text, bool | int | float):
        raise ValueError("write it with its unit, like 15s or 5m")
    if not isinstance(text, str):
        raise ValueError("must be a duration like 15s or 5m")
    try:
        return duration_ms(text) / SECOND
    except SettingsError as exc:
        raise ValueError(str(exc)) from None


Seconds = Annotated[float, BeforeValidator(_duration_s)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,39}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Watch(_Strict):
    """Everything but the shops has a default: that of ``SpikeRule``."""

    shops: Patterns
    name: Name | None = None
    signals: tuple[Signal, ...] = tuple(s for s in get_args(Signal) if s in _DEFAULTS.signals)
    min_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = _DEFAULTS.min_sessions
    min_change: Annotated[float, Field(ge=0, le=10)] = _DEFAULTS.min_change
    min_carts: Annotated[int, Field(ge=1, le=1_000_000)] = _DEFAULTS.min_carts
    false_alarms: Annotated[float, Field(ge=0.001, le=1000)] = _DEFAULTS.false_alarms
    for_minutes: Annotated[int, Field(ge=1, le=60)] = _DEFAULTS.for_minutes
    resolve_after: Annotated[int, Field(ge=1, le=1440)] = _DEFAULTS.resolve_after
    critical_at: Annotated[float, Field(ge=0, le=100)] = _DEFAULTS.critical_at
    quiet: tuple[str, ...] = ()

    def watch(self, number: int) -> Watch:
        said = self.model_dump(exclude={"shops", "name", "quiet", "signals"})
        name = self.name or f"watch-{number}"
        rule = SpikeRule(name=name, signals=frozenset(self.signals), **said)
        return Watch(self.shops, rule, tuple(map(quiet_hours, self.quiet)))

    @model_validator(mode="after")
    def _hours(self) -> Self:
        for text in self.quiet:
            quiet_hours(text)
        return self


class _Health(_Strict):
    max_lag: Seconds = _HEALTH.max_lag_s
    silence: Annotated[float, Field(gt=0, lt=1)] = _HEALTH.silence
    error_share: Annotated[float, Field(gt=0, lt=1)] = _HEALTH.error_share
    error_count: Annotated[int, Field(ge=1)] = _HEALTH.error_count
    bot_share: Annotated[float, Field(gt=0, lt=1)] = _HEALTH.bot_share
    bot_count: Annotated[int, Field(ge=1)] = _HEALTH.bot_count
    holds: tuple[Trouble, ...] = tuple(t for t in get_args(Trouble) if t in _HEALTH.holds)

    def rule(self) -> HealthRule:
        said = self.model_dump(exclude={"max_lag", "holds"})
        return HealthRule(max_lag_s=self.max_lag, holds=frozenset(self.holds), **said)


class _Secret(_Strict):
    """Where a text stands that is not to stand here."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("must have one of env, file")
        return self


class _Endpoint(_Strict):
    kind: EndpointKind = "webhook"
    url: str | None = None
    url_env: str | None = None
    url_file: Path | None = None
    secret: tuple[_Secret, ...] = ()
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 15.0
    headers: dict[Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,64}$")], _Secret] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, said: Any) -> Any:
        """``secret_env: A`` and ``secret_file: f`` are short for one secret."""
        if not isinstance(said, Mapping):
            return said
        found = dict(said)
        if isinstance(found.get("secret"), str):
            raise ValueError("secret must not stand in this file: write secret_env: or secret_file:")
        if isinstance(found.get("secret"), Mapping):
            found["secret"] = [found["secret"]]
        for key in ("env", "file"):
            if f"secret_{key}" in found:
                if "secret" in found:
                    raise ValueError(f"must not have both secret_{key} and another secret")
                found["secret"] = [{key: found.pop(f"secret_{key}")}]
        return found

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if [self.url, self.url_env, self.url_file].count(None) != 2:
            raise ValueError("must have one of url, url_env, url_file")
        return self


class _Route(_Strict):
    topic: Literal["alerts", "transitions", "actions", "segments"] = "alerts"
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    shops: Patterns = ("*", ALL_TOGETHER)
    only: tuple[str, ...] = ()
    severity: tuple[Severity, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.topic == "alerts":
            known = (*get_args(Signal), *get_args(Trouble))
            for name in self.only:
                if name not in known:
                    raise ValueError(f"only: there is no signal {name!r}{_nearest(name, known)}")
        elif self.severity:
            raise ValueError(f"severity is of alerts, not of {self.topic}")
        return self


class _File(_Strict):
    watch: tuple[_Watch, ...] = (_Watch(shops=("*", ALL_TOGETHER), name="default"),)
    health: _Health = _Health()
    endpoints: dict[Name, _Endpoint] = {}
    routes: tuple[_Route, ...] = ()

    @model_validator(mode="after")
    def _endpoints_are_there(self) -> Self:
        for number, route in enumerate(self.routes, 1):
            for name in route.to:
                if name not in self.endpoints:
                    hint = _nearest(name, tuple(self.endpoints))
                    raise ValueError(f"routes: route {number} goes to {name!r}, which is no endpoint{hint}")
        return self


def load_rules(settings: Settings, env: Mapping[str, str] | None = None) -> AlertRules:
    """The rules of ``settings.alerts_file``, or the defaults if it names none. Raises AlertRulesError with
    everything that is wrong."""
    if not settings.alerts_file:
        return AlertRules()
    return read_file(Path(settings.alerts_file), os.environ if env is None else env)


def read_file(path: Path, env: Mapping[str, str] | None) -> AlertRules:
    """The rules in a file; with ``env`` None, no secret is fetched, and endpoints have none."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise AlertRulesError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    return read_text(data, str(path), path.parent, env)


def read_text(data: bytes, name: str, folder: Path, env: Mapping[str, str] | None) -> AlertRules:
    """The rules in the YAML ``data``, that messages call ``name``; files it names are looked for in
    ``folder``."""
    if len(data) > _LARGEST_BYTES:
        raise AlertRulesError(f"{name}: is larger than {_LARGEST_BYTES // 1024} KiB")
    try:
        found = yaml.load(data, strict_yaml.Loader)  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise AlertRulesError(f"{name}: is no YAML: {' '.join(str(exc).split())}") from None
    try:
        said = _File.model_validate({} if found is None else found)
    except ValidationError as exc:
        raise AlertRulesError("\n".join(_told(name, data, exc))) from None
    wrong: list[str] = []
    endpoints = {each: _endpoint(each, spec, folder, env, wrong) for each, spec in said.endpoints.items()}
    if wrong:
        raise AlertRulesError("\n".join(f"{name}: {each}" for each in wrong))
    routes = tuple(
        Route(r.topic, r.to, r.shops, frozenset(r.only), frozenset(r.severity)) for r in said.routes
    )
    watches = tuple(watch.watch(number) for number, watch in enumerate(said.watch, 1))
    return AlertRules(watches, said.health.rule(), endpoints, routes)


def quiet_hours(text: str) -> Quiet:
    """The hours in ``22:00-07:00`` or ``mon-fri,sun 22:00-07:00``; ValueError for anything else."""
    match = _QUIET.fullmatch(text)
    if match is None:
        raise ValueError(f"quiet: {text!r} is not like 22:00-07:00 or mon-fri 22:00-07:00")
    begins = int(match["h1"]) * 60 + int(match["m1"])
    ends = int(match["h2"]) * 60 + int(match["m2"])
    if max(int(match["m1"]), int(match["m2"])) > 59 or begins >= _DAY_END or ends > _DAY_END:
        raise ValueError(f"quiet: {text!r} has a time that no clock shows")
    days: set[int] = set()
    for part in (match["days"] or "mon-sun").split(","):
        ends_of = part.split("-")
        for day in ends_of:
            if day not in DAYS:
                raise ValueError(f"quiet: {day!r} is no day; they are {', '.join(DAYS)}")
        first, last = DAYS.index(ends_of[0]), DAYS.index(ends_of[-1])
        days |= {day % 7 for day in range(first, last + 1 if last >= first else last + 8)}
    return Quiet(begins, ends, frozenset(days))


def _endpoint(
    name: str, spec: _Endpoint, folder: Path, env: Mapping[str, str] | None, wrong: list[str]
) -> Endpoint:
    def fetched(where: str, at: _Secret) -> str:
        try:
            return _fetched(at, folder, env)
        except ValueError as exc:
            wrong.append(f"endpoints.{name}.{where}: {exc}")
            return ""

    url = spec.url
    if url is None:
        url = fetched("url", _Secret(env=spec.url_env, file=spec.url_file))
    secrets = tuple(fetched("secret", each) for each in spec.secret)
    headers = tuple((key, fetched(f"headers.{key}", each)) for key, each in spec.headers.items())
    return Endpoint(name, spec.kind, url, secrets, spec.timeout, headers)


def _fetched(at: _Secret, folder: Path, env: Mapping[str, str] | None) -> str:
    if env is None:
        return ""
    if at.env is not None:
        text = env.get(at.env, "").strip()
        if not text:
            raise ValueError(f"the environment has no {at.env}")
        return text
    assert at.file is not None
    path = folder / at.file
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _told(name: str, data: bytes, exc: ValidationError) -> list[str]:
    """A line for each error: where it is, and what would be right."""
    lines = []
    for error in exc.errors(include_input=False, include_url=False):
        place = tuple(error["loc"])
        line = strict_yaml.line_of(data, place)
        said = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            known = _keys(place[:-1])
            said = f"there is no such key{_nearest(str(place[-1]), known)}"
        where = ".".join(str(step) for step in place)
        lines.append(f"{name}: line {line}: {where + ': ' if where else ''}{said}")
    return lines


def _keys(place: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that may stand at ``place``."""
    if not place:
        return tuple(_File.model_fields)
    models: dict[str, tuple[type[BaseModel], tuple[str, ...]]] = {
        "watch": (_Watch, ()),
        "health": (_Health, ()),
        "endpoints": (_Endpoint, ("secret_env", "secret_file")),
        "routes": (_Route, ()),
    }
    model, more = models.get(str(place[0]), (_Secret, ()))
    if "secret" in place or "headers" in place:
        model, more = _Secret, ()
    return (*model.model_fields, *more)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, 1, 0.5)
    if close:
        return f"; the nearest is {close[0]!r}"
    return f"; there are {', '.join(known)}" if known else "; there are none"

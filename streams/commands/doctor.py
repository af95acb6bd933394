"""What is reachable, what is misconfigured, and how to mend it: a sentence each, never a traceback."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import click
from aiokafka.codec import has_lz4, has_snappy, has_zstd

from schemas.topics import ERASURES, FACTS, INPUTS, TICKS
from streams.adapters.clickhouse import (
    Endpoint,
    MigrationStatus,
    StoreError,
    connect,
    explained,
    migration_status,
)
from streams.adapters.kafka.admin import (
    AdminError,
    Lag,
    brokers,
    check_topics,
    group_members,
    lag,
    newest_stamps,
)
from streams.adapters.kafka.security import aiokafka_kwargs
from streams.adapters.kafka.worker import require_cython
from streams.commands import options
from streams.domain.policy import DAY, HOUR, MINUTE, SECOND
from streams.settings import Settings, SettingsError, unknown_variables

Level = Literal["ok", "warning", "broken"]

#: The oldest ClickHouse with everything that our SQL uses; the embedded one is newer.
_OLDEST_CLICKHOUSE: Final = (24, 10)
_OLDEST_PYTHON: Final = (3, 11)
#: Lag is looked at twice, this far apart, to tell a group that works from one that stands still.
_LOOK_AGAIN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and one line on how to mend it."""

    name: str
    level: Level
    found: str
    fix: str | None = None


def examine(given: dict[str, Any]) -> Iterator[Check]:
    """All checks, one after the other; those that need what is broken are left out."""
    yield from _installation()
    yield from _environment()
    try:
        settings = Settings.from_env(**given)
        aiokafka_kwargs(settings)
    except SettingsError as exc:
        yield Check("settings", "broken", _line(exc), "correct the variable or option that is named")
        return
    yield from _settings(settings)
    yield from _kafka(settings)
    yield from _clickhouse(settings)


def version_tuple(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in text.split(".")[:2])


# -- this installation


def _installation() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    if version_tuple(version) < _OLDEST_PYTHON:
        yield Check("python", "broken", f"Python {version}", "install Python 3.11 or newer, then: make setup")
    else:
        yield Check("python", "ok", f"Python {version}")
    try:
        require_cython()
    except RuntimeError as exc:
        yield Check("faust", "broken", _line(exc), "make setup installs a wheel with the compiled parts")
    else:
        yield Check("faust", "ok", "Faust has its compiled parts")
    codecs = {"lz4": has_lz4(), "zstd": has_zstd(), "snappy": has_snappy()}
    lacking = [name for name, there in codecs.items() if not there]
    if lacking:
        found = f"cramjam is missing or broken: no {', '.join(lacking)} compression"
        yield Check("cramjam", "broken", found, "pip install cramjam, or: make setup")
    else:
        yield Check("cramjam", "ok", "lz4, zstd and snappy can be read and written")


# -- the settings


def _environment() -> Iterator[Check]:
    for name in unknown_variables(os.environ):
        yield Check("settings", "warning", f"{name} is no setting", "see the README's table for its name")


def _settings(settings: Settings) -> Iterator[Check]:
    odd = list(_oddities(settings))
    if odd:
        yield from odd
    else:
        yield Check("settings", "ok", "nothing odd in the settings")


def _oddities(settings: Settings) -> Iterator[Check]:
    policy = settings.policy

    def odd(found: str, fix: str) -> Check:
        return Check("settings", "warning", found, fix)

    if settings.security_protocol == "SASL_PLAINTEXT":
        yield odd("SASL without TLS sends the password in the clear", "EBBTIDE_SECURITY_PROTOCOL=SASL_SSL")
    if settings.ssl_cafile and settings.security_protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}:
        yield odd(
            "EBBTIDE_SSL_CAFILE is set, but the connection uses no TLS",
            "set EBBTIDE_SECURITY_PROTOCOL to SSL or SASL_SSL",
        )
    if policy.horizon < policy.gap:
        yield odd(
            f"the horizon ({_duration(policy.horizon)}) is shorter than the gap ({_duration(policy.gap)}):"
            " an event of a session that is still open may be late",
            "set EBBTIDE_HORIZON to the gap or more; the default is 24h",
        )
    if policy.horizon > 60 * DAY:
        yield odd(
            f"the horizon is {_duration(policy.horizon)}: state is kept for all of it",
            "set EBBTIDE_HORIZON to how late events really come",
        )
    if not MINUTE <= policy.gap <= 12 * HOUR:
        yield odd(f"the gap is {_duration(policy.gap)}; 30 minutes is usual", "EBBTIDE_GAP=30m")
    if policy.ahead_tolerance > HOUR:
        yield odd(
            f"events stamped up to {_duration(policy.ahead_tolerance)} ahead are accepted: one wrong clock"
            " moves the watermark as far",
            "EBBTIDE_AHEAD_TOLERANCE=5m",
        )
    if settings.watchdog_s <= settings.tick_interval_s:
        yield odd(
            "the watchdog is quicker than the ticks",
            "set EBBTIDE_WATCHDOG_S well above EBBTIDE_TICK_INTERVAL_S",
        )
    if settings.ticks == "off":
        yield odd(
            "EBBTIDE_TICKS=off: no session closes in silence unless a replayer ticks",
            "unset EBBTIDE_TICKS for live data",
        )
    if settings.sink_buffer_rows < settings.sink_max_rows:
        yield odd(
            "the sink's buffer is smaller than one insert",
            "set EBBTIDE_SINK_BUFFER_ROWS above EBBTIDE_SINK_MAX_ROWS",
        )


# -- Kafka


def _kafka(settings: Settings) -> Iterator[Check]:
    try:
        there = brokers(settings)
    except AdminError as exc:
        fix = "start the broker, or set EBBTIDE_KAFKA (and EBBTIDE_SECURITY_PROTOCOL) to where it is"
        yield Check("kafka", "broken", _line(exc), fix)
        return
    yield Check("kafka", "ok", f"{len(there)} broker{'s' if len(there) > 1 else ''}: {', '.join(there)}")
    if settings.replication > len(there):
        yield Check(
            "kafka",
            "broken",
            f"{settings.replication} replicas are wanted of {len(there)} broker(s)",
            f"EBBTIDE_REPLICATION={len(there)}, or start more brokers",
        )
    elif settings.replication == 1 and len(there) > 1:
        yield Check(
            "kafka",
            "warning",
            "new topics get one replica: a lost broker loses records",
            f"EBBTIDE_REPLICATION={min(3, len(there))}",
        )
    yield from _asked("topics", lambda: _topics(settings))


def _topics(settings: Settings) -> Iterator[Check]:
    problems = check_topics(settings)
    for problem in problems:
        yield Check("topics", "broken", problem, _topic_fix(problem))
    if any("missing" in problem for problem in problems):
        return
    if not problems:
        yield Check("topics", "ok", f"every topic is there, with {settings.partitions} partitions")
    yield from _arrivals(settings)
    yield from _groups(settings)


def _topic_fix(problem: str) -> str:
    if "missing" in problem:
        return "ebbtide topics create"
    if "EBBTIDE_PARTITIONS" in problem:
        return "set EBBTIDE_PARTITIONS to what the broker has; if the topics differ, create them anew"
    return "kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config …"


def _arrivals(settings: Settings) -> Iterator[Check]:
    """Arrival is the record's own stamp, so a producer's (or the broker's) wrong clock is seen there."""
    names = [settings.topic(topic.name) for topic in (*INPUTS, TICKS)]
    newest = newest_stamps(settings, names)
    ahead = {tp: at - time.time() * SECOND for tp, at in newest.items()}
    (topic, partition), most = max(ahead.items(), key=lambda item: item[1], default=(("", 0), 0.0))
    if most > settings.policy.ahead_tolerance:
        yield Check(
            "clock",
            "broken",
            f"the newest record of {topic}[{partition}] is stamped {_duration(most)} ahead of this clock",
            "set the clocks of the producers, the brokers and this machine by NTP",
        )
    else:
        yield Check("clock", "ok", "no record is stamped ahead of this clock beyond the tolerance")


def _groups(settings: Settings) -> Iterator[Check]:
    inputs, facts = [[settings.topic(t.name) for t in some] for some in (INPUTS, FACTS)]
    read = {
        "customers": [*inputs, *(settings.topic(topic.name) for topic in (ERASURES, TICKS))],
        "sink": [*facts, *(inputs if settings.store_events else ())],
    }
    before = {role: lag(settings, settings.group(role), names) for role, names in read.items()}
    if any(part.records > 0 for parts in before.values() for part in parts):
        time.sleep(_LOOK_AGAIN_S)
    for role, names in read.items():
        group = settings.group(role)
        members = group_members(settings, group)
        after = lag(settings, group, names)
        behind = sum(max(0, part.records) for part in after)
        moved = _committed(after) > _committed(before[role])
        name = f"{role} lag"
        if behind and members == 0:
            fix = f"ebbtide worker --agents {role}"
            yield Check(name, "warning", f"{group} is {behind:,} records behind, and no worker runs", fix)
        elif behind and not moved and any(part.records > 0 for part in before[role]):
            fix = f"look at the log of the {role} worker"
            found = f"{group} is {behind:,} records behind and did not move in {_LOOK_AGAIN_S:g} s"
            yield Check(name, "warning", found, fix)
        elif members == 0:
            fix = f"ebbtide worker --agents {role}"
            yield Check(name, "warning", f"no worker of {group} runs; it is not behind", fix)
        else:
            workers = "" if members is None else f"{members} worker(s), "
            yield Check(name, "ok", f"{group}: {workers}{behind:,} records behind")


def _committed(parts: Sequence[Lag]) -> int:
    return sum(part.committed or 0 for part in parts)


# -- ClickHouse


def _clickhouse(settings: Settings) -> Iterator[Check]:
    yield from _asked("clickhouse", lambda: _store(settings))


def _store(settings: Settings) -> Iterator[Check]:
    endpoint = Endpoint.parse(settings.clickhouse)
    with (
        closing(connect(settings.clickhouse, database="default", timeout_s=20.0)) as client,
        explained(endpoint, "asking for its version and time"),
    ):
        sent = time.time()
        text, now = client.query("SELECT version(), toUnixTimestamp64Milli(now64(3))").result_rows[0]
        here = (sent + time.time()) / 2
    yield Check("clickhouse", "ok", f"ClickHouse {text} at {endpoint.host}:{endpoint.port}")
    if version_tuple(text) < _OLDEST_CLICKHOUSE:
        oldest = ".".join(map(str, _OLDEST_CLICKHOUSE))
        fix = f"upgrade it to {oldest} or newer"
        yield Check("clickhouse", "broken", f"ClickHouse {text} is too old", fix)
    skew = abs(now - here * SECOND)
    if skew > settings.policy.ahead_tolerance:
        found = f"ClickHouse's clock and this one differ by {_duration(skew)}"
        yield Check("clock", "broken", found, "set both clocks by NTP")
    else:
        yield Check("clock", "ok", f"ClickHouse's clock and this one differ by {skew / SECOND:.1f} s")
    if endpoint.password and not endpoint.secure and endpoint.host not in {"127.0.0.1", "localhost", "::1"}:
        found = "the password goes to ClickHouse unencrypted"
        yield Check("clickhouse", "warning", found, "use an https:// URL in EBBTIDE_CLICKHOUSE")
    yield from _schema(migration_status(settings.clickhouse))


def _schema(status: MigrationStatus) -> Iterator[Check]:
    for names, level, found in (
        (status.missing, "broken", "missing"),
        (status.changed, "broken", "applied in another form than this release has"),
        (status.unknown, "warning", "applied, but unknown to this release"),
    ):
        if names:
            fix = "ebbtide migrate" if found == "missing" else "use the release that this schema was made by"
            yield Check("migrations", level, f"{', '.join(names)}: {found}", fix)  # type: ignore[arg-type]
    if not (status.missing or status.changed):
        yield Check("migrations", "ok", f"all {len(status.applied)} migrations are applied")


# -- saying it


def _asked(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks; where one ends in an error of the part it asks, that is the finding."""
    try:
        yield from checks()
    except (AdminError, StoreError, SettingsError) as exc:
        fix = {
            "clickhouse": "start ClickHouse, or set EBBTIDE_CLICKHOUSE to where it is",
            "topics": "look at the broker's log, then run ebbtide doctor again",
        }[name]
        yield Check(name, "broken", _line(exc), fix)


def _duration(ms: float) -> str:
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if ms >= size:
            return f"{ms / size:.3g}{unit}"
    return f"{ms:.0f}ms"


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


_MARKS: Final = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "broken": ("BROKEN", "red")}


@click.command(epilog=options.epilog("ebbtide doctor", "ebbtide doctor --kafka broker:9092 --json"))
@options.kafka
@options.clickhouse
@options.prefix
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool, **given: Any) -> None:
    """Say what is reachable, what is misconfigured and how to fix it; exit 1 if anything is broken."""
    checks = []
    for check in examine(given):
        checks.append(check)
        if not as_json:
            mark, colour = _MARKS[check.level]
            click.echo(click.style(f"{mark:<8}", fg=colour) + f"{check.name}: {check.found}")
            if check.fix is not None:
                click.echo(f"{'':<8}fix: {check.fix}")
    broken = sum(check.level == "broken" for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": not broken, "checks": [asdict(check) for check in checks]}))
    else:
        warnings = sum(check.level == "warning" for check in checks)
        click.echo(f"{broken} broken, {warnings} to look at" if broken or warnings else "nothing to mend")
    sys.exit(1 if broken else 0)

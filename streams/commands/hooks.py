"""``ebbtide hooks``: whether an endpoint can be reached, what became of deliveries, sending them again."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from aiokafka import ConsumerRecord
from xxhash import xxh3_128_hexdigest

from schemas.alerts import AlertFact
from schemas.topics import ALERTS, HOOK_REQUESTS, HOOKS_CHANGELOG
from streams.adapters.clickhouse import Endpoint as Store
from streams.adapters.clickhouse import StoreUnavailable, connect, explained
from streams.adapters.hook_facts import Request, encode_request
from streams.adapters.hook_payloads import STANDS
from streams.adapters.hook_post import now_ms, post_to
from streams.adapters.kafka.admin import AdminError, check_topics
from streams.adapters.kafka.everywhere import publish_everywhere
from streams.adapters.kafka.scanning import scan
from streams.adapters.webhook_guard import Guard, HookRefused
from streams.commands import options, show
from streams.commands.errors import told
from streams.commands.kept import clickhouse_url
from streams.domain.alert_rules import Endpoint
from streams.domain.deliveries import Answer, begun
from streams.domain.hook_state import ENDPOINT_KEY, Switch, decode
from streams.settings import Settings

STATUSES: Final = ("waiting", "delivered", "dead", "cancelled")
_COLUMNS: Final = (
    *("delivery_id", "endpoint", "topic", "subject_id", "revision", "webhook_id", "status", "attempts"),
    *("created_at", "at", "next_at", "http_status", "error"),
)
_SHOWN: Final = (
    "delivery_id",
    "endpoint",
    "topic",
    "status",
    "attempts",
    "at",
    "next_at",
    "http_status",
    "error",
)
#: Alertmanager lets a test go after this.
_TEST_STANDS_MS: Final = 5 * 60_000


@click.group(epilog=options.epilog("ebbtide hooks test ops", "ebbtide hooks list --status dead"))
def hooks() -> None:
    """Who is told over HTTP: test an endpoint, list deliveries, send them again."""


# -- test


class Tested(NamedTuple):
    """One attempt as ``hooks test`` tells it. guard: what was made of the URL and of the address."""

    endpoint: str
    kind: str
    guard: str
    answer: Answer
    ms: int
    webhook_id: str

    def as_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "endpoint": self.endpoint,
            "kind": self.kind,
            "guard": self.guard,
            "delivered": self.answer.ok,
            "http_status": self.answer.http_status,
            "error": self.answer.error,
            "ms": self.ms,
            "webhook_id": self.webhook_id,
        }


@hooks.command(
    epilog=options.epilog(
        "ebbtide hooks test ops",
        "EBBTIDE_ALERTS_FILE=alerts.yaml ebbtide hooks test ops --json",
    )
)
@click.argument("endpoint")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told
def test(endpoint: str, as_json: bool) -> None:
    """Send a sample alert to ENDPOINT of alerts.yaml at once, signed as any; exit 1 if it is not taken.

    It is of the shop ebbtide-test, and Alertmanager lets it go after five minutes. Nothing is kept of it.
    """
    from streams.adapters.alert_rules import AlertRulesError, load_rules

    settings = Settings.from_env()
    try:
        known = load_rules(settings).endpoints
    except AlertRulesError as exc:
        raise click.ClickException(str(exc)) from exc
    if endpoint not in known:
        names = ", ".join(known) or "none, for EBBTIDE_ALERTS_FILE names no file with any"
        raise click.ClickException(f"there is no endpoint {endpoint!r}; there are: {names}")
    found = asyncio.run(_test(known[endpoint], Guard.of(settings)))
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        click.echo(f"endpoint  {found.endpoint} ({found.kind})")
        click.echo(f"guard     {found.guard}")
        click.echo(f"answer    {found.answer.http_status or 'none'} in {found.ms:,} ms")
        click.echo(f"key       {found.webhook_id}")
        click.echo("taken" if found.answer.ok else f"not taken: {found.answer.error}")
    sys.exit(0 if found.answer.ok else 1)


async def _test(endpoint: Endpoint, guard: Guard) -> Tested:
    delivery = begun(endpoint.name, ALERTS.name, *_sample(endpoint), now=now_ms())
    post = post_to(endpoint, guard, now_ms)
    began = time.monotonic()
    try:
        answer = await post.attempt(delivery)
    finally:
        await post.close()
    ms = round((time.monotonic() - began) * 1000)
    verdict = "passed"
    try:
        guard.check_url(endpoint.url)
    except HookRefused as exc:
        verdict = f"refused: {exc}"
    if post.connected_to is not None:
        verdict = f"passed {post.connected_to}"
    elif answer.error is not None and answer.error.startswith("refused: "):
        verdict = answer.error
    return Tested(endpoint.name, endpoint.kind, verdict, answer, ms, delivery.webhook_id)


def _sample(endpoint: Endpoint) -> tuple[str, int, bytes]:
    """Identity, revision and fact of an alert that is none."""
    now = now_ms()
    at = now if endpoint.kind != "alertmanager" else now - STANDS + _TEST_STANDS_MS
    alert_id = xxh3_128_hexdigest(f"ebbtide hooks test\0{now}".encode())
    alert = AlertFact(
        alert_id=alert_id,
        kind="loss",
        shop_id="ebbtide-test",
        scope="shop",
        scope_value="",
        signal="loss_rate",
        status="firing",
        severity="warning",
        rule="test",
        began_at=at,
        at=at,
        resolved_at=None,
        observed=None,
        expected=None,
        band=None,
        sessions=0,
        lost=0,
        value_at_risk={},
        contributors=(),
        held_by=(),
        summary="a test by `ebbtide hooks test`: nothing is wrong",
        version=1,
        is_deleted=False,
    )
    return alert_id, 1, alert.model_dump_json().encode()


# -- list


@hooks.command(
    "list",
    epilog=options.epilog(
        "ebbtide hooks list",
        "ebbtide hooks list --status dead --endpoint ops --limit 100",
        "ebbtide hooks list --format csv",
    ),
)
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--endpoint", metavar="NAME", help="Only of this endpoint.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many.")
@click.option(
    "--format", "output", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@options.kafka
@options.clickhouse
@options.prefix
@options.data_dir
@told
def list_command(
    status: str | None, endpoint: str | None, limit: int, output: str, data_dir: Path | None, **given: Any
) -> None:
    """List deliveries, the newest first, and which endpoints are disabled.

    json has one object a line. The table ends with how many there are of each state and endpoint.
    """
    settings = Settings.from_env(**given)
    values = {"status": status or "", "endpoint": endpoint or "", "n": limit}
    with (
        clickhouse_url(settings, data_dir) as url,
        closing(connect(url)) as client,
        explained(Store.parse(url), "reading the deliveries"),
    ):
        rows = client.query(_LIST, parameters=values).result_rows
        counts = client.query(_COUNTS, parameters=values).result_rows
    found = [_readable(row) for row in rows]
    if output == "json":
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    if output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([_safe(one[name]) for name in _COLUMNS] for one in found)
        return
    if found:
        show.table(_SHOWN, [[_cell(one[name]) for name in _SHOWN] for one in found])
        show.table(("endpoint", "status", "deliveries"), [(e, s, f"{n:,}") for e, s, n in counts])
    else:
        click.echo("no deliveries")
    if data_dir is None:
        for line in _disabled(settings):
            click.echo(line, err=True)


_WHERE: Final = (
    "FROM deliveries FINAL WHERE ({status:String} = '' OR status = {status:String})"
    " AND ({endpoint:String} = '' OR endpoint = {endpoint:String})"
)
_LIST: Final = (
    f"SELECT {', '.join(_COLUMNS)} {_WHERE} ORDER BY created_at DESC, delivery_id LIMIT {{n:UInt32}}"
)
_COUNTS: Final = (
    f"SELECT endpoint, status, count() {_WHERE} GROUP BY endpoint, status ORDER BY endpoint, status"
)


def _readable(row: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in zip(_COLUMNS, row, strict=True):
        if isinstance(value, datetime):
            value = value.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        elif isinstance(value, bytes):
            value = value.decode()
        found[name] = value
    return found


def _safe(value: Any) -> Any:
    """No spreadsheet takes a receiver's words for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _disabled(settings: Settings) -> Iterator[str]:
    """One sentence for each endpoint that is disabled, or why that is not known."""
    switches: dict[str, Switch] = {}

    def take(record: ConsumerRecord[bytes, bytes]) -> None:
        key, value = record.key or b"", record.value
        if key.startswith(ENDPOINT_KEY) and value is not None:
            row, name = decode(value), key.removeprefix(ENDPOINT_KEY).decode()
            if isinstance(row, Switch) and (name not in switches or switches[name].at < row.at):
                switches[name] = row

    try:
        scan(settings, [settings.topic(HOOKS_CHANGELOG.name)], take)
    except AdminError as exc:
        yield f"which endpoints are disabled is not known: {exc}"
    for name, switch in sorted(switches.items()):
        if switch.disabled:
            since = datetime.fromtimestamp(switch.at / 1000, UTC)
            yield (
                f"endpoint {name} answered 410 and is disabled since {since:%Y-%m-%d %H:%M} UTC;"
                f" ebbtide hooks retry --endpoint {name} --enable has it sent to again"
            )


# -- retry


@hooks.command(
    epilog=options.epilog(
        "ebbtide hooks retry 5579a084f0677b1c391a32170f355270",
        "ebbtide hooks retry --endpoint ops --enable",
        "ebbtide hooks retry --all-dead",
    )
)
@click.argument("delivery_ids", nargs=-1, metavar="[DELIVERY_ID]...")
@click.option("--endpoint", metavar="NAME", help="All that is dead of this endpoint.")
@click.option("--all-dead", is_flag=True, help="All that is dead.")
@click.option("--enable", is_flag=True, help="With --endpoint: it answered 410, and is to be sent to again.")
@options.kafka
@options.clickhouse
@options.prefix
@told
def retry(
    delivery_ids: tuple[str, ...], endpoint: str | None, all_dead: bool, enable: bool, **given: Any
) -> None:
    """Send deliveries again that were given up, on the schedule from its beginning; waiting ones at once.

    What was given up can be had again for two weeks. The receiver sees the same webhook-id as before.
    """
    if [bool(delivery_ids), endpoint is not None, all_dead].count(True) != 1:
        raise click.UsageError("name deliveries, or give --endpoint NAME, or --all-dead")
    if enable and endpoint is None:
        raise click.UsageError("--enable goes with --endpoint")
    settings = Settings.from_env(**given)
    if problems := check_topics(settings, [HOOK_REQUESTS]):
        raise click.ClickException(problems[0])
    wanted, problems = _wanted(settings, delivery_ids) if delivery_ids else ([], [])
    now = now_ms()
    requests = [Request("retry", now, delivery_id=name) for name in wanted]
    if endpoint is not None:
        requests = [Request("retry", now, endpoint=endpoint)]
        if enable:
            requests.insert(0, Request("enable", now, endpoint=endpoint))
    elif all_dead:
        requests = [Request("retry", now)]
    if requests:
        publish_everywhere(settings, HOOK_REQUESTS, [encode_request(request) for request in requests])
        what = (
            f"{len(wanted):,} deliveries"
            if delivery_ids
            else f"all that is dead of {endpoint or 'any endpoint'}"
        )
        click.echo(
            f"asked the hooks agent to send {what} again" + (f", and enabled {endpoint}" if enable else "")
        )
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


def _wanted(settings: Settings, delivery_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The deliveries that can be had again, and one sentence for each that cannot."""
    try:
        with (
            closing(connect(settings.clickhouse)) as client,
            explained(Store.parse(settings.clickhouse), "asking"),
        ):
            rows = client.query(
                "SELECT toString(delivery_id), status FROM deliveries FINAL"
                " WHERE delivery_id IN {ids:Array(String)}",
                parameters={"ids": list(delivery_ids)},
            ).result_rows
            known: dict[str, str] = {str(name): str(status) for name, status in rows}
    except StoreUnavailable as exc:
        click.echo(f"note: what became of them so far is not known, for {exc}", err=True)
        return list(delivery_ids), []
    problems = []
    wanted = []
    for name in delivery_ids:
        status = known.get(name)
        if status in ("dead", "waiting"):
            wanted.append(name)
        else:
            problems.append(f"delivery {name} is {status}" if status else f"there is no delivery {name}")
    return wanted, problems

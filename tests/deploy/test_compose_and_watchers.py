"""docker-compose, Prometheus, Alertmanager and Grafana: the files are sound, and name only what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from jsonschema.validators import validator_for

from streams.adapters.clickhouse import connect
from streams.adapters.telemetry import GAUGES, REGISTRY
from streams.settings import ROLES, Settings, unknown_variables
from tests.integration.stored import database_of

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
DASHBOARDS: Final = {
    path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")
}
FACTS: Final = Path(__file__).parents[1] / "golden" / "queries" / "facts.json"


def test_the_compose_file_is_of_the_compose_schema() -> None:
    # The package's own command is of another click than ours; its schemas are what we want.
    path = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(path))).read_text())
    found = [
        f"{'/'.join(map(str, error.path))}: {error.message}"
        for error in validator_for(schema)(schema).iter_errors(COMPOSE)
    ]
    assert found == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_bounded_and_may_not_gain_rights(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert tag not in ("", "latest")
    assert "no-new-privileges:true" in service["security_opt"]
    if name not in ("topics", "migrate"):
        assert service["healthcheck"]["test"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
        assert service["restart"] == "unless-stopped"


def test_every_port_is_of_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_there_is_a_service_for_each_role_and_it_asks_its_own_port() -> None:
    for number, role in enumerate(ROLES):
        assert SERVICES[role]["command"] == ["worker", "--agents", role]
        assert f":{9464 + number}/readyz" in SERVICES[role]["healthcheck"]["test"][-1]


def test_services_set_only_settings_that_there_are() -> None:
    for name in (*ROLES, "page", "topics", "migrate"):
        given = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
        assert unknown_variables(given) == []
        Settings.from_env({key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for key, text in given.items()})


def test_what_is_mounted_is_there_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_the_page_reads_as_a_user_who_can_do_nothing_else() -> None:
    url = SERVICES["page"]["environment"]["EBBTIDE_CLICKHOUSE"]
    assert url.startswith("http://bi:")
    users = (DEPLOY / "clickhouse" / "bi.xml").read_text()
    assert re.findall(r"<query>(.*)</query>", users) == ["GRANT SELECT ON ebbtide.*"]
    assert "<readonly>2</readonly>" in users


# -- metrics


def _metrics(expression: str) -> set[str]:
    """Names of ours in PromQL, as they are in the list: without what a histogram or a counter adds."""
    return set(re.findall(r"\bebbtide_\w+", expression))


def _series(name: str) -> str:
    """The name without what a histogram adds to it."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


def _labels(name: str) -> set[str]:
    """Labels of a metric of ours, beside those that Prometheus gives it."""
    if name in GAUGES:
        return set(GAUGES[name][1])
    return set(REGISTRY._names_to_collectors[_series(name)]._labelnames)  # type: ignore[attr-defined]


#: Of each target, by deploy/prometheus/prometheus.yml; and of a histogram's buckets.
_GIVEN: Final = {"job", "instance", "role", "le"}


def _check(expression: str, said: str = "") -> None:
    """``expression`` asks our metrics what they can answer, and ``said`` names labels that are left of it."""
    names = _metrics(expression)
    assert names <= KNOWN
    counters = {name for name in names if name not in GAUGES}
    for function, name in re.findall(r"\b(rate|increase|deriv|delta)\((ebbtide_\w+)", expression):
        # A gauge that moves to another worker with its partition would be a leap, and no rate.
        assert (name in counters) == (function in ("rate", "increase"))
    assert counters == set(re.findall(r"\b(?:rate|increase)\((ebbtide_\w+)", expression))
    known = set().union(_GIVEN, *(_labels(name) for name in names))
    by = [set(re.split(r",\s*", labels)) for labels in re.findall(r"\bby \(([^)]*)\)", expression)]
    assert set().union(*by, re.findall(r"(\w+)=~?\"", expression)) <= known
    left = set.intersection(*by) if by else set() if re.search(r"\b(sum|max|min)\(", expression) else known
    assert set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)", said)) <= left


KNOWN: Final = GAUGES.keys() | {name for name in REGISTRY._names_to_collectors if name.startswith("ebbtide_")}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_there_are_and_the_runbook_says_what_to_do(
    rule: dict[str, Any],
) -> None:
    _check(rule["expr"], rule["annotations"]["summary"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    line = next(line for line in (ROOT / file).read_text().splitlines() if f'<a id="{anchor}">' in line)
    assert anchor == rule["alert"]
    assert all(len(cell) > 20 for cell in line.strip("|").split(" | "))


def test_prometheus_asks_each_role_where_it_tells() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    asked = {each["labels"]["role"]: each["targets"] for each in jobs["ebbtide"]}
    assert asked == {role: [f"{role}:{9464 + number}"] for number, role in enumerate(ROLES)}
    assert config["rule_files"] == ["rules.yml"]
    [alertmanager] = config["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_alertmanagers_routes_end_at_receivers_that_there_are() -> None:
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    assert config["route"]["receiver"] in {receiver["name"] for receiver in config["receivers"]}


def test_every_metric_is_shown_on_a_dashboard() -> None:
    shown = _metrics(json.dumps(DASHBOARDS["pipeline"]))
    bare = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in shown}
    lacking = {name for name in KNOWN if re.sub(r"_(bucket|count|sum|total|created)$", "", name) not in bare}
    assert lacking <= {"ebbtide_partitions", "ebbtide_watermark_seconds", "ebbtide_clickhouse_away_seconds"}


# -- Grafana


def _targets(dashboard: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], {**annotation["target"], "datasource": annotation["datasource"]}
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], {"rawSql": variable["query"], "datasource": variable["datasource"]}


TARGETS: Final = [
    pytest.param(target, id=f"{name}: {title}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for title, target in _targets(dashboard)
]
#: What the plug-in makes of its macros and Grafana of its variables.
_MACROS: Final = (
    (r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(1704067200) AND \1 <= toDateTime(1711929600)"),
    (r"\$__dateFilter\((\w+)\)", r"\1 >= toDate('2024-01-01') AND \1 <= toDate('2024-04-01')"),
    (r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 3600 second)"),
)


@pytest.fixture(scope="module")
def client(clickhouse: str) -> Iterator[Client]:
    """The golden facts, as the panels' queries see them."""
    with database_of(clickhouse, json.loads(FACTS.read_text())) as url, closing(connect(url)) as client:
        yield client


@pytest.mark.parametrize("target", TARGETS)
def test_a_panel_asks_what_can_be_answered(client: Client, target: dict[str, Any]) -> None:
    if "expr" in target:
        _check(target["expr"], target["legendFormat"])
        return
    for shop in ("", "s1", "l'étage"):
        sql = target["rawSql"].replace("${shop:sqlstring}", "'" + shop.replace("'", "''") + "'")
        for macro, text in _MACROS:
            sql = re.sub(macro, text, sql)
        assert "$" not in sql, "a macro that nobody replaces"
        client.query(sql)


def test_dashboards_use_sources_that_are_provisioned_and_ids_are_their_own() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/ebbtide.yml").read_text())
    uids = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        for _, target in _targets(dashboard):
            assert uids[target["datasource"]["uid"]] == target["datasource"]["type"]


# -- ClickHouse


def test_what_gives_rights_is_sql_that_clickhouse_reads(client: Client) -> None:
    text = re.sub(r"^--.*$", "", (DEPLOY / "clickhouse" / "access.sql").read_text(), flags=re.MULTILINE)
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    assert len(statements) == 7
    for statement in statements:
        client.query(f"EXPLAIN AST {statement}")

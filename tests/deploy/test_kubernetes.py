"""The Kubernetes files: of the kinds' own schemas, restricted, and naming only what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from schemas import topics
from schemas.topics import Topic
from streams.settings import ROLES, Settings, unknown_variables

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
VERSION: Final = "1.34"


def _objects() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            yield path.name, each


OBJECTS: Final = [
    pytest.param(each, id=f"{file}: {each['kind']} {each.get('metadata', {}).get('name', '')}")
    for file, each in _objects()
]
ALL: Final[list[dict[str, Any]]] = [each for _, each in _objects()]
#: Kinds that others bring.
_FOREIGN: Final = {"ScaledObject", "TriggerAuthentication", "Kustomization"}


def _of(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in ALL if each["kind"] == kind}


def _pods() -> dict[str, dict[str, Any]]:
    return {
        f"{kind} {name}": each["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for name, each in _of(kind).items()
    }


@pytest.mark.parametrize("each", OBJECTS)
def test_an_object_is_of_its_kinds_schema(each: dict[str, Any]) -> None:
    if each["kind"] not in _FOREIGN:
        kubernetes_validate.validate(each, VERSION, strict=True)


@pytest.mark.parametrize("name", _pods())
def test_a_pod_keeps_to_the_restricted_standard(name: str) -> None:
    pod = _pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"secret", "emptyDir"}


@pytest.mark.parametrize("name", _pods())
def test_what_is_mounted_is_a_volume_and_a_secret_that_is_described(name: str) -> None:
    pod = _pods()[name]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert mounted == volumes.keys()
    for volume in volumes.values():
        if "secret" in volume:
            assert volume["secret"]["secretName"] in _of("Secret")


def test_there_is_a_deployment_with_probes_for_each_role() -> None:
    deployments = _of("Deployment")
    assert deployments.keys() == {*ROLES, "page"}
    for number, role in enumerate(ROLES):
        [container] = deployments[role]["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["worker", "--agents", role]
        assert container["ports"] == [{"name": "metrics", "containerPort": 9464 + number}]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert _of("PodDisruptionBudget").keys() == set(ROLES)


def test_settings_are_those_that_there_are() -> None:
    given = dict(_of("ConfigMap")["ebbtide"]["data"])
    for pod in _pods().values():
        for container in pod["containers"]:
            given |= {each["name"]: each["value"] for each in container.get("env", ())}
    assert unknown_variables(given) == []
    files = {name for name in given if name.endswith("_FILE") and name != "EBBTIDE_ALERTS_FILE"}
    Settings.from_env({name: text for name, text in given.items() if name not in files})


def test_each_role_is_scaled_by_topics_that_it_reads_and_by_its_own_group() -> None:
    scaled = _of("ScaledObject")
    assert scaled.keys() == set(ROLES)
    names = {topic.name for topic in vars(topics).values() if isinstance(topic, Topic)}
    partitions = int(_of("ConfigMap")["ebbtide"]["data"]["EBBTIDE_PARTITIONS"])
    for role, each in scaled.items():
        spec = each["spec"]
        assert spec["scaleTargetRef"] == {"name": role}
        assert spec["maxReplicaCount"] <= partitions
        for trigger in spec["triggers"]:
            assert trigger["metadata"]["consumerGroup"] == Settings().group(role)
            assert trigger["metadata"]["topic"] in names
            assert trigger["authenticationRef"]["name"] in _of("TriggerAuthentication")


def test_nothing_comes_in_or_goes_out_unless_it_is_said() -> None:
    policies = _of("NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [rule] = policies["hooks"]["spec"]["egress"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]


def test_the_kustomization_names_every_file_but_the_example() -> None:
    named = next(each for each in ALL if each["kind"] == "Kustomization")["resources"]
    there = {path.name for path in FOLDER.glob("*.yaml")}
    assert set(named) == there - {"kustomization.yaml", "secrets.example.yaml"}


def test_rights_on_kafka_are_given_for_every_topic_and_group() -> None:
    text = (ROOT / "deploy" / "kafka" / "acls.sh").read_text()
    lists = dict(re.findall(r'^(INPUTS|INTERNAL|FACTS)="([^"]*)"', text, re.MULTILINE))
    given = {name for names in lists.values() for name in names.split()}
    assert given == {topic.name for topic in vars(topics).values() if isinstance(topic, Topic)}
    assert f"for role in {' '.join(ROLES)}; do" in text

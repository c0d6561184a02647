"""The pure parts: environment, back-off, status."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.kubelet.backoff import BackOff, BackOffSettings
from chalkcompute.local.kubelet.environment import (
    ContainerConfigError,
    PodFacts,
    container_environment,
    expand,
    object_data,
)
from chalkcompute.local.kubelet.logs import tail
from chalkcompute.local.kubelet.status import ContainerState, phase_of, pod_status, qos_class
from chalkcompute.local.kubelet.unsupported import unsupported_fields
from chalkcompute.local.ports import Manifest
from tests.properties import examples

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POD: Manifest = {
    "metadata": {
        "name": "web",
        "namespace": "ns",
        "uid": "u",
        "labels": {"app": "x", "chalk.ai/y": "z"},
        "generation": 2,
    },
    "spec": {"nodeName": "node1", "serviceAccountName": "default"},
}
FACTS = PodFacts("127.77.0.1", "192.0.2.1")
OBJECTS: dict[tuple[str, str], Manifest] = {
    ("Secret", "s"): {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}},
    ("ConfigMap", "c"): {"kind": "ConfigMap", "data": {"A": "1", "B": "2"}},
}


def environment(**container: Any) -> dict[str, str]:
    return container_environment(POD, container, FACTS, lambda kind, name: OBJECTS.get((kind, name)))


def test_values_and_references() -> None:
    env = environment(
        envFrom=[
            {"configMapRef": {"name": "c"}, "prefix": "C_"},
            {"secretRef": {"name": "no", "optional": True}},
        ],
        env=[
            {"name": "EMPTY"},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "z", "optional": True}}},
            {"name": "SUM", "value": "$(C_A)+$(S)+$(NONE)+$$(S)"},
            {"name": "C_B", "value": "override"},
        ],
    )
    assert env == {"C_A": "1", "C_B": "override", "EMPTY": "", "S": "v", "SUM": "1+v+$(NONE)+$(S)"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['chalk.ai/y']", "z"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app="x"\nchalk.ai/y="z"'),
        ("spec.nodeName", "node1"),
        ("status.podIP", "127.77.0.1"),
        ("status.hostIP", "192.0.2.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert environment(env=[{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}]) == {"F": value}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [("limits.cpu", "1m", "250"), ("limits.cpu", None, "1"), ("requests.memory", "1Mi", "64")],
)
def test_resources(resource: str, divisor: str | None, value: str) -> None:
    reference = {"resource": resource, **({"divisor": divisor} if divisor else {})}
    resources = {"limits": {"cpu": "250m"}, "requests": {"memory": "64Mi"}}
    env = [{"name": "R", "valueFrom": {"resourceFieldRef": reference}}]
    assert environment(env=env, resources=resources) == {"R": value}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found'),
        ({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found'),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "z"}}}]},
            "couldn't find key z in Secret ns/s",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.none"}}}]},
            "unsupported fieldPath: spec.none",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]},
            "resourceFieldRef limits.cpu is not set in the container",
        ),
    ],
)
def test_what_is_missing(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ContainerConfigError) as caught:
        environment(**container)
    assert str(caught.value) == message


@examples(100)
@given(st.text(alphabet="a$()B", max_size=20))
def test_text_without_references_stays(text: str) -> None:
    if "$" not in text:
        assert expand(text, {"B": "x"}) == text
    assert expand(text.replace("$", "$$"), {"B": "x"}) == text


def test_back_off_doubles_is_capped_and_forgotten() -> None:
    back_off = BackOff(BackOffSettings(base_seconds=10, cap_seconds=35))
    delays = []
    moment = NOW
    for _ in range(5):
        delays.append(back_off.seconds(moment))
        back_off.advance(moment, moment)
        moment += timedelta(seconds=20)
    assert delays == [0, 10, 20, 35, 35]
    assert back_off.seconds(moment + timedelta(seconds=71)) == 0


def state(name: str = "app", **changes: Any) -> ContainerState:
    return ContainerState(name=name, image="i", **changes)


def ended(code: int) -> dict[str, Any]:
    return {"exitCode": code}


@pytest.mark.parametrize(
    ("policy", "init", "main", "phase"),
    [
        ("Always", [], [state()], "Pending"),
        ("Always", [], [state(running_since=NOW)], "Running"),
        ("Always", [], [state(running_since=NOW), state("b")], "Pending"),
        ("Always", [], [state(last_terminated=ended(1))], "Running"),
        ("Always", [], [state(terminated=ended(0))], "Running"),
        ("Never", [], [state(terminated=ended(0))], "Succeeded"),
        ("Never", [], [state(terminated=ended(0)), state("b", terminated=ended(1))], "Failed"),
        ("Never", [], [state(terminated=ended(1)), state("b", running_since=NOW)], "Running"),
        ("OnFailure", [], [state(terminated=ended(1))], "Running"),
        ("Always", [state("i", running_since=NOW)], [state()], "Pending"),
        ("Never", [state("i", terminated=ended(1))], [state()], "Failed"),
        ("Always", [state("i", terminated=ended(0))], [state(running_since=NOW)], "Running"),
    ],
)
def test_phases(policy: str, init: list[ContainerState], main: list[ContainerState], phase: str) -> None:
    assert phase_of(policy, init, main) == phase


def test_conditions_keep_their_times() -> None:
    def status(pod: Manifest, ready: bool, now: datetime) -> dict[str, Any]:
        container = state(running_since=NOW, started=True, ready=ready)
        return pod_status(pod, init=[], main=[container], pod_ip="127.77.0.1", host_ip="h", now=now)

    first = status(POD, False, NOW)
    second = status({**POD, "status": first}, True, NOW + timedelta(seconds=5))
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["Ready"] == "2026-01-02T03:04:10Z"
    assert times["Initialized"] == "2026-01-02T03:04:05Z"
    assert second["startTime"] == first["startTime"]
    not_ready = next(c for c in first["conditions"] if c["type"] == "Ready")
    assert not_ready["reason"] == "ContainersNotReady"
    assert not_ready["message"] == "containers with unready status: [app]"


def test_tail(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(f"{number}\n" for number in range(200)))
    assert tail(path).splitlines() == [str(number) for number in range(120, 200)]
    path.write_text("x" * 5000)
    assert len(tail(path)) == 2048
    assert tail(tmp_path / "absent") == ""


def resources(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    return {"resources": {"requests": requests, "limits": limits}}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{}], "BestEffort"),
        ([resources({"cpu": "0"}, {"nvidia.com/gpu": "1"})], "BestEffort"),
        ([resources({"cpu": "100m"}, {})], "Burstable"),
        ([resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"})], "Guaranteed"),
        ([resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"})], "Burstable"),
        ([resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}), {}], "Burstable"),
    ],
)
def test_quality_of_service(containers: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"spec": {"containers": containers}}) == expected


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}), "Guaranteed"),
        (resources({"cpu": "1"}, {"cpu": "1"}), "Burstable"),
        (resources({"memory": "1Gi"}, {}), "Burstable"),
        (resources({}, {}), "Burstable"),
    ],
)
def test_what_a_pod_says_as_a_whole_is_its_quality_of_service(whole: dict[str, Any], expected: str) -> None:
    containers = [resources({"cpu": "100m"}, {}), {}]
    assert qos_class({"spec": {"containers": containers, **whole}}) == expected


def test_binary_data_is_for_files_only() -> None:
    made = {"kind": "ConfigMap", "data": {"A": "1"}, "binaryData": {"B": "AA=="}}
    source = {"envFrom": [{"configMapRef": {"name": "c"}}]}
    pod = {"metadata": {"name": "web", "namespace": "default"}, "spec": {}}
    facts = PodFacts("127.0.0.2", "127.0.0.1")
    found = container_environment(pod, source, facts, lambda _kind, _name: made)
    assert found["A"] == "1"
    assert "B" not in found
    key = {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "B"}}}]}
    with pytest.raises(ContainerConfigError, match="couldn't find key B"):
        container_environment(pod, key, facts, lambda _kind, _name: made)
    assert object_data(made) == {"A": b"1", "B": b"\0"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}, ["securityContext.runAsUser"]),
        ({"dnsPolicy": "None", "serviceAccountName": "ci"}, ["dnsPolicy", "serviceAccountName"]),
        ({"dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "affinity": {"podAffinity": {}}}, []),
        (
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            ["affinity.podAntiAffinity"],
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "w", "emptyDir": {}}]},
            ["volumes[v].emptyDir.medium"],
        ),
        (
            {
                "containers": [
                    {
                        "name": "a",
                        "lifecycle": {"postStart": {"sleep": {"seconds": 1}}, "preStop": {}},
                        "ports": [{"containerPort": 1, "hostPort": 1}],
                        "securityContext": {"privileged": True, "allowPrivilegeEscalation": False},
                    }
                ]
            },
            [
                "containers[a].securityContext.privileged",
                "containers[a].lifecycle.postStart",
                "containers[a].ports.hostPort",
            ],
        ),
    ],
)
def test_fields_without_effect(spec: dict[str, Any], expected: list[str]) -> None:
    assert unsupported_fields({"spec": spec}) == expected


@pytest.mark.parametrize("path", sorted(Path("tests/golden/manifests").iterdir()), ids=lambda path: path.stem)
def test_what_chalk_renders_has_all_its_effect(path: Path) -> None:
    (template,) = [
        manifest["spec"]["template"]
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] == "Deployment"
    ]
    assert unsupported_fields(template) == []

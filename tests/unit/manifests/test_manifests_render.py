"""What is rendered: golden manifests for each mode, and what holds for every spec that can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given

from chalkcompute.errors import SpecError
from chalkcompute.manifests import render
from chalkcompute.manifests.gpu_nodes import Toleration
from chalkcompute.manifests.literals import literal
from chalkcompute.manifests.placement import Placement, PortHistory, Profile
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.mounts import VolumeMount
from chalkcompute.spec.probes import ReadinessProbe
from chalkcompute.spec.secrets import SecretRef
from chalkcompute.types import Manifest
from tests.properties import examples
from tests.unit.manifests.manifests_builders import (
    GROUP_ID,
    a_gateway,
    a_placement,
    a_spec,
    placements,
    specs,
)

PROPERTY = examples(150)

GOLDEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fixed": ({}, {}),
    "fixed-three": ({"min_replicas": 3, "max_replicas": 3, "cpu": "4", "memory": "8Gi"}, {}),
    "hpa": ({"max_replicas": 3}, {}),
    "hpa-all-knobs": (
        {
            "min_replicas": 2,
            "max_replicas": 20,
            "target_cpu_utilization_percentage": 70,
            "scaling_interval_seconds": 30,
            "shutdown_delay_seconds": 30,
        },
        {},
    ),
    "keda": ({"min_replicas": 0}, {}),
    "keda-all-knobs": (
        {
            "min_replicas": 0,
            "max_replicas": 5,
            "target_cpu_utilization_percentage": 70,
            "scaling_interval_seconds": 30,
            "idle_timeout_seconds": 60,
        },
        {},
    ),
    "slow-start": (
        {
            "readiness_probe": ReadinessProbe.http("/health", period_seconds=10),
            "startup_timeout_seconds": 900,
        },
        {},
    ),
    "gpu-typed": ({"gpu": "nvidia-l4:1", "cpu": "8", "memory": "32Gi", "max_replicas": 4}, {}),
    "gpu-count": ({"gpu": "2"}, {}),
    "gpu-eks": (
        {"gpu": "t4:1"},
        {"profile": Profile(gpu_node_selector_key="karpenter.k8s.aws/instance-gpu-name")},
    ),
    "gpu-aks": (
        {"gpu": "NVIDIA-A100-SXM4-80GB:2"},
        {
            "profile": Profile(
                gpu_node_selector_key="nvidia.com/gpu.product",
                gpu_taints=(Toleration("nvidia.com/gpu"), Toleration("sku", "NoSchedule", "gpu")),
            )
        },
    ),
    "gpu-mig": ({"gpu": "1"}, {"profile": Profile(gpu_resource_name="nvidia.com/mig-1g.5gb")}),
    "cpu-only": ({"cpu": "500m"}, {}),
    "memory-only": ({"memory": "4Gi"}, {}),
    "probe-http": ({"readiness_probe": ReadinessProbe.http("/health", period_seconds=2)}, {}),
    "probe-tcp": ({"readiness_probe": ReadinessProbe.tcp(failure_threshold=9)}, {}),
    "probe-grpc": ({"readiness_probe": ReadinessProbe.grpc("model.Service", timeout_seconds=7)}, {}),
    "entrypoint-env-tags": (
        {
            "entrypoint": ["python", "-m", "http.server", "$(PORT)"],
            "env": {"LOG_LEVEL": "INFO", "PASSWORD": "a$$b$c", "EMPTY": ""},
            "tags": {"team": "ml", "version": "2.1"},
        },
        {},
    ),
    "arguments-and-folder": ({"args": ["serve", "$(PORT)", ""], "working_dir": "/srv/app/"}, {}),
    "secrets": (
        {
            "env": {"PLAIN": "1"},
            "secrets": (
                SecretRef("OPENAI_API_KEY", "inference-env-0123456789ab", "OPENAI_API_KEY"),
                SecretRef("DB_PASSWORD", "db", "password", "4711"),
                SecretRef("DB_USER", "db", "user", "4711"),
            ),
        },
        {},
    ),
    "volumes": (
        {
            "volumes": (
                VolumeMount("training-data", "/data"),
                VolumeMount("models", "/models", read_only=True),
                VolumeMount("training-data", "/again", read_only=True),
            )
        },
        {},
    ),
    "no-drain": ({"shutdown_delay_seconds": 0}, {}),
    "plain-gateway": ({}, {"gateway": a_gateway(request_timeout=False, scheme="http", port=8080)}),
    "offline": ({}, {"owner": None}),
    "port-changed": ({"min_replicas": 0}, {"ports": PortHistory().then(8000, 8080)}),
    "port-changed-before": ({}, {"ports": PortHistory(first=8000)}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    spec, placement = GOLDEN[name]
    objects = render(a_spec(**spec), a_placement(**placement))
    golden(f"manifests/{name}.yaml", yaml.safe_dump_all(objects, sort_keys=False))


def of_kind(kind: str, objects: tuple[Manifest, ...]) -> Manifest:
    (found,) = (obj for obj in objects if obj["kind"] == kind)
    return found


def rendered(**changes: Any) -> tuple[Manifest, ...]:
    return render(a_spec(**changes), a_placement())


def pod_of(objects: tuple[Manifest, ...]) -> Manifest:
    pod: Manifest = of_kind("Deployment", objects)["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize(
    ("replicas", "kinds"),
    [
        ((1, 1), ["Service", "Deployment", "HTTPRoute"]),
        ((1, 2), ["Service", "Deployment", "HorizontalPodAutoscaler", "HTTPRoute"]),
        (
            (0, 2),
            [
                "Service",
                "Service",
                "Deployment",
                "InterceptorRoute",
                "ScaledObject",
                "ReferenceGrant",
                "HTTPRoute",
            ],
        ),
    ],
)
def test_apply_order(replicas: tuple[int, int], kinds: list[str]) -> None:
    objects = rendered(min_replicas=replicas[0], max_replicas=replicas[1])
    assert [obj["kind"] for obj in objects] == kinds


def test_a_new_revision_alone_restarts_nothing() -> None:
    first, second = (render(a_spec(), a_placement(revision=n)) for n in (1, 2))
    assert first != second
    assert of_kind("Deployment", first)["spec"] == of_kind("Deployment", second)["spec"]


def test_another_environment_restarts_nothing() -> None:
    first, second = (render(a_spec(), a_placement(environment=e)) for e in ("abc123", "prod"))
    assert of_kind("Deployment", first)["spec"] == of_kind("Deployment", second)["spec"]


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        ({}, {"cpu": "100m", "memory": "256Mi"}, {"cpu": "1", "memory": "1Gi"}),
        ({"cpu": "2"}, {"cpu": "2", "memory": "256Mi"}, {"cpu": "2", "memory": "1Gi"}),
        ({"memory": "4Gi"}, {"cpu": "100m", "memory": "4Gi"}, {"cpu": "1", "memory": "4Gi"}),
        ({"gpu": "2"}, {"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "2"}),
    ],
)
def test_resources(asked: dict[str, str], requests: dict[str, str], limits: dict[str, str]) -> None:
    resources = pod_of(rendered(**asked))["containers"][0]["resources"]
    assert requests.items() <= resources["requests"].items()
    assert limits.items() <= resources["limits"].items()


@pytest.mark.parametrize(("asked", "sleep", "grace"), [(None, 5, 35), (30, 30, 60), (0, None, 30)])
def test_drain(asked: int | None, sleep: int | None, grace: int) -> None:
    pod = pod_of(rendered(shutdown_delay_seconds=asked))
    lifecycle = pod["containers"][0].get("lifecycle")
    assert pod["terminationGracePeriodSeconds"] == grace
    assert lifecycle == (None if sleep is None else {"preStop": {"sleep": {"seconds": sleep}}})


@pytest.mark.parametrize(
    "probe",
    [
        None,
        ReadinessProbe.http("/h", period_seconds=7),
        ReadinessProbe.grpc(period_seconds=3600),
        ReadinessProbe.tcp(period_seconds=1, timeout_seconds=10, success_threshold=3),
    ],
)
@pytest.mark.parametrize("seconds", [1, 5, 6, 7, 600, 21600])
def test_a_start_may_take_as_long_as_was_said(seconds: int, probe: ReadinessProbe | None) -> None:
    container = pod_of(rendered(startup_timeout_seconds=seconds, readiness_probe=probe))["containers"][0]
    startup, readiness = container["startupProbe"], container["readinessProbe"]
    # The kubelet asks at once and then every period, and kills at the last of so many failures in a row.
    period, timeout = startup["periodSeconds"], startup["timeoutSeconds"]
    killed_after = (startup["failureThreshold"] - 1) * period
    assert seconds <= killed_after < seconds + period
    # Where nothing answers, each question takes its timeout, and the next one is not asked before.
    assert timeout <= period <= max(seconds, timeout)
    assert killed_after + timeout <= 3 * seconds
    assert "successThreshold" not in startup, "Kubernetes has only 1 there"
    kept = {"failureThreshold", "periodSeconds", "timeoutSeconds", "successThreshold"}
    assert {k: v for k, v in startup.items() if k not in kept} == {
        k: v for k, v in readiness.items() if k not in kept
    }
    if seconds >= 600 and readiness["timeoutSeconds"] <= readiness["periodSeconds"] <= seconds:
        assert (period, timeout) == (readiness["periodSeconds"], readiness["timeoutSeconds"])


def test_a_replica_may_have_to_answer_several_times() -> None:
    def readiness(probe: ReadinessProbe) -> dict[str, Any]:
        found: dict[str, Any] = pod_of(rendered(readiness_probe=probe))["containers"][0]["readinessProbe"]
        return found

    assert readiness(ReadinessProbe.http("/h", success_threshold=3))["successThreshold"] == 3
    assert "successThreshold" not in readiness(ReadinessProbe.http("/h"))


@pytest.mark.parametrize(("gpu", "usual"), [(None, 600), ("1", 1800)])
@pytest.mark.parametrize("startup", [None, 1, 21600])
def test_a_rollout_waits_for_a_slow_start(startup: int | None, gpu: str | None, usual: int) -> None:
    deployment = of_kind("Deployment", rendered(startup_timeout_seconds=startup, gpu=gpu))
    assert deployment["spec"]["progressDeadlineSeconds"] == usual + (startup or 0)
    assert ("startupProbe" in pod_of((deployment,))["containers"][0]) == (startup is not None)


@pytest.mark.parametrize(("asked", "idle"), [(None, 300), (1, 1), (86400, 86400)])
def test_an_idle_group_sleeps_after_a_time_that_can_be_set(asked: int | None, idle: int) -> None:
    body = of_kind("ScaledObject", rendered(min_replicas=0, idle_timeout_seconds=asked))["spec"]
    assert (body["cooldownPeriod"], body["initialCooldownPeriod"]) == (idle, idle)


@pytest.mark.parametrize(
    ("startup", "held"), [(None, "300s"), (60, "300s"), (1200, "1200s"), (7200, "3600s")]
)
def test_a_request_is_held_for_as_long_as_a_start_may_take(startup: int | None, held: str) -> None:
    route = of_kind("InterceptorRoute", rendered(min_replicas=0, startup_timeout_seconds=startup))
    assert route["spec"]["timeouts"] == {"readiness": held}


def test_the_host_is_the_environment_and_the_name() -> None:
    assert of_kind("HTTPRoute", rendered())["spec"]["hostnames"] == ["abc123-inference.gw.chalk.ai"]
    assert a_placement().web_url("inference") == "https://abc123-inference.gw.chalk.ai"
    local = a_placement(gateway=a_gateway(port=8443))
    assert local.web_url("inference") == "https://abc123-inference.gw.chalk.ai:8443"


def test_a_host_that_cannot_be_is_refused_before_anything_is_rendered() -> None:
    with pytest.raises(SpecError, match="63"):
        render(a_spec(name="a" * 54), a_placement(environment="abcdefghijkl"))


def expand(text: str, variables: dict[str, str]) -> str:
    """What the kubelet makes of a value: third_party/forked/golang/expansion/expand.go."""
    out, i = "", 0
    while i < len(text):
        if text[i] == "$" and i + 1 < len(text):
            if text[i + 1] == "$":
                out, i = out + "$", i + 2
                continue
            end = text.find(")", i + 2)
            if text[i + 1] == "(" and end >= 0:
                name = text[i + 2 : end]
                out, i = out + variables.get(name, f"$({name})"), end + 1
                continue
        out, i = out + text[i], i + 1
    return out


@PROPERTY
@given(spec=specs(), placement=placements())
def test_what_holds_for_every_spec(spec: ScalingGroupSpec, placement: Placement) -> None:
    objects = render(spec, placement)
    assert objects == render(spec, placement)
    assert json.loads(json.dumps(objects)) == list(objects)
    names = [(obj["kind"], obj["metadata"]["name"]) for obj in objects]
    assert len(set(names)) == len(names)
    deployment = of_kind("Deployment", objects)["spec"]
    assert ("replicas" in deployment) == (spec.mode == "fixed")
    assert (
        deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    )
    for obj in objects:
        metadata = obj["metadata"]
        assert all(len(key.partition("/")[2] or key) <= 63 for key in metadata["labels"])
        if obj["kind"] == "ReferenceGrant":
            assert "ownerReferences" not in metadata
            continue
        assert metadata["labels"]["chalk.ai/scaling-group-id"] == GROUP_ID
        assert metadata["labels"]["chalk.ai/scaling-group"] == spec.name
        assert all(metadata["labels"][f"chalk.ai/tag-{k}"] == v for k, v in spec.tags.items())
        assert ("ownerReferences" in metadata) == (placement.owner is not None)
        if obj["kind"] == "Service":
            assert obj["spec"]["selector"] == deployment["selector"]["matchLabels"]


@PROPERTY
@given(spec=specs())
def test_env_and_command_reach_the_process_literally(spec: ScalingGroupSpec) -> None:
    container = pod_of(render(spec, a_placement()))["containers"][0]
    plain = [item for item in container.get("env", []) if "value" in item]
    got = {item["name"]: expand(item["value"], dict(spec.env)) for item in plain}
    assert got == dict(spec.env)
    command = container.get("command")
    assert (None if command is None else tuple(expand(c, {}) for c in command)) == spec.entrypoint
    args = container.get("args")
    assert (None if args is None else tuple(expand(a, {}) for a in args)) == spec.args


@pytest.mark.parametrize("text", ["$(HOME)", "$$", "$$(A)", "$$$", "a$b", "$", "$(", "$()$$("])
def test_literal_text_is_what_the_kubelet_leaves(text: str) -> None:
    assert expand(literal(text), {"HOME": "x", "A": "y", "": "z"}) == text


def test_only_what_would_be_expanded_is_escaped() -> None:
    assert literal("$HOME is 5$") == "$HOME is 5$"

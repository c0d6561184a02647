"""What a cluster lacks is named, with the command that makes it good, before anything is written."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec
from chalkcompute.errors import CapabilityError, ForbiddenError, NotOwnedError
from chalkcompute.service.grants import suffices
from chalkcompute.types import Action

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, FailingCluster

    Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]

SERVER = "https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml"
LOCAL = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "chalk-local"},
    "spec": {"controllerName": "chalk.ai/local-gateway"},
}
REFUSAL = ForbiddenError(
    'referencegrants.gateway.networking.k8s.io "chalk-default" is forbidden: User "ann" cannot patch it',
    status=403,
    reason="Forbidden",
)
KIND = "ReferenceGrant"


@pytest.fixture
def sleepy(cluster: ApiCluster, spec: ScalingGroupSpec) -> ScalingGroupSpec:
    cluster.with_keda()
    return replace(spec, min_replicas=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_replicas": 2, "max_replicas": 4}, "it keeps the group at 2"),
        ({"min_replicas": 0, "target_cpu_utilization_percentage": 70}, "it goes by requests only"),
        ({"min_replicas": 0}, None),
        ({}, None),
    ],
)
def test_an_autoscaler_that_would_be_blind(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    changes: dict[str, int],
    said: str | None,
) -> None:
    cluster.with_keda()
    wish = replace(spec, cpu="1", **changes)  # type: ignore[arg-type]
    assert client.create_scaling_group(wish, dry_run=True).warnings == ()
    cluster.capable = {each for each in cluster.capable if each[0] != "metrics.k8s.io"}
    warnings = client.create_scaling_group(wish, dry_run=True).warnings
    assert len(warnings) == (said is not None)
    assert all(f"{said}; `kubectl apply -f {SERVER}` installs it" in warning for warning in warnings)
    cluster.put(LOCAL)
    warnings = client.create_scaling_group(wish, dry_run=True).warnings
    assert all("`chalk local up`" in warning and "kubectl apply" in warning for warning in warnings)


@pytest.mark.parametrize("there", ["nothing", "the kinds"])
def test_without_what_wakes_it_a_group_cannot_sleep(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, there: str
) -> None:
    if there == "the kinds":
        cluster.with_keda()
        cluster.api.delete("Service", "keda-add-ons-http-interceptor-proxy", "keda")
    with pytest.raises(CapabilityError) as caught:
        client.create_scaling_group(replace(spec, min_replicas=0))
    hint = caught.value.hint or ""
    assert "`min_replicas=0`" in caught.value.message
    assert "`helm install keda kedacore/keda -n keda --create-namespace`" in hint
    assert "`helm install http-add-on kedacore/keda-add-ons-http -n keda`" in hint
    assert hint.endswith("or set `min_replicas` to 1 or more")
    cluster.put(LOCAL)
    with pytest.raises(CapabilityError) as caught:
        client.create_scaling_group(replace(spec, min_replicas=0))
    assert (caught.value.hint or "").startswith("`chalk local down` and `chalk local up`")
    install = hint[hint.index("install them") :]
    assert (caught.value.hint or "").endswith(f"; on another cluster {install}")
    assert cluster.everything() == []


def a_grant(called: str = "theirs", **to: str) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": KIND,
        "metadata": {"name": called, "namespace": "keda"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
            "to": [{"group": "", "kind": "Service", **to}],
        },
    }


def test_a_grant_that_is_missing_and_may_not_be_made_ends_it_before_anything_is_written(
    cluster: ApiCluster, reconnect: Reconnect, sleepy: ScalingGroupSpec
) -> None:
    poor, _ = reconnect(fail={("dry-apply", KIND): REFUSAL, ("apply", KIND): REFUSAL})
    with pytest.raises(ForbiddenError) as caught:
        poor.create_scaling_group(sleepy)
    assert "ReferenceGrant `chalk-default` in namespace `keda`" in caught.value.message
    assert REFUSAL.message in caught.value.message
    assert cluster.everything() == []
    (command,) = re.findall(r"`(echo .*) \| kubectl apply -f -`", caught.value.hint or "")
    printed = json.loads(subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout)
    cluster.put(printed)
    assert poor.create_scaling_group(sleepy).warnings == ()
    assert poor.create_scaling_group(sleepy).action is Action.UNCHANGED
    assert poor.create_scaling_group(replace(sleepy, image="nginx:2")).warnings == ()


def test_a_grant_of_someone_else_that_does_is_as_good_and_left_alone(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, sleepy: ScalingGroupSpec
) -> None:
    cluster.put(a_grant("anyones"))
    poor, _ = reconnect(fail={("dry-apply", KIND): REFUSAL, ("apply", KIND): REFUSAL})
    assert poor.create_scaling_group(sleepy).warnings == ()
    made = cluster.put(a_grant("chalk-default"))
    assert client.create_scaling_group(replace(sleepy, image="nginx:2")).warnings == ()
    assert cluster.seen(KIND, "chalk-default", "keda") == made


def test_a_grant_of_someone_else_that_has_our_name_and_does_not_do(
    client: ChalkClient, cluster: ApiCluster, sleepy: ScalingGroupSpec
) -> None:
    cluster.put(a_grant("chalk-default", name="another"))
    with pytest.raises(NotOwnedError, match="ReferenceGrant `chalk-default`"):
        client.create_scaling_group(sleepy)
    assert cluster.everything() == []


@pytest.mark.parametrize("there", [False, True])
def test_a_grant_that_cannot_be_looked_for_is_warned_of(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, sleepy: ScalingGroupSpec, there: bool
) -> None:
    if there:
        cluster.put(a_grant("chalk-default"))
    unseen = {(verb, KIND): REFUSAL for verb in ("dry-apply", "apply", "list", "get")}
    poor, _ = reconnect(fail=unseen)
    (warning,) = poor.create_scaling_group(sleepy).warnings
    assert "which you may neither write nor look for" in warning
    assert "| kubectl apply -f -`" in warning
    del unseen["get", KIND]
    half, _ = reconnect(fail=unseen)
    assert bool(half.create_scaling_group(sleepy).warnings) == (not there)


@pytest.mark.parametrize(
    ("change", "does"),
    [
        (lambda spec: None, True),
        (lambda spec: spec["to"][0].update(name="keda-add-ons-http-interceptor-proxy"), True),
        (lambda spec: spec["to"][0].update(name="other"), False),
        (lambda spec: spec["to"][0].update(kind="Secret"), False),
        (lambda spec: spec["to"].append({"group": "", "kind": "Secret"}), True),
        (lambda spec: spec["to"][0].pop("group"), True),
        (lambda spec: spec["from"][0].update(namespace="other"), False),
        (lambda spec: spec["from"][0].update(kind="GRPCRoute"), False),
        (lambda spec: spec["from"].insert(0, {"group": "x", "kind": "HTTPRoute", "namespace": "y"}), True),
        (lambda spec: spec.update({"from": []}), False),
    ],
)
def test_what_a_grant_must_allow(change: Callable[[dict[str, Any]], None], does: bool) -> None:
    wanted = a_grant("chalk-default", name="keda-add-ons-http-interceptor-proxy")
    live = a_grant()
    change(live["spec"])
    assert suffices(live, wanted) == does
    assert not suffices({"metadata": {"name": "chalk-default"}}, wanted)


def test_a_hand_made_autoscaler_is_named_with_what_removes_it(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "mine", "uid": "u"}
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-mine", "namespace": "default"},
        "spec": {"scaleTargetRef": ref, "maxReplicas": 9},
    }
    cluster.put(made)
    with pytest.raises(NotOwnedError, match="sets the number of replicas of Deployment `web`") as caught:
        client.create_scaling_group(spec)
    hint = caught.value.hint or ""
    assert "`kubectl delete horizontalpodautoscaler keda-hpa-mine -n default`" in hint
    assert "`min_replicas` and `max_replicas`" in hint
    cluster.api.delete("HorizontalPodAutoscaler", "keda-hpa-mine", "default")
    made["metadata"]["ownerReferences"] = [{**owner, "controller": True}]  # type: ignore[index]
    cluster.put(made)
    with pytest.raises(NotOwnedError) as caught:
        client.create_scaling_group(spec)
    assert (caught.value.kind, caught.value.name) == ("ScaledObject", "mine")
    assert "`kubectl delete scaledobject mine -n default`" in (caught.value.hint or "")
    assert cluster.everything() == ["HorizontalPodAutoscaler/keda-hpa-mine"]

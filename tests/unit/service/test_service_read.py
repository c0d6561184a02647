"""What looking costs and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import Cause, ChalkClient, ScalingGroupSpec, Status
from chalkcompute.errors import ForbiddenError, NotFoundError, WaitTimeoutError
from chalkcompute.settings import Settings
from chalkcompute.types import ListScalingGroupsResponse

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster


def accept(cluster: ApiCluster, name: str = "web") -> None:
    """The gateway accepts the route."""
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": kind,
            "message": "",
            "lastTransitionTime": "2026-11-24T00:00:00Z",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    ref = {"name": "gw", "namespace": "kube-system", "sectionName": "https"}
    parent = {"parentRef": ref, "controllerName": "example.com/gateway", "conditions": conditions}
    cluster.set_status("HTTPRoute", name, {"parents": [parent]})


def roll_out(cluster: ApiCluster, ready: int, name: str = "web", **more: Any) -> None:
    """The Deployment controller has seen the current generation."""
    obj = cluster.api.get("Deployment", name, "default")
    count = obj["spec"]["replicas"]
    status = {
        "observedGeneration": obj["metadata"]["generation"],
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": ready,
        "availableReplicas": ready,
        **more,
    }
    cluster.set_status("Deployment", name, status)


@pytest.mark.parametrize("count", [1, 7])
def test_a_list_costs_two_requests(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, count: int
) -> None:
    for n in range(count):
        client.create_scaling_group(replace(spec, name=f"web{n}"))
    cluster.calls.clear()
    found = client.list_scaling_groups().scaling_groups
    assert [info.name for info in found] == [f"web{n}" for n in range(count)]
    assert cluster.calls == [("list", "ConfigMap"), ("list", "Deployment")]


def test_a_list_of_nothing_asks_whether_the_namespace_is_there(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    assert client.list_scaling_groups().scaling_groups == ()
    assert cluster.calls == [("list", "ConfigMap"), ("list", "Deployment"), ("get", "Namespace")]
    client.create_scaling_group(spec)
    cluster.calls.clear()
    assert client.list_scaling_groups(tags={"team": "ml"}).scaling_groups == ()
    assert cluster.calls == [("list", "ConfigMap"), ("list", "Deployment")]


LOOKS: dict[str, Callable[[ChalkClient], object]] = {
    "list": lambda client: client.list_scaling_groups(),
    "list --all": lambda client: client.list_scaling_groups(include_deleted=True),
    "get": lambda client: client.get_scaling_group("web"),
    "get --id": lambda client: client.get_scaling_group(id="00000001-0000-4000-8000-000000000000"),
    "delete": lambda client: client.delete_scaling_group("web"),
    "delete --id": lambda client: client.delete_scaling_group(id="00000001-0000-4000-8000-000000000000"),
    "call": lambda client: client.call("web"),
    "wait": lambda client: client.wait_scaling_group("web"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_namespace_that_is_not_there_is_said(cluster: ApiCluster, look: str) -> None:
    client = ChalkClient.over(cluster, Settings(namespace="nope"))
    with pytest.raises(NotFoundError, match="namespace `nope` does not exist") as caught:
        LOOKS[look](client)
    assert "--namespace" in (caught.value.hint or "")


@pytest.mark.parametrize("look", LOOKS)
def test_a_namespace_that_may_not_be_read_is_taken_to_be_there(
    reconnect: Callable[..., tuple[ChalkClient, object]], look: str
) -> None:
    refused = ForbiddenError("no", status=403, reason="Forbidden")
    client, _ = reconnect(fail={("get", "Namespace"): refused})
    if look.startswith("list"):
        assert LOOKS[look](client) == ListScalingGroupsResponse(())
        return
    with pytest.raises(NotFoundError, match="there is no scaling group"):
        LOOKS[look](client)


@pytest.mark.parametrize("mode", ["fixed", "hpa", "keda"])
@pytest.mark.parametrize("ready", [0, 1])
def test_a_get_costs_five_requests_at_most_and_two_more_of_an_autoscaled_group(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, mode: str, ready: int
) -> None:
    if mode == "keda":
        cluster.with_keda()
    wish = replace(spec, min_replicas=0 if mode == "keda" else 1, max_replicas=2 if mode == "hpa" else 1)
    client.create_scaling_group(wish)
    roll_out(cluster, ready)
    accept(cluster)
    cluster.calls.clear()
    info = client.get_scaling_group("web")
    assert info.status is (Status.AVAILABLE if ready else Status.PENDING)
    most = 5 if mode == "fixed" else 7
    assert len(cluster.calls) <= most
    cluster.calls.clear()
    assert client.get_scaling_group(id=info.id).name == "web"
    assert len(cluster.calls) <= most


def test_by_tags(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(replace(spec, name="a", tags={"team": "ml", "v": "1"}))
    client.create_scaling_group(replace(spec, name="b", tags={"team": "web"}))
    client.create_scaling_group(replace(spec, name="c"))

    def names(**tags: str) -> list[str]:
        return [info.name for info in client.list_scaling_groups(tags=tags).scaling_groups]

    assert names(team="ml") == ["a"]
    assert names(team="ml", v="2") == []
    assert names() == ["a", "b", "c"]


def test_a_retagged_group_is_found_by_its_new_tags_only(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(replace(spec, tags={"team": "ml"}))
    client.create_scaling_group(replace(spec, tags={"team": "web"}))
    assert client.list_scaling_groups(tags={"team": "ml"}).scaling_groups == ()
    assert len(client.list_scaling_groups(tags={"team": "web"}).scaling_groups) == 1


def test_a_group_that_is_not_there(client: ChalkClient) -> None:
    with pytest.raises(NotFoundError, match="`ghost` in namespace `default`"):
        client.get_scaling_group("ghost")
    with pytest.raises(NotFoundError, match="`no-id`"):
        client.get_scaling_group(id="no-id")


@pytest.mark.parametrize("wanted", ["Web", "a b", "a/b", "../web", "web,chalk.ai/record!=x", "x" * 64, "-"])
def test_what_can_be_no_name_is_not_found_and_not_asked_for(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, wanted: str
) -> None:
    client.create_scaling_group(spec)
    cluster.calls.clear()
    for look in (client.get_scaling_group, client.delete_scaling_group):
        with pytest.raises(NotFoundError):
            look(wanted)
        with pytest.raises(NotFoundError):
            look(id=wanted)
    assert cluster.calls == []


def test_another_namespace_has_its_own(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    other = ChalkClient.over(cluster, Settings(namespace="other"))
    assert other.list_scaling_groups().scaling_groups == ()
    assert other.target().namespace == "other"


def test_a_deployment_that_is_gone_shows(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    cluster.api.delete("Deployment", "web", "default")
    info = client.get_scaling_group("web")
    assert info.status in (Status.PENDING, Status.FAILED)
    assert client.list_scaling_groups().scaling_groups[0].replicas.ready == 0


def range_of_two(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(replace(spec, min_replicas=1, max_replicas=2))
    roll_out(cluster, 1)
    accept(cluster)
    status = {
        "currentReplicas": 1,
        "desiredReplicas": 2,
        "lastScaleTime": "2026-11-24T00:00:00Z",
        "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 91}}}
        ],
        "conditions": [
            {"type": kind, "status": "True", "reason": "x", "lastTransitionTime": "2026-11-24T00:00:00Z"}
            for kind in ("AbleToScale", "ScalingActive")
        ],
    }
    cluster.set_status("HorizontalPodAutoscaler", "web", status)
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "web.1", "namespace": "default"},
            "involvedObject": {"kind": "HorizontalPodAutoscaler", "name": "web", "namespace": "default"},
            "reason": "SuccessfulRescale",
            "message": "New size: 2; reason: cpu resource utilization (percentage of request) above target",
            "lastTimestamp": "2026-11-24T00:00:00Z",
        }
    )


def test_a_get_shows_the_autoscaler(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    range_of_two(client, cluster, spec)
    found = client.get_scaling_group("web").autoscaler
    assert found is not None
    assert (found.target, found.target_is_default) == ({"cpu_utilization_percentage": 80.0}, True)
    assert found.current == {"cpu_utilization_percentage": 91.0}
    assert (found.current_replicas, found.desired_replicas, found.blind) == (1, 2, None)
    assert found.last_scale_reason == "cpu resource utilization (percentage of request) above target"
    assert client.list_scaling_groups().scaling_groups[0].autoscaler is None
    assert client.wait_scaling_group("web", until="ready").autoscaler == found, "what `create` ends with"


def test_an_autoscaler_that_may_not_be_read_is_no_failure(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    reconnect: Callable[..., tuple[ChalkClient, object]],
) -> None:
    range_of_two(client, cluster, spec)
    refused = ForbiddenError("cannot", status=403, reason="Forbidden")
    blinkered, _ = reconnect(fail={("get", "HorizontalPodAutoscaler"): refused, ("list", "Event"): refused})
    info = blinkered.get_scaling_group("web")
    assert (info.status, info.verdict) == (Status.AVAILABLE, None)
    assert info.autoscaler is not None
    assert "may not be read" in (info.autoscaler.message or "")


def unschedulable(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    info = client.create_scaling_group(replace(spec, gpu="nvidia-l4:1")).info
    roll_out(cluster, 0)
    accept(cluster)
    template = cluster.api.get("Deployment", "web", "default")["spec"]["template"]
    labels = {**template["metadata"]["labels"], "pod-template-hash": "a"}
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-a-1", "namespace": "default", "labels": labels},
            "spec": template["spec"],
        }
    )
    assert labels["chalk.ai/scaling-group-id"] == info.id
    text = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    cluster.set_status("Pod", "web-a-1", {"phase": "Pending", "conditions": [waiting]})
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
    }
    cluster.put(node)
    cluster.set_status("Node", "n", {"allocatable": {"nvidia.com/gpu": "1"}}, "")


def test_nodes_are_read_only_where_gpus_are_not_to_be_had(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    unschedulable(client, cluster, spec)
    cluster.calls.clear()
    verdict = client.get_scaling_group("web").verdict
    assert verdict is not None
    assert "`nvidia.com/gpu.product`: `NVIDIA-L4`" in verdict.message
    assert cluster.calls.count(("list", "Node")) == 1
    cluster.calls.clear()
    with pytest.raises(WaitTimeoutError, match=r"nvidia\.com/gpu\.product") as raised:
        client.wait_scaling_group("web", timeout=10)
    assert "CHALK_GPU_NODE_SELECTOR_KEY=nvidia.com/gpu.product" in (raised.value.hint or "")
    assert cluster.calls.count(("list", "Node")) == 1, "a wait asks once: there may be thousands"


def test_nodes_that_may_not_be_read_are_said(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    reconnect: Callable[..., tuple[ChalkClient, object]],
) -> None:
    unschedulable(client, cluster, spec)
    refused = ForbiddenError("cannot", status=403, reason="Forbidden")
    blinkered, _ = reconnect(fail={("list", "Node"): refused})
    verdict = blinkered.get_scaling_group("web").verdict
    assert verdict is not None
    assert "the nodes may not be read" in (verdict.next or "")


def test_keda_that_was_uninstalled_is_said(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    cluster.with_keda()
    client.create_scaling_group(replace(spec, min_replicas=0))
    cluster.merge("Deployment", "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
    roll_out(cluster, 0)
    accept(cluster)
    cluster.delete("ScaledObject", "web", "default")
    cluster.capable = {served for served in cluster.capable if served[0] != "keda.sh"}
    info = client.get_scaling_group("web")
    assert info.verdict is not None
    assert info.verdict.cause is Cause.AUTOSCALER_NOT_READY
    assert "installed again" in (info.verdict.next or "")

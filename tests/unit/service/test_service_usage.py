"""What groups use and serve: what it costs, what it shows, and what it says where the cluster is silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec, Status
from chalkcompute.errors import ForbiddenError, NotFoundError, ServerBusyError, SpecError
from tests.unit.service.test_service_read import accept, range_of_two, roll_out

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster

REFUSED = ForbiddenError("cannot", status=403, reason="Forbidden")
BUSY = ServerBusyError("unable to handle the request", status=503, reason="ServiceUnavailable")


def measure(cluster: ApiCluster, group_id: str, name: str = "web-a-1", cpu: str = "80m") -> None:
    labels = {"chalk.ai/scaling-group-id": group_id}
    usage = {"cpu": cpu, "memory": "32Mi"}
    cluster.pod_metrics.append(
        {"metadata": {"name": name, "labels": labels}, "containers": [{"name": "app", "usage": usage}]}
    )


def count_requests(cluster: ApiCluster, **values: str) -> None:
    cluster.capable.add(("custom.metrics.k8s.io", "v1beta2", "httproutes.gateway.networking.k8s.io"))
    for metric, value in values.items():
        cluster.measured[metric] = {"items": [{"describedObject": {"name": "web"}, "value": value}]}


def run(cluster: ApiCluster, name: str = "web-a-1") -> None:
    template = cluster.api.get("Deployment", "web", "default")["spec"]["template"]
    labels = {**template["metadata"]["labels"], "pod-template-hash": "a"}
    meta = {"name": name, "namespace": "default", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
    container = {
        "name": "app",
        "image": "nginx:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-24T00:00:00Z"}},
    }
    ready = {"type": "Ready", "status": "True"}
    cluster.set_status(
        "Pod", name, {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}
    )


@pytest.mark.parametrize("name", ["web", None], ids=["one", "all"])
def test_a_replica_that_leaves_is_measured_and_not_in_the_percentage(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, name: str | None
) -> None:
    range_of_two(client, cluster, spec)
    group_id = client.get_scaling_group("web").id
    for number, cpu in enumerate(("90m", "10m"), 1):
        run(cluster, f"web-a-{number}")
        measure(cluster, group_id, f"web-a-{number}", cpu)
    leaving = cluster.api.get("Pod", "web-a-2", "default")
    leaving["metadata"]["finalizers"] = ["example.com/slow"]
    cluster.api.update(leaving, manager="test")
    cluster.api.delete("Pod", "web-a-2", "default")
    assert cluster.api.get("Pod", "web-a-2", "default")["metadata"]["deletionTimestamp"]
    (group,) = client.scaling_group_usage(name).groups
    assert group.cpu_utilization_percentage == pytest.approx(90.0)
    assert group.cpu_cores == pytest.approx(0.1)


def test_all_groups(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    range_of_two(client, cluster, spec)
    client.create_scaling_group(replace(spec, name="fixed"))
    group_id = client.get_scaling_group("web").id
    measure(cluster, group_id)
    count_requests(cluster, requests_per_second="12500m", request_duration_seconds_p99="340m")
    cluster.calls.clear()
    report = client.scaling_group_usage()
    assert len(cluster.calls) <= 12
    fixed, web = report.groups
    assert (fixed.name, fixed.cpu_cores, fixed.traffic, fixed.autoscaler) == ("fixed", None, None, None)
    assert (web.id, web.status, web.replicas.desired) == (group_id, Status.AVAILABLE, 1)
    assert web.cpu_cores == pytest.approx(0.08)
    assert web.cpu_utilization_percentage == pytest.approx(80.0)
    assert web.memory_bytes == 32 * 1024 * 1024
    assert web.traffic is not None
    assert (web.traffic.requests_per_second, web.traffic.p99_seconds) == (12.5, 0.34)
    assert web.autoscaler is not None
    assert web.autoscaler.desired_replicas == 2
    assert [event.to_replicas for event in web.scale_events] == [2]
    assert (report.namespace, report.missing, web.replica_usage) == ("default", (), ())
    assert report.to_dict()["scaling_groups"][1]["traffic"]["requests_per_second"] == 12.5


def test_fixed_groups_ask_for_no_autoscaler(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    cluster.calls.clear()
    client.scaling_group_usage()
    assert cluster.calls == [("list", "ConfigMap"), ("list", "Deployment"), ("list", "PodMetrics")]


@pytest.mark.parametrize("mode", ["fixed", "hpa", "keda"])
def test_one_group_with_its_replicas(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, mode: str
) -> None:
    if mode == "keda":
        cluster.with_keda()
    info = client.create_scaling_group(
        replace(spec, min_replicas=0 if mode == "keda" else 1, max_replicas=2 if mode == "hpa" else 1)
    ).info
    roll_out(cluster, 1)
    accept(cluster)
    run(cluster)
    measure(cluster, info.id)
    count_requests(cluster, requests_in_flight="3")
    cluster.calls.clear()
    report = client.scaling_group_usage("web")
    assert len(cluster.calls) <= 12
    (group,) = report.groups
    (replica,) = group.replica_usage
    assert (replica.name, replica.state, replica.ready) == ("web-a-1", "Running", True)
    assert replica.cpu_cores == pytest.approx(0.08)
    assert replica.cpu_request_cores == pytest.approx(0.1)
    assert group.traffic is not None
    assert group.traffic.requests_in_flight == 3.0
    assert (group.autoscaler is None) == (mode == "fixed")


def test_what_the_cluster_does_not_tell_is_said_once_and_why(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    cluster.capable.discard(("metrics.k8s.io", "v1beta1", "pods"))
    cpu, requests = client.scaling_group_usage().missing
    assert "metrics-server does (`kubectl apply -f" in cpu
    assert "requests: the cluster counts none" in requests
    assert ("list", "PodMetrics") not in cluster.calls


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        ({("list", "PodMetrics"): REFUSED}, "CPU and memory: this credential may not"),
        ({("list", "PodMetrics"): BUSY}, "CPU and memory: metrics-server does not answer"),
        ({("get", "MetricValueList"): REFUSED}, "requests: this credential may not"),
        ({("get", "MetricValueList"): BUSY}, "requests: `custom.metrics.k8s.io` does not answer"),
    ],
)
def test_metrics_that_may_not_be_read_are_no_failure(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    reconnect: Callable[..., tuple[ChalkClient, Any]],
    fail: Any,
    said: str,
) -> None:
    client.create_scaling_group(spec)
    count_requests(cluster, requests_per_second="1")
    blinkered, _ = reconnect(fail=fail)
    (missing,) = blinkered.scaling_group_usage().missing
    assert said in missing


def test_autoscalers_that_may_not_be_read_are_no_failure(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    reconnect: Callable[..., tuple[ChalkClient, Any]],
) -> None:
    range_of_two(client, cluster, spec)
    blinkered, _ = reconnect(fail={("list", "HorizontalPodAutoscaler"): REFUSED, ("list", "Event"): REFUSED})
    (group,) = blinkered.scaling_group_usage().groups
    assert group.autoscaler is not None
    assert "may not be read" in (group.autoscaler.message or "")
    assert group.scale_events == ()


def test_nobody_to_look_at(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(spec)
    client.delete_scaling_group("web")
    assert client.scaling_group_usage().groups == ()
    with pytest.raises(NotFoundError):
        client.scaling_group_usage("web")
    with pytest.raises(SpecError):
        client.scaling_group_usage(7)  # type: ignore[arg-type]

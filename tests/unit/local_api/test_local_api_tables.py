"""What `kubectl get` prints, cell by cell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chalkcompute.local.api.tables import TablePrinter
from chalkcompute.local.api.tables.columns import human_duration, join_limited
from chalkcompute.local.apimachinery.kinds import KINDS, by_kind

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
CREATED = "2026-01-01T11:55:00Z"


def row(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}
    table = TablePrinter(by_kind(kind), lambda: NOW).table([{**obj, "metadata": metadata}], "7")
    cells = table["rows"][0]["cells"]
    assert len(cells) == len(table["columnDefinitions"])
    return dict(zip((c["name"] for c in table["columnDefinitions"]), cells, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_prints_even_an_empty_object(kind: Any) -> None:
    bare = {"metadata": {"name": "x"}}
    table = TablePrinter(kind, lambda: NOW).table([bare], "7")
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    for cell, column in zip(table["rows"][0]["cells"], table["columnDefinitions"], strict=True):
        absent = cell is None and kind.custom
        assert absent or isinstance(cell, int if column["type"] == "integer" else (str, int))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (192 * 3600, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_long_lists_are_cut() -> None:
    assert join_limited([], 2) == "<none>"
    assert join_limited(["a", "b"], 2) == "a,b"
    assert join_limited(["a", "b", "c"], 2) == "a,b + 1 more..."


def test_deployment() -> None:
    cells = row(
        "Deployment",
        {
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"b": "2", "a": "1"}},
                "template": {"spec": {"containers": [{"name": "app", "image": "i:1"}]}},
            },
            "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
        },
    )
    assert cells == {
        "Name": "x",
        "Ready": "1/3",
        "Up-to-date": 2,
        "Available": 1,
        "Age": "5m",
        "Containers": "app",
        "Images": "i:1",
        "Selector": "a=1,b=2",
    }


def container(state: dict[str, Any], *, ready: bool = False, **more: Any) -> dict[str, Any]:
    return {"name": "app", "ready": ready, "restartCount": 0, "state": state, **more}


def pod(*statuses: dict[str, Any], phase: str = "Running", **status: Any) -> dict[str, Any]:
    return {
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": phase, "containerStatuses": list(statuses), **status},
    }


RUNNING = container({"running": {"startedAt": CREATED}}, ready=True)


@pytest.mark.parametrize(
    ("obj", "ready", "word"),
    [
        (pod(phase="Pending"), "0/1", "Pending"),
        (pod(RUNNING), "1/1", "Running"),
        (pod(container({"running": {}})), "0/1", "Running"),
        (
            pod(container({"waiting": {"reason": "ImagePullBackOff"}}), phase="Pending"),
            "0/1",
            "ImagePullBackOff",
        ),
        (pod(container({"terminated": {"exitCode": 2, "reason": "Error"}})), "0/1", "Error"),
        (pod(container({"terminated": {"exitCode": 2}})), "0/1", "ExitCode:2"),
        (pod(container({"terminated": {"exitCode": 137, "signal": 9}})), "0/1", "Signal:9"),
        (
            pod(container({"terminated": {"exitCode": 0, "reason": "Completed"}}), phase="Succeeded"),
            "0/1",
            "Completed",
        ),
        (pod(phase="Failed", reason="Evicted"), "0/1", "Evicted"),
        (pod(RUNNING) | {"metadata": {"deletionTimestamp": CREATED}}, "1/1", "Terminating"),
        (
            pod(initContainerStatuses=[container({"running": {}})], phase="Pending")
            | {"spec": {"containers": [{}], "initContainers": [{}, {}]}},
            "0/1",
            "Init:0/2",
        ),
        (
            pod(initContainerStatuses=[container({"terminated": {"exitCode": 1, "reason": "Error"}})]),
            "0/1",
            "Init:Error",
        ),
        (
            pod(RUNNING, initContainerStatuses=[container({"terminated": {"exitCode": 0}})]),
            "1/1",
            "Running",
        ),
    ],
)
def test_pods(obj: dict[str, Any], ready: str, word: str) -> None:
    cells = row("Pod", obj)
    assert (cells["Ready"], cells["Status"]) == (ready, word)


def test_pod_restarts_and_place() -> None:
    crashed = container(
        {"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T11:59:00Z"}},
    ) | {"restartCount": 4}
    obj = pod(crashed, podIPs=[{"ip": "127.77.0.1"}])
    obj["spec"]["nodeName"] = "here"
    cells = row("Pod", obj)
    assert cells["Restarts"] == "4 (60s ago)"
    assert cells["Status"] == "CrashLoopBackOff"
    assert (cells["IP"], cells["Node"]) == ("127.77.0.1", "here")


@pytest.mark.parametrize(
    ("spec", "status", "address", "ports"),
    [
        ({"type": "ClusterIP", "clusterIPs": ["None"]}, {}, "<none>", "<none>"),
        (
            {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "TCP"}]},
            {},
            "<none>",
            "80/TCP",
        ),
        (
            {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]},
            {},
            "<pending>",
            "80:30080/TCP",
        ),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}, "1.2.3.4", "<none>"),
        ({"type": "ExternalName", "externalName": "a.example.com"}, {}, "a.example.com", "<none>"),
    ],
)
def test_services(spec: dict[str, Any], status: dict[str, Any], address: str, ports: str) -> None:
    cells = row("Service", {"spec": spec, "status": status})
    assert (cells["External-IP"], cells["Port(s)"]) == (address, ports)


def test_autoscaler() -> None:
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}}
    spec = {
        "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [metric],
    }
    blind = row("HorizontalPodAutoscaler", {"spec": spec})
    assert (blind["Reference"], blind["Targets"]) == ("Deployment/web", "cpu: <unknown>/50%")
    current = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}
    seeing = row(
        "HorizontalPodAutoscaler",
        {"spec": spec, "status": {"currentReplicas": 2, "currentMetrics": [current]}},
    )
    assert (seeing["Targets"], seeing["MinPods"], seeing["MaxPods"], seeing["Replicas"]) == (
        "cpu: 12%/50%",
        "1",
        3,
        2,
    )


@pytest.mark.parametrize(
    ("type_", "source", "current", "text"),
    [
        ("Resource", {"name": "cpu", "target": {"averageUtilization": 50}}, None, "cpu: <unknown>/50%"),
        ("Resource", {"name": "cpu", "target": {}}, None, "cpu: <unknown>/<auto>"),
        (
            "Resource",
            {"name": "memory", "target": {"averageValue": "64Mi"}},
            {"averageValue": "34369536"},
            "memory: 34369536/64Mi",
        ),
        (
            "ContainerResource",
            {"name": "cpu", "container": "app", "target": {"averageUtilization": 90}},
            {"averageUtilization": 12},
            "cpu: 12%/90%",
        ),
        (
            "External",
            {"metric": {"name": "requests"}, "target": {"averageValue": "100"}},
            {"averageValue": "12500m"},
            "12500m/100 (avg)",
        ),
        ("External", {"metric": {"name": "depth"}, "target": {"value": "7"}}, None, "<unknown>/7"),
        ("Pods", {"metric": {"name": "depth"}, "target": {"averageValue": "7"}}, None, "<unknown>/7"),
    ],
)
def test_targets_of_autoscalers(
    type_: str, source: dict[str, Any], current: dict[str, Any] | None, text: str
) -> None:
    key = type_[0].lower() + type_[1:]
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3}
    status = {"currentMetrics": [{"type": type_, key: {"current": current}} if current else {"type": ""}]}
    for metrics, expected in (
        ([{"type": type_, key: source}], text),
        ([{"type": type_, key: source}] * 4, f"{text}, {_unknown(text)} + 2 more..."),
    ):
        obj = {"spec": {**spec, "metrics": metrics}, "status": status}
        assert row("HorizontalPodAutoscaler", obj)["Targets"] == expected


def _unknown(text: str) -> str:
    """The same metric, of which nothing is known."""
    label, _, rest = text.rpartition(": ")
    return f"{label}: " * bool(label) + f"<unknown>/{rest.partition('/')[2]}"


def test_events_are_not_listed_by_name() -> None:
    cells = row(
        "Event",
        {
            "type": "Warning",
            "reason": "BackOff",
            "message": " Back-off \n",
            "count": 3,
            "firstTimestamp": CREATED,
            "lastTimestamp": "2026-01-01T11:59:30Z",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{app}"},
            "source": {"component": "kubelet", "host": "here"},
        },
    )
    assert cells["Last Seen"] == "30s"
    assert cells["Object"] == "pod/p"
    assert cells["Message"] == "Back-off"
    assert cells["Source"] == "kubelet, here"
    assert (cells["First Seen"], cells["Count"]) == ("5m", 3)


def test_node() -> None:
    conditions = [{"type": "Ready", "status": "True"}]
    cells = row(
        "Node",
        {
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": conditions,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            },
        },
    )
    assert cells["Status"] == "Ready,SchedulingDisabled"
    assert (cells["Roles"], cells["Internal-IP"]) == ("control-plane", "127.0.0.1")


def test_gateway_api() -> None:
    gateway = row(
        "Gateway",
        {
            "spec": {"gatewayClassName": "chalk"},
            "status": {
                "addresses": [{"value": "127.0.0.1"}],
                "conditions": [{"type": "Programmed", "status": "True"}],
            },
        },
    )
    assert (gateway["Class"], gateway["Address"], gateway["Programmed"]) == ("chalk", "127.0.0.1", "True")
    route = row("HTTPRoute", {"spec": {"hostnames": ["a.example.com", "b.example.com"]}})
    assert route["Hostnames"] == '["a.example.com","b.example.com"]'


def test_endpoints() -> None:
    endpoints = [{"addresses": [f"127.77.0.{i}"]} for i in range(1, 5)]
    cells = row("EndpointSlice", {"addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints})
    assert cells["Endpoints"] == "127.77.0.1,127.77.0.2,127.77.0.3 + 1 more..."
    assert cells["Ports"] == "8080"

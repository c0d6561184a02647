"""metrics.k8s.io over HTTP: shapes, selection, tables, discovery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.clock import duration
from chalkcompute.local.measures import ContainerUsage, NodeUsage, PodUsage
from tests.unit.local_api.conftest import Cluster, write_certificate

API = "/apis/metrics.k8s.io/v1beta1"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Measured:
    """Metrics of the Pods that the test names."""

    def __init__(self) -> None:
        self.usages: list[PodUsage] = []
        self.whole: NodeUsage | None = NodeUsage("node1", AT, 20.03, 369522219, 789364 * 1024)

    def pods(self, namespace: str = "") -> list[PodUsage]:
        return [usage for usage in self.usages if namespace in ("", usage.namespace)]

    def node(self) -> NodeUsage | None:
        return self.whole


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def cluster(tmp_path: Path, measured: Measured) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, write_certificate(tmp_path), metrics=measured)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "labels": {"os": "linux"}}}
    cluster.inside(lambda: cluster.api.create(node, manager="kubelet"))
    for name, label in (("web-1", "web"), ("web-2", "web"), ("db-1", "db")):
        made = make_pod(cluster, name, label)
        containers = (
            ContainerUsage("app", 199709892, 3656 * 1024),
            ContainerUsage("proxy", 1000000, 1 << 20),
        )
        measured.usages.append(
            PodUsage("default", name, made["metadata"]["uid"], AT, 14.994, containers[: 1 + (label == "db")])
        )
    yield cluster
    cluster.stop()


def make_pod(cluster: Cluster, name: str, label: str) -> dict[str, Any]:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": label}},
        "spec": {"containers": [{"name": "app", "image": "python:3.12"}]},
    }
    return cluster.inside(lambda: cluster.api.create(pod, manager="test"))


def names(body: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in body["items"]]


def test_a_list_is_shaped_as_recorded_from_a_real_metrics_server(cluster: Cluster) -> None:
    answer = cluster.call("GET", f"{API}/namespaces/default/pods", query={"labelSelector": "app=web"})
    assert answer.status == 200
    body = answer.body
    created = body["items"][0]["metadata"].pop("creationTimestamp")
    assert datetime.fromisoformat(created).tzinfo == UTC
    assert (body["kind"], body["apiVersion"]) == ("PodMetricsList", "metrics.k8s.io/v1beta1")
    assert body["metadata"] == {}
    assert body["items"][0] == {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web"}},
        "timestamp": "2026-11-30T12:00:00Z",
        "window": "14.994s",
        "containers": [{"name": "app", "usage": {"cpu": "199709892n", "memory": "3656Ki"}}],
    }
    assert names(body) == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        ("/pods", {}, ["db-1", "web-1", "web-2"]),
        ("/namespaces/default/pods", {"fieldSelector": "metadata.name=db-1"}, ["db-1"]),
        ("/namespaces/other/pods", {}, []),
        ("/nodes", {}, ["node1"]),
        ("/nodes", {"labelSelector": "os=linux"}, ["node1"]),
        ("/nodes", {"labelSelector": "os=darwin"}, []),
    ],
)
def test_lists_can_be_narrowed(cluster: Cluster, path: str, query: dict[str, str], found: list[str]) -> None:
    assert sorted(names(cluster.call("GET", API + path, query=query).body)) == found


def test_one_is_answered_with_its_kind(cluster: Cluster) -> None:
    node = cluster.call("GET", f"{API}/nodes/node1").body
    assert (node["kind"], node["window"]) == ("NodeMetrics", "20.03s")
    assert node["usage"] == {"cpu": "369522219n", "memory": "789364Ki"}
    pod = cluster.call("GET", f"{API}/namespaces/default/pods/db-1").body
    assert pod["kind"] == "PodMetrics"
    assert [c["name"] for c in pod["containers"]] == ["app", "proxy"]


def test_what_is_not_there_and_what_is_not_measured_yet_differ(cluster: Cluster) -> None:
    answer = cluster.call("GET", f"{API}/namespaces/default/pods/nope")
    assert (answer.status, answer.body["message"]) == (404, 'pods "nope" not found')
    make_pod(cluster, "new-1", "new")
    answer = cluster.call("GET", f"{API}/namespaces/default/pods/new-1")
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"] == 'podmetrics.metrics.k8s.io "default/new-1" not found'


def test_a_pod_of_the_same_name_has_no_measurements_of_another(cluster: Cluster, measured: Measured) -> None:
    usage = measured.usages[0]
    measured.usages[0] = PodUsage("default", "web-1", "another", AT, usage.window, usage.containers)
    assert names(cluster.call("GET", f"{API}/namespaces/default/pods").body) == ["db-1", "web-2"]


def test_a_machine_that_cannot_be_measured_is_an_empty_list(cluster: Cluster, measured: Measured) -> None:
    measured.whole = None
    assert cluster.call("GET", f"{API}/nodes").body["items"] == []


def test_tables_sum_the_containers(cluster: Cluster) -> None:
    body = cluster.call("GET", f"{API}/namespaces/default/pods", headers=TABLE).body
    assert [column["name"] for column in body["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    assert body["rows"][0]["cells"] == ["db-1", "200709892n", "4680Ki", "14.994s"]
    assert body["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/nodes/node1", 405),
        ("POST", "/namespaces/default/pods", 405),
        ("GET", "/namespaces/default/services", 404),
        ("GET", "/pods/web-1", 404),
        ("GET", "/nodes?watch=true", 405),
    ],
)
def test_nothing_else_is_served(cluster: Cluster, method: str, path: str, status: int) -> None:
    answer = cluster.call(method, API + path)
    assert (answer.status, answer.body["kind"]) == (status, "Status")


def test_other_forms_are_not_acceptable(cluster: Cluster) -> None:
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    assert cluster.call("GET", f"{API}/nodes", headers=accept).status == 406


def test_discovery_tells_of_it_plain_and_aggregated(cluster: Cluster) -> None:
    plain = cluster.call("GET", API).body
    assert [(r["name"], r["kind"], r["namespaced"], r["verbs"]) for r in plain["resources"]] == [
        ("nodes", "NodeMetrics", False, ["get", "list"]),
        ("pods", "PodMetrics", True, ["get", "list"]),
    ]
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    groups = cluster.call("GET", "/apis", headers=accept).body["items"]
    (group,) = [g for g in groups if g["metadata"]["name"] == "metrics.k8s.io"]
    resources = group["versions"][0]["resources"]
    assert [(r["resource"], r["scope"]) for r in resources] == [("nodes", "Cluster"), ("pods", "Namespaced")]
    assert "metrics.k8s.io" in [g["name"] for g in cluster.call("GET", "/apis").body["groups"]]


def test_without_measurements_the_group_is_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    bare = Cluster(folder, write_certificate(folder))
    try:
        answer = bare.call("GET", f"{API}/nodes")
        assert (answer.status, answer.body["reason"]) == (503, "ServiceUnavailable")
    finally:
        bare.stop()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (5, "5s"), (14.994, "14.994s"), (60.5, "1m0.5s"), (3661, "1h1m1s")],
)
def test_windows_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""apiregistration.k8s.io over HTTP: which groups it tells of, its table, discovery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalkcompute.local.measures import NodeUsage, PodUsage
from tests.unit.local_api.conftest import Cluster, write_certificate

API = "/apis/apiregistration.k8s.io/v1"
METRICS, CUSTOM = "v1beta1.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"


class Idle:
    """Metrics of a machine where nothing runs."""

    def pods(self, namespace: str = "") -> list[PodUsage]:
        return []

    def node(self) -> NodeUsage | None:
        return None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One that measures what replicas use, and no traffic."""
    cluster = Cluster(tmp_path, write_certificate(tmp_path), metrics=Idle())
    yield cluster
    cluster.stop()


def test_one_of_what_is_measured_is_available(cluster: Cluster) -> None:
    found = cluster.call("GET", f"{API}/apiservices/{METRICS}").body
    assert (found["kind"], found["apiVersion"]) == ("APIService", "apiregistration.k8s.io/v1")
    assert (found["spec"]["group"], found["spec"]["version"]) == ("metrics.k8s.io", "v1beta1")
    (condition,) = found["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")


def test_the_table_says_which_answers(cluster: Cluster) -> None:
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = cluster.call("GET", f"{API}/apiservices", headers=accept).body
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Service", "Available", "Age"]
    assert [row["cells"][:3] for row in table["rows"]] == [
        [CUSTOM, "Local", "False (FailedDiscoveryCheck)"],
        [METRICS, "Local", "True"],
    ]


def test_they_are_selected_by_name(cluster: Cluster) -> None:
    path = f"{API}/apiservices?fieldSelector=metadata.name%3D{METRICS}"
    listed = cluster.call("GET", path).body
    assert listed["kind"] == "APIServiceList"
    assert [item["metadata"]["name"] for item in listed["items"]] == [METRICS]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apiservices/v1.other", 404),
        ("GET", "/others", 404),
        ("GET", "/apiservices?watch=1", 405),
        ("DELETE", f"/apiservices/{METRICS}", 405),
        ("POST", "/apiservices", 405),
    ],
)
def test_nothing_else_is_served(cluster: Cluster, method: str, path: str, status: int) -> None:
    answer = cluster.call(method, API + path)
    assert (answer.status, answer.body["kind"]) == (status, "Status")


def test_other_forms_are_not_acceptable(cluster: Cluster) -> None:
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    assert cluster.call("GET", f"{API}/apiservices", headers=accept).status == 406


def test_discovery_tells_of_it(cluster: Cluster) -> None:
    (entry,) = cluster.call("GET", API).body["resources"]
    assert (entry["name"], entry["singularName"], entry["kind"], entry["namespaced"], entry["verbs"]) == (
        "apiservices",
        "apiservice",
        "APIService",
        False,
        ["get", "list"],
    )
    assert "apiregistration.k8s.io" in [g["name"] for g in cluster.call("GET", "/apis").body["groups"]]

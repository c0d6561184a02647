"""custom.metrics.k8s.io over HTTP: shapes, selection, refusals, discovery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.api.custom_metrics import VALUES
from chalkcompute.local.api.discovery import CUSTOM_METRICS
from chalkcompute.local.measures import RouteTraffic
from tests.unit.local_api.conftest import Cluster, write_certificate

GROUP = "/apis/custom.metrics.k8s.io/v1beta2"
ROUTES = "httproutes.gateway.networking.k8s.io"
API = f"{GROUP}/namespaces/default/{ROUTES}"
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
BUSY = RouteTraffic(AT, 10.02, 3, 0, 120, 12.5, 0.042, 1.25, AT)
QUIET = replace(BUSY, in_flight=0, requests_per_second=0.0, p50_seconds=None, p99_seconds=None)


class Counted:
    """Traffic of the routes that the test names."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str, str], RouteTraffic] = {
            ("HTTPRoute", "default", "web"): BUSY,
            ("HTTPRoute", "default", "quiet"): QUIET,
            ("HTTPRoute", "default", "gone"): BUSY,
        }

    def of_route(self, kind: str, namespace: str, name: str) -> RouteTraffic | None:
        return self.routes.get((kind, namespace, name))

    async def wakes(self) -> AsyncIterator[tuple[str, str]]:
        for _ in ():
            yield ("", "")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, write_certificate(tmp_path), traffic=Counted())
    for name, label in (("web", "a"), ("quiet", "b"), ("new", "b")):
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "default", "labels": {"of": label}},
            "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
        }
        cluster.inside(lambda route=route: cluster.api.create(route, manager="test"))  # type: ignore[misc]
    yield cluster
    cluster.stop()


def test_a_value_is_shaped_as_the_api_defines_it(cluster: Cluster) -> None:
    answer = cluster.call("GET", f"{API}/web/requests_per_second")
    assert answer.status == 200
    assert answer.body == {
        "kind": "MetricValueList",
        "apiVersion": "custom.metrics.k8s.io/v1beta2",
        "metadata": {},
        "items": [
            {
                "describedObject": {
                    "kind": "HTTPRoute",
                    "namespace": "default",
                    "name": "web",
                    "apiVersion": "gateway.networking.k8s.io/v1",
                },
                "metric": {"name": "requests_per_second", "selector": None},
                "timestamp": "2026-11-30T12:00:00Z",
                "windowSeconds": 10,
                "value": "12500m",
            }
        ],
    }


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("requests_in_flight", "3"),
        ("request_duration_seconds_p50", "42m"),
        ("request_duration_seconds_p99", "1250m"),
    ],
)
def test_every_metric_is_a_quantity(cluster: Cluster, metric: str, value: str) -> None:
    (item,) = cluster.call("GET", f"{API}/web/{metric}").body["items"]
    assert item["value"] == value


def names(cluster: Cluster, metric: str, **query: str) -> list[str]:
    body = cluster.call("GET", f"{API}/*/{metric}", query=query).body
    return [item["describedObject"]["name"] for item in body["items"]]


def test_a_star_is_every_route_that_has_a_value(cluster: Cluster) -> None:
    assert names(cluster, "requests_in_flight") == ["quiet", "web"]
    assert names(cluster, "request_duration_seconds_p50") == ["web"]
    assert names(cluster, "requests_in_flight", labelSelector="of=b") == ["quiet"]
    elsewhere = f"{GROUP}/namespaces/kube-system/{ROUTES}/*/requests_in_flight"
    assert cluster.call("GET", elsewhere).body["items"] == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{ROUTES}/web/bananas", f"the server could not find the metric bananas for {ROUTES} web"),
        (f"{ROUTES}/*/bananas", f"the server could not find the metric bananas for {ROUTES}"),
        ("pods/*/requests_per_second", "the server could not find the metric requests_per_second for pods"),
        (
            f"{ROUTES}/gone/requests_per_second",
            f"the server could not find the metric requests_per_second for {ROUTES} gone",
        ),
        (
            f"{ROUTES}/quiet/request_duration_seconds_p99",
            f"the server could not find the metric request_duration_seconds_p99 for {ROUTES} quiet",
        ),
    ],
)
def test_what_there_is_none_of_is_refused_as_prometheus_adapter_does(
    cluster: Cluster, path: str, message: str
) -> None:
    answer = cluster.call("GET", f"{GROUP}/namespaces/default/{path}")
    assert answer.status == 404
    assert answer.body["kind"] == "Status"
    assert (answer.body["reason"], answer.body["message"]) == ("NotFound", message)


def test_it_can_only_be_read(cluster: Cluster) -> None:
    assert cluster.call("DELETE", f"{API}/web/requests_per_second").status == 405
    assert cluster.call("GET", f"{API}/web/requests_per_second", query={"watch": "1"}).status == 405
    assert cluster.call("GET", f"{GROUP}/namespaces/default").status == 404


def test_without_a_gateway_it_is_unavailable(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, write_certificate(tmp_path))
    try:
        assert cluster.call("GET", f"{API}/web/requests_per_second").status == 503
    finally:
        cluster.stop()


def test_discovery_tells_of_every_metric_plain_and_aggregated(cluster: Cluster) -> None:
    assert {metric for _, _, _, metric in CUSTOM_METRICS} == set(VALUES)
    plain = cluster.call("GET", GROUP).body["resources"]
    assert plain[-1] == {
        "name": f"{ROUTES}/requests_per_second",
        "singularName": "",
        "namespaced": True,
        "kind": "MetricValueList",
        "verbs": ["get"],
    }
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    groups = cluster.call("GET", "/apis", headers=accept).body["items"]
    (group,) = [g for g in groups if g["metadata"]["name"] == "custom.metrics.k8s.io"]
    resource: dict[str, Any]
    (resource,) = group["versions"][0]["resources"]
    assert (resource["resource"], resource["scope"], resource["verbs"]) == (ROUTES, "Namespaced", None)
    assert [s["subresource"] for s in resource["subresources"]] == sorted(VALUES)
    assert resource["subresources"][0]["responseKind"]["kind"] == "MetricValueList"

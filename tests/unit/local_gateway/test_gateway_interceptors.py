from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.authority import Certificate
from chalkcompute.local.gateway.interceptors import find_route, only_route, readiness, target
from chalkcompute.local.gateway.objects import Objects
from chalkcompute.local.gateway.translate import Translation, translate
from chalkcompute.local.ports import Manifest
from tests.unit.local_gateway.objects_of_a_cluster import (
    PORTS,
    a_gateway,
    a_service,
    a_sleepy_route,
    a_slice,
    an_endpoint,
    an_interceptor_route,
    the_interceptor,
)

HOST = "dev-web.gw.localhost"


def a_rule(name: str, created: str = "2026-01-01T00:00:00Z", **rule: Any) -> Manifest:
    return an_interceptor_route(name, created=created, rules=[rule])


def paths(*values: str) -> list[dict[str, str]]:
    return [{"value": value} for value in values]


@pytest.mark.parametrize(
    ("host", "path", "headers", "found"),
    [
        ("a.example", "/", {}, "exact"),
        ("a.example", "/api", {}, "path"),
        ("a.example", "/api/x", {}, "path"),
        ("a.example", "/apis", {}, "exact"),
        ("a.example", "/api/deep/x/", {}, "deep"),
        ("a.example", "/", {"x-env": ["b", "c"]}, "header"),
        ("a.example", "/", {"x-env": ["d"]}, "exact"),
        ("b.example", "/", {}, "wild"),
        ("c.b.example", "/", {}, "narrow"),
        ("c.d.example", "/", {}, "wild"),
        ("example", "/", {}, "all"),
        ("elsewhere", "/", {}, "all"),
    ],
)
def test_the_most_specific_route_wins(
    host: str, path: str, headers: dict[str, list[str]], found: str
) -> None:
    routes = [
        a_rule("all", hosts=["*"]),
        a_rule("wild", hosts=["*.example"]),
        a_rule("narrow", hosts=["*.b.example"]),
        a_rule("exact", hosts=["A.example"]),
        a_rule("younger", created="2026-02-01T00:00:00Z", hosts=["a.example"]),
        a_rule("path", hosts=["a.example"], paths=paths("/api")),
        a_rule("deep", hosts=["a.example"], paths=paths("/x", "api/deep/")),
        a_rule("header", hosts=["a.example"], headers=[{"name": "X-Env", "value": "c"}]),
    ]
    route = find_route(routes, host, path, headers)
    assert route is not None
    assert route["metadata"]["name"] == found


def test_no_route_is_none() -> None:
    assert find_route([a_rule("a", hosts=["a.example"])], "b.example", "/", {}) is None
    assert find_route([an_interceptor_route(rules=[])], "b.example", "/", {}) is None
    assert find_route([a_rule("a", hosts=["a"], headers=[{"name": "x"}])], "a", "/", {}) is None


def test_a_rule_without_hosts_is_for_every_host() -> None:
    assert find_route([a_rule("a", paths=paths("/x"))], "any.example", "/x", {}) is not None


def test_the_only_route_of_a_host_is_known_without_a_request() -> None:
    exact, wild = a_rule("exact", hosts=[HOST]), a_rule("wild", hosts=["*.localhost"])
    assert only_route([wild, exact], HOST) is exact
    assert only_route([wild], HOST) is wild
    assert only_route([], HOST) is None
    assert only_route([exact, a_rule("p", hosts=["*"], paths=paths("/x"))], HOST) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 300.0),
        ("300s", 300.0),
        ("1m30s", 90.0),
        ("1.5h", 3600.0),
        ("500ms", 0.5),
        ("0s", 3600.0),
        ("48h", 3600.0),
    ],
)
def test_how_long_a_request_waits(text: str | None, seconds: float) -> None:
    timeouts = {"readiness": text} if text else {}
    assert readiness(an_interceptor_route(timeouts=timeouts)) == pytest.approx(seconds)


def test_where_a_route_leads() -> None:
    objects = Objects([a_service()])
    wanted = Backend("default", "web", 8000, "http")
    assert target(an_interceptor_route(), objects) == wanted
    assert target(an_interceptor_route(target={"service": "web", "port": 8000}), objects) == wanted
    assert "no port" in str(target(an_interceptor_route(target={"service": "web", "port": 1}), objects))
    assert "not found" in str(target(an_interceptor_route(target={"service": "x", "port": 1}), objects))


# Translation ----------------------------------------------------------------------------------


def translated(*objects: Manifest) -> Translation:
    world = Objects([a_gateway(), a_service(), *the_interceptor(port=9), *objects])
    return translate(world, PORTS, Certificate(b"CERT", b"KEY"), Path("/xds"))


def endpoints(result: Translation) -> dict[str, list[tuple[str, int]]]:
    """Address and port of every endpoint, by cluster."""
    found = {}
    for name, content in result.files.items():
        for assignment in content["resources"] if name.startswith("eds-") else ():
            found[assignment["cluster_name"]] = [
                (e["endpoint"]["address"]["socket_address"]["address"],
                 e["endpoint"]["address"]["socket_address"]["port_value"])
                for locality in assignment["endpoints"]
                for e in locality["lb_endpoints"]
            ]  # fmt: skip
    return found


ACTIVATOR, REPLICA = ("127.0.0.1", 9), ("127.77.0.1", 8000)
HELD, THROUGH = (
    "default/web/default/web/default/web/8000",
    f"default/web/keda/{the_interceptor()[0]['metadata']['name']}/8080",
)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, ACTIVATOR),
        ({"ready": True}, REPLICA),
        ({}, REPLICA),
        ({"ready": False}, ACTIVATOR),
        ({"ready": False, "serving": True, "terminating": True}, ACTIVATOR),
        ({"ready": True, "terminating": True}, ACTIVATOR),
    ],
)
def test_requests_go_to_the_activator_while_no_replica_is_ready(
    conditions: dict[str, bool] | None, expected: tuple[str, int]
) -> None:
    replicas = [an_endpoint("127.77.0.1", **conditions)] if conditions is not None else []
    result = translated(a_sleepy_route(), an_interceptor_route(), a_slice(*replicas))
    assert endpoints(result) == {HELD: [expected]}
    assert result.backends[HELD].interceptor == ("default", "web")
    assert result.backends[HELD].route == ("default", "web")
    assert result.routes[0].resolved.ok


@pytest.mark.parametrize(
    "objects",
    [
        [a_sleepy_route()],
        [a_sleepy_route(), an_interceptor_route(rules=[{"hosts": ["other"]}])],
        [a_sleepy_route(), an_interceptor_route(target={"service": "gone", "port": 1})],
        [a_sleepy_route(), an_interceptor_route(rules=[{"hosts": [HOST], "paths": paths("/x")}])],
        [a_sleepy_route(hostnames=["*.gw.localhost"]), an_interceptor_route()],
    ],
    ids=["no route", "other host", "no target", "paths", "wildcard"],
)
def test_the_activator_looks_at_each_request_where_the_host_does_not_decide(objects: list[Manifest]) -> None:
    result = translated(*objects, a_slice(an_endpoint("127.77.0.1")))
    assert endpoints(result) == {THROUGH: [ACTIVATOR]}
    assert result.routes[0].resolved.ok


def test_a_rewritten_host_is_what_the_activator_goes_by() -> None:
    rule = a_sleepy_route()["spec"]["rules"][0]
    rewritten = {**rule, "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "inner"}}]}
    result = translated(a_sleepy_route(rules=[rewritten]), an_interceptor_route())
    assert list(endpoints(result)) == [THROUGH]


def test_a_replica_that_speaks_http_2_is_a_cluster_of_its_own_once_it_is_ready() -> None:
    service = a_service(appProtocol="kubernetes.io/h2c")
    world = [service, a_sleepy_route(), an_interceptor_route()]
    assert endpoints(translated(*world, a_slice())) == {THROUGH: [ACTIVATOR]}
    assert endpoints(translated(*world, a_slice(an_endpoint("127.77.0.1")))) == {HELD: [REPLICA]}


def test_the_interceptor_is_reached_where_a_grant_allows_it_only() -> None:
    service, piece, _ = the_interceptor()
    world = Objects([a_gateway(), a_service(), service, piece, a_sleepy_route(), an_interceptor_route()])
    result = translate(world, PORTS, Certificate(b"CERT", b"KEY"), Path("/xds"))
    assert result.routes[0].resolved.reason == "RefNotPermitted"
    assert endpoints(result) == {}


def test_each_route_has_clusters_of_its_own() -> None:
    other = a_sleepy_route(hostnames=["dev-b.gw.localhost"])
    other["metadata"]["name"] = "b"
    second = an_interceptor_route("b", rules=[{"hosts": ["dev-b.gw.localhost"]}])
    result = translated(a_sleepy_route(), an_interceptor_route(), other, second, a_slice())
    owners = {(b.route, b.interceptor) for b in result.backends.values()}
    assert owners == {(("default", n), ("default", n)) for n in ("web", "b")}

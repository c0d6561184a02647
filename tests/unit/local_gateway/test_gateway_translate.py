from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.gateway.authority import Certificate
from chalkcompute.local.gateway.conditions import gateway_class_status, gateway_status, route_status
from chalkcompute.local.gateway.objects import SUPPORTED_FEATURES, Objects, gateway_class
from chalkcompute.local.gateway.translate import Translation, translate
from chalkcompute.local.ports import Change, Manifest
from tests.unit.local_gateway.objects_of_a_cluster import (
    PORTS,
    a_gateway,
    a_route,
    a_service,
    a_slice,
    a_world,
    an_endpoint,
)

XDS = Path("/xds")
NOW, LATER = "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"


def translated(*objects: Manifest) -> Translation:
    return translate(a_world(*objects), PORTS, Certificate(b"CERT", b"KEY"), XDS)


def hosts(result: Translation, listener: str = "https") -> dict[str, list[Any]]:
    (configuration,) = result.files[f"rds-{listener}"]["resources"]
    return {v["domains"][0]: v["routes"] for v in configuration["virtual_hosts"]}


def status_of(route: Manifest, *objects: Manifest, now: str = NOW) -> Manifest | None:
    result = translated(route, *objects)
    return route_status(next(r for r in result.routes if r.route is route), now)


def conditions(status: Manifest | None) -> dict[str, tuple[str, str]]:
    assert status is not None
    (parent,) = status["parents"]
    return {c["type"]: (c["status"], c["reason"]) for c in parent["conditions"]}


def test_a_group_becomes_host_cluster_and_endpoints() -> None:
    result = translated(a_route())
    (route,) = hosts(result)["dev-web.gw.localhost"]
    assert route["route"]["cluster"] == "default/web/default/web/8000"
    (cluster,) = result.files["cds"]["resources"]
    path = cluster["eds_cluster_config"]["eds_config"]["path_config_source"]["path"]
    (assignment,) = result.files[Path(path).stem]["resources"]
    (locality,) = assignment["endpoints"]
    addresses = [e["endpoint"]["address"]["socket_address"] for e in locality["lb_endpoints"]]
    assert addresses == [{"address": "127.77.0.1", "port_value": 8000}]
    assert result.attached == {"https": 1}


def test_files_are_written_before_what_refers_to_them() -> None:
    names = list(translated(a_route()).files)
    assert [n.partition("-")[0] for n in names] == ["sds", "eds", "cds", "rds", "rds", "lds"]


def test_what_envoy_watches_does_not_grow_with_the_number_of_groups() -> None:
    """For each file it takes an inotify instance, of which a user has 128."""
    some = [
        a_route(f"r{i}", created=f"2026-01-01T00:{i:02}:00Z", hostnames=[f"r{i}.gw.localhost"])
        for i in range(60)
    ]
    files = translated(*reversed(some)).files
    clusters = {cluster["name"].split("/")[1]: cluster for cluster in files["cds"]["resources"]}
    assert len(clusters) == 60
    watched = [name for name, cluster in clusters.items() if cluster["type"] == "EDS"]
    assert len(watched) == len([name for name in files if name.startswith("eds-")]) < 60
    assert sorted(watched, key=lambda name: int(name[1:])) == [f"r{i}" for i in range(len(watched))]
    for cluster in clusters.values():
        if cluster["type"] == "STATIC":
            assert "@type" not in cluster["load_assignment"]
            (locality,) = cluster["load_assignment"]["endpoints"]
            (endpoint,) = locality["lb_endpoints"]
            assert endpoint["endpoint"]["address"]["socket_address"]["address"] == "127.77.0.1"
            assert "eds_cluster_config" not in cluster


def test_secrets_are_inline_and_ports_are_held_alone() -> None:
    files = translated().files
    (secret,) = files["sds"]["resources"]
    assert secret["tls_certificate"]["certificate_chain"] == {"inline_string": "CERT"}
    listeners = {r["name"]: r for r in files["lds"]["resources"]}
    assert all(r["enable_reuse_port"] is False for r in listeners.values())
    assert {n: r["address"]["socket_address"]["port_value"] for n, r in listeners.items()} == {
        "https": 8443,
        "http": 8080,
    }


def test_plain_http_serves_what_https_serves_but_not_the_other_way_round() -> None:
    local = {"name": "local", "namespace": "chalk-gateway"}
    insecure = a_route(
        "plain", hostnames=["plain.gw.localhost"], parentRefs=[{**local, "sectionName": "http"}]
    )
    result = translated(a_route(), insecure)
    assert set(hosts(result, "https")) == {"dev-web.gw.localhost"}
    assert set(hosts(result, "http")) == {"dev-web.gw.localhost", "plain.gw.localhost"}
    assert result.attached == {"https": 1, "http": 1}


def test_the_oldest_route_wins_a_host() -> None:
    younger = a_route("a-younger", created="2026-01-02T00:00:00Z", rules=[{"backendRefs": []}])
    (first, second) = hosts(translated(younger, a_route()))["dev-web.gw.localhost"]
    assert "route" in first
    assert second["direct_response"] == {"status": 500}


def test_rules_of_several_routes_share_a_host() -> None:
    younger = a_route(
        "a-younger",
        created="2026-01-02T00:00:00Z",
        rules=[{"matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}]}],
    )
    (first, _) = hosts(translated(a_route(), younger))["dev-web.gw.localhost"]
    assert first["match"] == {"path_separated_prefix": "/admin"}


def test_http2_without_tls_is_spoken_where_the_service_says_so() -> None:
    objects = Objects([a_gateway(), a_service(appProtocol="kubernetes.io/h2c"), a_route()])
    (cluster,) = translate(objects, PORTS, Certificate(b"", b""), XDS).files["cds"]["resources"]
    assert "typed_extension_protocol_options" in cluster


def test_nothing_is_served_without_a_gateway() -> None:
    objects = Objects([a_service(), a_route()])
    result = translate(objects, PORTS, Certificate(b"", b""), XDS)
    assert hosts(result) == {}
    assert route_status(result.routes[0], NOW) is None


def test_changes_are_taken_in() -> None:
    objects = a_world(a_route())
    objects.update(Change("MODIFIED", "HTTPRoute", a_route(hostnames=["b.gw.localhost"])))
    objects.update(Change("ADDED", "EndpointSlice", a_slice(an_endpoint("127.77.0.9"), service="b")))
    assert [r["spec"]["hostnames"] for r in objects.routes()] == [["b.gw.localhost"]]
    objects.update(Change("DELETED", "HTTPRoute", a_route()))
    assert objects.routes() == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}),
        (
            {"rules": [{"backendRefs": [{"name": "gone", "port": 1}]}]},
            {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("False", "BackendNotFound")},
        ),
        (
            {"rules": [{"filters": [{"type": "ExtensionRef"}]}]},
            {"Accepted": ("False", "UnsupportedValue"), "ResolvedRefs": ("True", "ResolvedRefs")},
        ),
        (
            {"hostnames": ["a.example"]},
            {"Accepted": ("False", "NoMatchingListenerHostname"), "ResolvedRefs": ("True", "ResolvedRefs")},
        ),
    ],
)
def test_conditions_of_a_route(spec: dict[str, Any], expected: dict[str, tuple[str, str]]) -> None:
    assert conditions(status_of(a_route(**spec))) == expected


def test_a_refused_route_is_not_served() -> None:
    refused = a_route(
        rules=[{"filters": [{"type": "ExtensionRef"}], "backendRefs": [{"name": "web", "port": 8000}]}]
    )
    result = translated(refused)
    assert hosts(result) == {}
    assert result.attached == {}
    assert result.files["cds"]["resources"] == []


def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    route = a_route()
    route["status"] = status_of(route)
    route["metadata"]["generation"] = 2
    route["spec"]["rules"] = [{"backendRefs": [{"name": "gone", "port": 1}]}]
    status = status_of(route, now=LATER)
    assert status is not None
    (parent,) = status["parents"]
    times = {c["type"]: (c["lastTransitionTime"], c["observedGeneration"]) for c in parent["conditions"]}
    assert times == {"Accepted": (NOW, 2), "ResolvedRefs": (LATER, 2)}


def test_status_is_stable() -> None:
    route = a_route()
    route["status"] = status_of(route)
    assert status_of(route, now=LATER) == route["status"]


def test_what_other_controllers_say_stays() -> None:
    theirs = {"parentRef": {"name": "x"}, "controllerName": "example.com/gw", "conditions": []}
    route = a_route(parentRefs=[{"name": "x"}])
    route["status"] = {"parents": [theirs]}
    assert status_of(route) is None
    ours = {"parentRef": {"name": "local"}, "controllerName": "chalk.ai/local-gateway", "conditions": []}
    route["status"] = {"parents": [theirs, ours]}
    assert status_of(route) == {"parents": [theirs]}


def test_the_gateway_is_programmed_while_envoy_serves() -> None:
    gateway = a_gateway()
    waiting = gateway_status(gateway, {}, PORTS, serving=False, now=NOW)
    gateway["status"] = waiting
    serving = gateway_status(gateway, {"https": 2}, PORTS, serving=True, now=LATER)

    def programmed(status: Manifest) -> tuple[str, str]:
        condition = next(c for c in status["conditions"] if c["type"] == "Programmed")
        return condition["status"], condition["lastTransitionTime"]

    assert programmed(waiting) == ("False", NOW)
    assert programmed(serving) == ("True", LATER)
    assert serving["addresses"] == [{"type": "IPAddress", "value": "127.0.0.1"}]
    https, http = serving["listeners"]
    assert (https["attachedRoutes"], http["attachedRoutes"]) == (2, 0)
    assert {c["type"]: c["status"] for c in https["conditions"]} == {
        "Accepted": "True",
        "Conflicted": "False",
        "Programmed": "True",
        "ResolvedRefs": "True",
    }


def test_a_listener_on_another_port_is_not_ours_to_open() -> None:
    gateway = a_gateway()
    gateway["spec"]["listeners"][0]["port"] = 443
    https, _ = gateway_status(gateway, {}, PORTS, serving=True, now=NOW)["listeners"]
    found = {c["type"]: (c["status"], c["reason"]) for c in https["conditions"]}
    assert found["Accepted"] == ("False", "PortUnavailable")
    assert found["Programmed"] == ("False", "Invalid")


def test_the_class_lists_its_features() -> None:
    status = gateway_class_status(gateway_class(), NOW)
    assert {"name": "HTTPRouteRequestTimeout"} in status["supportedFeatures"]
    assert list(SUPPORTED_FEATURES) == sorted(SUPPORTED_FEATURES), "the API asks for ascending order"
    (accepted,) = status["conditions"]
    assert (accepted["type"], accepted["status"], accepted["reason"]) == ("Accepted", "True", "Accepted")

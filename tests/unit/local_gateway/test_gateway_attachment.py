from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.local.gateway.attachment import Backend, Outcome, attachments, resolve_backend
from chalkcompute.local.gateway.endpoints import serving_addresses
from chalkcompute.local.gateway.hosts import intersection
from chalkcompute.local.ports import Manifest
from tests.unit.local_gateway.objects_of_a_cluster import (
    a_gateway,
    a_grant,
    a_route,
    a_service,
    a_slice,
    a_world,
    an_endpoint,
)

OURS = {"name": "local", "namespace": "chalk-gateway"}


@pytest.mark.parametrize(
    ("listener", "routes", "common"),
    [
        (None, [], ("*",)),
        ("*.gw.localhost", [], ("*.gw.localhost",)),
        (None, ["a.example"], ("a.example",)),
        ("*.gw.localhost", ["Dev-A.gw.localhost"], ("dev-a.gw.localhost",)),
        ("*.gw.localhost", ["a.b.gw.localhost"], ("a.b.gw.localhost",)),
        ("*.gw.localhost", ["gw.localhost"], ()),
        ("*.gw.localhost", ["agw.localhost"], ()),
        ("*.gw.localhost", ["*.b.gw.localhost"], ("*.b.gw.localhost",)),
        ("*.gw.localhost", ["*.localhost"], ("*.gw.localhost",)),
        ("*.gw.localhost", ["*.gw.localhost"], ("*.gw.localhost",)),
        ("a.gw.localhost", ["*.gw.localhost", "b.gw.localhost"], ("a.gw.localhost",)),
        ("a.gw.localhost", ["b.gw.localhost"], ()),
    ],
)
def test_hosts_in_common(listener: str | None, routes: list[str], common: tuple[str, ...]) -> None:
    assert intersection(listener, routes) == common


def accepted(route: Manifest, gateway: Manifest | None = None, *objects: Manifest) -> Outcome:
    (found,) = attachments(route, gateway or a_gateway(), a_world(*objects))
    return found.outcome


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, "Accepted"),
        ({"hostnames": []}, "Accepted"),
        ({"parentRefs": [OURS]}, "Accepted"),
        ({"parentRefs": [{**OURS, "port": 8080}]}, "Accepted"),
        ({"parentRefs": [{**OURS, "sectionName": "tcp"}]}, "NoMatchingParent"),
        ({"parentRefs": [{**OURS, "port": 1}]}, "NoMatchingParent"),
        ({"parentRefs": [{**OURS, "port": 8080, "sectionName": "https"}]}, "NoMatchingParent"),
        ({"hostnames": ["dev-web.example.com"]}, "NoMatchingListenerHostname"),
    ],
)
def test_acceptance(spec: dict[str, Any], reason: str) -> None:
    outcome = accepted(a_route(**spec))
    assert (outcome.reason, outcome.ok) == (reason, reason == "Accepted")


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        ({"namespaces": {"from": "All"}}, "Accepted"),
        ({"namespaces": {"from": "Same"}}, "NotAllowedByListeners"),
        ({}, "NotAllowedByListeners"),
        ({"namespaces": {"from": "None"}}, "NotAllowedByListeners"),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "TCPRoute"}]}, "NotAllowedByListeners"),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}, "Accepted"),
        (
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "ml"}}}},
            "Accepted",
        ),
        (
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}},
            "NotAllowedByListeners",
        ),
    ],
)
def test_listeners_say_who_may_attach(allowed: dict[str, Any], reason: str) -> None:
    gateway = a_gateway()
    gateway["spec"]["listeners"][0]["allowedRoutes"] = allowed
    namespace = {"kind": "Namespace", "metadata": {"name": "default", "labels": {"team": "ml"}}}
    assert accepted(a_route(), gateway, namespace).reason == reason


def test_routes_of_other_gateways_are_none_of_our_business() -> None:
    others = [
        {"name": "local"},
        {"name": "other", "namespace": "chalk-gateway"},
        {**OURS, "kind": "Service", "group": ""},
    ]
    assert list(attachments(a_route(parentRefs=others), a_gateway(), a_world())) == []


@pytest.mark.parametrize(
    ("ref", "objects", "expected"),
    [
        ({"name": "web", "port": 8000}, [], Backend("default", "web", 8000, "http")),
        ({"name": "web", "port": 9}, [], "BackendNotFound"),
        ({"name": "gone", "port": 8000}, [], "BackendNotFound"),
        ({"name": "b", "group": "x.io", "kind": "Bucket"}, [], "InvalidKind"),
        ({"name": "far", "namespace": "keda", "port": 8000}, [a_service("far", "keda")], "RefNotPermitted"),
        (
            {"name": "far", "namespace": "keda", "port": 8000},
            [a_service("far", "keda"), a_grant("keda", "default")],
            Backend("keda", "far", 8000, "http"),
        ),
        (
            {"name": "far", "namespace": "keda", "port": 8000},
            [a_service("far", "keda"), a_grant("keda", "default", "near")],
            "RefNotPermitted",
        ),
        (
            {"name": "far", "namespace": "keda", "port": 8000},
            [a_service("far", "keda"), a_grant("keda", "elsewhere")],
            "RefNotPermitted",
        ),
    ],
)
def test_backends(ref: Manifest, objects: list[Manifest], expected: Backend | str) -> None:
    found = resolve_backend(ref, "default", a_world(*objects))
    assert (found.reason if isinstance(found, Outcome) else found) == expected


BACKEND = Backend("default", "web", 8000, "http")


@pytest.mark.parametrize(
    ("endpoints", "serving"),
    [
        ([], ()),
        ([an_endpoint("127.77.0.1")], ("127.77.0.1",)),
        ([an_endpoint("127.77.0.1", ready=True), an_endpoint("127.77.0.2", ready=False)], ("127.77.0.1",)),
        (
            [
                an_endpoint("127.77.0.1", ready=True),
                an_endpoint("127.77.0.2", ready=False, serving=True, terminating=True),
            ],
            ("127.77.0.1",),
        ),
        ([an_endpoint("127.77.0.2", ready=False, serving=True, terminating=True)], ("127.77.0.2",)),
        ([an_endpoint("127.77.0.2", ready=False, serving=False, terminating=True)], ()),
    ],
)
def test_who_takes_requests(endpoints: list[dict[str, Any]], serving: tuple[str, ...]) -> None:
    addresses = serving_addresses(BACKEND, [a_slice(*endpoints)])
    assert addresses == tuple((address, 8000) for address in serving)


def test_the_port_comes_from_the_slice() -> None:
    """`targetPort` is resolved there; the Service's own number is only its name."""
    piece = a_slice(an_endpoint("127.77.0.1"), port=5000)
    assert serving_addresses(BACKEND, [piece]) == (("127.77.0.1", 5000),)
    assert serving_addresses(Backend("default", "web", 8000, "grpc"), [piece]) == ()

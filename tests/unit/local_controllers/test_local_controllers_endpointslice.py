"""EndpointSlices of a Service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalkcompute.local.controllers.actions import Create, Delete, Update
from chalkcompute.local.controllers.endpointslice import endpoint_of, ports_of, reconcile

Manifest = dict[str, Any]
Make = Callable[..., Manifest]


def service(**spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "s"},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8000, "targetPort": 8000}],
            **spec,
        },
    }


def stored(created: Manifest, name: str = "web-abcde") -> Manifest:
    return {**created, "metadata": {**created["metadata"], "name": name, "uid": name}}


def test_one_slice_as_the_transcript_has_it(pod: Make, clock: Any) -> None:
    (create,) = reconcile(service(), [pod("b"), pod("a")], [], clock())
    assert isinstance(create, Create)
    made = create.obj
    assert made["metadata"] == {
        "generateName": "web-",
        "namespace": "default",
        "labels": {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": "web",
            "service.kubernetes.io/headless": "",
        },
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-23T11:22:00Z"},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "name": "web",
                "uid": "s",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "http", "protocol": "TCP", "port": 8000}]
    assert made["endpoints"][0] == {
        "addresses": ["127.77.0.1"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "pod-a"},
        "nodeName": "node1",
    }


def test_a_service_with_an_address_is_not_headless(pod: Make, clock: Any) -> None:
    (create,) = reconcile(service(clusterIP="10.96.0.10"), [pod("a")], [], clock())
    assert isinstance(create, Create)
    assert "service.kubernetes.io/headless" not in create.obj["metadata"]["labels"]


def test_conditions_of_an_endpoint(pod: Make) -> None:
    def conditions(candidate: Manifest, **spec: Any) -> tuple[bool, ...]:
        found = endpoint_of(service(**spec), candidate)["conditions"]
        return found["ready"], found["serving"], found["terminating"]

    going = {"deletionTimestamp": "2026-11-23T11:22:00Z"}
    assert conditions(pod("a")) == (True, True, False)
    assert conditions(pod("a", ready=False)) == (False, False, False)
    assert conditions(pod("a", **going)) == (False, True, True)
    assert conditions(pod("a", ready=False, **going)) == (False, False, True)
    assert conditions(pod("a", ready=False), publishNotReadyAddresses=True) == (True, False, False)


def test_named_target_ports_are_looked_up_in_the_pod(pod: Make) -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    candidate = pod("a")
    assert ports_of(named, candidate) == []
    candidate["spec"]["containers"][0]["ports"] = [
        {"name": "web", "containerPort": 5000, "protocol": "UDP"},
        {"name": "web", "containerPort": 8080, "protocol": "TCP"},
    ]
    assert ports_of(named, candidate) == [{"name": "http", "protocol": "TCP", "port": 8080}]


def test_target_port_defaults_to_the_port(pod: Make) -> None:
    assert ports_of(service(ports=[{"port": 80, "appProtocol": "h2c"}]), pod("a")) == [
        {"name": "", "protocol": "TCP", "port": 80, "appProtocol": "h2c"}
    ]


def test_pods_with_other_numbers_for_a_name_get_a_slice_of_their_own(pod: Make, clock: Any) -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    one, two = pod("a"), pod("b")
    one["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 8080}]
    two["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 9090}]
    made = [a.obj for a in reconcile(named, [one, two], [], clock()) if isinstance(a, Create)]
    assert [m["ports"][0]["port"] for m in made] == [8080, 9090]


def test_pods_without_an_address_and_finished_ones_are_left_out(pod: Make, clock: Any) -> None:
    starting, done = pod("a"), pod("b", phase="Succeeded")
    del starting["status"]["podIP"]
    (create,) = reconcile(service(), [starting, done], [], clock())
    assert isinstance(create, Create)
    assert create.obj["endpoints"] == []


def test_an_up_to_date_slice_is_left_alone_and_a_stale_one_updated(pod: Make, clock: Any) -> None:
    (create,) = reconcile(service(), [pod("a")], [], clock())
    assert isinstance(create, Create)
    existing = stored(create.obj)
    clock.advance(5)
    assert reconcile(service(), [pod("a")], [existing], clock()) == []
    (update,) = reconcile(service(), [pod("a", ready=False)], [existing], clock())
    assert isinstance(update, Update)
    assert update.obj["metadata"]["name"] == "web-abcde"
    assert update.obj["endpoints"][0]["conditions"]["ready"] is False
    trigger = update.obj["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"]
    assert trigger == "2026-11-23T11:22:05Z"


def test_slices_beyond_need_go(pod: Make, clock: Any) -> None:
    (create,) = reconcile(service(), [pod("a")], [], clock())
    assert isinstance(create, Create)
    spare = stored(create.obj, "web-zzzzz")
    actions = reconcile(service(), [pod("a")], [stored(create.obj), spare], clock())
    assert [a.obj for a in actions if isinstance(a, Delete)] == [spare]

"""Readable defaults of the objects that the gateway looks at."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.gateway import objects as own
from chalkcompute.local.gateway.objects import GatewayPorts, Objects
from chalkcompute.local.ports import Manifest

PORTS = GatewayPorts(https=8443, http=8080)
CREATED = "2026-01-01T00:00:00Z"


def a_gateway(**spec: Any) -> Manifest:
    gateway = own.gateway("gw.localhost", PORTS, "PEM")
    gateway["metadata"]["generation"] = 1
    gateway["spec"].update(spec)
    return gateway


def a_route(name: str = "web", namespace: str = "default", **spec: Any) -> Manifest:
    created = spec.pop("created", CREATED)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "generation": 1,
            "creationTimestamp": created,
        },
        "spec": {
            "parentRefs": [{"name": "local", "namespace": "chalk-gateway", "sectionName": "https"}],
            "hostnames": ["dev-web.gw.localhost"],
            "rules": [{"backendRefs": [{"name": "web", "port": 8000}]}],
            **spec,
        },
    }


def a_service(name: str = "web", namespace: str = "default", **port: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8000, **port}]},
    }


def an_endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def a_slice(
    *endpoints: dict[str, Any], service: str = "web", namespace: str = "default", port: int = 8000
) -> Manifest:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-abc",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": port}],
    }


def a_grant(target: str, source: str, service: str | None = None) -> Manifest:
    to = {"group": "", "kind": "Service", **({"name": service} if service else {})}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": target},
        "spec": {
            "from": [
                {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": source},
            ],
            "to": [to],
        },
    }


def a_world(*objects: Manifest) -> Objects:
    """A Gateway, a Service `web` with one ready endpoint, and these."""
    return Objects([a_gateway(), a_service(), a_slice(an_endpoint("127.77.0.1", ready=True)), *objects])


def an_interceptor_route(name: str = "web", namespace: str = "default", **spec: Any) -> Manifest:
    created = spec.pop("created", CREATED)
    return {
        "apiVersion": "http.keda.sh/v1beta1",
        "kind": "InterceptorRoute",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {
            "target": {"service": "web", "portName": "http"},
            "rules": [{"hosts": ["dev-web.gw.localhost"]}],
            "scalingMetric": {"concurrency": {"targetValue": 100}},
            **spec,
        },
    }


INTERCEPTOR = "keda-add-ons-http-interceptor-proxy"


def the_interceptor(port: int = 9) -> list[Manifest]:
    """The interceptor's Service, whom it may be reached from, and the activator as its endpoint."""
    service = a_service(INTERCEPTOR, "keda")
    service["spec"]["ports"] = [{"name": "proxy", "port": 8080}]
    piece = a_slice(an_endpoint("127.0.0.1", ready=True), service=INTERCEPTOR, namespace="keda", port=port)
    piece["ports"][0]["name"] = "proxy"
    return [service, piece, a_grant("keda", "default", INTERCEPTOR)]


def a_sleepy_route(**spec: Any) -> Manifest:
    """An HTTPRoute that goes through the interceptor."""
    ref = {"name": INTERCEPTOR, "namespace": "keda", "port": 8080}
    return a_route(**{"rules": [{"backendRefs": [ref]}], **spec})


def created(obj: Manifest) -> Manifest:
    """The object without what the server sets itself."""
    for field in ("generation", "creationTimestamp"):
        obj["metadata"].pop(field, None)
    return obj

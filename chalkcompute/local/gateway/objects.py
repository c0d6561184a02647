"""The objects that the gateway looks at, and the ones it makes for itself.

`Objects` is filled from the changes of the store, so that a decision costs no copying of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.ports import Change, Manifest

__all__ = [
    "CA_ANNOTATION",
    "CONTROLLER",
    "GATEWAY_API",
    "GATEWAY_CLASS",
    "GATEWAY_NAME",
    "GATEWAY_NAMESPACE",
    "KINDS",
    "SUPPORTED_FEATURES",
    "GatewayPorts",
    "Objects",
    "gateway",
    "gateway_class",
    "namespace",
]

CONTROLLER = "chalk.ai/local-gateway"
GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_CLASS = "chalk-local"
GATEWAY_NAMESPACE = "chalk-gateway"
GATEWAY_NAME = "local"
CA_ANNOTATION = "chalk.ai/ca-certificate"
"""Annotation of the Gateway: the PEM of the authority whose certificate it serves."""

KINDS = (
    "HTTPRoute",
    "Service",
    "EndpointSlice",
    "Namespace",
    "ReferenceGrant",
    "GatewayClass",
    "Gateway",
    "InterceptorRoute",
)

SUPPORTED_FEATURES = (
    "Gateway",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendTimeout",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
)
"""Feature names of Gateway API's `pkg/features`, in the order that the API asks for (ascending)."""


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """Ports of the gateway on 127.0.0.1."""

    https: int
    http: int


class Objects:
    """The objects of `KINDS` as they are now; never changed in place."""

    def __init__(self, objects: Iterable[Manifest] = ()) -> None:
        self._by_kind: dict[str, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        for obj in objects:
            self._by_kind[obj["kind"]][_key(obj)] = obj

    def update(self, change: Change) -> None:
        """Take one change in."""
        if change.type == "DELETED":
            self._by_kind[change.kind].pop(_key(change.obj), None)
        else:
            self._by_kind[change.kind][_key(change.obj)] = change.obj

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return self._by_kind[kind].get((namespace, name))

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Manifest]:
        """Objects of a kind, in one namespace or in all."""
        for (where, _), obj in self._by_kind[kind].items():
            if namespace is None or where == namespace:
                yield obj

    def routes(self) -> list[Manifest]:
        """HTTPRoutes, oldest first, then by namespace and name: the order of precedence."""
        return sorted(
            self.all("HTTPRoute"), key=lambda r: (r["metadata"].get("creationTimestamp", ""), _key(r))
        )

    def slices(self) -> Mapping[tuple[str, str], list[Manifest]]:
        """EndpointSlices by namespace and name of their Service."""
        found: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
        for (where, _), obj in sorted(self._by_kind["EndpointSlice"].items()):
            service = (obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
            if service:
                found[where, service].append(obj)
        return found

    def slices_of(self, namespace: str, service: str) -> list[Manifest]:
        """EndpointSlices of one Service."""
        return [
            obj
            for obj in self.all("EndpointSlice", namespace)
            if (obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
        ]

    @property
    def gateway(self) -> Manifest | None:
        """Our Gateway."""
        return self.get("Gateway", GATEWAY_NAMESPACE, GATEWAY_NAME)

    @property
    def gateway_class(self) -> Manifest | None:
        """Our GatewayClass."""
        return self.get("GatewayClass", "", GATEWAY_CLASS)


def _key(obj: Manifest) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def namespace() -> Manifest:
    """The namespace of the Gateway."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY_NAMESPACE}}


def gateway_class() -> Manifest:
    """The class of the Gateway."""
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": GATEWAY_CLASS},
        "spec": {"controllerName": CONTROLLER, "description": "Envoy of the local cluster"},
    }


def gateway(domain: str, ports: GatewayPorts, ca_pem: str) -> Manifest:
    """The Gateway: HTTPS with the cluster's own certificate, and plain HTTP beside it."""
    everyone: dict[str, Any] = {"namespaces": {"from": "All"}}
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": {
            "name": GATEWAY_NAME,
            "namespace": GATEWAY_NAMESPACE,
            "annotations": {CA_ANNOTATION: ca_pem},
        },
        "spec": {
            "gatewayClassName": GATEWAY_CLASS,
            "listeners": [
                {
                    "name": "https",
                    "protocol": "HTTPS",
                    "port": ports.https,
                    "hostname": f"*.{domain}",
                    # An option instead of a certificateRef: the key stays out of the store.
                    "tls": {"mode": "Terminate", "options": {"chalk.ai/certificate": "local-authority"}},
                    "allowedRoutes": everyone,
                },
                {
                    "name": "http",
                    "protocol": "HTTP",
                    "port": ports.http,
                    "hostname": f"*.{domain}",
                    "allowedRoutes": everyone,
                },
            ],
        },
    }

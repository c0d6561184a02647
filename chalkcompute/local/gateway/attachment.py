"""Which listeners a route attaches to, and which Services its backends are (pure).

Source of the rules and of every reason: Gateway API `apis/v1`, `ParentReference`, `RouteConditionReason`,
and `apis/v1beta1` `ReferenceGrant`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.gateway.hosts import intersection
from chalkcompute.local.gateway.objects import GATEWAY_API, GATEWAY_NAME, GATEWAY_NAMESPACE, Objects
from chalkcompute.local.ports import Manifest

__all__ = ["Attachment", "Backend", "Outcome", "attachments", "is_ours", "resolve_backend"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One condition: `status` is `reason == good` in the caller's terms."""

    ok: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """What became of one parentRef to our Gateway.

    Attributes:
        parent: The parentRef as written.
        outcome: The `Accepted` condition.
        hosts: Effective hosts by name of the listener.
    """

    parent: Manifest
    outcome: Outcome
    hosts: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Backend:
    """One resolved Service port.

    Attributes:
        namespace: Namespace of the Service.
        service: Its name.
        port: Its port number.
        port_name: Name of that port, "" when it has none: what EndpointSlices go by.
        h2c: Whether it speaks HTTP/2 without TLS (`appProtocol: kubernetes.io/h2c`).
        route: Namespace and name of the HTTPRoute that leads there: a cluster of its own, so that Envoy
            counts the requests of each route apart.
        interceptor: Namespace and name of the InterceptorRoute that holds requests while this port has no
            ready endpoint, or None.
    """

    namespace: str
    service: str
    port: int
    port_name: str = ""
    h2c: bool = False
    route: tuple[str, str] = ("", "")
    interceptor: tuple[str, str] | None = None

    @property
    def cluster(self) -> str:
        """Name of the Envoy cluster; no name of Kubernetes has a slash in it."""
        owners = (*self.route, *(self.interceptor or ()))
        return "/".join((*owners, self.namespace, self.service, str(self.port)))


def is_ours(parent: Manifest, route_namespace: str) -> bool:
    """Whether a parentRef means our Gateway."""
    return (
        parent.get("group", GATEWAY_API) == GATEWAY_API
        and parent.get("kind", "Gateway") == "Gateway"
        and (parent.get("namespace") or route_namespace) == GATEWAY_NAMESPACE
        and parent["name"] == GATEWAY_NAME
    )


def attachments(route: Manifest, gateway: Manifest, objects: Objects) -> Iterator[Attachment]:
    """Each parentRef of a route that means our Gateway, and what becomes of it."""
    where = route["metadata"]["namespace"]
    for parent in route["spec"].get("parentRefs") or ():
        if is_ours(parent, where):
            yield _attach(route, parent, gateway, objects)


def _attach(route: Manifest, parent: Manifest, gateway: Manifest, objects: Objects) -> Attachment:
    section, port = parent.get("sectionName"), parent.get("port")
    listeners = [
        listener
        for listener in gateway["spec"]["listeners"]
        if section in (None, listener["name"]) and port in (None, listener["port"])
    ]
    if not listeners:
        named = f"sectionName `{section}`" if section else f"port {port}"
        names = ", ".join(f"`{listener['name']}`" for listener in gateway["spec"]["listeners"])
        return _refused(parent, "NoMatchingParent", f"no listener with {named}; there are {names}")
    where = route["metadata"]["namespace"]
    allowed = [listener for listener in listeners if _admits(listener, where, objects)]
    if not allowed:
        return _refused(
            parent, "NotAllowedByListeners", f"allowedRoutes of the listener excludes namespace `{where}`"
        )
    wanted = route["spec"].get("hostnames") or []
    hosts = {listener["name"]: intersection(listener.get("hostname"), wanted) for listener in allowed}
    hosts = {name: common for name, common in hosts.items() if common}
    if not hosts:
        served = ", ".join(f"`{listener.get('hostname', '*')}`" for listener in allowed)
        return _refused(
            parent,
            "NoMatchingListenerHostname",
            f"none of the route's hostnames ({', '.join(f'`{h}`' for h in wanted)}) is within {served}",
        )
    return Attachment(parent, Outcome(True, "Accepted", "Route is accepted"), hosts)


def _refused(parent: Manifest, reason: str, message: str) -> Attachment:
    return Attachment(parent, Outcome(False, reason, message), {})


def _admits(listener: Manifest, namespace: str, objects: Objects) -> bool:
    allowed = listener.get("allowedRoutes") or {}
    kinds = allowed.get("kinds") or []
    if kinds and not any(
        k["kind"] == "HTTPRoute" and k.get("group", GATEWAY_API) == GATEWAY_API for k in kinds
    ):
        return False
    rule = allowed.get("namespaces") or {}
    source = rule.get("from", "Same")
    if source == "Selector":
        labels = (objects.get("Namespace", "", namespace) or {"metadata": {}})["metadata"].get("labels") or {}
        return match_label_selector(rule.get("selector") or {}, labels)
    return source == "All" or (source == "Same" and namespace == GATEWAY_NAMESPACE)


def resolve_backend(ref: Manifest, route_namespace: str, objects: Objects) -> Backend | Outcome:
    """The Service port that a backendRef means, or the `ResolvedRefs` outcome that says why not."""
    group, kind = ref.get("group", ""), ref.get("kind", "Service")
    if (group, kind) != ("", "Service"):
        return Outcome(
            False, "InvalidKind", f"backendRef `{ref['name']}` is a {kind}; only Service is supported"
        )
    where = ref.get("namespace") or route_namespace
    name, port = ref["name"], ref.get("port")
    if where != route_namespace and not _granted(route_namespace, where, name, objects):
        return Outcome(
            False,
            "RefNotPermitted",
            f"Service `{where}/{name}` may not be referred to from namespace `{route_namespace}`: "
            "no ReferenceGrant allows it",
        )
    service = objects.get("Service", where, name)
    if service is None:
        return Outcome(False, "BackendNotFound", f"Service `{where}/{name}` not found")
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return Outcome(
            False, "BackendNotFound", f"Service `{where}/{name}` is an ExternalName: it has no endpoints"
        )
    for candidate in spec.get("ports") or ():
        if candidate["port"] == port:
            h2c = candidate.get("appProtocol") == "kubernetes.io/h2c"
            return Backend(where, name, port, candidate.get("name") or "", h2c)
    return Outcome(False, "BackendNotFound", f"Service `{where}/{name}` has no port {port}")


def _granted(route_namespace: str, target: str, service: str, objects: Objects) -> bool:
    return any(
        _grants(grant["spec"], route_namespace, service) for grant in objects.all("ReferenceGrant", target)
    )


def _grants(spec: Manifest, route_namespace: str, service: str) -> bool:
    from_us = any(
        (f.get("group"), f.get("kind"), f.get("namespace")) == (GATEWAY_API, "HTTPRoute", route_namespace)
        for f in spec.get("from") or ()
    )
    to_it = any(
        t.get("group", "") == "" and t.get("kind") == "Service" and t.get("name") in (None, "", service)
        for t in spec.get("to") or ()
    )
    return from_us and to_it

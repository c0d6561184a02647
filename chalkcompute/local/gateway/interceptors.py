"""Which InterceptorRoute a request belongs to, and where it leads (pure).

Source of the rules: the descriptions in the CRD (kedacore/http-add-on `operator/apis/http/v1beta1`) and its
`pkg/routing`: exact hosts before wildcards, longer wildcards before shorter ones, then the longest path, then
the rule that names most headers; the oldest route wins what is left. An empty list matches everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.endpoints import ready_addresses
from chalkcompute.local.gateway.objects import Objects
from chalkcompute.local.interceptor import INTERCEPTOR_SERVICE, KEDA_NAMESPACE
from chalkcompute.local.ports import Manifest

__all__ = [
    "DEFAULT_READINESS",
    "LONGEST_READINESS",
    "behind_interceptor",
    "find_route",
    "key",
    "only_route",
    "readiness",
    "target",
]

DEFAULT_READINESS = 300.0
"""Seconds that a request is held where `timeouts.readiness` says nothing."""

LONGEST_READINESS = 3600.0
"""Seconds that a request is held at most; `timeouts.readiness: 0s` asks for no limit and gets this one."""

_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")

_Rank = tuple[int, int, int, int, str, str, str]


def key(route: Manifest) -> tuple[str, str]:
    """Namespace and name."""
    return route["metadata"]["namespace"], route["metadata"]["name"]


def find_route(
    routes: Iterable[Manifest], host: str, path: str, headers: Mapping[str, Sequence[str]]
) -> Manifest | None:
    """The route that a request belongs to, or None.

    Args:
        routes: All InterceptorRoutes.
        host: Host name, without a port, in lower case.
        path: Path of the request.
        headers: Its headers, names in lower case.
    """
    found = _matching(routes, host, path, headers)
    return min(found, key=lambda match: match[0], default=(None, None))[1]


def _matching(
    routes: Iterable[Manifest], host: str, path: str, headers: Mapping[str, Sequence[str]]
) -> Iterator[tuple[_Rank, Manifest]]:
    for route in routes:
        for rule in route["spec"].get("rules") or ():
            length = _path_length(rule, path)
            if length is not None and _headers_match(rule, headers):
                for rank in _ranks(route, rule, host, length):
                    yield rank, route


def only_route(routes: Iterable[Manifest], host: str) -> Manifest | None:
    """The route of every request to a host; None when there is none, or path or headers decide."""
    found = [
        (rank, route, bool(rule.get("paths") or rule.get("headers")))
        for route in routes
        for rule in route["spec"].get("rules") or ()
        for rank in _ranks(route, rule, host)
    ]
    if not found or any(depends for _, _, depends in found):
        return None
    return min(found, key=lambda match: match[0])[1]


def _ranks(route: Manifest, rule: Manifest, host: str, path_length: int = 0) -> Iterator[_Rank]:
    """Precedence of a rule for a host by each of its hosts that covers it; smaller comes first."""
    number_of_headers = len(rule.get("headers") or ())
    rest = (-path_length, -number_of_headers, route["metadata"].get("creationTimestamp") or "", *key(route))
    for pattern in rule.get("hosts") or ("*",):
        wanted = pattern.lower()
        if wanted in ("*", ""):
            yield 2, 0, *rest
        elif wanted.startswith("*."):
            if host.endswith(wanted[1:]):
                yield 1, -len(wanted), *rest
        elif wanted == host:
            yield 0, 0, *rest


def _path_length(rule: Manifest, path: str) -> int | None:
    """Length of the longest of its path prefixes that covers the path; None when none does."""
    prefixes = [entry["value"].strip("/") for entry in rule.get("paths") or ()] or [""]
    wanted = path.strip("/")
    lengths = [len(p) for p in prefixes if not p or wanted == p or wanted.startswith(f"{p}/")]
    return max(lengths, default=None)


def _headers_match(rule: Manifest, headers: Mapping[str, Sequence[str]]) -> bool:
    for wanted in rule.get("headers") or ():
        values = headers.get(wanted["name"].lower(), ())
        if not values or (wanted.get("value") is not None and wanted["value"] not in values):
            return False
    return True


def target(route: Manifest, objects: Objects) -> Backend | str:
    """The Service port that a route leads to, or what is wrong with it."""
    wanted = route["spec"]["target"]
    namespace, name = route["metadata"]["namespace"], wanted["service"]
    service = objects.get("Service", namespace, name)
    if service is None:
        return f"Service `{namespace}/{name}` not found"
    port, port_name = wanted.get("port"), wanted.get("portName")
    for candidate in service["spec"].get("ports") or ():
        if candidate["port"] == port or (port_name and candidate.get("name") == port_name):
            h2c = candidate.get("appProtocol") == "kubernetes.io/h2c"
            return Backend(namespace, name, candidate["port"], candidate.get("name") or "", h2c)
    return f"Service `{namespace}/{name}` has no port {port_name or port}"


def readiness(route: Manifest) -> float:
    """Seconds that a request is held for a first replica."""
    text = (route["spec"].get("timeouts") or {}).get("readiness")
    if not text:
        return DEFAULT_READINESS
    seconds = sum(float(number) * _UNIT[unit] for number, unit in _PART.findall(text))
    return min(seconds, LONGEST_READINESS) or LONGEST_READINESS


def behind_interceptor(backend: Backend, rule: Manifest, host: str, objects: Objects) -> Backend:
    """What a backend of an HTTPRoute's rule stands for, for requests to one host.

    The interceptor's Service stands for the target of the InterceptorRoute that has the host: then Envoy goes
    to its replicas by itself, and to the activator only while there is none. Where that cannot be said before
    the request is there (wildcards, paths, headers, a rewritten host), the backend stays what it is: every
    request passes the activator, which looks at each.
    """
    if (backend.namespace, backend.service) != (KEDA_NAMESPACE, INTERCEPTOR_SERVICE):
        return backend
    route = None if "*" in host or _changes_host(rule) else only_route(objects.all("InterceptorRoute"), host)
    found = target(route, objects) if route is not None else ""
    if route is None or isinstance(found, str):
        return backend
    if found.h2c and not ready_addresses(found, objects.slices_of(found.namespace, found.service)):
        return backend  # an Envoy cluster speaks one protocol, and the activator's is HTTP/1.1
    return replace(found, route=backend.route, interceptor=key(route))


def _changes_host(rule: Manifest) -> bool:
    for each in rule.get("filters") or ():
        modifier = each.get("requestHeaderModifier") or {}
        if (each.get("urlRewrite") or {}).get("hostname") or any(
            header["name"].lower() == "host" for header in modifier.get("set") or ()
        ):
            return True
    return False

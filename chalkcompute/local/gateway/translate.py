"""Everything at once: objects in, Envoy's files and the conditions of every route out (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chalkcompute.local.gateway import resources
from chalkcompute.local.gateway.attachment import (
    Attachment,
    Backend,
    Outcome,
    attachments,
    resolve_backend,
)
from chalkcompute.local.gateway.authority import Certificate
from chalkcompute.local.gateway.endpoints import Addresses, ready_addresses, serving_addresses
from chalkcompute.local.gateway.interceptors import behind_interceptor
from chalkcompute.local.gateway.objects import GatewayPorts, Objects
from chalkcompute.local.gateway.rules import entries, unsupported
from chalkcompute.local.interceptor import INTERCEPTOR_PORT, INTERCEPTOR_SERVICE, KEDA_NAMESPACE
from chalkcompute.local.ports import Manifest

__all__ = ["RouteOutcome", "Translation", "translate"]

# Envoy takes an inotify instance for each file of endpoints, and ends when it gets none; Linux gives a user
# 128 of them, for all programs (fs.inotify.max_user_instances). Clusters beyond these hold their endpoints
# themselves: Envoy then sets such a cluster up anew when they change.
_WATCHED = 40
_ACTIVATOR = Backend(KEDA_NAMESPACE, INTERCEPTOR_SERVICE, 0, INTERCEPTOR_PORT)
_RESOLVED = Outcome(True, "ResolvedRefs", "Resolved all the Object references for the Route")


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """What the status of one route says.

    Attributes:
        route: The route.
        attachments: One per parentRef to our Gateway; none when there is no such parentRef.
        resolved: The `ResolvedRefs` condition.
    """

    route: Manifest
    attachments: tuple[Attachment, ...]
    resolved: Outcome


@dataclass(frozen=True, slots=True)
class Translation:
    """What follows from the objects.

    Attributes:
        files: Content of Envoy's files by name, without `.json`; in an order that is safe to write.
        routes: What becomes of each route.
        attached: Number of attached routes by listener.
        backends: What is behind each of Envoy's clusters.
    """

    files: dict[str, dict[str, Any]]
    routes: tuple[RouteOutcome, ...]
    attached: dict[str, int]
    backends: dict[str, Backend]


@dataclass(slots=True)
class _Build:
    """What is collected while going over the routes, oldest first."""

    ports: Mapping[str, int]
    hosts: dict[str, dict[str, list[tuple[tuple[int, ...], dict[str, Any]]]]] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    routes: list[RouteOutcome] = field(default_factory=list)
    attached: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, listener: str, host: str, order: tuple[int, ...], route: dict[str, Any]) -> None:
        self.hosts.setdefault(listener, {}).setdefault(host, []).append((order, route))


def translate(objects: Objects, ports: GatewayPorts, certificate: Certificate, xds: Path) -> Translation:
    """Envoy's configuration and the outcome of every route.

    Of several routes for one host the rules are merged: the more specific match wins, then the older route
    (Gateway API, `HTTPRouteRule.matches`). The plain HTTP listener serves the routes of the HTTPS one too,
    for clients that do not know the authority.
    """
    build = _Build({"https": ports.https, "http": ports.http})
    gateway = objects.gateway
    for age, route in enumerate(objects.routes()):
        found = tuple(attachments(route, gateway, objects)) if gateway is not None else ()
        build.routes.append(_translate_route(build, route, found, age, objects))
    files: dict[str, dict[str, Any]] = {
        "sds": resources.discovery_response([resources.secret(certificate.certificate, certificate.key)])
    }
    slices = objects.slices()
    clusters = []
    for number, (name, backend) in enumerate(build.backends.items()):  # oldest first: few change over
        endpoints = resources.endpoints(name, _addresses(backend, slices))
        if number < _WATCHED:
            files[resources.endpoints_file(name)] = resources.discovery_response([endpoints])
        inline = None if number < _WATCHED else endpoints
        clusters.append(resources.cluster(xds, name, h2c=backend.h2c, inline=inline))
    clusters.sort(key=lambda cluster: cluster["name"])
    files["cds"] = resources.discovery_response(clusters)
    for listener in ("https", "http"):
        hosts = _virtual_hosts(build.hosts.get(listener, {}))
        files[f"rds-{listener}"] = resources.discovery_response(
            [resources.route_configuration(listener, list(hosts))]
        )
    files["lds"] = resources.discovery_response(
        [
            resources.listener(xds, "https", ports.https, tls=True),
            resources.listener(xds, "http", ports.http, tls=False),
        ]
    )
    return Translation(files, tuple(build.routes), dict(build.attached), dict(build.backends))


def _addresses(backend: Backend, slices: Mapping[tuple[str, str], list[Manifest]]) -> Addresses:
    """Where requests for a backend go: to the activator while whoever waits for a replica has none."""
    found = slices.get((backend.namespace, backend.service), ())
    if backend.interceptor is None:
        return serving_addresses(backend, found)
    activator = slices.get((_ACTIVATOR.namespace, _ACTIVATOR.service), ())
    return ready_addresses(backend, found) or serving_addresses(_ACTIVATOR, activator)


def _translate_route(
    build: _Build, route: Manifest, found: tuple[Attachment, ...], age: int, objects: Objects
) -> RouteOutcome:
    problem = unsupported(route)
    if problem is not None:
        refusal = Outcome(False, "UnsupportedValue", problem)
        found = tuple(Attachment(a.parent, refusal if a.outcome.ok else a.outcome, {}) for a in found)
    rules = route["spec"].get("rules") or ()
    resolutions = [_resolve(rule, route, objects) for rule in rules]
    failures = [r for resolution in resolutions for r, _ in resolution if isinstance(r, Outcome)]
    outcome = RouteOutcome(route, found, failures[0] if failures else _RESOLVED)
    served: dict[str, set[str]] = defaultdict(set)
    for attachment in found:
        for listener, hosts in attachment.hosts.items():
            served[listener].update(hosts)
    for listener in served:
        build.attached[listener] += 1
    served["http"] |= served.get("https", set())
    all_hosts = {host for names in served.values() for host in names} if problem is None else set()
    for index, (rule, resolution) in enumerate(zip(rules, resolutions, strict=True)):
        for host in sorted(all_hosts):
            listeners = [listener for listener, names in served.items() if host in names]
            backends = [
                (behind_interceptor(b, rule, host, objects) if isinstance(b, Backend) else None, weight)
                for b, weight in resolution
            ]
            build.backends.update({b.cluster: b for b, weight in backends if b is not None and weight > 0})
            for number, entry in enumerate(entries(rule, backends, build.ports)):
                for listener in listeners:
                    build.add(listener, host, (*entry.order, age, index, number), entry.route)
    return outcome


def _resolve(rule: Manifest, route: Manifest, objects: Objects) -> list[tuple[Backend | Outcome, int]]:
    metadata = route["metadata"]
    resolved = []
    for ref in rule.get("backendRefs") or ():
        found = resolve_backend(ref, metadata["namespace"], objects)
        if isinstance(found, Backend):
            found = replace(found, route=(metadata["namespace"], metadata["name"]))
        resolved.append((found, ref.get("weight", 1)))
    return resolved


def _virtual_hosts(
    hosts: Mapping[str, list[tuple[tuple[int, ...], dict[str, Any]]]],
) -> Iterator[dict[str, Any]]:
    for host, routes in sorted(hosts.items()):
        ordered = sorted(routes, key=lambda pair: pair[0])
        yield {"name": host, "domains": [host], "routes": [route for _, route in ordered]}

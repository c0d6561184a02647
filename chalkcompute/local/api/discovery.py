"""What the server says of itself: API groups, resources, version.

Source: k8s.io/api `apidiscovery/v2` and k8s.io/apimachinery `meta/v1`; the answers of a 1.36 server.
"""

from __future__ import annotations

import platform
from typing import Any

from chalkcompute.local.api.routes import group_versions
from chalkcompute.local.apimachinery.kinds import KINDS, Kind

__all__ = [
    "API_SERVICE",
    "CUSTOM_METRICS_GROUP",
    "CUSTOM_METRICS_VERSION",
    "METRICS_GROUP",
    "METRICS_VERSION",
    "ROUTES_RESOURCE",
    "aggregated",
    "api_group",
    "api_groups",
    "api_resources",
    "api_versions",
    "root_paths",
    "version",
]

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = {"log": ["get"], "eviction": ["create"], "finalize": ["update"]}
_EXTRA_SUBRESOURCES = {"Pod": ("log", "eviction"), "Namespace": ("finalize",)}
# Group, version, plural, kind of what is answered but not stored.
REVIEWS = (
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
)
METRICS_GROUP, METRICS_VERSION = "metrics.k8s.io", "v1beta1"
# Group, version, plural, kind and whether namespaced of what `resource_metrics` answers: only read.
RESOURCE_METRICS: tuple[tuple[str, str, str, str, bool], ...] = (
    (METRICS_GROUP, METRICS_VERSION, "nodes", "NodeMetrics", False),
    (METRICS_GROUP, METRICS_VERSION, "pods", "PodMetrics", True),
)
CUSTOM_METRICS_GROUP, CUSTOM_METRICS_VERSION = "custom.metrics.k8s.io", "v1beta2"
ROUTES_RESOURCE = "httproutes.gateway.networking.k8s.io"
# Group, version, object and metric of what `custom_metrics` answers.
CUSTOM_METRICS = tuple(
    (CUSTOM_METRICS_GROUP, CUSTOM_METRICS_VERSION, ROUTES_RESOURCE, metric)
    for metric in (
        "request_duration_seconds_p50",
        "request_duration_seconds_p99",
        "requests_in_flight",
        "requests_per_second",
    )
)
# What `api_services` answers: only read.
API_SERVICE = Kind(
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    "apiservice",
    namespaced=False,
    categories=("api-extensions",),
)
# The order in which clients prefer groups; others follow by name.
_GROUP_ORDER = ("", "apps", "authentication.k8s.io", "authorization.k8s.io", "autoscaling")


def _unstored_versions() -> set[tuple[str, str]]:
    """Group and version of what is answered and not stored."""
    return (
        {(g, v) for g, v, *_ in REVIEWS}
        | {(g, v) for g, v, *_ in RESOURCE_METRICS}
        | {(g, v) for g, v, *_ in CUSTOM_METRICS}
        | set(group_versions(API_SERVICE))
    )


def groups() -> list[str]:
    """The API groups served, preferred first."""
    names = {kind.group for kind in KINDS} | {group for group, _ in _unstored_versions()}
    first = [name for name in _GROUP_ORDER if name in names]
    return [*first, *sorted(names.difference(first))]


def versions(group: str) -> list[str]:
    """The versions of a group, preferred first: the one most of its kinds prefer."""
    found = {version_: 1 for unstored, version_ in _unstored_versions() if unstored == group}
    for kind in KINDS:
        for kind_group, kind_version in group_versions(kind):
            if kind_group == group:
                found[kind_version] = found.get(kind_version, 0) + (kind_version == kind.version)
    return sorted(found, key=lambda v: (-found[v], v))


def subresources(kind: Kind) -> list[str]:
    names = [*_EXTRA_SUBRESOURCES.get(kind.kind, ())]
    if kind.scale:
        names.append("scale")
    if kind.status:
        names.append("status")
    return names


def version() -> dict[str, str]:
    """`/version`: the Kubernetes version whose behaviour is followed."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2+chalk",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": f"{platform.system().lower()}/{machine}",
    }


def api_versions() -> dict[str, Any]:
    """`/api`."""
    return {"kind": "APIVersions", "versions": versions(""), "serverAddressByClientCIDRs": []}


def api_group(group: str) -> dict[str, Any]:
    """`/apis/GROUP`."""
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions(group)]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def api_groups() -> dict[str, Any]:
    """`/apis`."""
    items = [api_group(group) for group in groups() if group]
    for item in items:
        del item["kind"], item["apiVersion"]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": items}


def _kinds(group: str, version_: str) -> list[Kind]:
    return [kind for kind in KINDS if (group, version_) in group_versions(kind)]


def api_resources(group: str, version_: str) -> dict[str, Any]:
    """`/api/v1`, `/apis/GROUP/VERSION`; its `resources` are empty when nothing is served there."""
    resources: list[dict[str, Any]] = []
    for kind in _kinds(group, version_):
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": VERBS,
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for name in subresources(kind):
            entry = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
            if name == "scale":
                entry |= {"group": "autoscaling", "version": "v1", "kind": "Scale"}
            elif name == "eviction":  # by this `kubectl drain` knows that it may evict
                entry |= {"group": "policy", "version": "v1", "kind": "Eviction"}
            else:
                entry["kind"] = kind.kind
            resources.append(entry | {"verbs": _SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"])})
    for entry_group, entry_version, plural, name in REVIEWS:
        if (entry_group, entry_version) == (group, version_):
            resources.append(_unstored(plural, name, namespaced=False, verbs=["create"]))
    for entry_group, entry_version, plural, name, namespaced in RESOURCE_METRICS:
        if (entry_group, entry_version) == (group, version_):
            resources.append(_unstored(plural, name, namespaced=namespaced, verbs=["get", "list"]))
    for entry_group, entry_version, resource, metric in CUSTOM_METRICS:
        if (entry_group, entry_version) == (group, version_):
            name = f"{resource}/{metric}"
            resources.append(_unstored(name, "MetricValueList", namespaced=True, verbs=["get"]))
    if (group, version_) in group_versions(API_SERVICE):
        entry = _unstored(API_SERVICE.plural, API_SERVICE.kind, namespaced=False, verbs=["get", "list"])
        categories = list(API_SERVICE.categories)
        resources.append({**entry, "singularName": API_SERVICE.singular, "categories": categories})
    group_version = f"{group}/{version_}" if group else version_
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }


def _unstored(plural: str, kind: str, *, namespaced: bool, verbs: list[str]) -> dict[str, Any]:
    singular = plural.removesuffix("s") if verbs == ["create"] else ""
    return {
        "name": plural,
        "singularName": singular,
        "namespaced": namespaced,
        "kind": kind,
        "verbs": verbs,
    }


def aggregated(*, core: bool) -> dict[str, Any]:
    """`/api` (`core`) or `/apis` in one answer: apidiscovery.k8s.io/v2."""
    items = []
    for group in groups():
        if (group == "") != core:
            continue
        listed = [
            {
                "version": version_,
                "resources": _aggregated_resources(group, version_),
                "freshness": "Current",
            }
            for version_ in versions(group)
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_resources(group: str, version_: str) -> list[dict[str, Any]]:
    resources: list[dict[str, Any]] = []
    for entry in api_resources(group, version_)["resources"]:
        response_kind = {
            "group": entry.get("group", group),
            "version": entry.get("version", version_),
            "kind": entry["kind"],
        }
        plural, _, subresource = entry["name"].partition("/")
        if subresource and not (resources and resources[-1]["resource"] == plural):
            # What has subresources only: the aggregator puts a resource there that can do nothing.
            scope = "Namespaced" if entry["namespaced"] else "Cluster"
            none = {"group": "", "version": "", "kind": ""}
            resources.append(
                {"resource": plural, "responseKind": none, "scope": scope, "singularResource": ""}
            )
            resources[-1]["verbs"] = None
        if subresource:
            resources[-1].setdefault("subresources", []).append(
                {"subresource": subresource, "responseKind": response_kind, "verbs": entry["verbs"]}
            )
            continue
        resource = {
            "resource": plural,
            "responseKind": response_kind,
            "scope": "Namespaced" if entry["namespaced"] else "Cluster",
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
        }
        for field in ("shortNames", "categories"):
            if field in entry:
                resource[field] = entry[field]
        resources.append(resource)
    return resources


def root_paths() -> dict[str, list[str]]:
    """`/`."""
    paths = ["/api", "/api/v1", "/apis"]
    for group in groups():
        if group:
            paths += [f"/apis/{group}", *(f"/apis/{group}/{v}" for v in versions(group))]
    return {"paths": [*paths, "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}


def openapi_paths() -> dict[str, str]:
    """Below `/openapi/v3/`: path of each group and version that has schemas, with its API version."""
    return {
        f"{'apis' if group else 'api'}/{api_version}": api_version
        for group, api_version in dict.fromkeys(
            (kind.group, f"{group}/{version_}" if group else version_)
            for kind in KINDS
            for group, version_ in group_versions(kind)
        )
    }


def openapi_index() -> dict[str, Any]:
    """`/openapi/v3`: where the schemas lie. The hash lets clients keep them."""
    build = version()["gitVersion"]
    urls = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={build}"} for path in openapi_paths()}
    return {"paths": urls}

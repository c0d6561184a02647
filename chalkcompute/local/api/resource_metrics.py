"""metrics.k8s.io: what is measured, as objects that are made when they are asked for and never stored.

Source: k8s.io/metrics `pkg/apis/metrics/v1beta1`; the tables of metrics-server `pkg/api`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from chalkcompute.local.api import encoding, failures
from chalkcompute.local.api.discovery import METRICS_GROUP, METRICS_VERSION
from chalkcompute.local.api.encoding import answer_read
from chalkcompute.local.api.listing import Selection, select
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.quantity import canonical_quantity, parse_quantity
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.clock import duration
from chalkcompute.local.controllers.objects import format_time
from chalkcompute.local.measures import Metrics, NodeUsage, PodUsage
from chalkcompute.local.ports import Api, Manifest

__all__ = ["MetricsHandler", "node_metrics", "pod_metrics"]

_API_VERSION = f"{METRICS_GROUP}/{METRICS_VERSION}"
_KINDS = {"pods": ("Pod", "PodMetrics"), "nodes": ("Node", "NodeMetrics")}
_COLUMNS = (("Name", "name"), ("cpu", "quantity"), ("memory", "quantity"), ("Window", "duration"))


class MetricsHandler:
    """Answers requests below `/apis/metrics.k8s.io/v1beta1`.

    Args:
        api: Where the Pods and the Node are, for their labels.
        metrics: What is measured.
        now: The time, in UTC.
    """

    def __init__(self, api: Api, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._api = api
        self._metrics = metrics
        self._now = now

    def handle(self, request: web.BaseRequest, rest: list[str]) -> web.Response:
        """Answer a request; `rest` are the parts of its path after the version.

        Raises:
            StatusError: The refusal.
        """
        namespace, plural, name = _target(rest)
        failures.refuse_all_but_reads(request.method, request.query)
        kind, metrics_kind = _KINDS[plural]
        query = request.query
        selection = select(
            by_kind(kind), namespace, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        found = self._pods(selection) if plural == "pods" else self._nodes(selection)
        if name:
            found = [obj for obj in found if obj["metadata"]["name"] == name]
            if not found:
                self._api.get(kind, name, namespace)  # 404 of its own when there is none of that name
                raise _not_found(metrics_kind.lower(), f"{namespace}/{name}" if namespace else name)
        include = query.get("includeObject", "Metadata")
        body, media_type = answer_read(
            request.headers.get("Accept", ""),
            metrics_kind,
            _API_VERSION,
            found,
            one=bool(name),
            table=lambda: _table(found, include),
        )
        return web.Response(body=body, content_type=media_type)

    def _pods(self, selection: Selection) -> list[Manifest]:
        usages = {usage.uid: usage for usage in self._metrics.pods(selection.namespace)}
        pods = (pod for pod in self._api.list("Pod", selection.namespace) if selection.includes(pod))
        return [
            pod_metrics(usages[pod["metadata"]["uid"]], pod["metadata"].get("labels") or {}, self._now())
            for pod in pods
            if pod["metadata"]["uid"] in usages
        ]

    def _nodes(self, selection: Selection) -> list[Manifest]:
        usage = self._metrics.node()
        nodes = (node for node in self._api.list("Node") if selection.includes(node))
        return [
            node_metrics(usage, node["metadata"].get("labels") or {}, self._now())
            for node in nodes
            if usage is not None and node["metadata"]["name"] == usage.name
        ]


def pod_metrics(usage: PodUsage, labels: Mapping[str, str], now: datetime) -> Manifest:
    """A `PodMetrics` as it stands in a list, without kind."""
    return {
        "metadata": _metadata(usage.name, usage.namespace, labels, now),
        **_measured(usage.timestamp, usage.window),
        "containers": [
            {"name": container.name, "usage": _usage(container.cpu_nanocores, container.memory_bytes)}
            for container in usage.containers
        ],
    }


def node_metrics(usage: NodeUsage, labels: Mapping[str, str], now: datetime) -> Manifest:
    """A `NodeMetrics` as it stands in a list, without kind."""
    return {
        "metadata": _metadata(usage.name, "", labels, now),
        **_measured(usage.timestamp, usage.window),
        "usage": _usage(usage.cpu_nanocores, usage.memory_bytes),
    }


def _target(rest: list[str]) -> tuple[str, str, str]:
    """Namespace, plural and name of a path; the namespace is "" for nodes and for all namespaces."""
    match rest:
        case ["namespaces", namespace, "pods", *name] if len(name) < 2:
            return namespace, "pods", "".join(name)
        case ["pods"]:
            return "", "pods", ""
        case ["nodes", *name] if len(name) < 2:
            return "", "nodes", "".join(name)
    raise failures.unknown_resource()


def _metadata(name: str, namespace: str, labels: Mapping[str, str], now: datetime) -> Manifest:
    return {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "creationTimestamp": format_time(now),
        **({"labels": dict(labels)} if labels else {}),
    }


def _measured(timestamp: datetime, window: float) -> Manifest:
    return {"timestamp": format_time(timestamp), "window": duration(window)}


def _usage(nanocores: int, memory_bytes: int) -> dict[str, str]:
    return {
        "cpu": canonical_quantity(f"{nanocores}n"),
        "memory": canonical_quantity(f"{memory_bytes // 1024}Ki"),
    }


def _table(found: Iterable[Manifest], include: str) -> Manifest:
    rows = []
    for obj in found:
        row: dict[str, Any] = {"cells": _cells(obj)}
        if include != "None":
            row["object"] = encoding.metadata_only(obj) if include == "Metadata" else obj
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": format_,
                "description": "Name of the resource" if name == "Name" else "",
                "priority": 0,
            }
            for name, format_ in _COLUMNS
        ],
        "rows": rows,
    }


def _cells(obj: Manifest) -> list[str]:
    """Name, usage (the sum of the containers of a Pod) and window."""
    usages = [obj["usage"]] if "usage" in obj else [c["usage"] for c in obj["containers"]]
    return [obj["metadata"]["name"], _sum(usages, "cpu"), _sum(usages, "memory"), obj["window"]]


def _sum(usages: list[dict[str, str]], resource: str) -> str:
    values = [usage[resource] for usage in usages]
    if len(values) == 1:
        return values[0]
    total = sum(parse_quantity(value) for value in values)
    return canonical_quantity(f"{int(total) // 1024}Ki" if resource == "memory" else f"{total:f}")


def _not_found(resource: str, name: str) -> StatusError:
    details = {"name": name, "group": METRICS_GROUP, "kind": resource}
    resource = f"{resource}.{METRICS_GROUP}"
    return StatusError(404, "NotFound", f'{resource} "{name}" not found', details=details)

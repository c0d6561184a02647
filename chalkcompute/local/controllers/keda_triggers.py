"""What the triggers of a ScaledObject come to: metrics of an autoscaler, and whose requests wake it. Pure.

Source: kedacore/keda `pkg/scalers/external_scaler.go` and `cpu_memory_scaler.go`, kedacore/http-add-on
`scaler/naming.go`. Three scalers are served: the HTTP add-on's (`external-push`), `cpu` and `memory`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.controllers.keda_objects import SCALER_SERVICE
from chalkcompute.local.interceptor import KEDA_NAMESPACE
from chalkcompute.local.ports import Manifest

__all__ = ["NAME_LABEL", "TriggerError", "Triggers", "read_triggers", "route_names", "route_of_metric"]

NAME_LABEL = "scaledobject.keda.sh/name"
"""Label of a ScaledObject and of its external metrics: how the two find each other."""

_SCALER = f"{SCALER_SERVICE}.{KEDA_NAMESPACE}"
_ADDRESSES = tuple(f"{_SCALER}{suffix}:9090" for suffix in ("", ".svc", ".svc.cluster.local"))
_RESOURCES = ("cpu", "memory")
_SCALING_METRICS = {"concurrency": "concurrency", "requestRate": "rate"}  # field, and part of a metric's name
_METRIC = re.compile(r"s(\d+)-http_(.+)_(concurrency|rate)")


class TriggerError(Exception):
    """A trigger that cannot be served; the message goes into the condition `Ready`."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """What all triggers of a ScaledObject come to.

    Attributes:
        metrics: `spec.metrics` of its HorizontalPodAutoscaler.
        routes: InterceptorRoutes whose requests make it active.
        external: Names of its external metrics.
        resources: Names of its resource metrics.
        types: Trigger types, each once.
    """

    metrics: tuple[Manifest, ...]
    routes: tuple[str, ...]
    external: tuple[str, ...]
    resources: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def always_active(self) -> bool:
        """Whether nothing can put it to sleep: CPU and memory say nothing of a workload without replicas."""
        return not self.routes


def route_names(scaled_object: Manifest) -> tuple[str, ...]:
    """InterceptorRoutes that the triggers name, whether or not the triggers can be served."""
    return tuple(dict.fromkeys(name for _, name in _routes(scaled_object)))


def _routes(scaled_object: Manifest) -> Iterator[tuple[int, str]]:
    for index, trigger in enumerate(scaled_object["spec"].get("triggers") or ()):
        name = (trigger.get("metadata") or {}).get("interceptorRoute")
        if trigger.get("type") == "external-push" and name:
            yield index, name


def route_of_metric(scaled_object: Manifest, metric: str) -> tuple[str, str] | None:
    """InterceptorRoute and `concurrency` or `rate`: what an external metric counts; None for another's."""
    found = _METRIC.fullmatch(metric)
    if found is None or (int(found[1]), found[2]) not in _routes(scaled_object):
        return None
    return found[2], found[3]


def read_triggers(scaled_object: Manifest, routes: Mapping[str, Manifest]) -> Triggers:
    """Read them.

    Args:
        scaled_object: Whose.
        routes: The InterceptorRoutes there are, by name.

    Raises:
        TriggerError: One cannot be served.
    """
    metrics: list[Manifest] = []
    triggers = scaled_object["spec"].get("triggers") or []
    for index, trigger in enumerate(triggers):
        metrics += _metrics(index, trigger, scaled_object["metadata"]["name"], routes)
    metrics.sort(key=lambda metric: str(metric["type"]))
    return Triggers(
        metrics=tuple(metrics),
        routes=route_names(scaled_object),
        external=tuple(m["external"]["metric"]["name"] for m in metrics if m["type"] == "External"),
        resources=tuple(m["resource"]["name"] for m in metrics if m["type"] == "Resource"),
        types=tuple(dict.fromkeys(trigger["type"] for trigger in triggers)),
    )


def _metrics(index: int, trigger: Manifest, name: str, routes: Mapping[str, Manifest]) -> list[Manifest]:
    kind = trigger.get("type")
    if reference := trigger.get("authenticationRef"):
        raise TriggerError(
            f"trigger {index} names the {reference.get('kind') or 'TriggerAuthentication'} "
            f"`{reference['name']}`: the local cluster has none, nor a scaler that needs one"
        )
    if kind in _RESOURCES:
        return [_resource_metric(kind, trigger)]
    if kind == "external-push":
        return _route_metrics(index, trigger, name, routes)
    raise TriggerError(
        f"no scaler found for type: {kind}; the local cluster has those of types external-push (KEDA's HTTP "
        "add-on), cpu and memory"
    )


def _route_metrics(
    index: int, trigger: Manifest, name: str, routes: Mapping[str, Manifest]
) -> list[Manifest]:
    metadata = trigger.get("metadata") or {}
    address, route_name = metadata.get("scalerAddress"), metadata.get("interceptorRoute")
    if address not in _ADDRESSES:
        raise TriggerError(
            f"scalerAddress `{address}` of trigger {index} is not that of the HTTP add-on, "
            f"`{_ADDRESSES[0]}`: the local cluster asks no other scaler"
        )
    if not route_name:
        raise TriggerError(f"trigger {index} names no InterceptorRoute: set metadata.interceptorRoute")
    route = routes.get(route_name)
    if route is None:
        raise TriggerError(
            f'unable to get InterceptorRoute: interceptorroutes.http.keda.sh "{route_name}" not found'
        )
    kind = trigger.get("metricType") or "AverageValue"
    if kind not in ("AverageValue", "Value"):
        raise TriggerError(f"metric type '{kind}' is only supported for 'cpu' and 'memory' scalers")
    field = kind[0].lower() + kind[1:]
    found: list[Manifest] = []
    for source, part in _SCALING_METRICS.items():
        wanted: dict[str, Any] | None = route["spec"]["scalingMetric"].get(source)
        if wanted is not None:
            metric = {
                "name": f"s{index}-http_{route_name}_{part}",
                "selector": {"matchLabels": {NAME_LABEL: name}},
            }
            target = {"type": kind, field: str(wanted["targetValue"])}
            found.append({"type": "External", "external": {"metric": metric, "target": target}})
    return found


def _resource_metric(resource: str, trigger: Manifest) -> Manifest:
    metadata = trigger.get("metadata") or {}
    kind, value = trigger.get("metricType") or metadata.get("type"), metadata.get("value")
    if not value:
        raise TriggerError(f"error parsing {resource} metadata: no value given")
    try:
        if kind == "Utilization":
            target = {"type": kind, "averageUtilization": int(value)}
        elif kind == "AverageValue":
            parse_quantity(value)
            target = {"type": kind, "averageValue": value}
        else:
            raise TriggerError(
                f"error parsing {resource} metadata: unsupported metric type, allowed values are "
                "'Utilization' or 'AverageValue'"
            )
    except ValueError as error:
        raise TriggerError(f"error parsing {resource} metadata: value `{value}`: {error}") from error
    container = metadata.get("containerName")
    if container:
        source = {"name": resource, "container": container, "target": target}
        return {"type": "ContainerResource", "containerResource": source}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}

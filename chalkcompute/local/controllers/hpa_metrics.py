"""The metrics of a HorizontalPodAutoscaler, one by one: what each says and how it stands in the status. Pure.

Source: k8s.io/kubernetes `pkg/controller/podautoscaler/horizontal.go`, `computeReplicasForMetric`, and
`metrics/client.go`; the words are those of its conditions and Events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalkcompute.local.apimachinery.quantity import canonical_quantity, parse_quantity
from chalkcompute.local.controllers.hpa_calculator import (
    CalculationError,
    PodMetric,
    Proposal,
    Tolerances,
    average_value,
    external_average,
    external_value,
    utilization,
)
from chalkcompute.local.measures import ExternalMetrics, PodUsage
from chalkcompute.local.ports import Manifest

__all__ = ["MetricError", "MetricResult", "Sources", "evaluate"]

_NO_AVERAGE = (
    "invalid resource metric source: neither an average utilization target nor an average value (usage) "
    "target was set"
)
_NO_EXTERNAL = "invalid external metric source: neither a value target nor an average value target was set"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where metrics come from, at one moment.

    Attributes:
        namespace: Namespace of the autoscaler.
        current: `spec.replicas` of what is scaled.
        running: `status.replicas` of it.
        pods: The Pods that it selects.
        usages: What is measured of them.
        external: Answers metrics of type External; None where nobody does.
        tolerances: What is close enough.
        now: The time.
    """

    namespace: str
    current: int
    running: int
    pods: Sequence[Manifest]
    usages: Sequence[PodUsage]
    external: ExternalMetrics | None
    tolerances: Tolerances
    now: datetime


@dataclass(frozen=True, slots=True)
class MetricResult:
    """A metric that says something.

    Attributes:
        replicas: How many it asks for.
        description: What it is, as in `... above target`.
        status: Its entry in `status.currentMetrics`.
    """

    replicas: int
    description: str
    status: dict[str, Any]


class MetricError(Exception):
    """A metric that says nothing.

    Attributes:
        reason: Of the condition `ScalingActive` and of the Event.
        outer: What it is called when all of the metrics are looked at together.
    """

    def __init__(self, reason: str, message: str, outer: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.outer = f"{outer}: {message}"


def evaluate(spec: Mapping[str, Any], sources: Sources) -> MetricResult:
    """What one entry of `spec.metrics` asks for.

    Raises:
        MetricError: It cannot be told.
    """
    kind = spec["type"]
    if kind == "Resource":
        return _resource(spec["resource"], sources)
    if kind == "ContainerResource":
        return _container_resource(spec["containerResource"], sources)
    if kind == "External":
        return _external(spec["external"], sources)
    source = spec.get(kind[:1].lower() + kind[1:]) or {}
    name = (source.get("metric") or {}).get("name", "")
    message = f"unable to get metric {name}: metrics of type {kind} are not served by the local cluster"
    raise MetricError(f"FailedGet{kind}Metric", message, f"failed to get {kind.lower()} metric value")


def _resource(source: Mapping[str, Any], sources: Sources) -> MetricResult:
    name = source["name"]
    try:
        proposal, described = _of_resource(name, source.get("target") or {}, "", sources)
    except CalculationError as error:
        outer = f"failed to get {name} resource metric value"
        raise MetricError("FailedGetResourceMetric", str(error), outer) from error
    status = {"type": "Resource", "resource": {"name": name, "current": _current(proposal)}}
    return MetricResult(proposal.replicas, f"{name} {described}", status)


def _container_resource(source: Mapping[str, Any], sources: Sources) -> MetricResult:
    name, container = source["name"], source["container"]
    try:
        proposal, described = _of_resource(name, source.get("target") or {}, container, sources)
    except CalculationError as error:
        outer = f"failed to get {container} container metric value"
        raise MetricError("FailedGetContainerResourceMetric", str(error), outer) from error
    status = {
        "type": "ContainerResource",
        "containerResource": {"name": name, "current": _current(proposal), "container": container},
    }
    return MetricResult(proposal.replicas, f"{name} {described}", status)


def _of_resource(
    resource: str, target: Mapping[str, Any], container: str, sources: Sources
) -> tuple[Proposal, str]:
    """A proposal and what to call the metric; of one container, or of whole Pods ("")."""
    raw = target.get("averageValue")
    percent = target.get("averageUtilization")
    what = "usage" if raw is not None else "utilization"
    if raw is None and percent is None:
        raise CalculationError(_NO_AVERAGE)
    try:
        metrics = _pod_metrics(resource, container, sources)
        if raw is not None:
            proposal = average_value(
                sources.current,
                _thousandths(raw),
                sources.pods,
                metrics,
                resource=resource,
                tolerances=sources.tolerances,
                now=sources.now,
            )
            return proposal, "resource"
        proposal = utilization(
            sources.current,
            int(percent or 0),
            sources.pods,
            metrics,
            lambda: {pod["metadata"]["name"]: _requested(pod, resource, container) for pod in sources.pods},
            resource=resource,
            tolerances=sources.tolerances,
            now=sources.now,
        )
    except CalculationError as error:
        raise CalculationError(f"failed to get {resource} {what}: {error}") from error
    whole = "container resource" if container else "resource"
    return proposal, f"{whole} utilization (percentage of request)"


def _pod_metrics(resource: str, container: str, sources: Sources) -> dict[str, PodMetric]:
    unable = f"unable to get metrics for resource {resource}"
    names = {pod["metadata"]["name"] for pod in sources.pods}
    usages = [usage for usage in sources.usages if usage.name in names]
    if not usages:
        raise CalculationError(f"{unable}: no metrics returned from resource metrics API")
    metrics = {}
    for usage in usages:
        chosen = [c for c in usage.containers if container in ("", c.name)]
        if container and not chosen:
            raise CalculationError(
                f"{unable}: failed to get container metrics: container {container} not present in metrics "
                f"for pod {usage.namespace}/{usage.name}"
            )
        if resource == "cpu":  # each rounded up to a thousandth
            value = sum(-(-c.cpu_nanocores // 1_000_000) for c in chosen)
        elif resource == "memory":
            value = sum(c.memory_bytes * 1000 for c in chosen)
        else:
            continue
        # The metrics API tells whole seconds.
        timestamp = usage.timestamp.replace(microsecond=0)
        metrics[usage.name] = PodMetric(value, timestamp, timedelta(seconds=usage.window))
    return metrics


def _requested(pod: Manifest, resource: str, container: str) -> int:
    """What a Pod, or one container of it, requests; sidecars are among its containers."""
    spec = pod["spec"]
    whole = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
    if whole is not None and not container:
        return _thousandths(whole)
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    total = 0
    for each in (*spec["containers"], *sidecars):
        if container not in ("", each["name"]):
            continue
        request = ((each.get("resources") or {}).get("requests") or {}).get(resource)
        if request is None:
            name = pod["metadata"]["name"]
            raise CalculationError(
                f"missing request for {resource} in container {each['name']} of Pod {name}"
            )
        total += _thousandths(request)
    return total


def _external(source: Mapping[str, Any], sources: Sources) -> MetricResult:
    metric, target = source["metric"], source.get("target") or {}
    name, selector = metric["name"], metric.get("selector")
    averaged = target.get("averageValue") is not None
    outer = f"failed to get {name} external metric value: failed to get {name} external metric"
    if not averaged:
        outer = f"failed to get {name} external metric value: failed to get external metric {name}"
    try:
        proposal = _of_outside(name, selector, target, sources)
    except CalculationError as error:
        raise MetricError("FailedGetExternalMetric", str(error), outer) from error
    identifier = {"name": name, **({"selector": selector} if selector else {})}
    value = canonical_quantity(f"{proposal.average}m")
    current = {"averageValue" if averaged else "value": value}
    return MetricResult(
        proposal.replicas,
        f"external metric {name}({_selector_text(selector)})",
        {"type": "External", "external": {"metric": identifier, "current": current}},
    )


def _of_outside(
    name: str, selector: Mapping[str, Any] | None, target: Mapping[str, Any], sources: Sources
) -> Proposal:
    average, value = target.get("averageValue"), target.get("value")
    if average is None and value is None:
        raise CalculationError(_NO_EXTERNAL)
    unable = f"unable to get external metric {sources.namespace}/{name}/{_selector_text(selector)}"
    if sources.external is None:
        raise CalculationError(
            f"{unable}: unable to fetch metrics from external metrics API: "
            "the server could not find the requested resource"
        )
    labels = (selector or {}).get("matchLabels") or {}
    found = sources.external.value(sources.namespace, name, labels)
    if found is None:
        raise CalculationError(f"{unable}: no metrics returned from external metrics API")
    total = math.ceil(round(found * 1000, 6))  # a quantity is rounded up to thousandths
    if average is not None:
        return external_average(sources.running, _thousandths(average), total, sources.tolerances)
    return external_value(sources.current, _thousandths(value), total, sources.pods, sources.tolerances)


def _current(proposal: Proposal) -> dict[str, Any]:
    current: dict[str, Any] = {"averageValue": canonical_quantity(f"{proposal.average}m")}
    if proposal.percent is not None:
        current["averageUtilization"] = proposal.percent
    return current


def _thousandths(quantity: object) -> int:
    return math.ceil(parse_quantity(str(quantity)) * 1000)


def _selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector as Go prints it: so it stands in the reason of a scaling."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{e['key']},Operator:{e['operator']},"
        f"Values:[{' '.join(e.get('values') or ())}],}},"
        for e in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )

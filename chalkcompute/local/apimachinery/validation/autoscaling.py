"""Validity of HorizontalPodAutoscalers.

Source: k8s.io/kubernetes `pkg/apis/autoscaling/validation` and `pkg/registry/autoscaling` (what an update
may keep).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalkcompute.local.apimachinery.kinds import parse_group_version
from chalkcompute.local.apimachinery.names import (
    container_resource_problems,
    dns_label_problem,
    path_segment_problems,
)
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_autoscaler"]

_PERIOD_MAX = 1800  # seconds: MaxPeriodSeconds
_WINDOW_MAX = 3600  # seconds: MaxStabilizationWindowSeconds
# Field of each type of metric, in the order in which an API server looks for them.
_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_SELECT = ("Disabled", "Max", "Min")


def check_autoscaler(obj: dict[str, Any], problems: Problems, old: dict[str, Any] | None = None) -> None:
    """Bounds, target, metrics and behaviour; of an update, `old` is what stands there."""
    spec = obj.get("spec") or {}
    before = (old or {}).get("spec") or {}
    low, high = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if low is not None and low < 1:
        problems.invalid("spec.minReplicas", low, "must be greater than or equal to 1")
    if high < 1:
        problems.invalid("spec.maxReplicas", high, "must be greater than 0")
    if low is not None and high < low:
        problems.invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`")
    target = spec.get("scaleTargetRef") or {}
    _check_reference(target, "spec.scaleTargetRef", problems)
    if old is None or not _same_kind(target, before.get("scaleTargetRef") or {}):
        grouped = target.get("kind") != "ReplicationController"  # the one of the core group that scales
        _check_api_version(target, "spec.scaleTargetRef", problems, grouped=grouped)
    metrics = spec.get("metrics") or []
    lenient = any(_malformed(metric) for metric in before.get("metrics") or [])
    for index, metric in enumerate(metrics):
        _check_metric(metric, f"spec.metrics[{index}]", problems, any_version=lenient)
    if low == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        problems.forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        )
    behavior = spec.get("behavior") or {}
    for name in ("scaleUp", "scaleDown"):
        if behavior.get(name) is not None:
            _check_rules(behavior[name], f"spec.behavior.{name}", problems)


def _check_reference(reference: dict[str, Any], field: str, problems: Problems) -> None:
    for name in ("kind", "name"):
        if not reference.get(name):
            problems.required(f"{field}.{name}")
        _check_segment(reference.get(name) or "", f"{field}.{name}", problems)


def _check_segment(text: str, field: str, problems: Problems) -> None:
    for why in path_segment_problems(text):
        problems.invalid(field, text, why)


def _same_kind(target: dict[str, Any], before: dict[str, Any]) -> bool:
    return all(target.get(name) == before.get(name) for name in ("apiVersion", "kind"))


def _check_api_version(
    reference: dict[str, Any], field: str, problems: Problems, *, grouped: bool = False
) -> None:
    """Its form; whether it names a group too where it must (`grouped`)."""
    api_version = reference.get("apiVersion") or ""
    try:
        group, _ = parse_group_version(api_version)
    except ValueError as error:
        problems.invalid(f"{field}.apiVersion", api_version, str(error))
        return
    if grouped and not group:
        problems.invalid(f"{field}.apiVersion", api_version, "apiVersion must specify API group")


def _malformed(metric: dict[str, Any]) -> bool:
    """Whether an Object metric names its object by what is no `apiVersion`."""
    described = (metric.get("object") or {}).get("describedObject") or {}
    return metric.get("type") == "Object" and (described.get("apiVersion") or "").count("/") > 1


def _check_metric(metric: dict[str, Any], field: str, problems: Problems, *, any_version: bool) -> None:
    kind = metric.get("type") or ""
    if not kind:
        problems.required(f"{field}.type", "must specify a metric source type")
    if kind not in _SOURCES:
        problems.unsupported(f"{field}.type", kind, tuple(_SOURCES))
    present = [name for name in _SOURCES.values() if metric.get(name) is not None]
    for name in present[:1]:  # of several, an API server looks into the first
        _check_source(name, metric[name], f"{field}.{name}", problems, any_version=any_version)
    wanted = _SOURCES.get(kind)
    if wanted is not None and wanted not in present:
        problems.required(f"{field}.{wanted}", "must populate information for the given metric source")
    for name in present if len(present) > 1 else ():
        if name != wanted:
            problems.forbidden(f"{field}.{name}", "must populate the given metric source only")


def _check_source(
    name: str, source: dict[str, Any], field: str, problems: Problems, *, any_version: bool
) -> None:
    """What is measured, then what it is measured against."""
    if name in ("resource", "containerResource"):
        _check_resource(name, source, field, problems)
    else:
        if name == "object":
            described = source.get("describedObject") or {}
            _check_reference(described, f"{field}.describedObject", problems)
            if not any_version:
                _check_api_version(described, f"{field}.describedObject", problems)
        metric = (source.get("metric") or {}).get("name") or ""
        if not metric:
            problems.required(f"{field}.metric.name", "must specify a metric name")
        _check_segment(metric, f"{field}.metric.name", problems)
    target = source.get("target") or {}
    _check_target(target, f"{field}.target", problems)
    _CHECK_AMOUNTS[name](target, f"{field}.target", problems)


def _check_resource(name: str, source: dict[str, Any], field: str, problems: Problems) -> None:
    resource, container = source.get("name") or "", source.get("container") or ""
    if not resource:
        problems.required(f"{field}.name", "must specify a resource name")
    if name == "resource":
        return
    for why in container_resource_problems(resource) if resource else ():
        problems.invalid(f"{field}.name", resource, why)
    if container:
        problems.named(f"{field}.container", container, dns_label_problem(container))
    else:
        problems.required(f"{field}.container", "must specify a container")


def _check_target(target: dict[str, Any], field: str, problems: Problems) -> None:
    """What holds whatever is measured."""
    kind = target.get("type") or ""
    if not kind:
        problems.required(f"{field}.type", "must specify a metric target type")
    if kind not in ("Utilization", "Value", "AverageValue"):
        problems.invalid(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue")
    for name in ("value", "averageValue"):
        if target.get(name) is not None and parse_quantity(str(target[name])) <= 0:
            problems.invalid(f"{field}.{name}", str(target[name]), "must be positive")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        problems.invalid(f"{field}.averageUtilization", utilization, "must be greater than 0")


def _check_amounts_of_resource(target: dict[str, Any], field: str, problems: Problems) -> None:
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is None and average is None:
        why = "must set either a target raw value or a target utilization"
        problems.required(f"{field}.averageUtilization", why)
    if utilization is not None and average is not None:
        why = "may not set both a target raw value and a target utilization"
        problems.forbidden(f"{field}.averageValue", why)


def _check_amounts_of_pods(target: dict[str, Any], field: str, problems: Problems) -> None:
    if target.get("averageValue") is None:
        problems.required(f"{field}.averageValue", "must specify a positive target averageValue")


def _check_amounts_of_object(target: dict[str, Any], field: str, problems: Problems) -> None:
    if target.get("value") is None and target.get("averageValue") is None:
        problems.required(f"{field}.averageValue", "must set either a target value or averageValue")


def _check_amounts_of_external(target: dict[str, Any], field: str, problems: Problems) -> None:
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        why = "must set either a target value for metric or a per-pod target"
        problems.required(f"{field}.averageValue", why)
    if value is not None and average is not None:
        why = "may not set both a target value for metric and a per-pod target"
        problems.forbidden(f"{field}.value", why)


_CHECK_AMOUNTS: dict[str, Callable[[dict[str, Any], str, Problems], None]] = {
    "object": _check_amounts_of_object,
    "external": _check_amounts_of_external,
    "pods": _check_amounts_of_pods,
    "resource": _check_amounts_of_resource,
    "containerResource": _check_amounts_of_resource,
}


def _check_rules(rules: dict[str, Any], field: str, problems: Problems) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        problems.invalid(
            f"{field}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"
        )
    if window is not None and window > _WINDOW_MAX:
        why = f"must be less than or equal to {_WINDOW_MAX}"
        problems.invalid(f"{field}.stabilizationWindowSeconds", window, why)
    if rules.get("selectPolicy") not in (None, *_SELECT):
        problems.unsupported(f"{field}.selectPolicy", rules["selectPolicy"], _SELECT)
    policies = rules.get("policies") or []
    if not policies:
        problems.required(f"{field}.policies", "must specify at least one Policy")
    for index, policy in enumerate(policies):
        below = f"{field}.policies[{index}]"
        if policy.get("type") not in ("Pods", "Percent"):
            problems.unsupported(f"{below}.type", policy.get("type", ""), ("Pods", "Percent"))
        if policy.get("value", 0) <= 0:
            problems.invalid(f"{below}.value", policy.get("value", 0), "must be greater than zero")
        period = policy.get("periodSeconds", 0)
        if period <= 0:
            problems.invalid(f"{below}.periodSeconds", period, "must be greater than zero")
        elif period > _PERIOD_MAX:
            problems.invalid(f"{below}.periodSeconds", period, f"must be less than or equal to {_PERIOD_MAX}")
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse_quantity(str(tolerance)) < 0:
        problems.invalid(f"{field}.tolerance", str(tolerance), "must be greater than or equal to 0")

"""Validity of HorizontalPodAutoscalers."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_autoscaler"]

_PERIOD_MAX = 1800  # seconds: MaxPeriodSeconds
_WINDOW_MAX = 3600  # seconds: MaxStabilizationWindowSeconds
_METRICS = ("ContainerResource", "External", "Object", "Pods", "Resource")
_SELECT = ("Disabled", "Max", "Min")


def check_autoscaler(obj: dict[str, Any], problems: Problems) -> None:
    """Bounds, target, metrics and behaviour."""
    spec = obj.get("spec") or {}
    low, high = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if low is not None and low < 1:
        problems.invalid("spec.minReplicas", low, "must be greater than or equal to 1")
    if high < 1:
        problems.invalid("spec.maxReplicas", high, "must be greater than 0")
    elif low is not None and high < low:
        problems.invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`")
    target = spec.get("scaleTargetRef") or {}
    for name in ("kind", "name"):
        if not target.get(name):
            problems.required(f"spec.scaleTargetRef.{name}")
    metrics = spec.get("metrics") or []
    for index, metric in enumerate(metrics):
        _check_metric(metric, f"spec.metrics[{index}]", problems)
    if low == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        problems.forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        )
    behavior = spec.get("behavior") or {}
    for name in ("scaleUp", "scaleDown"):
        if behavior.get(name) is not None:
            _check_rules(behavior[name], f"spec.behavior.{name}", problems)


def _check_metric(metric: dict[str, Any], field: str, problems: Problems) -> None:
    kind = metric.get("type") or ""
    if not kind:
        problems.required(f"{field}.type", "must specify a metric source type")
        return
    if kind not in _METRICS:
        problems.unsupported(f"{field}.type", kind, _METRICS)
        return
    source_name = kind[0].lower() + kind[1:]
    source = metric.get(source_name)
    if source is None:
        problems.required(f"{field}.{source_name}", "must populate information for the given metric source")
        return
    _check_target(kind, source.get("target") or {}, f"{field}.{source_name}.target", problems)
    if kind not in ("Resource", "ContainerResource"):
        if not (source.get("metric") or {}).get("name"):
            problems.required(f"{field}.{source_name}.metric.name", "must specify a metric name")
        return
    if not source.get("name"):
        problems.required(f"{field}.{source_name}.name", "must specify a resource name")
    if kind == "ContainerResource" and not source.get("container"):
        problems.required(f"{field}.{source_name}.container", "must specify a container")
    target = source.get("target") or {}
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    below = f"{field}.{source_name}.target"
    if utilization is None and average is None:
        why = "must set either a target raw value or a target utilization"
        problems.required(f"{below}.averageUtilization", why)
    if utilization is not None and average is not None:
        problems.forbidden(
            f"{below}.averageValue", "may not set both a target raw value and a target utilization"
        )


def _check_target(kind: str, target: dict[str, Any], field: str, problems: Problems) -> None:
    """Something to divide by; metrics that are not of Pods have one of two targets."""
    for name in ("value", "averageValue"):
        if target.get(name) is not None and parse_quantity(str(target[name])) <= 0:
            problems.invalid(f"{field}.{name}", str(target[name]), "must be positive")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        problems.invalid(f"{field}.averageUtilization", utilization, "must be greater than 0")
    if kind in ("External", "Object") and target.get("value") is None and target.get("averageValue") is None:
        why = "must set either a target value for metric or a per-pod target"
        problems.required(f"{field}.averageValue", why)
    if kind == "External" and target.get("value") is not None and target.get("averageValue") is not None:
        problems.forbidden(
            f"{field}.value", "may not set both a target value for metric and a per-pod target"
        )


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

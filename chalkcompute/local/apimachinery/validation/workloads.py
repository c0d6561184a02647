"""Validity of Deployments and ReplicaSets."""

from __future__ import annotations

import re
from typing import Any

from chalkcompute.local.apimachinery.names import label_key_problem, label_value_problem
from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.apimachinery.validation.metadata import check_labels
from chalkcompute.local.apimachinery.validation.pods import check_pod_spec
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_deployment", "check_replica_set", "check_selector_change"]

_NOT_NEGATIVE = "must be greater than or equal to 0"
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")


def check_deployment(obj: dict[str, Any], problems: Problems) -> None:
    """Selector, template, counts and strategy."""
    spec = obj.get("spec") or {}
    _check_counts(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit"), problems)
    _check_workload(spec, problems)
    _check_strategy(spec.get("strategy") or {}, problems)
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if deadline is not None and deadline < 0:
        problems.invalid("spec.progressDeadlineSeconds", deadline, _NOT_NEGATIVE)
    elif deadline is not None and deadline <= ready:
        problems.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def check_replica_set(obj: dict[str, Any], problems: Problems) -> None:
    """Selector, template and counts."""
    spec = obj.get("spec") or {}
    _check_counts(spec, ("replicas", "minReadySeconds"), problems)
    _check_workload(spec, problems)


def check_selector_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """The selector never changes."""
    selector = (new.get("spec") or {}).get("selector")
    if selector != (old.get("spec") or {}).get("selector"):
        problems.invalid("spec.selector", selector, "field is immutable")


def _check_counts(spec: dict[str, Any], names: tuple[str, ...], problems: Problems) -> None:
    for name in names:
        value = spec.get(name)
        if value is not None and value < 0:
            problems.invalid(f"spec.{name}", value, _NOT_NEGATIVE)


def _check_workload(spec: dict[str, Any], problems: Problems) -> None:
    selector = spec.get("selector")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        problems.required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        problems.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    elif _check_selector(selector, problems) and not match_label_selector(selector, labels):
        problems.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    check_labels(labels, "spec.template.metadata.labels", problems)
    pod = template.get("spec") or {}
    check_pod_spec(pod, "spec.template.spec", problems)
    if pod.get("restartPolicy") not in (None, "Always"):
        problems.unsupported("spec.template.spec.restartPolicy", pod["restartPolicy"], ("Always",))
    if pod.get("activeDeadlineSeconds") is not None:
        problems.forbidden(
            "spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported"
        )


def _check_selector(selector: dict[str, Any], problems: Problems) -> bool:
    before = len(problems.causes)
    for key, value in (selector.get("matchLabels") or {}).items():
        problems.named("spec.selector.matchLabels", key, label_key_problem(key))
        problems.named("spec.selector.matchLabels", value, label_value_problem(value))
    for index, expression in enumerate(selector.get("matchExpressions") or []):
        field = f"spec.selector.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values") or []
        problems.named(
            f"{field}.key", expression.get("key", ""), label_key_problem(expression.get("key", ""))
        )
        if operator not in _OPERATORS:
            problems.invalid(f"{field}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            problems.required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            problems.forbidden(
                f"{field}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
    return len(problems.causes) == before


def _check_strategy(strategy: dict[str, Any], problems: Problems) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            problems.forbidden(
                "spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"
            )
        return
    if kind != "RollingUpdate":
        problems.unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))
        return
    if rolling is None:
        problems.required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")
        return
    field = "spec.strategy.rollingUpdate"
    for name in ("maxUnavailable", "maxSurge"):
        _check_share(rolling.get(name, 0), f"{field}.{name}", problems)
    unavailable = rolling.get("maxUnavailable", 0)
    if _is_zero(unavailable) and _is_zero(rolling.get("maxSurge", 0)):
        problems.invalid(f"{field}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if (
        isinstance(unavailable, str)
        and unavailable.endswith("%")
        and unavailable[:-1].isdigit()
        and int(unavailable[:-1]) > 100
    ):
        problems.invalid(f"{field}.maxUnavailable", unavailable, "must not be greater than 100%")


def _check_share(value: Any, field: str, problems: Problems) -> None:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]+%", value):
            why = (
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                "'1%',  or '93%', "
                "regex used for validation is '[0-9]+%')"
            )
            problems.invalid(field, value, why)
    elif value < 0:
        problems.invalid(field, value, _NOT_NEGATIVE)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")

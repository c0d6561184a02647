"""Deployments, ReplicaSets, autoscalers, disruption budgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chalkcompute.local.api.tables.columns import (
    UNKNOWN,
    UNSET,
    Columns,
    age,
    column,
    join_limited,
    name,
    section,
    template_cells,
    wide,
)
from chalkcompute.local.ports import Manifest

__all__ = ["COLUMNS"]

_TEMPLATE = (wide("Containers"), wide("Images"), wide("Selector"))
_SHOWN_METRICS = 2
_AUTO = "<auto>"


def _deployment(obj: Manifest, now: datetime) -> Sequence[str | int]:
    status = section(obj, "status")
    return (
        name(obj),
        f"{status.get('readyReplicas', 0)}/{section(obj, 'spec').get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *template_cells(obj),
    )


def _replica_set(obj: Manifest, now: datetime) -> Sequence[str | int]:
    status = section(obj, "status")
    return (
        name(obj),
        section(obj, "spec").get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(obj, now),
        *template_cells(obj),
    )


def _autoscaler(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec, status = section(obj, "spec"), section(obj, "status")
    reference = spec.get("scaleTargetRef") or {}
    current = status.get("currentMetrics") or []
    targets = [_metric(metric, current, index) for index, metric in enumerate(spec.get("metrics") or [])]
    return (
        name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        join_limited(targets, _SHOWN_METRICS).replace(",", ", "),
        str(spec.get("minReplicas", UNSET)),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    )


def _metric(metric: dict[str, Any], current: list[dict[str, Any]], index: int) -> str:
    """`cpu: 12%/50%`, `100/100 (avg)`: where a metric stands and where it should."""
    source = metric.get("type", "")
    key = source[:1].lower() + source[1:]
    body = metric.get(key) or {}
    target = body.get("target") or {}
    observed = ((current[index].get(key) or {}).get("current") or {}) if index < len(current) else {}
    averaged = "averageValue" in target
    field = "averageValue" if averaged or source == "Pods" else "value"
    if source in ("Resource", "ContainerResource"):
        label = f"{body.get('name', '')}: "
        if averaged:
            return f"{label}{observed.get(field, UNKNOWN)}/{target[field]}"
        percent, wanted = observed.get("averageUtilization"), target.get("averageUtilization")
        text = UNKNOWN if percent is None else f"{percent}%"
        return f"{label}{text}/{_AUTO if wanted is None else f'{wanted}%'}"
    of_each = " (avg)" if averaged and source in ("External", "Object") else ""
    return f"{observed.get(field, UNKNOWN)}/{target.get(field, UNSET)}{of_each}"


def _disruption_budget(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec = section(obj, "spec")
    return (
        name(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        section(obj, "status").get("disruptionsAllowed", 0),
        age(obj, now),
    )


COLUMNS = {
    "Deployment": Columns(
        (
            column("Name"),
            column("Ready"),
            column("Up-to-date", "integer"),
            column("Available", "integer"),
            column("Age"),
            *_TEMPLATE,
        ),
        _deployment,
    ),
    "ReplicaSet": Columns(
        (
            column("Name"),
            column("Desired", "integer"),
            column("Current", "integer"),
            column("Ready", "integer"),
            column("Age"),
            *_TEMPLATE,
        ),
        _replica_set,
    ),
    "HorizontalPodAutoscaler": Columns(
        (
            column("Name"),
            column("Reference"),
            column("Targets"),
            column("MinPods"),
            column("MaxPods", "integer"),
            column("Replicas", "integer"),
            column("Age"),
        ),
        _autoscaler,
    ),
    "PodDisruptionBudget": Columns(
        (
            column("Name"),
            column("Min Available"),
            column("Max Unavailable"),
            column("Allowed Disruptions", "integer"),
            column("Age"),
        ),
        _disruption_budget,
    ),
}

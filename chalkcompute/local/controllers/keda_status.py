"""What a ScaledObject says of itself: its status, in the words of KEDA's operator. Pure.

Source: kedacore/keda `controllers/keda/scaledobject_controller.go`, `apis/keda/v1alpha1/condition_types.go`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.controllers.keda_triggers import Triggers
from chalkcompute.local.controllers.objects import find_condition, format_time, parse_time
from chalkcompute.local.ports import Manifest

__all__ = [
    "FAILED",
    "READY",
    "UNKNOWN",
    "last_active",
    "with_conditions",
    "with_last_active",
    "with_target",
    "with_triggers",
]

READY = ("True", "ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling")
FAILED = "ScaledObjectCheckFailed"
UNKNOWN = ("Unknown", "UnknownState", "ScaledObject check failed")

_TYPES = ("Ready", "Active", "Fallback", "Paused")
_NO_FALLBACK = ("False", "NoFallbackFound", "No fallbacks are active on this scaled object")
_WRITTEN_EVERY = timedelta(seconds=10)  # `lastActiveTime` of what goes on being active


def with_conditions(status: Manifest, **changed: tuple[str, str, str]) -> Manifest:
    """The status with these conditions (status, reason and message by type); all four are there."""
    conditions: list[dict[str, Any]] = []
    for kind in _TYPES:
        said = changed.get(kind) or (_NO_FALLBACK if kind == "Fallback" else None)
        if said is None:
            conditions.append(find_condition(status, kind) or {"type": kind, "status": "Unknown"})
        else:
            holds, reason, message = said
            conditions.append({"type": kind, "status": holds, "reason": reason, "message": message})
    return {**status, "conditions": conditions}


def with_target(status: Manifest, target: Manifest, replicas: int) -> Manifest:
    """With what is scaled, and how many replicas it had before."""
    kind = by_kind(target["kind"])
    return {
        "originalReplicaCount": replicas,
        **status,
        "scaleTargetKind": f"{kind.api_version}.{kind.kind}",
        "scaleTargetGVKR": {
            "group": kind.group,
            "version": kind.version,
            "kind": kind.kind,
            "resource": kind.plural,
        },
    }


def with_triggers(status: Manifest, triggers: Triggers, autoscaler: str) -> Manifest:
    """With the metrics of the triggers, and the autoscaler that follows them."""
    changed = {
        **status,
        "authenticationsTypes": "",
        "externalMetricNames": list(triggers.external),
        "hpaName": autoscaler,
        "resourceMetricNames": list(triggers.resources),
        "triggersTypes": ",".join(triggers.types),
    }
    return {name: value for name, value in changed.items() if value != []}


def last_active(status: Manifest, *others: datetime | None) -> datetime | None:
    """The latest moment of activity known."""
    return max((m for m in (parse_time(status.get("lastActiveTime")), *others) if m), default=None)


def with_last_active(status: Manifest, moment: datetime | None, *, active: bool) -> Manifest:
    """With that moment; while activity goes on it is not written each time."""
    written = parse_time(status.get("lastActiveTime"))
    goes_on = active and (find_condition(status, "Active") or {}).get("status") == "True"
    if moment is None or (goes_on and written is not None and moment - written < _WRITTEN_EVERY):
        return status
    return {**status, "lastActiveTime": format_time(moment)}

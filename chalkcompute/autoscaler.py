"""Frozen results: what an autoscaler is doing. Plain values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalkcompute.times import rfc3339

__all__ = ["CPU", "IN_FLIGHT", "AutoscalerCondition", "AutoscalerInfo", "ScaleEvent"]

CPU = "cpu_utilization_percentage"
IN_FLIGHT = "requests_in_flight"


@dataclass(frozen=True, slots=True)
class AutoscalerCondition:
    """One of `status.conditions` of the autoscaler.

    Attributes:
        type: `AbleToScale`, `ScalingActive`, `ScalingLimited`; of a ScaledObject `Ready`, `Active`, `Paused`,
            `Fallback`.
        status: `True`, `False` or `Unknown`.
        reason: The controller's word for why.
        message: The same as a sentence.
    """

    type: str
    status: str
    reason: str = ""
    message: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON form."""
        return {"type": self.type, "status": self.status, "reason": self.reason, "message": self.message}


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """One change of the replica count by an autoscaler.

    Attributes:
        at: When (UTC).
        to_replicas: The count that was set.
        from_replicas: The count before, or None where the cluster does not tell.
        reason: Why: in the words of Event `SuccessfulRescale`; of KEDA (`KEDAScaleTargetActivated` and
            `KEDAScaleTargetDeactivated`), that a request woke it or that it was idle.
    """

    at: datetime
    to_replicas: int
    from_replicas: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "at": rfc3339(self.at),
            "from_replicas": self.from_replicas,
            "to_replicas": self.to_replicas,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class AutoscalerInfo:
    """The autoscaler of a group at one moment, as `get` shows it.

    The keys of `target` and `current` name the metric and its unit: `cpu_utilization_percentage` is CPU use
    in percent of the CPU request, averaged over the replicas; `requests_in_flight` is requests under way for
    each replica.

    Attributes:
        kind: `HorizontalPodAutoscaler` or `ScaledObject`: Kubernetes kind that sets the replica count.
        target: What each metric is kept at (`spec.metrics` of the HorizontalPodAutoscaler).
        target_is_default: The CPU target is the cluster's default, since none was asked for.
        current: What each of them is now (`status.currentMetrics`), None where there is no measurement.
        current_replicas: Replicas that the autoscaler counted when it last looked; None if it has not yet.
        desired_replicas: Replicas that it wants; None while it has not decided: it has not measured yet, is
            off, or the group is asleep.
        last_scale_at: When it last changed the count (UTC), or None.
        last_scale_reason: Why, or None where the cluster no longer tells: Events are kept for an hour.
        blind: Why it cannot do its work and what to do about it, one sentence; None when it can.
        message: What is worth knowing otherwise, one sentence, or None.
        state: Of a ScaledObject `asleep`, `awake`, `paused` or `fallback`; None for other kinds.
        idle_timeout_seconds: Seconds without a request until the group sleeps (`spec.cooldownPeriod` of the
            ScaledObject), None for other kinds.
        last_active_at: When KEDA last saw a request (UTC, `status.lastActiveTime`), or None.
        conditions: What the controllers say of themselves.
    """

    kind: str
    target: Mapping[str, float] = field(default_factory=dict)
    target_is_default: bool = False
    current: Mapping[str, float | None] = field(default_factory=dict)
    current_replicas: int | None = None
    desired_replicas: int | None = None
    last_scale_at: datetime | None = None
    last_scale_reason: str | None = None
    blind: str | None = None
    message: str | None = None
    state: str | None = None
    idle_timeout_seconds: int | None = None
    last_active_at: datetime | None = None
    conditions: tuple[AutoscalerCondition, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form, a part of the JSON of a group."""
        return {
            "kind": self.kind,
            "target": dict(self.target),
            "target_is_default": self.target_is_default,
            "current": dict(self.current),
            "current_replicas": self.current_replicas,
            "desired_replicas": self.desired_replicas,
            "last_scale_at": rfc3339(self.last_scale_at),
            "last_scale_reason": self.last_scale_reason,
            "blind": self.blind,
            "message": self.message,
            "state": self.state,
            "idle_timeout_seconds": self.idle_timeout_seconds,
            "last_active_at": rfc3339(self.last_active_at),
            "conditions": [condition.to_dict() for condition in self.conditions],
        }

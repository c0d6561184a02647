"""Frozen results: what groups use and serve at one moment. Plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.autoscaler import AutoscalerInfo, ScaleEvent
from chalkcompute.times import rfc3339
from chalkcompute.types import SCHEMA, ReplicaCounts, Status, Verdict

__all__ = ["ReplicaUsage", "ScalingGroupUsage", "Traffic", "UsageReport"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests to a group, as the gateway counts them over its window (the last seconds).

    Attributes:
        requests_per_second: Rate.
        requests_in_flight: Requests under way at this moment.
        p50_seconds: Median time until answered, in seconds; None without a request in the window.
        p99_seconds: The same, of the slowest hundredth.
    """

    requests_per_second: float | None = None
    requests_in_flight: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """JSON form."""
        return {
            "requests_per_second": self.requests_per_second,
            "requests_in_flight": self.requests_in_flight,
            "p50_seconds": self.p50_seconds,
            "p99_seconds": self.p99_seconds,
        }


@dataclass(frozen=True, slots=True)
class ReplicaUsage:
    """One replica.

    Attributes:
        name: Pod name.
        state: `Running`, or why its container does not run (`CrashLoopBackOff`, `Pending`, …), or
            `Terminating`.
        ready: Whether it gets requests.
        restarts: How often its container was started again.
        started_at: When its container started (UTC), or None while none runs.
        cpu_cores: CPU use of all its containers, in cores; None where it is not measured (yet).
        memory_bytes: Memory in use, in bytes; None likewise.
        cpu_request_cores: CPU request of the group's container, in cores, or None.
        memory_limit_bytes: Its memory limit, in bytes, or None.
        created_at: When the Pod was made (UTC).
    """

    name: str
    state: str
    ready: bool = False
    restarts: int = 0
    started_at: datetime | None = None
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    cpu_request_cores: float | None = None
    memory_limit_bytes: int | None = None
    created_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "state": self.state,
            "ready": self.ready,
            "restarts": self.restarts,
            "created_at": rfc3339(self.created_at),
            "started_at": rfc3339(self.started_at),
            "cpu_cores": self.cpu_cores,
            "memory_bytes": self.memory_bytes,
            "cpu_request_cores": self.cpu_request_cores,
            "memory_limit_bytes": self.memory_limit_bytes,
        }


@dataclass(frozen=True, slots=True)
class ScalingGroupUsage:
    """One group.

    Attributes:
        id: UUID of the group.
        name: Its name.
        status: As in `ScalingGroupInfo`; of all groups at once it is that of `list`.
        replicas: Counts.
        verdict: Why it is not available, or None.
        cpu_cores: CPU use of all replicas, in cores; None where nothing is measured.
        cpu_utilization_percentage: CPU use in percent of the CPU request, without the replicas that are told
            to end, as the autoscaler counts; None likewise.
        memory_bytes: Memory in use by all replicas, in bytes; None likewise.
        traffic: Requests, or None where the cluster does not count them.
        autoscaler: What sets the replica count, or None for a fixed one.
        scale_events: Changes of the replica count by the autoscaler that the cluster still has, oldest first.
        replica_usage: Each replica, oldest first; empty unless one group was asked for.
    """

    id: str
    name: str
    status: Status
    replicas: ReplicaCounts
    verdict: Verdict | None = None
    cpu_cores: float | None = None
    cpu_utilization_percentage: float | None = None
    memory_bytes: int | None = None
    traffic: Traffic | None = None
    autoscaler: AutoscalerInfo | None = None
    scale_events: tuple[ScaleEvent, ...] = ()
    replica_usage: tuple[ReplicaUsage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status.value,
            "replicas": self.replicas.to_dict(),
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "cpu_cores": self.cpu_cores,
            "cpu_utilization_percentage": self.cpu_utilization_percentage,
            "memory_bytes": self.memory_bytes,
            "traffic": self.traffic.to_dict() if self.traffic else None,
            "autoscaler": self.autoscaler.to_dict() if self.autoscaler else None,
            "scale_events": [event.to_dict() for event in self.scale_events],
            "replica_usage": [replica.to_dict() for replica in self.replica_usage],
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What `ChalkClient.scaling_group_usage` returns.

    Attributes:
        at: When this was read (UTC).
        namespace: Kubernetes namespace.
        groups: The groups, by name.
        missing: What the cluster does not tell and why, one sentence each.
    """

    at: datetime
    namespace: str
    groups: tuple[ScalingGroupUsage, ...] = ()
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON of `top -o json`, one object for each look, schema 1."""
        return {
            "schema": SCHEMA,
            "at": rfc3339(self.at),
            "namespace": self.namespace,
            "scaling_groups": [group.to_dict() for group in self.groups],
            "missing": list(self.missing),
        }

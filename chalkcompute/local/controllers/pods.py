"""Readings of Pods: ready, available, active, and which one goes first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from chalkcompute.local.controllers.objects import (
    created_at,
    find_condition,
    is_deleting,
    parse_time,
)
from chalkcompute.local.ports import Manifest

__all__ = [
    "available_in",
    "is_active",
    "is_finished",
    "is_ready",
    "is_terminating",
    "pod_victims",
]

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_finished(pod: Manifest) -> bool:
    """Succeeded or Failed: its containers will not run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Manifest) -> bool:
    """Counts as a replica: neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleting(pod)


def is_terminating(pod: Manifest) -> bool:
    """Deletion was asked for and it is not over: the `terminatingReplicas` of a ReplicaSet."""
    return is_deleting(pod) and not is_finished(pod)


def is_ready(pod: Manifest) -> bool:
    """The condition `Ready`."""
    condition = find_condition(pod.get("status") or {}, "Ready")
    return condition is not None and condition["status"] == "True"


def available_in(pod: Manifest, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready Pod counts as available (0 when it does already), None when not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_seconds:
        return 0.0
    condition = find_condition(pod["status"], "Ready") or {}
    since = parse_time(condition.get("lastTransitionTime"))
    if since is None:
        return None
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def pod_victims(pods: Iterable[Manifest], count: int) -> list[Manifest]:
    """The Pods to delete first when a ReplicaSet shrinks, in the order of Kubernetes.

    Source: `pkg/controller` `ActivePodsWithRanks`: not assigned, pending, not ready, cheaper by
    annotation, ready for less time, restarted more often, younger.
    """
    return sorted(pods, key=_victim_rank)[: max(0, count)]


def _victim_rank(pod: Manifest) -> tuple[bool, int, bool, int, float, int, float, str]:
    status = pod.get("status") or {}
    ready = is_ready(pod)
    since = None
    if ready:
        since = parse_time((find_condition(status, "Ready") or {}).get("lastTransitionTime"))
    restarts = sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ())
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASE_ORDER.get(status.get("phase", "Pending"), 2),
        ready,
        _deletion_cost(pod),
        -since.timestamp() if since else 0.0,
        -restarts,
        -created_at(pod).timestamp(),
        pod["metadata"].get("uid", ""),
    )


def _deletion_cost(pod: Manifest) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:  # a cost that is no number counts as none, as in Kubernetes
        return 0

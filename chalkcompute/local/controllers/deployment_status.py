"""Status of a Deployment: counts, conditions, deadline. Pure.

Source: k8s.io/kubernetes `pkg/controller/deployment/{sync,progress}.go` and `util`. The order of the
conditions is a consequence of when each was last set, and clients see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from chalkcompute.local.controllers.objects import find_condition, format_time, parse_time
from chalkcompute.local.controllers.scaling import available_of, max_unavailable, replicas_of, total_replicas
from chalkcompute.local.ports import Manifest

__all__ = [
    "condition",
    "drop_condition",
    "is_complete",
    "put_condition",
    "rollout_status",
    "seconds_to_deadline",
    "status_of",
]

NEW_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
_NO_DEADLINE = 2**31 - 1  # progressDeadlineSeconds of MaxInt32 means none


def condition(kind: str, status: str, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """A `DeploymentCondition` that changed now."""
    moment = format_time(now)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def put_condition(status: Manifest, new: Mapping[str, Any]) -> None:
    """Set a condition, moving it to the end, unless it already has this status and reason."""
    old = find_condition(status, new["type"])
    if old is not None and old["status"] == new["status"] and old.get("reason") == new["reason"]:
        return
    added = dict(new)
    if old is not None and old["status"] == new["status"]:
        added["lastTransitionTime"] = old["lastTransitionTime"]
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != new["type"]] + [added]


def drop_condition(status: Manifest, kind: str) -> None:
    """Remove a condition."""
    kept = [c for c in status.get("conditions") or () if c["type"] != kind]
    if kept:
        status["conditions"] = kept
    else:
        status.pop("conditions", None)


def has_deadline(deployment: Manifest) -> bool:
    """Whether a rollout of it can run out of time."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return seconds is not None and seconds != _NO_DEADLINE


def is_complete(deployment: Manifest, status: Manifest) -> bool:
    """Every wanted replica is of the new template and available, and none other is left."""
    wanted = replicas_of(deployment)
    observed: int = status.get("observedGeneration", 0)
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    return observed >= deployment["metadata"].get("generation", 0) and all(
        status.get(count, 0) == wanted for count in counts
    )


def status_of(
    deployment: Manifest, every: Sequence[Manifest], new: Manifest | None, now: datetime
) -> Manifest:
    """Counts and the condition `Available`; the other conditions are carried over."""
    available = sum(available_of(rs) for rs in every)
    counts = {
        "replicas": _sum(every, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(every) - available),
    }
    old = deployment.get("status") or {}
    status: Manifest = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    status.update({k: v for k, v in counts.items() if v})
    terminating = [(rs.get("status") or {}).get("terminatingReplicas") for rs in every]
    if None not in terminating:
        status["terminatingReplicas"] = sum(t for t in terminating if t is not None)
    if old.get("collisionCount") is not None:
        status["collisionCount"] = old["collisionCount"]
    if old.get("conditions"):
        status["conditions"] = [dict(c) for c in old["conditions"]]
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        text = "Deployment has minimum availability."
        put_condition(status, condition("Available", "True", "MinimumReplicasAvailable", text, now))
    else:
        text = "Deployment does not have minimum availability."
        put_condition(status, condition("Available", "False", "MinimumReplicasUnavailable", text, now))
    return status


def _sum(replica_sets: Iterable[Manifest], field: str) -> int:
    return sum(int((rs.get("status") or {}).get(field) or 0) for rs in replica_sets)


def rollout_status(
    deployment: Manifest, every: Sequence[Manifest], new: Manifest | None, now: datetime
) -> Manifest:
    """`status_of`, with the conditions `Progressing` and `ReplicaFailure`."""
    status = status_of(deployment, every, new, now)
    old = deployment.get("status") or {}
    current = find_condition(old, "Progressing")
    if not has_deadline(deployment):
        drop_condition(status, "Progressing")
    elif not _was_complete(status, current):
        _put_progress(deployment, status, new, current, now)
    failure = _replica_failure(every, new)
    if failure is not None:
        put_condition(status, failure)
    else:
        drop_condition(status, "ReplicaFailure")
    return status


def _was_complete(status: Manifest, current: Mapping[str, Any] | None) -> bool:
    same = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return same and current is not None and current.get("reason") == NEW_AVAILABLE


def _put_progress(
    deployment: Manifest,
    status: Manifest,
    new: Manifest | None,
    current: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    named = new["metadata"]["name"] if new else deployment["metadata"]["name"]
    subject = f'{"ReplicaSet" if new else "Deployment"} "{named}"'
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        put_condition(status, condition("Progressing", "True", NEW_AVAILABLE, text, now))
    elif _made_progress(deployment.get("status") or {}, status):
        text = f"{subject} is progressing."
        progress = condition("Progressing", "True", "ReplicaSetUpdated", text, now)
        if current is not None:
            # Set anew even when nothing but the time differs: the deadline counts from the update.
            if current["status"] == "True":
                progress["lastTransitionTime"] = current["lastTransitionTime"]
            drop_condition(status, "Progressing")
        put_condition(status, progress)
    elif _timed_out(deployment, status, now):
        text = f"{subject} has timed out progressing."
        put_condition(status, condition("Progressing", "False", TIMED_OUT, text, now))


def _made_progress(old: Manifest, new: Manifest) -> bool:
    def left(status: Manifest) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return left(new) < left(old) or any(new.get(k, 0) > old.get(k, 0) for k in grown)


def _timed_out(deployment: Manifest, status: Manifest, now: datetime) -> bool:
    current = find_condition(status, "Progressing")
    if current is None or current.get("reason") == NEW_AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    since = parse_time(current.get("lastUpdateTime"))
    limit = timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])
    return since is not None and since + limit < now


def seconds_to_deadline(deployment: Manifest, status: Manifest, now: datetime) -> float | None:
    """When a stuck rollout has to be looked at again, or None when nothing is under way."""
    current = find_condition(status, "Progressing")
    if current is None or not has_deadline(deployment) or deployment["spec"].get("paused"):
        return None
    if is_complete(deployment, status) or current.get("reason") in (TIMED_OUT, NEW_AVAILABLE):
        return None
    since = parse_time(current.get("lastUpdateTime"))
    if since is None:
        return None
    limit = timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])
    # A second more, because times are stored in whole seconds.
    return max(0.0, (since + limit - now).total_seconds()) + 1


def _replica_failure(every: Sequence[Manifest], new: Manifest | None) -> dict[str, Any] | None:
    for rs in [*([new] if new else []), *every]:
        found = find_condition(rs.get("status") or {}, "ReplicaFailure")
        if found is not None:
            moment = found.get("lastTransitionTime")
            return {
                "type": "ReplicaFailure",
                "status": found["status"],
                "lastUpdateTime": moment,
                "lastTransitionTime": moment,
                "reason": found.get("reason", ""),
                "message": found.get("message", ""),
            }
    return None

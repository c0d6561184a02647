"""Events of autoscalers to changes of the replica count. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from chalkcompute.autoscaler import ScaleEvent
from chalkcompute.manifests.pods import event_time
from chalkcompute.types import Manifest

__all__ = ["scale_events"]

# Messages of kube-controller-manager (podautoscaler, deployment) and of KEDA's scale executor.
_RESCALED = re.compile(r"New size: (\d+)(?:; reason: (.*))?", re.DOTALL)
_KEDA = re.compile(r".* from (\d+) to (\d+)", re.DOTALL)
# `from 1 to 3`, and `to 3 from 1` of Kubernetes before 1.29.
_REPLICA_SET = re.compile(
    r"Scaled (?:up|down) replica set \S+ "
    r"(?:from (?P<from>\d+) to (?P<to>\d+)|to (?P<to_>\d+) from (?P<from_>\d+))"
)
# Of the triggers that we declare, only requests can activate: CPU cannot be measured of no replica.
_KEDA_REASONS = {"KEDAScaleTargetActivated": "a request woke it", "KEDAScaleTargetDeactivated": "it was idle"}
_SAME_SECONDS = 15.0  # the Deployment controller follows an autoscaler within moments


def scale_events(events: Sequence[Manifest], name: str) -> tuple[ScaleEvent, ...]:
    """What autoscalers did to the Deployment `name`, oldest first.

    An Event that was repeated counts once, at its last time: the times between are not kept.

    Args:
        events: Events about objects of that name; others are passed over.
        name: Name of the group.
    """
    about = [event for event in events if (event.get("involvedObject") or {}).get("name") == name]
    steps = list(_replica_set_steps(about))
    found = [made for event in about if (made := _scale_event(event, steps)) is not None]
    return tuple(sorted(found, key=lambda made: made.at))


def _scale_event(event: Manifest, steps: Sequence[tuple[datetime, int, int]]) -> ScaleEvent | None:
    kind, reason = (event.get("involvedObject") or {}).get("kind"), str(event.get("reason") or "")
    at, text = event_time(event), str(event.get("message") or "").strip()
    if at is None:
        return None
    if kind == "HorizontalPodAutoscaler" and reason == "SuccessfulRescale":
        match = _RESCALED.match(text)
        if match is None:
            return None
        count = int(match[1])
        return ScaleEvent(at, count, _before(at, count, steps), (match[2] or "").strip())
    if kind == "ScaledObject" and reason in _KEDA_REASONS:
        match = _KEDA.match(text)
        woken = reason == "KEDAScaleTargetActivated"
        before, after = (int(match[1]), int(match[2])) if match else (0, 1) if woken else (None, 0)
        return ScaleEvent(at, after, before, _KEDA_REASONS[reason])
    return None


def _replica_set_steps(events: Sequence[Manifest]) -> Iterator[tuple[datetime, int, int]]:
    """When the Deployment controller set a ReplicaSet to which count, and from which."""
    for event in events:
        if event.get("reason") != "ScalingReplicaSet":
            continue
        match, at = _REPLICA_SET.match(str(event.get("message") or "")), event_time(event)
        if match is not None and at is not None:
            yield at, int(match["to"] or match["to_"]), int(match["from"] or match["from_"])


def _before(at: datetime, count: int, steps: Sequence[tuple[datetime, int, int]]) -> int | None:
    """The count before, where the Deployment's own Event of that change is still there."""
    near = [
        (abs((moment - at).total_seconds()), before)
        for moment, after, before in steps
        if after == count and abs((moment - at).total_seconds()) <= _SAME_SECONDS
    ]
    return min(near)[1] if near else None

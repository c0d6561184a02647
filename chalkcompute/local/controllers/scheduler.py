"""The scheduler: binds Pods to the Node of this machine, or says why it cannot."""

from __future__ import annotations

from collections.abc import Iterator

from chalkcompute.local.controllers.actions import Update, perform
from chalkcompute.local.controllers.claims import claims_of
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.controllers.objects import (
    Key,
    created_at,
    find_condition,
    format_time,
    is_deleting,
    key_of,
)
from chalkcompute.local.controllers.pods import is_finished
from chalkcompute.local.controllers.scheduling import Placed, Refused, place
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["MANAGER", "Scheduler", "with_scheduled_condition"]

MANAGER = "kube-scheduler"
_PROFILE = "default-scheduler"  # spec.schedulerName of the Pods that are ours to place


def is_waiting(pod: Manifest) -> bool:
    """Whether a Pod is this scheduler's to place, now."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", _PROFILE) == _PROFILE
        and not is_deleting(pod)
        and not is_finished(pod)
    )


def with_scheduled_condition(pod: Manifest, outcome: Placed | Refused, now: str) -> Manifest:
    """`pod` with the condition `PodScheduled` that follows from the outcome; the same object if it has it."""
    wanted: dict[str, object] = {"type": "PodScheduled", "status": "True"}
    if isinstance(outcome, Refused):
        wanted = {**wanted, "status": "False", "reason": "Unschedulable", "message": outcome.message}
    status = pod.get("status") or {}
    known = find_condition(status, "PodScheduled")
    if known is not None and all(known.get(k) == wanted.get(k) for k in ("status", "reason", "message")):
        return pod
    moved = known is None or known["status"] != wanted["status"]
    condition = {
        **wanted,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "lastProbeTime": None,
        "lastTransitionTime": now if moved or known is None else known["lastTransitionTime"],
    }
    others = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
    return {**pod, "status": {**status, "conditions": [*others, condition]}}


class Scheduler:
    """Places waiting Pods, oldest first, each on what the ones before it left.

    Nobody else binds Pods, so what has gone by on the watch, and what was bound here, is all there is to
    count: the store is not read for every Pod anew. A Pod whose end has not gone by yet still counts.
    """

    name = "scheduler"
    kinds = ("Pod", "Node", "PersistentVolumeClaim")

    def __init__(self, api: Api, recorder: EventRecorder, clock: Clock) -> None:
        self._api = api
        self._recorder = recorder
        self._clock = clock
        self._bound: dict[Key, Manifest] = {}
        self._waiting: dict[Key, Manifest] = {}

    def keys(self, change: Change) -> Iterator[Key]:
        """A waiting Pod itself; every waiting Pod when room may have come free, or a volume."""
        if change.kind == "Pod" and not self._note(change):
            return
        if change.kind == "Pod" and key_of(change.obj) in self._waiting:
            yield key_of(change.obj)
        else:
            yield from sorted(self._waiting, key=lambda key: created_at(self._waiting[key]))

    def _note(self, change: Change) -> bool:
        """Keep count; True when a Pod has begun to wait, or room has come free."""
        key, pod = key_of(change.obj), change.obj
        had, waited = key in self._bound, key in self._waiting
        self._bound.pop(key, None)
        self._waiting.pop(key, None)
        if change.type != "DELETED" and is_waiting(pod):
            self._waiting[key] = pod
            return not waited
        if change.type != "DELETED" and pod["spec"].get("nodeName") and not is_finished(pod):
            self._bound[key] = pod
            return False
        return had

    def sync(self, key: Key) -> float | None:
        pod = find(self._api, "Pod", key)
        if pod is None or not is_waiting(pod):
            return None
        bound = [other for known, other in self._bound.items() if known != key]
        outcome = place(pod, self._api.list("Node"), bound, self._claims(pod))
        updated = with_scheduled_condition(pod, outcome, format_time(self._clock()))
        news = updated is not pod
        if news:
            pod = self._api.update(updated, manager=MANAGER, subresource="status")
        if isinstance(outcome, Placed):
            self._bind(pod, outcome.node)
        elif news:
            self._recorder.scheduling(pod, "Warning", "FailedScheduling", "Scheduling", outcome.message)
        return None

    def _claims(self, pod: Manifest) -> dict[str, Manifest]:
        namespace = pod["metadata"]["namespace"]
        found = (find(self._api, "PersistentVolumeClaim", (namespace, name)) for name in claims_of(pod))
        return {claim["metadata"]["name"]: claim for claim in found if claim is not None}

    def _bind(self, pod: Manifest, node: str) -> None:
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        perform(self._api, [Update(bound)], manager=MANAGER)
        namespace, name = key_of(pod)
        self._bound[namespace, name] = bound
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._recorder.scheduling(pod, "Normal", "Scheduled", "Binding", message)

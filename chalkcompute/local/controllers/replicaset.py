"""The ReplicaSet controller: as many Pods as wished, and their count in the status.

Source: k8s.io/kubernetes `pkg/controller/replicaset`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.actions import Action, Create, Delete, Recorder, Update, perform
from chalkcompute.local.controllers.controller import Clock, find, relabelled, selectable
from chalkcompute.local.controllers.objects import (
    Key,
    claim,
    controller_of,
    find_condition,
    format_time,
    is_deleting,
    key_of,
    owner_reference,
    without_owner,
)
from chalkcompute.local.controllers.pods import (
    available_in,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    pod_victims,
)
from chalkcompute.local.controllers.scaling import replicas_of
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["ReplicaSetController", "new_pod", "reconcile", "replica_status"]


def new_pod(rs: Manifest) -> Manifest:
    """A Pod of the ReplicaSet's template."""
    template = rs["spec"]["template"]
    meta = template.get("metadata") or {}
    pod_meta: dict[str, Any] = {
        "generateName": f"{rs['metadata']['name']}-",
        "namespace": rs["metadata"]["namespace"],
        "ownerReferences": [owner_reference(rs)],
    }
    pod_meta.update({k: dict(meta[k]) for k in ("labels", "annotations") if meta.get(k)})
    if meta.get("finalizers"):
        pod_meta["finalizers"] = list(meta["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": deepcopy(template["spec"])}


def reconcile(rs: Manifest, pods: Sequence[Manifest]) -> list[Action]:
    """The Pods to create or to delete. Pure."""
    if is_deleting(rs):
        return []
    active = [pod for pod in pods if is_active(pod)]
    missing = replicas_of(rs) - len(active)
    if missing > 0:
        return [Create(new_pod(rs)) for _ in range(missing)]
    return [Delete(pod) for pod in pod_victims(active, -missing)]


def replica_status(
    rs: Manifest, pods: Sequence[Manifest], failure: tuple[str, str] | None, now: datetime
) -> Manifest:
    """The status. Pure.

    Args:
        rs: The ReplicaSet.
        pods: Every Pod it controls.
        failure: `(reason, message)` when creating or deleting Pods was refused.
        now: The time.
    """
    active = [pod for pod in pods if is_active(pod)]
    wanted = rs["spec"]["template"].get("metadata", {}).get("labels") or {}
    delay = rs["spec"].get("minReadySeconds") or 0
    counts = {
        "fullyLabeledReplicas": sum(
            wanted.items() <= (p["metadata"].get("labels") or {}).items() for p in active
        ),
        "readyReplicas": sum(is_ready(p) for p in active),
        "availableReplicas": sum(available_in(p, delay, now) == 0 for p in active),
    }
    status: Manifest = {"replicas": len(active)}
    status.update({k: v for k, v in counts.items() if v})
    status["terminatingReplicas"] = sum(is_terminating(p) for p in pods)
    status["observedGeneration"] = rs["metadata"].get("generation", 0)
    conditions = [
        c for c in (rs.get("status") or {}).get("conditions") or () if c["type"] != "ReplicaFailure"
    ]
    if failure is not None:
        known = find_condition(rs.get("status") or {}, "ReplicaFailure")
        conditions.append(known or _failure(failure, now))
    if conditions:
        status["conditions"] = conditions
    return status


def _failure(failure: tuple[str, str], now: datetime) -> dict[str, str]:
    return {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": format_time(now),
        "reason": failure[0],
        "message": failure[1],
    }


class ReplicaSetController:
    """Keeps the Pods of ReplicaSets."""

    name = "replicaset"
    kinds = ("ReplicaSet", "Pod")

    def __init__(self, api: Api, recorder: Recorder, clock: Clock) -> None:
        self._api = api
        self._recorder = recorder
        self._clock = clock
        self._relabelled: set[Key] = set()

    def keys(self, change: Change) -> Iterator[Key]:
        """The ReplicaSet itself, or those that a Pod belongs or could belong to."""
        if change.kind == "ReplicaSet":
            yield key_of(change.obj)
            return
        namespace = change.obj["metadata"]["namespace"]
        owners = {
            owner["name"]
            for pod in (change.obj, change.old)
            if pod is not None and (owner := controller_of(pod, "ReplicaSet"))
        }
        keys = [(namespace, name) for name in owners]
        if relabelled(change):
            self._relabelled.update(keys)
        yield from keys
        if controller_of(change.obj) is None and not is_deleting(change.obj):
            labels = change.obj["metadata"].get("labels") or {}
            for rs in self._api.list("ReplicaSet", namespace) if labels else ():
                if match_label_selector(rs["spec"]["selector"], labels):
                    yield key_of(rs)

    def sync(self, key: Key) -> float | None:
        rs = find(self._api, "ReplicaSet", key)
        if rs is None:
            return None
        refusal = self._act(rs, reconcile(rs, self._claimed(rs)))
        pods = self._claimed(rs)
        now = self._clock()
        failure = None if refusal is None else (refusal[0], refusal[1].message)
        status = replica_status(rs, pods, failure, now)
        if status != rs.get("status"):
            perform(self._api, [Update({**rs, "status": status}, "status")])
        if refusal is not None:
            raise refusal[1]
        return _next_available(rs, pods, now)

    def _claimed(self, rs: Manifest) -> list[Manifest]:
        everything = key_of(rs) in self._relabelled
        pods = selectable(self._api, "Pod", rs, everything=everything)
        claims = claim(rs, [pod for pod in pods if not is_finished(pod) or controller_of(pod)])
        uid = rs["metadata"]["uid"]
        perform(self._api, [Update(without_owner(pod, [uid])) for pod in claims.release])
        perform(self._api, [Update(pod) for pod in claims.adopt])
        self._relabelled.discard(key_of(rs))
        return claims.owned

    def _act(self, rs: Manifest, actions: Sequence[Action]) -> tuple[str, StatusError] | None:
        """Create or delete until the first refusal, which is returned with its reason."""
        for action in actions:
            try:
                if isinstance(action, Create):
                    pod = self._api.create(action.obj, manager="kube-controller-manager")
                    self._emit(rs, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
                elif isinstance(action, Delete):
                    perform(self._api, [action])
                    name = action.obj["metadata"]["name"]
                    self._emit(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
            except StatusError as error:
                verb = "create" if isinstance(action, Create) else "delete"
                reason = f"Failed{verb.capitalize()}"
                doing = "creating" if verb == "create" else "deleting"
                self._emit(rs, "Warning", reason, f"Error {doing}: {error.message}")
                return reason, error
        return None

    def _emit(self, rs: Manifest, kind: str, reason: str, message: str) -> None:
        self._recorder.event(rs, kind, reason, message)


def _next_available(rs: Manifest, pods: Sequence[Manifest], now: datetime) -> float | None:
    """When the next ready Pod will have been ready for `minReadySeconds`."""
    delay = rs["spec"].get("minReadySeconds") or 0
    waits = [w for pod in pods if is_active(pod) if (w := available_in(pod, delay, now))]
    return min(waits, default=None)

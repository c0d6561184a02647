"""The Deployment controller: observes, lets `rollout.reconcile` decide, acts."""

from __future__ import annotations

from collections.abc import Iterator

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.controllers.actions import Recorder, Update, perform
from chalkcompute.local.controllers.controller import Clock, find, relabelled, selectable
from chalkcompute.local.controllers.deployment_status import seconds_to_deadline
from chalkcompute.local.controllers.objects import Key, claim, controller_of, key_of, without_owner
from chalkcompute.local.controllers.rollout import ObservedDeployment, new_name, reconcile
from chalkcompute.local.controllers.scaling import is_rolling
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["DeploymentController"]


class DeploymentController:
    """Keeps the ReplicaSets of Deployments."""

    name = "deployment"
    kinds = ("Deployment", "ReplicaSet", "Pod")

    def __init__(self, api: Api, recorder: Recorder, clock: Clock) -> None:
        self._api = api
        self._recorder = recorder
        self._clock = clock
        self._relabelled: set[Key] = set()

    def keys(self, change: Change) -> Iterator[Key]:
        """The Deployment itself, or the one that a ReplicaSet or a Pod that went belongs to."""
        if change.kind == "Deployment":
            yield key_of(change.obj)
        elif change.kind == "ReplicaSet":
            keys = list(self._owners(change.obj))
            if relabelled(change):
                self._relabelled.update(keys)
            yield from keys
        elif change.type == "DELETED" and (owner := controller_of(change.obj, "ReplicaSet")):
            # The strategy Recreate waits for the last old Pod.
            namespace = change.obj["metadata"]["namespace"]
            rs = find(self._api, "ReplicaSet", (namespace, owner["name"]))
            if rs is not None:
                yield from self._owners(rs)

    def _owners(self, rs: Manifest) -> Iterator[Key]:
        namespace = rs["metadata"]["namespace"]
        owner = controller_of(rs)
        if owner is not None:
            if owner["kind"] == "Deployment":
                yield namespace, owner["name"]
            return
        labels = rs["metadata"].get("labels") or {}
        for deployment in self._api.list("Deployment", namespace):
            if match_label_selector(deployment["spec"]["selector"], labels):
                yield key_of(deployment)

    def sync(self, key: Key) -> float | None:
        deployment = find(self._api, "Deployment", key)
        if deployment is None:
            return None
        seen = self._observe(deployment, everything=key in self._relabelled)
        self._relabelled.discard(key)
        actions = reconcile(seen, self._clock())
        perform(self._api, actions, self._recorder)
        written = [a.obj for a in actions if isinstance(a, Update) and a.obj["kind"] == "Deployment"]
        status = (written[-1] if written else deployment).get("status") or {}
        return seconds_to_deadline(deployment, status, self._clock())

    def _observe(self, deployment: Manifest, *, everything: bool) -> ObservedDeployment:
        """Read what a step needs; takes orphans in and lets go of what is selected no longer."""
        namespace = deployment["metadata"]["namespace"]
        claims = claim(deployment, selectable(self._api, "ReplicaSet", deployment, everything=everything))
        uid = deployment["metadata"]["uid"]
        perform(self._api, [Update(without_owner(rs, [uid])) for rs in claims.release])
        perform(self._api, [Update(rs) for rs in claims.adopt])
        names = {rs["metadata"]["name"] for rs in claims.owned}
        owned = claims.owned
        if claims.adopt:  # adopting changed their versions
            owned = [self._api.get("ReplicaSet", name, namespace) for name in sorted(names)]
        wanted = new_name(deployment)
        taken = wanted not in names and find(self._api, "ReplicaSet", (namespace, wanted)) is not None
        pods = [] if is_rolling(deployment) else self._api.list("Pod", namespace)
        return ObservedDeployment(deployment, owned, pods, frozenset([wanted] if taken else ()))

"""One step of a Deployment's rollout: which ReplicaSets it makes, and what size each gets. Pure.

Source: k8s.io/kubernetes `pkg/controller/deployment/{deployment_controller,rolling,recreate,sync}.go`.
A step that changes the size of a ReplicaSet ends there; the change itself brings the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from chalkcompute.local.controllers.actions import Action, Create, Delete, Emit, Update
from chalkcompute.local.controllers.deployment_status import (
    condition,
    has_deadline,
    is_complete,
    put_condition,
    rollout_status,
    status_of,
)
from chalkcompute.local.controllers.objects import (
    created_at,
    find_condition,
    is_deleting,
    owner_reference,
)
from chalkcompute.local.controllers.pods import is_finished
from chalkcompute.local.controllers.scaling import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    available_of,
    is_rolling,
    max_surge,
    max_unavailable,
    new_replica_count,
    proportional_sizes,
    replicas_of,
    scale_down_old,
    surely_available,
    total_replicas,
    unhealthy_cleanup,
)
from chalkcompute.local.controllers.template import HASH_LABEL, same_template, template_hash
from chalkcompute.local.ports import Manifest

__all__ = ["REVISION", "ObservedDeployment", "new_name", "reconcile"]

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """What a step is decided on.

    Attributes:
        deployment: The Deployment.
        replica_sets: Those it controls.
        pods: Those that its ReplicaSets control (needed for the strategy Recreate only).
        taken: Names that a new one must not have: other ReplicaSets have them.
    """

    deployment: Manifest
    replica_sets: Sequence[Manifest]
    pods: Sequence[Manifest] = ()
    taken: frozenset[str] = frozenset()


def new_name(deployment: Manifest) -> str:
    """The name of the ReplicaSet that the current template gets, if it has none."""
    collisions = (deployment.get("status") or {}).get("collisionCount")
    return f"{deployment['metadata']['name']}-{template_hash(deployment['spec']['template'], collisions)}"


def reconcile(seen: ObservedDeployment, now: datetime) -> list[Action]:
    """What is to be done now to bring the Deployment closer to its spec."""
    return _Step(seen, now).decide()


class _Step:
    """Working copies of one reconcile; `actions` grows as they change."""

    def __init__(self, seen: ObservedDeployment, now: datetime) -> None:
        self.stored = seen.deployment
        self.deployment = deepcopy(seen.deployment)
        self.now = now
        self.pods = seen.pods
        self.taken = seen.taken
        self.actions: list[Action] = []
        sets = sorted((deepcopy(rs) for rs in seen.replica_sets), key=_age)
        template = self.deployment["spec"]["template"]
        self.new = next((rs for rs in sets if same_template(rs["spec"]["template"], template)), None)
        self.old = [rs for rs in sets if rs is not self.new]

    @property
    def every(self) -> list[Manifest]:
        return [*self.old, *([self.new] if self.new else [])]

    @property
    def active_old(self) -> list[Manifest]:
        return [rs for rs in self.old if replicas_of(rs) > 0]

    def decide(self) -> list[Action]:
        if is_deleting(self.deployment):
            return self._finish(status_of)
        self._note_pause()
        paused = bool(self.deployment["spec"].get("paused"))
        if self.new is not None:
            self._sync_new()
        if paused or self._is_scaling():
            self._scale()
            if paused:
                self._clean_up()
            return self._finish(status_of)
        if is_rolling(self.deployment):
            self._roll()
        else:
            self._recreate()
        return self._finish(rollout_status)

    def _finish(self, status_by: Callable[..., Manifest]) -> list[Action]:
        """Write status (and the revision annotation, which travels with it) when either changed."""
        status = status_by(self.deployment, self.every, self.new, self.now)
        self.deployment["status"] = status
        same_meta = self.deployment["metadata"] == self.stored["metadata"]
        if not same_meta or status != (self.stored.get("status") or {}):
            self.actions.append(Update(self.deployment, "status"))
        return self.actions

    # -- pause -----------------------------------------------------------------------------------

    def _note_pause(self) -> None:
        """The clock of the deadline stands still while paused; the condition says so."""
        status = self.deployment.setdefault("status", {})
        current = find_condition(status, "Progressing") or {}
        if not has_deadline(self.deployment) or current.get("reason") == "ProgressDeadlineExceeded":
            return
        known = current.get("reason") == "DeploymentPaused"
        if self.deployment["spec"].get("paused") and not known:
            text = "Deployment is paused"
            put_condition(status, condition("Progressing", "Unknown", "DeploymentPaused", text, self.now))
        elif not self.deployment["spec"].get("paused") and known:
            text = "Deployment is resumed"
            put_condition(status, condition("Progressing", "Unknown", "DeploymentResumed", text, self.now))

    # -- the new ReplicaSet ----------------------------------------------------------------------

    def _next_revision(self) -> int:
        return max((_revision(rs) for rs in self.old), default=0) + 1

    def _sync_new(self) -> None:
        """Bring annotations and minReadySeconds of the existing new ReplicaSet up to date."""
        rs = self.new
        assert rs is not None
        before = deepcopy(rs)
        self._annotate(rs, exists=True)
        wanted = self.deployment["spec"].get("minReadySeconds", 0)
        if rs["spec"].get("minReadySeconds", 0) != wanted:
            rs["spec"]["minReadySeconds"] = wanted
        if rs != before:
            self.actions.append(Update(rs))
        self._set_revision(_revision(rs))
        status = self.deployment.setdefault("status", {})
        if has_deadline(self.deployment) and find_condition(status, "Progressing") is None:
            text = f'Found new replica set "{rs["metadata"]["name"]}"'
            put_condition(status, condition("Progressing", "True", "FoundNewReplicaSet", text, self.now))

    def _create_new(self) -> bool:
        """Make the ReplicaSet of the current template; False when its name is taken by another."""
        status = self.deployment.setdefault("status", {})
        rs = self._build_new(status.get("collisionCount"))
        name = rs["metadata"]["name"]
        if name in self.taken:
            status["collisionCount"] = (status.get("collisionCount") or 0) + 1
            return False
        size = replicas_of(rs)
        self.new = rs
        self.actions.append(Create(rs))
        if size > 0:
            self._emit_scaling(f"Scaled up replica set {name} from 0 to {size}")
        self._set_revision(self._next_revision())
        if has_deadline(self.deployment):
            text = f'Created new replica set "{name}"'
            put_condition(status, condition("Progressing", "True", "NewReplicaSetCreated", text, self.now))
        return True

    def _build_new(self, collisions: int | None) -> Manifest:
        spec = self.deployment["spec"]
        meta = self.deployment["metadata"]
        label = template_hash(spec["template"], collisions)
        template = deepcopy(spec["template"])
        labels = {**(template.setdefault("metadata", {}).get("labels") or {}), HASH_LABEL: label}
        template["metadata"]["labels"] = dict(labels)
        selector = deepcopy(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: label}
        rs: Manifest = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{label}",
                "namespace": meta["namespace"],
                "labels": labels,
                "ownerReferences": [owner_reference(self.deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            rs["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        rs["spec"]["replicas"] = new_replica_count(self.deployment, [*self.old, rs], 0)
        self._annotate(rs, exists=False)
        return rs

    def _annotate(self, rs: Manifest, *, exists: bool) -> None:
        """Copy the Deployment's annotations and number the revision."""
        own = self.deployment["metadata"].get("annotations") or {}
        annotations: dict[str, str] = dict(rs["metadata"].get("annotations") or {})
        annotations.update({k: v for k, v in own.items() if k not in _NOT_COPIED})
        before, revision = _revision(rs), self._next_revision()
        if before < revision:
            annotations[REVISION] = str(revision)
            if before:
                history = annotations.get(REVISION_HISTORY)
                annotations[REVISION_HISTORY] = f"{history},{before}" if history else str(before)
        if not exists:
            annotations.update(self._size_annotations())
        if annotations:
            rs["metadata"]["annotations"] = annotations

    def _size_annotations(self) -> dict[str, str]:
        wanted = replicas_of(self.deployment)
        return {DESIRED_REPLICAS: str(wanted), MAX_REPLICAS: str(wanted + max_surge(self.deployment))}

    def _set_revision(self, revision: int) -> None:
        meta = self.deployment["metadata"]
        if revision and (meta.get("annotations") or {}).get(REVISION) != str(revision):
            meta["annotations"] = {**(meta.get("annotations") or {}), REVISION: str(revision)}

    # -- sizes -----------------------------------------------------------------------------------

    def _resize(self, rs: Manifest, size: int) -> bool:
        """Set the size of a ReplicaSet and what it remembers of the wish; True when the size changed."""
        before = replicas_of(rs)
        annotations = {**(rs["metadata"].get("annotations") or {}), **self._size_annotations()}
        if size == before and annotations == rs["metadata"].get("annotations"):
            return False
        rs["spec"]["replicas"] = size
        rs["metadata"]["annotations"] = annotations
        # Any write of the same ReplicaSet that was already wanted is superseded by this one.
        self.actions = [a for a in self.actions if not (isinstance(a, Update) and a.obj is rs)]
        self.actions.append(Update(rs))
        if size != before:
            direction = "up" if size > before else "down"
            name = rs["metadata"]["name"]
            self._emit_scaling(f"Scaled {direction} replica set {name} from {before} to {size}")
        return size != before

    def _resize_all(self, sets: Sequence[Manifest], sizes: Mapping[str, int]) -> bool:
        resized = [
            self._resize(rs, sizes[rs["metadata"]["name"]]) for rs in sets if rs["metadata"]["name"] in sizes
        ]
        return any(resized)

    def _emit_scaling(self, message: str) -> None:
        self.actions.append(Emit(self.deployment, "Normal", "ScalingReplicaSet", message))

    def _is_scaling(self) -> bool:
        """Whether the wish changed since the active ReplicaSets were last sized."""
        wanted = str(replicas_of(self.deployment))
        active = [rs for rs in self.every if replicas_of(rs) > 0]
        return any(
            (rs["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS, wanted) != wanted for rs in active
        )

    def _scale(self) -> None:
        """Follow a changed wish without making a rollout progress."""
        active = [rs for rs in self.every if replicas_of(rs) > 0]
        wanted = replicas_of(self.deployment)
        if len(active) <= 1:
            latest = active[0] if active else self.new or max(self.old, key=created_at, default=None)
            if latest is not None and replicas_of(latest) != wanted:
                self._resize(latest, wanted)
        elif self._is_saturated():
            self._resize_all(self.active_old, {rs["metadata"]["name"]: 0 for rs in self.active_old})
        elif is_rolling(self.deployment):
            self._resize_all(active, proportional_sizes(self.deployment, active))

    def _is_saturated(self) -> bool:
        wanted = replicas_of(self.deployment)
        if self.new is None:
            return False
        desired = (self.new["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS)
        return desired == str(wanted) and replicas_of(self.new) == wanted == available_of(self.new)

    # -- strategies ------------------------------------------------------------------------------

    def _roll(self) -> None:
        if self.new is None and not self._create_new():
            return
        if self._grow_new() or self._shrink_old():
            return
        self._clean_up_when_complete()

    def _grow_new(self) -> bool:
        assert self.new is not None
        current, wanted = replicas_of(self.new), replicas_of(self.deployment)
        if current == wanted:
            return False
        if current > wanted:
            return self._resize(self.new, wanted)
        return self._resize(self.new, new_replica_count(self.deployment, self.every, current))

    def _shrink_old(self) -> bool:
        """Take from the old sets what availability allows: the unhealthy first."""
        assert self.new is not None
        if total_replicas(self.old) == 0:
            return False
        minimum = replicas_of(self.deployment) - max_unavailable(self.deployment)
        new_missing = replicas_of(self.new) - surely_available(self.new)
        limit = total_replicas(self.every) - minimum - new_missing
        if limit <= 0:
            return False
        cleaned = self._resize_all(self.old, unhealthy_cleanup(self.old, limit))
        surplus = sum(surely_available(rs) for rs in self.every) - minimum
        shrunk = self._resize_all(self.old, scale_down_old(self.old, surplus))
        return cleaned or shrunk

    def _recreate(self) -> None:
        if self._resize_all(self.active_old, {rs["metadata"]["name"]: 0 for rs in self.active_old}):
            return
        if self._old_pods_run():
            return
        if self.new is None and not self._create_new():
            return
        assert self.new is not None
        self._resize(self.new, replicas_of(self.deployment))
        self._clean_up_when_complete()

    def _old_pods_run(self) -> bool:
        if any((rs.get("status") or {}).get("replicas", 0) for rs in self.old):
            return True
        old = {rs["metadata"]["uid"] for rs in self.old}
        return any(
            not is_finished(pod)
            and any(r["uid"] in old for r in pod["metadata"].get("ownerReferences") or ())
            for pod in self.pods
        )

    # -- history ---------------------------------------------------------------------------------

    def _clean_up_when_complete(self) -> None:
        if is_complete(self.deployment, self.stored.get("status") or {}):
            self._clean_up()

    def _clean_up(self) -> None:
        """Delete the oldest revisions beyond `revisionHistoryLimit`."""
        limit = self.deployment["spec"].get("revisionHistoryLimit")
        if limit is None:
            return
        alive = sorted((rs for rs in self.old if not is_deleting(rs)), key=_revision)
        for rs in alive[: max(0, len(alive) - limit)]:
            status = rs.get("status") or {}
            settled = rs["metadata"].get("generation", 0) <= status.get("observedGeneration", 0)
            if settled and replicas_of(rs) == 0 and not status.get("replicas"):
                self.actions.append(Delete(rs))


def _age(rs: Manifest) -> tuple[datetime, str]:
    return created_at(rs), rs["metadata"]["name"]


def _revision(rs: Manifest) -> int:
    text = (rs["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdigit() else 0

"""A group as the cluster has it: what was read, and how far its current revision has come."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalkcompute.manifests import labels
from chalkcompute.manifests.pods import Pod, condition, seconds_since
from chalkcompute.manifests.record import Record
from chalkcompute.types import Manifest

__all__ = [
    "FORBIDDEN",
    "POD_TEMPLATE_HASH",
    "UNASKED",
    "UNSERVED",
    "LiveGroup",
    "Rollout",
    "Unasked",
    "rollout",
]

_ROLLED_OUT = "NewReplicaSetAvailable"  # reason of condition Progressing, from the end of a rollout on
POD_TEMPLATE_HASH = "pod-template-hash"


class Unasked(enum.Enum):
    """The type of `UNASKED`, `FORBIDDEN` and `UNSERVED`."""

    UNASKED = "unasked"
    FORBIDDEN = "forbidden"
    UNSERVED = "unserved"


UNASKED = Unasked.UNASKED
"""An object that nobody asked the cluster for: neither present nor absent."""
FORBIDDEN = Unasked.FORBIDDEN
"""An object that was asked for and may not be read."""
UNSERVED = Unasked.UNSERVED
"""An object of a kind that the cluster does not serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """What was read of one group; None means absent, `UNASKED` (for lists: None) not asked for.

    Attributes:
        record: Its record.
        deployment: The Deployment, None when there is none.
        pods: Its pods, of all revisions, or None when not asked for.
        events: Events about its pods, or None when not asked for.
        route: The HTTPRoute.
        gateway: The Gateway it attaches to.
        scaled_object: KEDA's ScaledObject, of a group that may sleep.
        hpa: The HorizontalPodAutoscaler, the group's own or the one that KEDA made.
        scaler_events: Events about the group's autoscalers and its Deployment, or None when not asked for.
        nodes: The nodes of the cluster.
    """

    record: Record
    deployment: Manifest | None
    pods: Sequence[Manifest] | None = None
    events: Sequence[Manifest] | None = None
    route: Manifest | Unasked | None = UNASKED
    gateway: Manifest | Unasked | None = UNASKED
    scaled_object: Manifest | Unasked | None = UNASKED
    hpa: Manifest | Unasked | None = UNASKED
    scaler_events: Sequence[Manifest] | None = None
    nodes: Sequence[Manifest] | Unasked = UNASKED

    def seconds_for(self, since: datetime | None, now: datetime) -> float:
        """Seconds that something has been so, at most those since the last deploy.

        What a controller said before that was about other objects, and it may not have looked again.
        """
        seconds = seconds_since(since, now)
        written = self.record.written_at
        return seconds if written is None else min(seconds, seconds_since(written, now))

    @property
    def own_deployment(self) -> Manifest | None:
        """The Deployment if it belongs to this incarnation of the group."""
        found = self.deployment
        return found if found is not None and labels.is_owned_by(found, self.record.id) else None


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the current revision has come.

    Attributes:
        desired: Replicas wanted: `Deployment.spec.replicas`, but never fewer than `min_replicas`.
        observed: Whether the Deployment's status is about its current spec.
        updated: Replicas of the current revision.
        running: Of these, those whose container runs; without pods, those that do as far as one can tell.
        ready: Of these, those that are ready.
        old_ready: Ready replicas of earlier revisions, which go on serving.
        complete: Whether every desired replica is ready and of the current revision, and no other is left.
        pods: Pods of the current revision, oldest first; empty when pods were not asked for.
    """

    desired: int
    observed: bool
    updated: int
    running: int
    ready: int
    old_ready: int
    complete: bool
    pods: tuple[Pod, ...] = ()


def rollout(live: LiveGroup) -> Rollout:
    """How far the current revision of a group has come."""
    deployment = live.own_deployment
    minimum = live.record.spec.min_replicas
    if deployment is None:
        return Rollout(max(minimum, 0), False, 0, 0, 0, 0, False)
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    observed = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    desired = max(deployment["spec"].get("replicas", 1), minimum)
    total, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    updated = status.get("updatedReplicas", 0) if observed else 0
    complete = observed and updated >= desired and total == updated and ready >= desired
    if live.pods is None:
        # Without pods, ready ones count for the current revision only where no other revision has any; and of
        # a rollout that was complete once, what is not ready now runs all the same, as far as one can tell.
        current = ready if total == updated else 0
        rolled_out = observed and condition(deployment, "Progressing").get("reason") == _ROLLED_OUT
        running = updated if rolled_out else current
        return Rollout(desired, observed, updated, running, current, ready - current, complete)
    pods = [Pod(pod) for pod in live.pods if labels.is_owned_by(pod, live.record.id)]
    alive = sorted((p for p in pods if not p.is_over), key=lambda p: (p.created, p.name))
    chosen = _current_hash(deployment, alive) if observed else None
    current_pods = (
        tuple(p for p in alive if p.label(POD_TEMPLATE_HASH) == chosen) if chosen is not None else ()
    )
    return Rollout(
        desired=desired,
        observed=observed,
        updated=updated,
        running=sum(p.is_running for p in current_pods),
        ready=sum(p.is_ready for p in current_pods),
        old_ready=sum(p.is_ready for p in alive if p not in current_pods),
        complete=complete,
        pods=current_pods,
    )


def _current_hash(deployment: Manifest, pods: Sequence[Pod]) -> str | None:
    """`pod-template-hash` of the current ReplicaSet."""
    if not (deployment.get("status") or {}).get("updatedReplicas", 0) or not pods:
        return None
    # ReplicaSets were not asked for: a pod of the current one is made from the template as it is now. Where
    # admission has added to pods, the template is still in them; where it has changed them so that none
    # fits, the newest is the best guess.
    template = deployment["spec"]["template"]
    exactly = [pod for pod in pods if pod.is_made_from(template)]
    roughly = [pod for pod in pods if pod.contains(template)]
    return (exactly or roughly or pods)[-1].label(POD_TEMPLATE_HASH)

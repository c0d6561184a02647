"""Live objects to `ScalingGroupInfo`: status, counts and verdict. Pure; `now` is a parameter."""

from __future__ import annotations

from datetime import datetime

from chalkcompute.manifests import labels
from chalkcompute.manifests.causes_route import route_state
from chalkcompute.manifests.diagnose import diagnose
from chalkcompute.manifests.live import UNASKED, UNSERVED, LiveGroup, Rollout, Unasked, rollout
from chalkcompute.manifests.pods import condition
from chalkcompute.manifests.record import Record, Tombstone
from chalkcompute.manifests.scaler import autoscaler_info, paused_by
from chalkcompute.types import Manifest, ReplicaCounts, ScalingGroupInfo, Status, Verdict

__all__ = [
    "UNASKED",
    "LiveGroup",
    "Rollout",
    "observe",
    "observe_tombstone",
    "rollout",
    "route_accepted",
]


def observe(live: LiveGroup, now: datetime) -> ScalingGroupInfo:
    """The group as seen now.

    What was not asked for is taken to be well: with only a record and a Deployment (`list`), the status is
    what these two say.
    """
    progress = rollout(live)
    verdict = None if _is_well(live, progress) else diagnose(live, now)
    status = _status(live, progress, verdict)
    record = live.record
    warnings = tuple(dict.fromkeys(text for pod in progress.pods if (text := pod.substituted)))
    return ScalingGroupInfo(
        id=record.id,
        name=record.name,
        environment=record.environment,
        namespace=record.namespace,
        status=status,
        status_message=_message(status, live, progress, verdict, warnings),
        revision=record.revision,
        image=record.spec.image,
        port=record.spec.port,
        replicas=_counts(record, live.own_deployment),
        web_url=record.web_url,
        tags=dict(record.spec.tags),
        created_at=record.created_at,
        updated_at=record.updated_at,
        spec=record.spec.to_dict(),
        verdict=verdict,
        warnings=warnings,
        autoscaler=autoscaler_info(live, now),
    )


def observe_tombstone(tombstone: Tombstone) -> ScalingGroupInfo:
    """A deleted group as history has it."""
    spec = tombstone.spec
    return ScalingGroupInfo(
        id=tombstone.id,
        name=tombstone.name,
        environment=tombstone.environment,
        namespace=tombstone.namespace,
        status=Status.DELETED,
        status_message=None,
        revision=tombstone.revision,
        image=spec.image,
        port=spec.port,
        replicas=ReplicaCounts(min=spec.min_replicas, max=spec.max_replicas),
        web_url=tombstone.web_url,
        tags=dict(spec.tags),
        created_at=tombstone.created_at,
        updated_at=tombstone.updated_at,
        deleted_at=tombstone.deleted_at,
        spec=spec.to_dict(),
    )


def route_accepted(live: LiveGroup) -> bool:
    """Whether the route is accepted; one that nobody asked for counts as accepted."""
    if isinstance(live.route, Unasked):
        return True
    return live.route is not None and route_state(live.route, live.record.gateway).accepted is True


def _is_well(live: LiveGroup, progress: Rollout) -> bool:
    """Available or scaled to zero, of the recorded revision."""
    deployment = live.own_deployment
    if deployment is None or not progress.complete or not route_accepted(live):
        return False
    if not progress.desired and not _wakes(live):
        return False
    applied = (deployment["metadata"].get("annotations") or {}).get(labels.REVISION_ANNOTATION, "")
    return not applied.isdigit() or int(applied) >= live.record.revision


def _wakes(live: LiveGroup) -> bool:
    """Whether a request starts a replica of a group that has none; taken to be so where nobody asked."""
    scaled = live.scaled_object
    if isinstance(scaled, Unasked):
        return scaled is not UNSERVED
    return scaled is not None and condition(scaled, "Ready").get("status") == "True" and not paused_by(scaled)


def _status(live: LiveGroup, progress: Rollout, verdict: Verdict | None) -> Status:
    if live.record.state == labels.STATE_DELETING:
        return Status.DELETING
    if verdict is not None and verdict.terminal:
        return Status.FAILED
    if _is_well(live, progress):
        return Status.AVAILABLE if progress.desired else Status.SCALED_TO_ZERO
    return Status.RUNNING if progress.running or progress.old_ready else Status.PENDING


def _message(
    status: Status, live: LiveGroup, progress: Rollout, verdict: Verdict | None, warnings: tuple[str, ...]
) -> str | None:
    if verdict is not None:
        return verdict.message
    said = (_state_message(status, live, progress), *warnings)
    return "; ".join(text for text in said if text) or None


def _state_message(status: Status, live: LiveGroup, progress: Rollout) -> str | None:
    if status is Status.RUNNING and progress.complete and not route_accepted(live):
        return "waiting for the gateway to accept the route"
    if status is Status.RUNNING:
        older = f"; {progress.old_ready} of an earlier revision" if progress.old_ready else ""
        return f"{progress.ready} of {progress.desired} replicas are ready{older}"
    if status is Status.PENDING and progress.complete and not progress.desired:
        return "no replica runs, and KEDA is not ready to start one yet"
    if status is Status.PENDING and (live.own_deployment or {}).get("spec", {}).get("replicas") == 0:
        return "its Deployment was scaled to 0 by someone else; deploy again to bring it back"
    if status is Status.PENDING:
        return "no replica has started yet" if live.pods is not None else "no replica is ready yet"
    if status is Status.SCALED_TO_ZERO:
        return "no replica runs; a request starts one"
    return None


def _counts(record: Record, deployment: Manifest | None) -> ReplicaCounts:
    spec, status = (deployment or {}).get("spec") or {}, (deployment or {}).get("status") or {}
    return ReplicaCounts(
        desired=spec.get("replicas", 1) if deployment is not None else record.spec.min_replicas,
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        min=record.spec.min_replicas,
        max=record.spec.max_replicas,
    )

"""Why a group is not available: one verdict out of what was read of it. Pure; `now` is a parameter.

A verdict is terminal when the group cannot get there by itself, and then only: waiting ends there. What
merely takes long (no node yet, a server that does not listen yet) is named without being terminal, until
the Deployment's own `progressDeadlineSeconds` has passed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime

from chalkcompute.manifests import labels
from chalkcompute.manifests.causes_cluster import (
    admission_verdict,
    creation_verdict,
    readiness_verdict,
    rejected_verdict,
    scheduling_verdict,
    volume_verdict,
)
from chalkcompute.manifests.causes_container import container_verdict
from chalkcompute.manifests.causes_route import autoscaler_verdict, route_verdict
from chalkcompute.manifests.live import LiveGroup, Rollout, Unasked, rollout
from chalkcompute.manifests.pods import condition
from chalkcompute.types import Cause, Evidence, Manifest, Verdict

__all__ = ["diagnose"]

_ORDER = (
    Cause.INVALID_IMAGE,
    Cause.IMAGE_PULL,
    Cause.MISSING_CONFIG,
    Cause.START_ERROR,
    Cause.OUT_OF_MEMORY,
    Cause.CRASH_LOOP,
    Cause.VOLUME_NOT_READY,
    Cause.UNSCHEDULABLE,
    Cause.NOT_LISTENING,
)


def diagnose(live: LiveGroup, now: datetime) -> Verdict | None:
    """What stands in the way of the group, most certain first; None when nothing was found."""
    if live.record.state == labels.STATE_DELETING:
        return _delete_interrupted(live, now)
    if (interrupted := _interrupted(live, now)) is not None:
        return interrupted
    progress = rollout(live)
    found = list(_replica_verdicts(live, progress, now))
    # Until the controller has seen the current spec, what it says is about the one before.
    stuck = progress.observed and live.own_deployment is not None and _deadline_passed(live.own_deployment)
    if found:
        verdict = min(
            found, key=lambda v: (not v.terminal, _ORDER.index(v.cause) if v.cause in _ORDER else -1)
        )
        if stuck and not progress.complete:
            verdict = dataclasses.replace(verdict, terminal=True)
        return _with_old_replicas(verdict, progress)
    if stuck and live.own_deployment is not None:
        return _with_old_replicas(_stuck(live.own_deployment), progress)
    return route_verdict(live, now) or autoscaler_verdict(live, now) or _remembered(live, progress)


def _replica_verdicts(live: LiveGroup, progress: Rollout, now: datetime) -> Iterator[Verdict]:
    """What is wrong with the replicas of the current revision."""
    if live.own_deployment is None:
        return
    refused = admission_verdict(live, progress, now)
    if refused is not None:
        yield refused
    rejected = rejected_verdict(live, progress)
    if rejected is not None:
        yield rejected
    for pod in progress.pods:
        verdict = (
            container_verdict(pod, live, now)
            or volume_verdict(pod, live)
            or creation_verdict(pod, live)
            or scheduling_verdict(pod, live, progress)
            or readiness_verdict(pod, live, now)
        )
        if verdict is not None:
            # Where another replica of the same revision serves, this one's trouble is its node's or its luck.
            yield dataclasses.replace(verdict, terminal=False) if progress.ready else verdict


def _interrupted(live: LiveGroup, now: datetime) -> Verdict | None:
    """A deploy whose process died: the record is ahead of the Deployment, and nobody is at work."""
    operation = live.record.operation
    if operation is not None and not operation.is_over(now):
        return None
    deployment = live.own_deployment
    if deployment is None and operation is None:
        return Verdict(
            cause=Cause.INTERRUPTED,
            message=f"the Deployment of `{live.record.name}` is gone, which its deploy had made",
            evidence=(Evidence(kind="object", lines=(f"Deployment `{live.record.name}` does not exist",)),),
            next="deploy again: that brings it back",
            terminal=True,
        )
    if deployment is None:
        what = "its Deployment does not exist"
    else:
        applied = (deployment["metadata"].get("annotations") or {}).get(labels.REVISION_ANNOTATION, "")
        if not applied.isdigit() or int(applied) >= live.record.revision:
            return None
        what = f"its Deployment is still that of revision {applied}"
    return Verdict(
        cause=Cause.INTERRUPTED,
        message=f"the deploy of revision {live.record.revision} was interrupted: {what}",
        evidence=(Evidence(kind="object", lines=(f"Deployment `{live.record.name}`: {what}",)),),
        next="deploy again: that finishes it",
        terminal=True,
    )


def _delete_interrupted(live: LiveGroup, now: datetime) -> Verdict | None:
    """A delete whose process died after it was announced and before the cluster was told."""
    record = live.record
    if record.removed_at is not None or record.operation is None or not record.operation.is_over(now):
        return None
    return Verdict(
        cause=Cause.INTERRUPTED,
        message=f"the delete of `{record.name}` was interrupted",
        evidence=(Evidence(kind="object", lines=(f"begun by {record.operation.holder}",)),),
        next="delete again: that finishes it",
        terminal=True,
    )


def _remembered(live: LiveGroup, progress: Rollout) -> Verdict | None:
    """How the deploy of this revision ended, for a reader that has only its record and its Deployment.

    Whoever looks at pods and route sees for himself; and once a replica is ready, it is another story.
    """
    if live.pods is not None or not isinstance(live.route, Unasked) or progress.running:
        return None
    return live.record.failure


def _deadline_passed(deployment: Manifest) -> bool:
    progressing = condition(deployment, "Progressing")
    return progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded"


def _stuck(deployment: Manifest) -> Verdict:
    text = condition(deployment, "Progressing").get("message", "")
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return Verdict(
        cause=Cause.ROLLOUT_STUCK,
        message=f"the rollout has made no progress for {seconds} seconds",
        evidence=(Evidence(kind="condition", reason="ProgressDeadlineExceeded", lines=(text,)),),
        next="look at the replicas and their events",
        terminal=True,
    )


def _with_old_replicas(verdict: Verdict, progress: Rollout) -> Verdict:
    """Say so when an earlier revision goes on serving: the update failed, the service did not."""
    if not progress.old_ready:
        return verdict
    count = progress.old_ready
    old = f"{count} replica{'s' if count > 1 else ''} of an earlier revision {'go' if count > 1 else 'goes'}"
    return dataclasses.replace(verdict, message=f"{verdict.message}; {old} on serving")

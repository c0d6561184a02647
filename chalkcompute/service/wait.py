"""Wait until a group serves, or until it is certain that it will not.

One short watch of the Deployment at a time: it ends with the first change, so that success is seen at
once; what a Deployment does not tell (why a pod is stuck) is looked at whenever such a watch ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ClusterError,
    ConflictError,
    DeployFailedError,
    NotFoundError,
    WaitTimeoutError,
    is_outage,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.causes_route import autoscaler_verdict, route_state
from chalkcompute.manifests.live import UNASKED, LiveGroup, Unasked, rollout
from chalkcompute.manifests.observe import observe
from chalkcompute.manifests.pods import Pod, seconds_since
from chalkcompute.manifests.record import Record
from chalkcompute.manifests.scaler import autoscaler_info, awaits_keda
from chalkcompute.service import revisions
from chalkcompute.service.progress import Reporter
from chalkcompute.service.read import find_record, look_closer, pods_of, snapshot, with_nodes
from chalkcompute.service.scope import Scope, World
from chalkcompute.types import Cause, Manifest, OnProgress, ScalingGroupInfo, Status, Verdict

__all__ = ["Awaited", "Until", "wait_group"]

Until = Literal["running", "ready", "available"]

_SETTLE_SECONDS = 2.0
"""A replica younger than that may yet fall over right after its start."""

_WATCH_SECONDS = 1.0
_OUTAGE_SECONDS = 30.0
"""An API server that is being replaced is back by then; the group does not need it meanwhile."""
_SHORTEST_PAUSE = 0.1
_PULLING = frozenset(
    ("ContainerCreating", "PodInitializing", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
)
"""Reasons of a waiting container whose image may still be on its way."""
_WAITS_FOR_KEDA = "waiting for KEDA to take up the ScaledObject"
_SERVING = frozenset({Status.AVAILABLE, Status.SCALED_TO_ZERO})


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is waited for: no other incarnation will do, and no other revision if one is named."""

    group_id: str
    revision: int | None = None


def wait_group(
    cluster: Cluster,
    scope: Scope,
    name: str,
    *,
    until: Until,
    timeout: float,
    on_progress: OnProgress | None,
    world: World,
    awaited: Awaited | None = None,
) -> ScalingGroupInfo:
    """Wait; see `ChalkClient.wait_scaling_group`."""
    reporter = Reporter(on_progress, world)
    record: Record | None = None
    last_answer = world.monotonic()
    nodes: Sequence[Manifest] | Unasked = UNASKED  # asked for once: there may be thousands
    while True:
        try:
            record = record or _expected(find_record(cluster, scope.namespace, name), awaited)
            live = replace(snapshot(cluster, record), nodes=nodes)
            if _is_going(live) or _applied_revision(live) > record.revision:
                # Deleted meanwhile, or deployed anew: the record says so.
                record = _expected(find_record(cluster, scope.namespace, name), awaited)
                live = replace(live, record=record)
            live = with_nodes(cluster, live, world.now())
            nodes = live.nodes
            info = observe(live, world.now())
            if until == "available" and info.status in _SERVING and awaits_keda(live):
                verdict = autoscaler_verdict(live, world.now())
                info = replace(info, verdict=verdict, status_message=_WAITS_FOR_KEDA)
            failed = info.verdict if info.verdict is not None and info.verdict.terminal else None
            done = failed is None and _satisfied(live, info, until) and _stays(cluster, live, world)
            if done:
                closer = look_closer(cluster, live, world.now())
                info = replace(info, autoscaler=autoscaler_info(closer, world.now()))
        except ClusterError as error:
            over = world.monotonic() - last_answer >= _OUTAGE_SECONDS or reporter.elapsed >= timeout
            if over or not is_outage(error):
                raise
            reporter.say("starting", f"waiting for the API server: {error.message}")
            world.sleep(_WATCH_SECONDS)
            continue
        last_answer = world.monotonic()
        if failed is not None:
            _conclude(cluster, live, revisions.FAILED, failed)
            raise _failed(info, failed)
        if done:
            if info.status in _SERVING:
                _conclude(cluster, live, revisions.AVAILABLE)
            reporter.say("done", _outcome(info), ready=info.ready_replicas, desired=info.desired_replicas)
            return info
        phase, message = _phase(live, info)
        reporter.say(phase, message, ready=info.ready_replicas, desired=info.desired_replicas)
        left = timeout - reporter.elapsed
        if left <= 0:
            _conclude(cluster, live, revisions.TIMED_OUT, info.verdict)
            raise _timed_out(info, until, timeout)
        _pause(cluster, live.deployment, min(left, _WATCH_SECONDS), world)


def _expected(record: Record, awaited: Awaited | None) -> Record:
    """The record, if it is still that of the deploy whose end we wait for.

    Raises:
        ConflictError: Someone has deployed another revision since.
        NotFoundError: Someone deletes the group, or has deleted it since and made another of that name.
    """
    if record.state == labels.STATE_DELETING:
        raise NotFoundError(
            f"scaling group `{record.name}` is being deleted",
            hint=f"`chalk scaling-group delete {record.name}` waits for the end of it",
        )
    if awaited is None:
        return record
    if record.id != awaited.group_id:
        raise NotFoundError(
            f"scaling group `{record.name}` was deleted meanwhile, and another one of that name was made",
            hint=f"`chalk scaling-group get {record.name}` shows it",
        )
    if awaited.revision is not None and record.revision > awaited.revision:
        raise ConflictError(
            f"revision {awaited.revision} of scaling group `{record.name}` was replaced by revision "
            f"{record.revision}, which someone deployed meanwhile",
            hint=f"`chalk scaling-group get {record.name}` shows how that one does",
        )
    return record


def _is_going(live: LiveGroup) -> bool:
    """Whether an object is gone, or going, that a delete takes away."""
    meta = (live.deployment or {}).get("metadata", {})
    return live.deployment is None or live.route is None or bool(meta.get("deletionTimestamp"))


def _applied_revision(live: LiveGroup) -> int:
    """Revision that the live Deployment is of; 0 if that is not known."""
    annotations = (live.own_deployment or {}).get("metadata", {}).get("annotations") or {}
    text = annotations.get(labels.REVISION_ANNOTATION, "")
    return int(text) if text.isdigit() else 0


def _conclude(cluster: Cluster, live: LiveGroup, outcome: str, verdict: Verdict | None = None) -> None:
    """Note the outcome with the revision, if it is that which was seen and not one deployed meanwhile."""
    if _applied_revision(live) == live.record.revision:
        revisions.conclude(cluster, live.record, outcome, verdict)


def _failed(info: ScalingGroupInfo, verdict: Verdict) -> DeployFailedError:
    return DeployFailedError(
        f"scaling group `{info.name}` failed: {verdict.message}",
        verdict=verdict,
        info=info,
        hint=verdict.next,
    )


def _timed_out(info: ScalingGroupInfo, until: Until, timeout: float) -> WaitTimeoutError:
    verdict = info.verdict
    why = verdict.message if verdict is not None else info.status_message or ""
    for warning in info.warnings:  # what is worth saying anyway is not the reason
        why = why.replace(f"; {warning}", "")
    if info.status in _SERVING:
        text = f"scaling group `{info.name}` serves, but is not settled after {timeout:g} s: {why}"
    else:
        text = f"scaling group `{info.name}` is not {until} after {timeout:g} s: it is {info.status.value}"
        text += f", {why}" if why else ""
    return WaitTimeoutError(
        text,
        verdict=verdict,
        info=info,
        hint=verdict.next
        if verdict is not None and verdict.next
        else "it may still get there; ask with "
        f"`chalk scaling-group get {info.name}`, or wait longer with `--timeout`",
    )


def _satisfied(live: LiveGroup, info: ScalingGroupInfo, until: Until) -> bool:
    if until == "available" and awaits_keda(live):
        return False  # its replicas may serve, and nothing would ever scale them
    if info.status in _SERVING:
        # A Deployment that was scaled down counts the old number until its ReplicaSet has followed.
        return until != "available" or info.ready_replicas <= info.desired_replicas
    if info.status is not Status.RUNNING or until == "available":
        return False
    now = rollout(live)
    if until == "running":
        return now.running >= 1
    return now.ready >= 1 and _is_accepted(live)


def _is_accepted(live: LiveGroup) -> bool:
    if live.route is None or isinstance(live.route, Unasked):
        return False
    return route_state(live.route, live.record.gateway).accepted is True


def _stays(cluster: Cluster, live: LiveGroup, world: World) -> bool:
    """Whether the replicas that satisfied us are still up once the youngest is `_SETTLE_SECONDS` old."""
    before = _running(live.pods if live.pods is not None else pods_of(cluster, live.record))
    if not before:
        return True
    youngest = min(seconds_since(pod.running_since, world.now()) for pod in before.values())
    if youngest >= _SETTLE_SECONDS:
        return True
    world.sleep(_SETTLE_SECONDS - youngest)
    after = _running(pods_of(cluster, live.record))
    return all(uid in after and after[uid].restarts == pod.restarts for uid, pod in before.items())


def _running(pods: Sequence[Manifest] | None) -> dict[str, Pod]:
    """Pods whose container runs, by uid."""
    found = {manifest["metadata"]["uid"]: Pod(manifest) for manifest in pods or ()}
    return {uid: pod for uid, pod in found.items() if pod.is_running and not pod.is_over}


def _phase(live: LiveGroup, info: ScalingGroupInfo) -> tuple[str, str]:
    """Phase and message of a group that is not there yet."""
    said = info.verdict.message if info.verdict is not None else None
    now = rollout(live)
    older = f"; {now.old_ready} of an earlier revision" if now.old_ready else ""
    if now.complete and now.ready > now.desired:
        return "starting", said or f"{now.ready} replicas ready, {now.desired} wanted"
    if info.status in _SERVING:
        return "starting", said or info.status_message or ""
    if now.complete:
        return "routing", said or "waiting for the gateway to accept the route"
    waiting = {pod.waiting.get("reason") for pod in now.pods if pod.waiting}
    if now.running or any(pod.restarts or pod.termination for pod in now.pods) or waiting - _PULLING:
        return "starting", said or f"{now.ready} of {now.desired} replicas ready{older}"
    if waiting:
        return "pulling", said or f"pulling `{info.image}`"
    if info.verdict is not None and info.verdict.cause is Cause.UNSCHEDULABLE:
        return "scheduling", f"{said}; waiting for one that can"
    return "scheduling", said or "waiting for a replica to start"


def _outcome(info: ScalingGroupInfo) -> str:
    if info.status is Status.SCALED_TO_ZERO:
        return "scaled to zero; a request starts a replica"
    return f"{info.ready_replicas} of {info.desired_replicas} replicas ready"


def _pause(cluster: Cluster, deployment: Manifest | None, seconds: float, world: World) -> None:
    """Until the Deployment changes, `seconds` at most."""
    if deployment is None:
        world.sleep(min(seconds, 0.5))
        return
    meta = deployment["metadata"]
    start = world.monotonic()
    try:
        events = cluster.watch(
            "Deployment",
            meta["namespace"],
            fields=f"metadata.name={meta['name']}",
            resource_version=meta["resourceVersion"],
            timeout=seconds,
        )
        changed = any(event.type != "BOOKMARK" for event in events)
    except ClusterError:
        changed = False  # too old to go on from, no right to watch, an outage: looking again will tell
    spent = world.monotonic() - start
    world.sleep(_SHORTEST_PAUSE if changed else max(_SHORTEST_PAUSE, min(seconds - spent, 0.5)))

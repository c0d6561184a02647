"""What groups use and serve now: at most thirteen requests, of one group or of all of a namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ApiError, ForbiddenError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.manifests.hpa_status import INSTALL_METRICS
from chalkcompute.manifests.live import FORBIDDEN, UNSERVED, LiveGroup, Unasked
from chalkcompute.manifests.measured import (
    METRICS,
    names_of_leaving,
    replica_usage,
    traffic_by_name,
    use_of_group,
)
from chalkcompute.manifests.observe import observe
from chalkcompute.manifests.record import Record
from chalkcompute.manifests.scale_events import scale_events
from chalkcompute.manifests.scaler import is_group_scaler
from chalkcompute.service.read import (
    events_of,
    find_record,
    live_groups,
    look_closer,
    pods_of,
    snapshot,
)
from chalkcompute.service.scope import Scope, World
from chalkcompute.types import Manifest
from chalkcompute.usage import ScalingGroupUsage, Traffic, UsageReport

__all__ = ["read_usage"]

_Objects: TypeAlias = Sequence[Manifest]
_ABOUT_SCALING = "involvedObject.kind!=Pod,involvedObject.kind!=ReplicaSet"
_NO_METRICS = (
    f"CPU and memory: the cluster serves no `metrics.k8s.io`; metrics-server does (`{INSTALL_METRICS}`)"
)
_NO_TRAFFIC = "requests: the cluster counts none by HTTPRoute (`custom.metrics.k8s.io`)"


def read_usage(cluster: Cluster, scope: Scope, name: str | None, *, world: World) -> UsageReport:
    """What one group, or each of the namespace, uses and serves; see `ChalkClient.scaling_group_usage`."""
    now = world.now()
    groups = _one(cluster, scope, name, now) if name is not None else _all(cluster, scope, now)
    missing: list[str] = []
    measured: _Objects = ()
    traffic: Mapping[str, Traffic] = {}
    if groups:
        selector = labels.objects_of(groups[0].record.id) if name is not None else labels.managed()
        measured = _measured(cluster, scope.namespace, selector, missing)
        traffic = _traffic(cluster, scope.namespace, name or "*", missing)
    leaving = _leaving(cluster, scope.namespace, groups, measured, detailed=name is not None)
    found = [_usage(live, measured, leaving, traffic, now, detailed=name is not None) for live in groups]
    return UsageReport(now, scope.namespace, tuple(found), tuple(missing))


def _one(cluster: Cluster, scope: Scope, name: str, now: datetime) -> list[LiveGroup]:
    record = find_record(cluster, scope.namespace, name)
    live = look_closer(cluster, snapshot(cluster, record), now)
    if live.pods is None:
        live = replace(live, pods=pods_of(cluster, record))
    if live.scaler_events is None and record.spec.mode != "fixed":
        live = replace(live, scaler_events=events_of(cluster, record))
    return [live]


def _all(cluster: Cluster, scope: Scope, now: datetime) -> list[LiveGroup]:
    """All groups, with what scales them: one request for each kind of that, if any group has it."""
    namespace = scope.namespace
    groups = sorted(live_groups(cluster, scope), key=lambda live: live.record.name)
    modes = {live.record.spec.mode for live in groups}
    if not modes - {"fixed"}:
        return groups
    hpas = _readable(lambda: cluster.list("HorizontalPodAutoscaler", namespace))
    scaled = _readable(lambda: cluster.list("ScaledObject", namespace)) if "keda" in modes else []
    events = _readable(lambda: cluster.list("Event", namespace, fields=_ABOUT_SCALING))
    return [
        replace(
            live,
            hpa=_named(hpas, live.record),
            scaled_object=_named(scaled, live.record),
            scaler_events=None if isinstance(events, Unasked) else events,
        )
        if live.record.spec.mode != "fixed"
        else live
        for live in groups
    ]


def _readable(read: Callable[[], list[Manifest]]) -> list[Manifest] | Unasked:
    try:
        return read()
    except ObjectNotFoundError:  # of a list: the kind
        return UNSERVED
    except ForbiddenError:
        return FORBIDDEN


def _named(found: list[Manifest] | Unasked, record: Record) -> Manifest | Unasked | None:
    """The one that scales a group, among all of a kind."""
    if isinstance(found, Unasked):
        return found
    ours = (obj for obj in found if obj["metadata"]["name"] == record.name)
    return next((obj for obj in ours if is_group_scaler(obj, record.id, record.name)), None)


def _measured(cluster: Cluster, namespace: str, selector: str, missing: list[str]) -> _Objects:
    """The PodMetrics there are; why there are none is added to `missing`."""
    if not cluster.capabilities().serves("metrics.k8s.io", "pods"):
        missing.append(_NO_METRICS)
        return ()
    try:
        return cluster.list("PodMetrics", namespace, labels=selector)
    except ForbiddenError:
        missing.append("CPU and memory: this credential may not list `pods` of `metrics.k8s.io`")
    except ApiError as error:
        missing.append(f"CPU and memory: metrics-server does not answer ({error.message})")
    return ()


def _traffic(cluster: Cluster, namespace: str, name: str, missing: list[str]) -> Mapping[str, Traffic]:
    """Requests by group; why there are none is added to `missing`."""
    answers: dict[str, Manifest] = {}
    if any(group == "custom.metrics.k8s.io" for group, _, _ in cluster.capabilities().resources):
        for metric in METRICS:
            try:
                answers[metric] = cluster.get("MetricValueList", name, namespace, subresource=metric)
            except ObjectNotFoundError:
                continue
            except ForbiddenError:
                missing.append("requests: this credential may not get metrics of `custom.metrics.k8s.io`")
                return {}
            except ApiError as error:
                missing.append(f"requests: `custom.metrics.k8s.io` does not answer ({error.message})")
                return {}
    if not answers:
        missing.append(_NO_TRAFFIC)
    return traffic_by_name(answers)


def _leaving(
    cluster: Cluster, namespace: str, groups: Sequence[LiveGroup], measured: _Objects, *, detailed: bool
) -> frozenset[str]:
    """Names of the replicas that are told to end; of many groups asked for only where there may be some."""
    if detailed:
        return names_of_leaving(groups[0].pods or ()) if groups else frozenset()
    number = Counter(map(labels.group_id_of, measured))
    if all(number[live.record.id] <= _ready(live) for live in groups):
        return frozenset()
    pods = _readable(lambda: cluster.list("Pod", namespace, labels=labels.managed()))
    return frozenset() if isinstance(pods, Unasked) else names_of_leaving(pods)


def _ready(live: LiveGroup) -> int:
    """Ready replicas of the Deployment, which counts none that is told to end."""
    status = (live.own_deployment or {}).get("status") or {}
    return int(status.get("readyReplicas", 0))


def _usage(
    live: LiveGroup,
    measured: _Objects,
    leaving: frozenset[str],
    traffic: Mapping[str, Traffic],
    now: datetime,
    *,
    detailed: bool,
) -> ScalingGroupUsage:
    info = observe(live, now)
    ours = measured if detailed else [m for m in measured if labels.is_owned_by(m, info.id)]
    use = use_of_group(ours, live.own_deployment, leaving)
    return ScalingGroupUsage(
        id=info.id,
        name=info.name,
        status=info.status,
        replicas=info.replicas,
        verdict=info.verdict,
        cpu_cores=use.cpu_cores if use else None,
        cpu_utilization_percentage=use.cpu_utilization_percentage if use else None,
        memory_bytes=use.memory_bytes if use else None,
        traffic=traffic.get(info.name),
        autoscaler=info.autoscaler,
        scale_events=scale_events(live.scaler_events or (), info.name),
        replica_usage=replica_usage(live.pods or (), ours, info.id) if detailed else (),
    )

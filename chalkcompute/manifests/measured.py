"""What replicas use and what requests come, out of metrics objects. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalkcompute.manifests import labels
from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.deployment import CONTAINER
from chalkcompute.manifests.pods import Pod
from chalkcompute.types import Manifest
from chalkcompute.usage import ReplicaUsage, Traffic

__all__ = ["METRICS", "Use", "names_of_leaving", "replica_usage", "traffic_by_name", "use_of_group"]

METRICS = (
    "requests_per_second",
    "requests_in_flight",
    "request_duration_seconds_p50",
    "request_duration_seconds_p99",
)
"""Metrics of an HTTPRoute under custom.metrics.k8s.io, in the order of the fields of `Traffic`."""


@dataclass(frozen=True, slots=True)
class Use:
    """What the replicas of a group use together.

    Attributes:
        cpu_cores: CPU, in cores.
        memory_bytes: Memory, in bytes.
        cpu_utilization_percentage: CPU in percent of what is requested, by the replicas that are not told to
            end; None without a request.
    """

    cpu_cores: float
    memory_bytes: int
    cpu_utilization_percentage: float | None


def use_of_group(
    measured: Sequence[Manifest], deployment: Manifest | None, leaving: Collection[str] = ()
) -> Use | None:
    """What a group uses; None where nothing is measured.

    Percent are of what the Deployment requests, as the HorizontalPodAutoscaler counts: what admission added
    to the replicas does not count, for its requests are not known here.

    Args:
        measured: The `PodMetrics` of its replicas.
        deployment: Its Deployment.
        leaving: Names of the replicas that are told to end, which the autoscaler leaves out.
    """
    if not measured:
        return None
    declared = _requests(deployment)
    counted = [pod for pod in measured if pod["metadata"]["name"] not in leaving]
    requested = sum(declared.values()) * len(counted)
    used = sum(_cpu(c) for pod in counted for c in _containers(pod) if c.get("name") in declared)
    return Use(
        cpu_cores=sum(_cpu(c) for pod in measured for c in _containers(pod)),
        memory_bytes=sum(_memory(c) for pod in measured for c in _containers(pod)),
        cpu_utilization_percentage=round(100 * used / requested, 2) if requested else None,
    )


def names_of_leaving(pods: Iterable[Manifest]) -> frozenset[str]:
    """Names of the pods that are told to end."""
    found = (pod["metadata"] for pod in pods)
    return frozenset(metadata["name"] for metadata in found if metadata.get("deletionTimestamp"))


def replica_usage(
    pods: Iterable[Manifest], measured: Iterable[Manifest], group_id: str
) -> tuple[ReplicaUsage, ...]:
    """Each replica of a group, oldest first.

    Args:
        pods: Its pods.
        measured: Their `PodMetrics`; one that has none is not measured yet.
        group_id: Id of the group.
    """
    by_name = {found["metadata"]["name"]: found for found in measured}
    ours = (Pod(pod) for pod in pods if labels.is_owned_by(pod, group_id))
    alive = [pod for pod in ours if pod.status.get("phase") not in ("Failed", "Succeeded")]
    return tuple(
        _replica(pod, by_name.get(pod.name)) for pod in sorted(alive, key=lambda pod: (pod.created, pod.name))
    )


def _replica(pod: Pod, measured: Manifest | None) -> ReplicaUsage:
    containers = _containers(measured) if measured is not None else []
    limit = amount(pod.limit("memory"))
    return ReplicaUsage(
        name=pod.name,
        state=_state(pod),
        ready=pod.is_ready,
        restarts=pod.restarts,
        created_at=pod.created,
        started_at=pod.running_since,
        cpu_cores=sum(map(_cpu, containers)) if containers else None,
        memory_bytes=sum(map(_memory, containers)) if containers else None,
        cpu_request_cores=amount(pod.request("cpu")),
        memory_limit_bytes=int(limit) if limit is not None else None,
    )


def _state(pod: Pod) -> str:
    if pod.manifest["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if pod.is_running:
        return "Running"
    reason = pod.waiting.get("reason") or pod.termination.get("reason")
    return str(reason or pod.status.get("phase") or "Pending")


def traffic_by_name(answers: Mapping[str, Manifest]) -> dict[str, Traffic]:
    """Requests by name of the HTTPRoute.

    Args:
        answers: The `MetricValueList` of each of `METRICS` that the cluster gave.
    """
    values: dict[str, dict[str, float | None]] = {}
    for metric, answer in answers.items():
        for item in answer.get("items") or ():
            name = (item.get("describedObject") or {}).get("name")
            if isinstance(name, str):
                values.setdefault(name, {})[metric] = amount(item.get("value"))
    return {name: Traffic(*(found.get(metric) for metric in METRICS)) for name, found in values.items()}


def _requests(deployment: Manifest | None) -> dict[str, float]:
    """CPU request of each container that the Deployment declares and that has one, in cores."""
    template = ((deployment or {}).get("spec") or {}).get("template") or {}
    found: dict[str, float] = {}
    for container in (template.get("spec") or {}).get("containers") or ():
        value = amount(((container.get("resources") or {}).get("requests") or {}).get("cpu"))
        if value is not None:
            found[str(container.get("name", CONTAINER))] = value
    return found


def _containers(measured: Manifest) -> Sequence[Mapping[str, Any]]:
    return measured.get("containers") or ()


def _cpu(container: Mapping[str, Any]) -> float:
    return amount((container.get("usage") or {}).get("cpu")) or 0.0


def _memory(container: Mapping[str, Any]) -> int:
    return int(amount((container.get("usage") or {}).get("memory")) or 0)

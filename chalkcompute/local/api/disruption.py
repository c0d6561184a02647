"""Whether a Pod may be evicted.

Source: `pkg/registry/core/pod/storage/eviction.go`, `pkg/controller/disruption/disruption.go`.
"""

from __future__ import annotations

from collections.abc import Callable

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.objects import controller_of, is_deleting
from chalkcompute.local.controllers.pods import is_ready
from chalkcompute.local.controllers.scaling import replicas_of, scaled
from chalkcompute.local.ports import Manifest

__all__ = ["require_evictable"]

_List = Callable[[str, str], list[Manifest]]


def require_evictable(pod: Manifest, list_objects: _List) -> None:
    """Let the PodDisruptionBudgets that select a Pod have their say.

    Args:
        pod: The Pod that is to be evicted.
        list_objects: The objects of a kind in a namespace.

    Raises:
        StatusError: 429, a budget would be violated.
    """
    namespace = pod["metadata"]["namespace"]
    for budget in list_objects("PodDisruptionBudget", namespace):
        selector = budget["spec"].get("selector")
        if not match_label_selector(selector, pod["metadata"].get("labels")):
            continue
        pods = [
            other
            for other in list_objects("Pod", namespace)
            if match_label_selector(selector, other["metadata"].get("labels"))
        ]
        healthy = sum(map(_is_healthy, pods))
        wanted = _desired_healthy(budget["spec"], _expected(pods, list_objects("ReplicaSet", namespace)))
        if healthy < wanted or (_is_healthy(pod) and healthy == wanted):
            raise _violated(budget["metadata"]["name"], wanted, healthy)


def _is_healthy(pod: Manifest) -> bool:
    return is_ready(pod) and not is_deleting(pod)


def _expected(pods: list[Manifest], replica_sets: list[Manifest]) -> int:
    """As many as the ReplicaSets of these Pods are to have, and those that stand alone."""
    wanted = {rs["metadata"]["uid"]: replicas_of(rs) for rs in replica_sets}
    owners = [(controller_of(pod) or {}).get("uid") for pod in pods]
    alone = sum(owner not in wanted for owner in owners)
    return alone + sum(replicas for uid, replicas in wanted.items() if uid in owners)


def _desired_healthy(spec: Manifest, expected: int) -> int:
    if (unavailable := spec.get("maxUnavailable")) is not None:
        return max(0, expected - scaled(unavailable, expected, round_up=True))
    return scaled(spec.get("minAvailable", 1), expected, round_up=True)


def _violated(name: str, wanted: int, healthy: int) -> StatusError:
    message = f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
    return StatusError(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details={"causes": [{"reason": "DisruptionBudget", "message": message}]},
    )

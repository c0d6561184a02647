"""Whether a Pod may be evicted.

Source: `pkg/registry/core/pod/storage/eviction.go`, `pkg/controller/disruption/disruption.go`.
"""

from __future__ import annotations

from collections.abc import Callable

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.apimachinery.status import StatusError
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
        healthy = sum(_is_healthy(other) for other in pods)
        wanted = _desired_healthy(budget["spec"], _expected(pods, list_objects("ReplicaSet", namespace)))
        if healthy < wanted or (_is_healthy(pod) and healthy == wanted):
            raise _violated(budget["metadata"]["name"], wanted, healthy)


def _is_healthy(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _expected(pods: list[Manifest], replica_sets: list[Manifest]) -> int:
    """As many as the ReplicaSets of these Pods are to have, and those that stand alone."""
    wanted = {rs["metadata"]["uid"]: int(rs["spec"].get("replicas", 1)) for rs in replica_sets}
    owners = [
        next((o["uid"] for o in pod["metadata"].get("ownerReferences") or () if o.get("controller")), None)
        for pod in pods
    ]
    alone = sum(owner not in wanted for owner in owners)
    return alone + sum(replicas for uid, replicas in wanted.items() if uid in owners)


def _desired_healthy(spec: Manifest, expected: int) -> int:
    if (unavailable := spec.get("maxUnavailable")) is not None:
        return max(0, expected - _rounded_up(unavailable, expected))
    return _rounded_up(spec.get("minAvailable", 1), expected)


def _rounded_up(value: int | str, of: int) -> int:
    return value if isinstance(value, int) else -(-int(value.removesuffix("%")) * of // 100)


def _violated(name: str, wanted: int, healthy: int) -> StatusError:
    message = f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
    return StatusError(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details={"causes": [{"reason": "DisruptionBudget", "message": message}]},
    )

"""The arithmetic of a rolling update: how many replicas each ReplicaSet of a Deployment may have. Pure.

Source: k8s.io/kubernetes `pkg/controller/deployment/util/deployment_util.go`, but for one thing: a status
that lags behind a change of size is not believed (`surely_available`, `footprint`), so the bounds of a
rolling update hold at every moment, not only once every controller has caught up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from chalkcompute.local.controllers.objects import created_at
from chalkcompute.local.ports import Manifest

__all__ = [
    "DESIRED_REPLICAS",
    "MAX_REPLICAS",
    "available_of",
    "fenceposts",
    "footprint",
    "is_rolling",
    "max_surge",
    "max_unavailable",
    "new_replica_count",
    "proportional_sizes",
    "replicas_of",
    "scale_down_old",
    "scaled",
    "surely_available",
    "total_replicas",
    "unhealthy_cleanup",
]

DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"


def replicas_of(obj: Manifest) -> int:
    """`spec.replicas`, 1 when absent."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def available_of(obj: Manifest) -> int:
    """`status.availableReplicas`."""
    return int((obj.get("status") or {}).get("availableReplicas") or 0)


def surely_available(rs: Manifest) -> int:
    """Available replicas that will stay: those beyond `spec.replicas` are about to go."""
    return min(available_of(rs), replicas_of(rs))


def footprint(rs: Manifest) -> int:
    """Replicas that run or will: while a ReplicaSet shrinks, those that it has not deleted yet count."""
    return max(replicas_of(rs), int((rs.get("status") or {}).get("replicas") or 0))


def total_replicas(replica_sets: Iterable[Manifest]) -> int:
    """Sum of `spec.replicas`."""
    return sum(replicas_of(rs) for rs in replica_sets)


def is_rolling(deployment: Manifest) -> bool:
    """Strategy RollingUpdate, which is also the default."""
    strategy: str = (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")
    return strategy == "RollingUpdate"


def fenceposts(surge: int | str, unavailable: int | str, replicas: int) -> tuple[int, int]:
    """`(maxSurge, maxUnavailable)` as numbers: surge rounds up, unavailable down, never both zero."""
    up = scaled(surge, replicas, round_up=True)
    down = scaled(unavailable, replicas, round_up=False)
    return (up, down) if up or down else (0, 1)


def scaled(value: int | str, replicas: int, *, round_up: bool) -> int:
    """A number, or a percentage such as `25%` of `replicas`."""
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * replicas
    return -(-hundredths // 100) if round_up else hundredths // 100


def _strategy(deployment: Manifest) -> tuple[int, int]:
    parameters = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return fenceposts(
        parameters.get("maxSurge", "25%"), parameters.get("maxUnavailable", "25%"), replicas_of(deployment)
    )


def max_surge(deployment: Manifest) -> int:
    """Replicas above the wish that a rolling update may have."""
    return _strategy(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Manifest) -> int:
    """Replicas below the wish that a rolling update may be short of."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment) or wanted == 0:
        return 0
    return min(_strategy(deployment)[1], wanted)


def new_replica_count(deployment: Manifest, every: Sequence[Manifest], current: int) -> int:
    """What the new ReplicaSet may grow to, from `current`, beside all that exist."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + max_surge(deployment) - sum(footprint(rs) for rs in every)
    return current if room <= 0 else current + min(room, wanted - current)


def unhealthy_cleanup(old: Iterable[Manifest], limit: int) -> dict[str, int]:
    """New sizes after taking replicas that are not available from old ReplicaSets, oldest first."""
    sizes: dict[str, int] = {}
    for rs in sorted(old, key=created_at):
        unhealthy = replicas_of(rs) - surely_available(rs)
        if limit <= 0:
            break
        if replicas_of(rs) == 0 or unhealthy <= 0:
            continue
        taken = min(limit, unhealthy)
        sizes[rs["metadata"]["name"]] = replicas_of(rs) - taken
        limit -= taken
    return sizes


def scale_down_old(old: Iterable[Manifest], surplus: int) -> dict[str, int]:
    """New sizes after taking `surplus` available replicas from old ReplicaSets, oldest first."""
    sizes: dict[str, int] = {}
    for rs in sorted(old, key=created_at):
        if surplus <= 0:
            break
        if replicas_of(rs) == 0:
            continue
        taken = min(surplus, replicas_of(rs))
        sizes[rs["metadata"]["name"]] = replicas_of(rs) - taken
        surplus -= taken
    return sizes


def proportional_sizes(deployment: Manifest, active: Sequence[Manifest]) -> dict[str, int]:
    """New sizes when a Deployment is scaled in the middle of a rollout: each set by its share."""
    wanted = replicas_of(deployment)
    allowed = wanted + max_surge(deployment) if wanted > 0 else 0
    to_add = allowed - total_replicas(active)
    if to_add == 0:
        return {rs["metadata"]["name"]: replicas_of(rs) for rs in active}
    # Larger sets first; among equals the newer when growing, the older when shrinking.
    ordered = sorted(active, key=created_at, reverse=to_add > 0)
    ordered.sort(key=replicas_of, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for rs in ordered:
        share = _share(rs, deployment, to_add - added)
        sizes[rs["metadata"]["name"]] = replicas_of(rs) + share
        added += share
    first = ordered[0]["metadata"]["name"]
    sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(rs: Manifest, deployment: Manifest, left: int) -> int:
    if replicas_of(rs) == 0 or left == 0:
        return 0
    fraction = _fraction(rs, deployment)
    return min(fraction, left) if left > 0 else max(fraction, left)


def _fraction(rs: Manifest, deployment: Manifest) -> int:
    """The change of size that keeps this set's share of the whole."""
    wanted, size = replicas_of(deployment), replicas_of(rs)
    if wanted == 0:
        return -size
    annotations: Mapping[str, str] = rs["metadata"].get("annotations") or {}
    text = annotations.get(MAX_REPLICAS, "")
    before = int(text) if text.isdigit() else 0
    before = before or int((deployment.get("status") or {}).get("replicas") or 0)
    if before == 0:
        return 0
    target = size * (wanted + max_surge(deployment)) / before
    return math.floor(target + 0.5) - size  # Go's math.Round: halves away from zero

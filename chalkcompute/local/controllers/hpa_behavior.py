"""How fast a HorizontalPodAutoscaler may scale: stabilization windows, policies, bounds. Pure.

Source: k8s.io/kubernetes `pkg/controller/podautoscaler/horizontal.go`, from `normalizeDesiredReplicas` on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

__all__ = ["History", "Limit", "Normalized", "ReplicaRange", "after_scaling", "normalize"]

# kube-controller-manager's --horizontal-pod-autoscaler-downscale-stabilization.
DOWNSCALE_STABILIZATION_SECONDS = 300
# Without `behavior`: at most twice as many, or four.
_UP_FACTOR, _UP_MINIMUM = 2, 4

_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)


@dataclass(frozen=True, slots=True)
class Dated:
    """A number at a time: replicas recommended then, or added, or removed."""

    at: datetime
    replicas: int


@dataclass(frozen=True, slots=True)
class History:
    """What one autoscaler remembers. Kept in memory only, as the real controller keeps it.

    Attributes:
        recommendations: What metrics asked for, oldest first.
        added: Replicas added by it.
        removed: Replicas removed by it.
    """

    recommendations: tuple[Dated, ...] = ()
    added: tuple[Dated, ...] = ()
    removed: tuple[Dated, ...] = ()

    def begun(self, current: int, now: datetime) -> History:
        """What is there when it is first looked at counts as recommended: nothing shrinks at once."""
        return self if self.recommendations else replace(self, recommendations=(Dated(now, current),))


@dataclass(frozen=True, slots=True)
class ReplicaRange:
    """`minReplicas` and `maxReplicas`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Limit:
    """What becomes of a recommendation: reason and message of a condition."""

    reason: str
    message: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Normalized:
    """A recommendation within what is allowed.

    Attributes:
        replicas: The count.
        able: The condition `AbleToScale`.
        limited: The condition `ScalingLimited`; holds when the count is not what was recommended.
        history: With this recommendation.
    """

    replicas: int
    able: Limit
    limited: Limit
    history: History


def normalize(
    history: History,
    behavior: Mapping[str, Any] | None,
    replica_range: ReplicaRange,
    current: int,
    wanted: int,
    now: datetime,
) -> Normalized:
    """What may be done of what the metrics ask for.

    Args:
        history: What was recommended and done before.
        behavior: `spec.behavior`, or None.
        replica_range: `minReplicas` and `maxReplicas`.
        current: `spec.replicas` of what is scaled.
        wanted: What the metrics ask for.
        now: The time.
    """
    if behavior is None:
        stable, able = _stabilized_by_default(history, wanted, now)
        allowed, limit = _within_default_rate(current, stable, replica_range)
        windows = [DOWNSCALE_STABILIZATION_SECONDS]
    else:
        stable, able = _stabilized(history, behavior, current, wanted, now)
        allowed, limit = _within_rate(history, behavior, replica_range, current, stable, now)
        windows = [_window(behavior, "scaleUp"), _window(behavior, "scaleDown")]
    kept = _since(history.recommendations, now, max(windows))
    return Normalized(
        allowed,
        Limit(*able),
        Limit(*limit, holds=allowed != stable),
        replace(history, recommendations=(*kept, Dated(now, wanted))),
    )


def after_scaling(
    history: History, behavior: Mapping[str, Any] | None, before: int, after: int, now: datetime
) -> History:
    """The history with a change of size in it; without `behavior` nobody asks for it."""
    if behavior is None:
        return history
    if after > before:
        kept = _since(history.added, now, _longest_period(behavior))
        return replace(history, added=(*kept, Dated(now, after - before)))
    kept = _since(history.removed, now, _longest_period(behavior))
    return replace(history, removed=(*kept, Dated(now, before - after)))


def _since(events: Sequence[Dated], now: datetime, seconds: float) -> tuple[Dated, ...]:
    return tuple(event for event in events if event.at > now - timedelta(seconds=seconds))


def _rules(behavior: Mapping[str, Any], direction: str) -> Mapping[str, Any]:
    return behavior.get(direction) or {}


def _window(behavior: Mapping[str, Any], direction: str) -> int:
    seconds = _rules(behavior, direction).get("stabilizationWindowSeconds")
    if seconds is None:
        return DOWNSCALE_STABILIZATION_SECONDS if direction == "scaleDown" else 0
    return int(seconds)


def _longest_period(behavior: Mapping[str, Any]) -> int:
    """Of the policies of both directions: each counts the changes of both."""
    policies = (p for name in ("scaleUp", "scaleDown") for p in _rules(behavior, name).get("policies") or ())
    return max((int(policy["periodSeconds"]) for policy in policies), default=0)


# Stabilization --------------------------------------------------------------------------------------


def _stabilized_by_default(history: History, wanted: int, now: datetime) -> tuple[int, tuple[str, str]]:
    recent = _since(history.recommendations, now, DOWNSCALE_STABILIZATION_SECONDS)
    stable = max([wanted, *(event.replicas for event in recent)])
    return stable, _READY if stable == wanted else _DOWN_STABILIZED


def _stabilized(
    history: History, behavior: Mapping[str, Any], current: int, wanted: int, now: datetime
) -> tuple[int, tuple[str, str]]:
    """As near to the current size as what was recommended within the two windows allows."""
    ups = _since(history.recommendations, now, _window(behavior, "scaleUp"))
    downs = _since(history.recommendations, now, _window(behavior, "scaleDown"))
    lowest = min([wanted, *(event.replicas for event in ups)])
    highest = max([wanted, *(event.replicas for event in downs)])
    stable = min(max(current, lowest), highest)
    if stable == wanted:
        return stable, _READY
    return stable, _UP_STABILIZED if wanted >= current else _DOWN_STABILIZED


# Rate -----------------------------------------------------------------------------------------------


def _within_default_rate(
    current: int, wanted: int, replica_range: ReplicaRange
) -> tuple[int, tuple[str, str]]:
    limit = max(_UP_FACTOR * current, _UP_MINIMUM)
    if wanted < replica_range.low:
        return replica_range.low, _TOO_FEW
    if wanted > min(replica_range.high, limit):
        return min(replica_range.high, limit), _UP_LIMIT if replica_range.high > limit else _TOO_MANY
    return wanted, _WITHIN


def _within_rate(
    history: History,
    behavior: Mapping[str, Any],
    replica_range: ReplicaRange,
    current: int,
    wanted: int,
    now: datetime,
) -> tuple[int, tuple[str, str]]:
    if wanted > current:
        up = max(current, _rate_limit(history, behavior, "scaleUp", current, now))
        if wanted > min(replica_range.high, up):
            return min(replica_range.high, up), _UP_LIMIT if replica_range.high > up else _TOO_MANY
    elif wanted < current:
        down = min(current, _rate_limit(history, behavior, "scaleDown", current, now))
        if wanted < max(replica_range.low, down):
            return max(replica_range.low, down), _DOWN_LIMIT if replica_range.low < down else _TOO_FEW
    return wanted, _WITHIN


def _rate_limit(
    history: History, behavior: Mapping[str, Any], direction: str, current: int, now: datetime
) -> int:
    """How far the policies let it go, as seen from what was there when each one's period began."""
    rules = _rules(behavior, direction)
    select = rules.get("selectPolicy", "Max")
    policies = rules.get("policies") or ()
    if select == "Disabled" or not policies:
        return current
    limits = [_allowed(policy, _at_start(history, policy, current, now), direction) for policy in policies]
    # The largest change is the most replicas on the way up, and the fewest on the way down.
    return max(limits) if (select != "Min") == (direction == "scaleUp") else min(limits)


def _allowed(policy: Mapping[str, Any], start: int, direction: str) -> int:
    sign = 1 if direction == "scaleUp" else -1
    if policy["type"] == "Pods":
        return start + sign * int(policy["value"])
    share = start * (1 + sign * policy["value"] / 100)
    # Rounded up on the way up: a small share of few replicas would never add one.
    return math.ceil(share) if direction == "scaleUp" else int(share)


def _at_start(history: History, policy: Mapping[str, Any], current: int, now: datetime) -> int:
    period = float(policy["periodSeconds"])
    added = sum(event.replicas for event in _since(history.added, now, period))
    removed = sum(event.replicas for event in _since(history.removed, now, period))
    return current - added + removed

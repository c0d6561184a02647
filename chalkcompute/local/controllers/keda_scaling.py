"""Between zero and one: whether a ScaledObject's workload sleeps, wakes or stays. Pure.

Source: kedacore/keda `pkg/scaling/executor/scale_scaledobjects.go`. From one up, the HorizontalPodAutoscaler
that KEDA makes decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from chalkcompute.local.ports import Manifest

__all__ = [
    "ACTIVE",
    "COOLDOWN",
    "NOT_ACTIVE",
    "Scaling",
    "ScalingRules",
    "decide",
    "is_true",
    "scaling_rules",
]

ACTIVE = ("True", "ScalerActive", "Scaling is performed because triggers are active")
NOT_ACTIVE = ("False", "ScalerNotActive", "Scaling is not performed because triggers are not active")
COOLDOWN = ("False", "ScalerCooldown", "Scaler cooling down because triggers are not active")

_LOOK_SECONDS = 1.0
"""How often activity is looked at while replicas run; KEDA's HTTP add-on says it five times a second."""

_POLLING_SECONDS = 30
_COOLDOWN_SECONDS = 300
_MOST_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """What a ScaledObject says of its counts and periods, with KEDA's defaults.

    Attributes:
        minimum: `minReplicaCount`.
        maximum: `maxReplicaCount`.
        idle: `idleReplicaCount`, or None.
        cooldown: `cooldownPeriod`, in seconds since the last activity.
        initial_cooldown: `initialCooldownPeriod`, in seconds since its creation, before any activity.
        polling: `pollingInterval`, in seconds.
        scale_in: False while the annotation `autoscaling.keda.sh/paused-scale-in` holds.
        scale_out: The same of `paused-scale-out`.
    """

    minimum: int = 0
    maximum: int = _MOST_REPLICAS
    idle: int | None = None
    cooldown: int = _COOLDOWN_SECONDS
    initial_cooldown: int = 0
    polling: int = _POLLING_SECONDS
    scale_in: bool = True
    scale_out: bool = True


@dataclass(frozen=True, slots=True)
class Scaling:
    """What to do.

    Attributes:
        replicas: Count to set, or None to leave it.
        condition: Status, reason and message of the condition `Active`.
        again: In how many seconds to look again.
    """

    replicas: int | None
    condition: tuple[str, str, str]
    again: float


def scaling_rules(scaled_object: Manifest) -> ScalingRules:
    """Read them."""
    spec = scaled_object["spec"]
    annotations = scaled_object["metadata"].get("annotations") or {}

    def number(field: str, default: int) -> int:
        value = spec.get(field)
        return default if value is None else int(value)

    return ScalingRules(
        minimum=number("minReplicaCount", 0),
        maximum=number("maxReplicaCount", _MOST_REPLICAS),
        idle=spec.get("idleReplicaCount"),
        cooldown=number("cooldownPeriod", _COOLDOWN_SECONDS),
        initial_cooldown=number("initialCooldownPeriod", 0),
        polling=max(1, number("pollingInterval", _POLLING_SECONDS)),
        scale_in=not is_true(annotations.get("autoscaling.keda.sh/paused-scale-in")),
        scale_out=not is_true(annotations.get("autoscaling.keda.sh/paused-scale-out")),
    )


def is_true(value: str | None) -> bool:
    """An annotation as KEDA reads it: all but a Go boolean's words for false is true, if it is there."""
    return value is not None and value not in ("0", "f", "F", "false", "False", "FALSE")


def decide(
    rules: ScalingRules,
    current: int,
    *,
    active: bool,
    last_active: datetime | None,
    created: datetime,
    seen: datetime,
) -> Scaling:
    """The next step.

    Args:
        rules: What the ScaledObject says.
        current: `spec.replicas` of its workload.
        active: Whether a trigger is active.
        last_active: When one was, the last time; None for never.
        created: When the ScaledObject was made.
        seen: Up to when activity is known (UTC): now, or a little before.
    """
    if active:
        return _awake(rules, current)
    asleep = rules.minimum if rules.idle is None else rules.idle
    if current > asleep and (rules.idle is not None or rules.minimum == 0):
        return _falling_asleep(rules, asleep, last_active, created, seen)
    short = current < rules.minimum and rules.idle is None
    return Scaling(rules.minimum if short else None, NOT_ACTIVE, rules.polling)


def _awake(rules: ScalingRules, current: int) -> Scaling:
    low = current == 0 or (rules.idle is not None and current < rules.minimum)
    replicas = max(rules.minimum, 1) if low and rules.scale_out else None
    return Scaling(replicas, ACTIVE, _LOOK_SECONDS)


def _falling_asleep(
    rules: ScalingRules, asleep: int, last_active: datetime | None, created: datetime, seen: datetime
) -> Scaling:
    if not rules.scale_in:
        return Scaling(None, NOT_ACTIVE, rules.polling)
    if last_active is None:
        due = created + timedelta(seconds=rules.initial_cooldown)
    else:
        due = last_active + timedelta(seconds=rules.cooldown)
    left = (due - seen).total_seconds()
    if left <= 0:
        return Scaling(asleep, NOT_ACTIVE, rules.polling)
    return Scaling(None, COOLDOWN, min(left, _LOOK_SECONDS))

"""One look of a HorizontalPodAutoscaler at what it scales: what to do, to say, and to write down. Pure.

Source: k8s.io/kubernetes `pkg/controller/podautoscaler/horizontal.go`, `reconcileAutoscaler`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.controllers.hpa_behavior import History, ReplicaRange, normalize
from chalkcompute.local.controllers.hpa_calculator import Tolerances
from chalkcompute.local.controllers.hpa_metrics import MetricError, MetricResult, Sources, evaluate
from chalkcompute.local.controllers.objects import format_time
from chalkcompute.local.ports import Manifest

__all__ = ["Decision", "Said", "Scale", "decide", "rescaled", "tolerances_of", "unscalable"]

Said: TypeAlias = tuple[str, str, str]
"""An Event: its type, reason and message."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What is scaled (`autoscaling/v1` Scale).

    Attributes:
        replicas: `spec.replicas`.
        running: `status.replicas`.
        selector: `status.selector`, "" where there is none.
    """

    replicas: int
    running: int
    selector: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a look.

    Attributes:
        status: `status` as it is to be, unless the target is to be scaled (see `rescaled`).
        events: What to say.
        history: What to remember.
        scale_to: The size to scale the target to; None to leave it.
        reason: Why, as in `New size: 3; reason: ...`.
    """

    status: dict[str, Any]
    events: tuple[Said, ...]
    history: History
    scale_to: int | None = None
    reason: str = ""


class _InvalidMetricsError(Exception):
    """Nothing can be decided: the condition says why, the message counts the metrics that fail."""

    def __init__(self, reason: str, condition: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.condition = condition


class _Conditions:
    """`status.conditions`: the order in which they came first, and times of changes of status only."""

    def __init__(self, known: Sequence[Mapping[str, Any]], now: datetime) -> None:
        self.listed = [dict(condition) for condition in known]
        self._now = format_time(now)

    def set(self, kind: str, holds: bool, reason: str, message: str) -> None:
        condition = next((c for c in self.listed if c["type"] == kind), None)
        if condition is None:
            condition = {"type": kind, "status": ""}
            self.listed.append(condition)
        if condition["status"] != str(holds):
            condition |= {"status": str(holds), "lastTransitionTime": self._now}
        condition |= {"reason": reason, "message": message}


def tolerances_of(hpa: Manifest) -> Tolerances:
    """The default, or what `spec.behavior` says for each direction."""
    behavior = hpa["spec"].get("behavior") or {}
    tolerances = Tolerances()
    if (up := (behavior.get("scaleUp") or {}).get("tolerance")) is not None:
        tolerances = replace(tolerances, up=float(parse_quantity(str(up))))
    if (down := (behavior.get("scaleDown") or {}).get("tolerance")) is not None:
        tolerances = replace(tolerances, down=float(parse_quantity(str(down))))
    return tolerances


def unscalable(hpa: Manifest, why: str, history: History, now: datetime) -> Decision:
    """What it scales cannot be had."""
    status = hpa.get("status") or {}
    conditions = _Conditions(status.get("conditions") or (), now)
    message = f"the HPA controller was unable to get the target's current scale: {why}"
    conditions.set("AbleToScale", False, "FailedGetScale", message)
    changed = {**status, "conditions": conditions.listed}
    return Decision(changed, (("Warning", "FailedGetScale", why),), history)


def decide(
    hpa: Manifest, scale: Scale, sources: Sources, rivals: Sequence[str], history: History
) -> Decision:
    """What to do.

    Args:
        hpa: The autoscaler.
        scale: What it scales, as it is.
        sources: What its metrics are taken from.
        rivals: All autoscalers (`namespace/name`) that select any of its Pods, itself among them.
        history: What it remembers.
    """
    spec, known, now = hpa["spec"], hpa.get("status") or {}, sources.now
    history = history.begun(scale.replicas, now)
    conditions = _Conditions(known.get("conditions") or (), now)
    got = "the HPA controller was able to get the target's current scale"
    conditions.set("AbleToScale", True, "SucceededGetScale", got)
    replica_range = ReplicaRange(
        1 if spec.get("minReplicas") is None else spec["minReplicas"], spec["maxReplicas"]
    )
    current = scale.replicas

    def status(desired: int, metrics: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
        return _status(known, current, desired, metrics, conditions)

    if current == 0 and replica_range.low != 0:
        message = "scaling is disabled since the replica count of the target is zero"
        conditions.set("ScalingActive", False, "ScalingDisabled", message)
        return Decision(status(0, None), (), history)
    if current > replica_range.high:
        reason = "Current number of replicas above Spec.MaxReplicas"
        return Decision(status(current, None), (), history, replica_range.high, reason)
    if current < replica_range.low:
        reason = "Current number of replicas below Spec.MinReplicas"
        return Decision(status(current, None), (), history, replica_range.low, reason)

    events: list[Said] = []
    metrics: list[dict[str, Any]] = []
    try:
        _check_selector(scale, rivals, events)
        best = _best_of(spec.get("metrics") or (), sources, events, metrics)
    except _InvalidMetricsError as error:
        conditions.set("ScalingActive", False, error.reason, error.condition)
        events.append(("Warning", "FailedComputeMetricsReplicas", str(error)))
        blind = status(known.get("desiredReplicas") or 0, metrics or None)
        return Decision(blind, tuple(events), history)
    found = f"the HPA was able to successfully calculate a replica count from {best.description}"
    conditions.set("ScalingActive", True, "ValidMetricFound", found)
    normalized = normalize(history, spec.get("behavior"), replica_range, current, best.replicas, now)
    conditions.set("AbleToScale", True, normalized.able.reason, normalized.able.message)
    limited = normalized.limited
    conditions.set("ScalingLimited", limited.holds, limited.reason, limited.message)
    seen = status(current, metrics)
    if normalized.replicas == current:
        return Decision(seen, tuple(events), normalized.history)
    reason = ""  # where only what was recommended earlier moves it
    if best.replicas > current:
        reason = f"{best.description} above target"
    elif best.replicas < current:
        reason = "All metrics below target"
    return Decision(seen, tuple(events), normalized.history, normalized.replicas, reason)


def rescaled(decision: Decision, known: Mapping[str, Any], now: datetime, failure: str | None) -> Decision:
    """The decision once the target was scaled, or (`failure`) could not be.

    Args:
        decision: With `scale_to`.
        known: `status` of the autoscaler before.
        now: The time.
        failure: Why not, or None.
    """
    size, conditions = decision.scale_to, _Conditions(decision.status["conditions"], now)
    status = dict(decision.status)
    if failure is None:
        message = f"the HPA controller was able to update the target scale to {size}"
        conditions.set("AbleToScale", True, "SucceededRescale", message)
        event = ("Normal", "SuccessfulRescale", f"New size: {size}; reason: {decision.reason}")
        status = {**status, "desiredReplicas": size, "lastScaleTime": format_time(now)}
    else:
        message = f"the HPA controller was unable to update the target scale: {failure}"
        conditions.set("AbleToScale", False, "FailedUpdateScale", message)
        text = f"New size: {size}; reason: {decision.reason}; error: {failure}"
        event = ("Warning", "FailedRescale", text)
        status["desiredReplicas"] = known.get("desiredReplicas") or 0
    status["conditions"] = conditions.listed
    return replace(decision, status=status, events=(*decision.events, event))


def _status(
    known: Mapping[str, Any],
    current: int,
    desired: int,
    metrics: Sequence[Mapping[str, Any]] | None,
    conditions: _Conditions,
) -> dict[str, Any]:
    return {
        **({"lastScaleTime": known["lastScaleTime"]} if known.get("lastScaleTime") else {}),
        **({"currentReplicas": current} if current else {}),
        "desiredReplicas": desired,
        "currentMetrics": list(metrics) if metrics is not None else None,
        "conditions": conditions.listed,
    }


def _check_selector(scale: Scale, rivals: Sequence[str], events: list[Said]) -> None:
    if not scale.selector:
        events.append(("Warning", "SelectorRequired", "selector is required"))
        missing = "the HPA target's scale is missing a selector"
        raise _InvalidMetricsError("InvalidSelector", missing, "selector is required")
    if len(rivals) > 1:
        listed = " ".join(rivals)
        message = f"pods by selector {scale.selector} are controlled by multiple HPAs: [{listed}]"
        events.append(("Warning", "AmbiguousSelector", message))
        raise _InvalidMetricsError("AmbiguousSelector", message, message)


def _best_of(
    specs: Sequence[Mapping[str, Any]],
    sources: Sources,
    events: list[Said],
    statuses: list[dict[str, Any]],
) -> MetricResult:
    """The metric that asks for the most; one that fails may be left out only where the others do not shrink.

    `events` and `statuses` are added to: a metric that fails has an entry of no type, as in Kubernetes.
    """
    best: MetricResult | None = None
    failures: list[MetricError] = []
    for spec in specs:
        try:
            result = evaluate(spec, sources)
        except MetricError as error:
            failures.append(error)
            statuses.append({"type": ""})
            events.append(("Warning", error.reason, str(error)))
            continue
        statuses.append(result.status)
        if best is None or result.replicas > best.replicas:
            best = result
    if best is None and not failures:
        raise _InvalidMetricsError("InvalidMetrics", "there are no metrics", "there are no metrics")
    if best is None or (failures and best.replicas < sources.current):
        first = failures[0]
        raise _InvalidMetricsError(
            first.reason,
            f"the HPA was unable to compute the replica count: {first}",
            f"invalid metrics ({len(failures)} invalid out of {len(specs)}), first error is: {first.outer}",
        )
    return best

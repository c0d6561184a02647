"""How many replicas a metric asks for: the arithmetic of a HorizontalPodAutoscaler. Pure.

Source: k8s.io/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` and `metrics/utilization.go`.
Values are in thousandths (`resource.Quantity.MilliValue`), and whole numbers are divided as Go divides them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalkcompute.local.controllers.objects import find_condition, is_deleting, parse_time
from chalkcompute.local.controllers.pods import is_ready
from chalkcompute.local.ports import Manifest

__all__ = [
    "CalculationError",
    "PodMetric",
    "Proposal",
    "Tolerances",
    "average_value",
    "external_average",
    "external_value",
    "group_pods",
    "utilization",
]

# kube-controller-manager's defaults: --horizontal-pod-autoscaler-tolerance, -cpu-initialization-period and
# -initial-readiness-delay.
DEFAULT_TOLERANCE = 0.1
CPU_INITIALIZATION = timedelta(minutes=5)
INITIAL_READINESS_DELAY = timedelta(seconds=30)
_NO_METRICS = "did not receive metrics for targeted pods (pods might be unready)"
_NO_PODS = "no pods returned by selector while calculating replica count"


class CalculationError(Exception):
    """A metric that says nothing, in the words of the real controller."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far the ratio of usage to target may be from 1 without anything being done."""

    up: float = DEFAULT_TOLERANCE
    down: float = DEFAULT_TOLERANCE

    def accept(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class PodMetric:
    """What one Pod uses.

    Attributes:
        value: In thousandths: of a core, of a byte.
        timestamp: End of the window that it was measured over.
        window: The window.
    """

    value: int
    timestamp: datetime
    window: timedelta


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a metric asks for.

    Attributes:
        replicas: How many.
        average: Usage of a replica on average, in thousandths.
        percent: The same in percent of what was requested, for a target of utilization.
    """

    replicas: int
    average: int
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class PodGroups:
    """Pods by how much their metrics say.

    Attributes:
        ready: Number of those whose metrics count.
        unready: Pending, starting or not ready: their usage says nothing of the load.
        missing: Running, and not measured.
        ignored: On their way out, or failed.
    """

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(
    pods: Sequence[Manifest], metrics: Mapping[str, PodMetric], resource: str, now: datetime
) -> PodGroups:
    """Sort Pods; only the CPU of one that has just started is disbelieved."""
    groups: dict[str, set[str]] = {"ready": set(), "unready": set(), "missing": set(), "ignored": set()}
    for pod in pods:
        name = pod["metadata"]["name"]
        groups[_group(pod, metrics.get(name), resource, now)].add(name)
    return PodGroups(
        len(groups["ready"]),
        frozenset(groups["unready"]),
        frozenset(groups["missing"]),
        frozenset(groups["ignored"]),
    )


def _group(pod: Manifest, metric: PodMetric | None, resource: str, now: datetime) -> str:
    phase = (pod.get("status") or {}).get("phase")
    if is_deleting(pod) or phase == "Failed":
        return "ignored"
    if phase == "Pending":
        return "unready"
    if metric is None:
        return "missing"
    return "unready" if resource == "cpu" and _starting(pod, metric, now) else "ready"


def _starting(pod: Manifest, metric: PodMetric, now: datetime) -> bool:
    """Whether its CPU is that of its start rather than of its load."""
    status = pod.get("status") or {}
    condition = find_condition(status, "Ready")
    started = parse_time(status.get("startTime"))
    if condition is None or started is None:
        return True
    unready = condition["status"] == "False"
    since = parse_time(condition.get("lastTransitionTime")) or started
    if started + CPU_INITIALIZATION > now:
        return unready or metric.timestamp < since + metric.window
    return unready and started + INITIAL_READINESS_DELAY > since


def utilization(
    current: int,
    target: int,
    pods: Sequence[Manifest],
    metrics: Mapping[str, PodMetric],
    requests: Callable[[], Mapping[str, int]],
    *,
    resource: str,
    tolerances: Tolerances,
    now: datetime,
) -> Proposal:
    """Replicas for a target in percent of what the Pods request.

    Args:
        current: `spec.replicas` of what is scaled.
        target: Percent.
        pods: The Pods that it selects.
        metrics: What they use, by name.
        requests: What they request by name, in thousandths; asked only when there is something to compare.
        resource: `cpu` or `memory`.
        tolerances: What is close enough.
        now: The time.

    Raises:
        CalculationError: There is nothing to calculate from.
    """
    groups, counted = _counted(pods, metrics, resource, now)
    requested = requests()

    def percent(values: Mapping[str, int]) -> int:
        total = sum(requested[name] for name in values if name in requested)
        if total == 0:
            raise CalculationError("no metrics returned matched known pods")
        return sum(value for name, value in values.items() if name in requested) * 100 // total

    fallback = max(100, target)  # a Pod that nobody measured is taken to use all that it may
    replicas = _replicas(
        current,
        groups,
        counted,
        lambda values: percent(values) / target,
        lambda name: requested.get(name, 0) * fallback // 100,
        tolerances,
    )
    known = [value for name, value in counted.items() if name in requested]
    return Proposal(replicas, sum(known) // len(known), percent(counted))


def average_value(
    current: int,
    target: int,
    pods: Sequence[Manifest],
    metrics: Mapping[str, PodMetric],
    *,
    resource: str,
    tolerances: Tolerances,
    now: datetime,
) -> Proposal:
    """Replicas for a target of so many thousandths a Pod; arguments as for `utilization`."""
    groups, counted = _counted(pods, metrics, resource, now)

    def average(values: Mapping[str, int]) -> int:
        return sum(values.values()) // len(values)

    replicas = _replicas(
        current, groups, counted, lambda values: average(values) / target, lambda _: target, tolerances
    )
    return Proposal(replicas, average(counted))


def _counted(
    pods: Sequence[Manifest], metrics: Mapping[str, PodMetric], resource: str, now: datetime
) -> tuple[PodGroups, dict[str, int]]:
    if not pods:
        raise CalculationError(_NO_PODS)
    groups = group_pods(pods, metrics, resource, now)
    without = groups.unready | groups.ignored
    counted = {name: metric.value for name, metric in metrics.items() if name not in without}
    if not counted:
        raise CalculationError(_NO_METRICS)
    return groups, counted


def _replicas(
    current: int,
    groups: PodGroups,
    counted: Mapping[str, int],
    ratio: Callable[[Mapping[str, int]], float],
    all_of_it: Callable[[str], int],
    tolerances: Tolerances,
) -> int:
    """The count, with what is not known taken to speak against a change."""
    usage = ratio(counted)
    growing_with_unready = bool(groups.unready) and usage > 1.0
    if not growing_with_unready and not groups.missing:
        return current if tolerances.accept(usage) else math.ceil(usage * groups.ready)
    assumed = dict(counted)
    if usage < 1.0:
        assumed |= {name: all_of_it(name) for name in groups.missing}
    elif usage > 1.0:
        assumed |= dict.fromkeys(groups.missing, 0)
    if growing_with_unready:
        assumed |= dict.fromkeys(groups.unready, 0)
    again = ratio(assumed)
    turned = (usage < 1.0 < again) or (again < 1.0 < usage)
    if tolerances.accept(again) or turned:
        return current
    replicas = math.ceil(again * len(assumed))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return current
    return replicas


def external_average(status_replicas: int, target: int, total: int, tolerances: Tolerances) -> Proposal:
    """Replicas for a metric of the outside that each replica is to have so many thousandths of."""
    wanted = math.ceil(total / target)
    if status_replicas == 0:
        return Proposal(wanted, total)
    close = tolerances.accept(total / (target * status_replicas))
    return Proposal(status_replicas if close else wanted, math.ceil(total / status_replicas))


def external_value(
    current: int, target: int, total: int, pods: Sequence[Manifest], tolerances: Tolerances
) -> Proposal:
    """Replicas for a metric of the outside that is to be so many thousandths as a whole."""
    ratio = total / target
    if current == 0:
        return Proposal(math.ceil(ratio), total)
    if tolerances.accept(ratio):
        return Proposal(current, total)
    if not pods:
        raise CalculationError(f"unable to calculate ready pods: {_NO_PODS}")
    return Proposal(math.ceil(ratio * sum(_serves(pod) for pod in pods)), total)


def _serves(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running" and is_ready(pod)

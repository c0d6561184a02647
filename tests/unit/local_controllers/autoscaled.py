"""Pods, what is measured of them, and autoscalers, for the tests of the HPA controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chalkcompute.local.controllers.hpa_calculator import PodMetric
from chalkcompute.local.measures import ContainerUsage, NodeUsage, PodUsage
from chalkcompute.local.ports import Manifest

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
WINDOW = timedelta(seconds=5)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Replica:
    """One Pod: what it uses and requests in thousandths of a core, and in what state it is.

    `use` is None for one that nobody has measured. Started and ready an hour ago unless said otherwise.
    """

    use: int | None = None
    request: int | None = 1000
    ready: bool = True
    phase: str = "Running"
    deleting: bool = False
    started: timedelta = timedelta(hours=1)
    ready_for: timedelta = timedelta(hours=1)
    memory: int = 64 << 20
    labels: Mapping[str, str] = field(default_factory=lambda: {"app": "web"})

    def pod(self, name: str) -> Manifest:
        requests = {} if self.request is None else {"cpu": f"{self.request}m", "memory": "64Mi"}
        condition = {
            "type": "Ready",
            "status": str(self.ready),
            "lastTransitionTime": iso(NOW - self.ready_for),
        }
        gone = {"deletionTimestamp": iso(NOW)} if self.deleting else {}
        container = {"name": "app", "image": "python:3.12", "resources": {"requests": requests}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "labels": dict(self.labels),
                **gone,
            },
            "spec": {"containers": [container]},
            "status": {
                "phase": self.phase,
                "startTime": iso(NOW - self.started),
                "conditions": [condition],
            },
        }


def pods_of(replicas: Sequence[Replica]) -> list[Manifest]:
    return [replica.pod(f"web-{index}") for index, replica in enumerate(replicas)]


def metrics_of(replicas: Sequence[Replica]) -> dict[str, PodMetric]:
    return {
        f"web-{index}": PodMetric(replica.use, NOW, WINDOW)
        for index, replica in enumerate(replicas)
        if replica.use is not None
    }


def requests_of(replicas: Sequence[Replica]) -> dict[str, int]:
    return {f"web-{index}": replica.request or 0 for index, replica in enumerate(replicas)}


def usages_of(replicas: Sequence[Replica], *containers: str) -> list[PodUsage]:
    """What a metrics server says: the use is of each of the containers (`app`)."""
    return [
        usage(f"web-{index}", replica.use, replica.memory, *containers)
        for index, replica in enumerate(replicas)
        if replica.use is not None
    ]


def usage(name: str, thousandths: int, memory: int = 64 << 20, *containers: str) -> PodUsage:
    listed = tuple(
        ContainerUsage(container, thousandths * 1_000_000, memory) for container in containers or ("app",)
    )
    return PodUsage("default", name, f"uid-{name}", NOW, 5.0, listed)


class Measured:
    """`measures.Metrics` of what the test says."""

    def __init__(self, usages: Iterable[PodUsage] = ()) -> None:
        self.usages = list(usages)

    def pods(self, namespace: str = "") -> list[PodUsage]:
        return [usage for usage in self.usages if namespace in ("", usage.namespace)]

    def node(self) -> NodeUsage | None:
        return None


@dataclass
class Outside:
    """`measures.ExternalMetrics` of one number, and what was asked."""

    number: float | None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def value(self, namespace: str, metric: str, selector: Mapping[str, str]) -> float | None:
        self.asked.append((namespace, metric, dict(selector)))
        return self.number


def cpu_metric(percent: int = 50) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def make_autoscaler(
    low: int | None = 1, high: int = 10, *metrics: Manifest, name: str = "web", **spec: Any
) -> Manifest:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    bounds = {"maxReplicas": high} if low is None else {"minReplicas": low, "maxReplicas": high}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "scaleTargetRef": reference,
            **bounds,
            "metrics": list(metrics) or [cpu_metric()],
            **spec,
        },
    }

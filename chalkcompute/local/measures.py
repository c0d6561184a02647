"""What is measured in the embedded cluster, and asked by whoever scales: use of replicas, traffic of routes.

metrics     samples what replicas use            implements `Metrics`, over `ports.Replica.usage`
gateway     counts requests, holds some          implements `Traffic`
keda        tells an HPA what requests ask for   implements `ExternalMetrics`, over `Traffic`
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

__all__ = [
    "ContainerUsage",
    "ExternalMetrics",
    "Metrics",
    "NodeUsage",
    "PodUsage",
    "RouteTraffic",
    "Traffic",
]


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What one container used.

    Attributes:
        name: Container name.
        cpu_nanocores: CPU over the window, billionths of a core.
        memory_bytes: Memory at its end, in bytes.
    """

    name: str
    cpu_nanocores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class PodUsage:
    """What one Pod used (metrics.k8s.io `PodMetrics`).

    Attributes:
        namespace: Namespace of the Pod.
        name: Pod name.
        uid: Its uid.
        timestamp: End of the window (UTC).
        window: Seconds that the CPU was measured over.
        containers: Its running containers.
    """

    namespace: str
    name: str
    uid: str
    timestamp: datetime
    window: float
    containers: tuple[ContainerUsage, ...]


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """What this machine used (metrics.k8s.io `NodeMetrics`); times and units as in `PodUsage`."""

    name: str
    timestamp: datetime
    window: float
    cpu_nanocores: int
    memory_bytes: int


class Metrics(Protocol):
    """What a metrics server knows."""

    def pods(self, namespace: str = "") -> Sequence[PodUsage]:
        """Pods of a namespace ("" is all) that have been measured over a window."""
        ...

    def node(self) -> NodeUsage | None: ...


class ExternalMetrics(Protocol):
    """What an HPA's metrics of type External ask (external.metrics.k8s.io)."""

    def value(self, namespace: str, metric: str, selector: Mapping[str, str]) -> float | None:
        """The sum of the series of that name with these labels, or None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class RouteTraffic:
    """Requests by one HTTPRoute or InterceptorRoute.

    Attributes:
        timestamp: When this was read (UTC).
        window: Seconds that rate and durations are taken over.
        in_flight: Requests under way now: held, being answered, or open streams.
        held: Those of them that wait for a first replica.
        requests: Requests since the gateway started.
        requests_per_second: Rate over the window.
        p50_seconds: Median time until answered, over the window; None without a request in it.
        p99_seconds: The same, of the slowest hundredth.
        active_at: The last moment at which a request was known to be under way (UTC), or None.
    """

    timestamp: datetime
    window: float
    in_flight: int
    held: int
    requests: int
    requests_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    active_at: datetime | None


class Traffic(Protocol):
    """What the gateway knows of requests, and whom they wait for."""

    def of_route(self, kind: str, namespace: str, name: str) -> RouteTraffic | None:
        """Of an `HTTPRoute` or `InterceptorRoute`; None while it has none."""
        ...

    def wakes(self) -> AsyncIterator[tuple[str, str]]:
        """Namespace and name of each InterceptorRoute that a request waits at for a first replica.

        Said when the first request is held, and again every second while any is.
        """
        ...

"""The probes of one run of a container, in their order: start-up first, then readiness and liveness.

Source: `pkg/kubelet/prober`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from chalkcompute.local.kubelet.probes import Prober

__all__ = ["Probed", "watch_health"]


class Probed(Protocol):
    """What probes speak to."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The container."""
        ...

    @property
    def pod_ip(self) -> str: ...

    def has_started(self) -> None:
        """The start-up probe has succeeded."""
        ...

    def is_ready(self, ready: bool) -> None:
        """The readiness probe has reached a threshold."""
        ...

    def is_unhealthy(self, kind: str, probe: Mapping[str, Any]) -> None:
        """The `startup` or `liveness` probe has failed for good: this run is over."""
        ...

    def probe_failed(self, text: str) -> None:
        """A check has failed: `Readiness probe failed: ...`."""
        ...


async def watch_health(container: Probed, started_at: float) -> None:
    """Probe until cancelled, or until nothing is left to probe.

    Args:
        container: Whom to ask and to tell.
        started_at: When the container started, on the loop's clock: initial delays count from there.
    """
    if (startup := container.spec.get("startupProbe")) is not None:
        verdict = await _prober("Startup", startup, container, started_at).run_once()
        if not verdict:
            container.is_unhealthy("startup", startup)
            return
        container.has_started()
    async with asyncio.TaskGroup() as group:
        if (readiness := container.spec.get("readinessProbe")) is not None:
            group.create_task(
                _watch_readiness(_prober("Readiness", readiness, container, started_at), container)
            )
        if (liveness := container.spec.get("livenessProbe")) is not None:
            prober = _prober("Liveness", liveness, container, started_at)
            group.create_task(_watch_liveness(prober, liveness, container))


async def _watch_readiness(prober: Prober, container: Probed) -> None:
    async for verdict in prober.verdicts():
        container.is_ready(verdict)


async def _watch_liveness(prober: Prober, probe: Mapping[str, Any], container: Probed) -> None:
    async for verdict in prober.verdicts():
        if not verdict:
            container.is_unhealthy("liveness", probe)
            return


def _prober(kind: str, probe: Mapping[str, Any], container: Probed, started_at: float) -> Prober:
    return Prober(
        probe,
        container.spec,
        container.pod_ip,
        started_at=started_at,
        on_failure=lambda text: container.probe_failed(f"{kind} probe {text}"),
    )

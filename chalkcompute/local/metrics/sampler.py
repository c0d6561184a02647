"""Reads every few seconds what each running container and this machine have used.

As metrics-server (kubernetes-sigs/metrics-server `pkg/storage`) does: usage is the difference of the last
two samples of the same run, so a container is known a window after it started, and one that was
restarted starts anew. A Pod is known when all of its running containers are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from chalkcompute.local.clock import utc_now
from chalkcompute.local.measures import ContainerUsage, NodeUsage, PodUsage
from chalkcompute.local.metrics.machine import MachineReading, read_machine
from chalkcompute.local.ports import Replica, RunningContainer

__all__ = ["RESOLUTION_SECONDS", "Sampler"]

# metrics-server takes 15 s, of a whole cluster; here there is one machine, and somebody watches it.
RESOLUTION_SECONDS = 5.0
_NANO = 1_000_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """Something that uses CPU and memory, at one moment.

    Attributes:
        clock: Seconds on a clock that only goes forward.
        timestamp: The same moment in UTC.
        cpu_seconds: CPU used so far.
        memory_bytes: Memory used now.
    """

    clock: float
    timestamp: datetime
    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Series:
    """The last two samples of one run; `previous` is None while there is one only."""

    latest: Sample
    previous: Sample | None = None

    def followed_by(self, sample: Sample) -> Series:
        return Series(sample, self.latest)

    @property
    def window(self) -> float:
        """Seconds between the samples; 0 while there is one only."""
        return self.latest.clock - self.previous.clock if self.previous is not None else 0.0

    @property
    def nanocores(self) -> int:
        """CPU over the window. Time of processes whose end nobody waited for is lost: never below 0."""
        if self.previous is None or self.window <= 0:
            return 0
        return max(0, int((self.latest.cpu_seconds - self.previous.cpu_seconds) / self.window * _NANO))


@dataclass(frozen=True, slots=True)
class _Followed:
    container: RunningContainer
    series: Series


def pod_usages(followed: Iterable[tuple[RunningContainer, Series]]) -> list[PodUsage]:
    """The Pods all of whose running containers have been measured over a window. Pure."""

    def pod_of(item: tuple[RunningContainer, Series]) -> tuple[str, str, str]:
        return item[0].namespace, item[0].pod, item[0].pod_uid

    usages = []
    for (namespace, name, uid), group in groupby(sorted(followed, key=pod_of), key=pod_of):
        members = list(group)
        if any(series.window <= 0 for _, series in members):
            continue
        first = min((series for _, series in members), key=lambda series: series.latest.timestamp)
        containers = tuple(
            ContainerUsage(container.container, series.nanocores, series.latest.memory_bytes)
            for container, series in members
        )
        usages.append(PodUsage(namespace, name, uid, first.latest.timestamp, first.window, containers))
    return usages


class Sampler:
    """Implements `measures.Metrics`.

    Args:
        running: The containers that run now, looked through anew for every sample.
        node: Name of this machine's Node.
        seconds: Time between samples.
        machine: Reads what the machine uses; None where that cannot be told.
        clock: Seconds on a clock that only goes forward.
        now: The time, in UTC.
    """

    def __init__(
        self,
        running: Iterable[RunningContainer],
        node: str,
        *,
        seconds: float = RESOLUTION_SECONDS,
        machine: Callable[[], MachineReading | None] = read_machine,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._running = running
        self._node = node
        self._seconds = seconds
        self._machine = machine
        self._clock = clock
        self._now = now
        self._followed: dict[tuple[str, str], _Followed] = {}
        self._usages: list[PodUsage] = []
        self._whole: Series | None = None

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                await self.sample()
            except Exception:
                log.exception("what replicas use could not be read; it is tried again")
            await asyncio.sleep(self._seconds)

    async def sample(self) -> None:
        """Take one sample. In a thread: with many replicas it is a long walk through /proc."""
        running = list(self._running)
        samples, whole = await asyncio.to_thread(self._read, running)
        self._followed = {
            _key(container): _Followed(container, self._continued(container, sample))
            for container in running
            if (sample := samples.get(_key(container))) is not None
        }
        self._usages = pod_usages((each.container, each.series) for each in self._followed.values())
        if whole is not None:
            self._whole = self._whole.followed_by(whole) if self._whole is not None else Series(whole)

    def pods(self, namespace: str = "") -> Sequence[PodUsage]:
        return [usage for usage in self._usages if namespace in ("", usage.namespace)]

    def node(self) -> NodeUsage | None:
        whole = self._whole
        if whole is None or whole.window <= 0:
            return None
        latest = whole.latest
        return NodeUsage(self._node, latest.timestamp, whole.window, whole.nanocores, latest.memory_bytes)

    def _continued(self, container: RunningContainer, sample: Sample) -> Series:
        known = self._followed.get(_key(container))
        if known is None or known.container.replica is not container.replica:
            return Series(sample)
        return known.series.followed_by(sample)

    def _read(
        self, running: Sequence[RunningContainer]
    ) -> tuple[Mapping[tuple[str, str], Sample], Sample | None]:
        samples = {}
        for container in running:
            sample = self._read_replica(container.replica)
            if sample is not None:
                samples[_key(container)] = sample
        reading = self._machine()
        if reading is None:
            return samples, None
        return samples, Sample(self._clock(), self._now(), reading.cpu_seconds, reading.memory_bytes)

    def _read_replica(self, replica: Replica) -> Sample | None:
        """None for one that cannot be measured: whatever runs has memory, so 0 bytes say nobody can tell."""
        cpu_seconds, memory_bytes = replica.usage()
        if not memory_bytes:
            return None
        return Sample(self._clock(), self._now(), cpu_seconds, memory_bytes)


def _key(container: RunningContainer) -> tuple[str, str]:
    return container.pod_uid, container.container

"""What a container needs of its Pod."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.kubelet.backoff import BackOffSettings
from chalkcompute.local.kubelet.devices import GpuAssignments
from chalkcompute.local.kubelet.environment import Lookup, PodFacts
from chalkcompute.local.kubelet.logs import LogStore
from chalkcompute.local.kubelet.volumes import VolumeFolders
from chalkcompute.local.ports import Manifest, Runtime

__all__ = ["PodContext"]


class PodContext(Protocol):
    """What a container needs of its Pod."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def events(self) -> EventRecorder: ...

    @property
    def logs(self) -> LogStore: ...

    @property
    def volumes(self) -> VolumeFolders: ...

    @property
    def gpus(self) -> GpuAssignments: ...

    @property
    def back_off(self) -> BackOffSettings: ...

    @property
    def pod(self) -> Manifest:
        """The Pod as last seen."""
        ...

    @property
    def facts(self) -> PodFacts: ...

    @property
    def lookup(self) -> Lookup: ...

    def now(self) -> datetime: ...

    def publish(self) -> None:
        """Write the status."""
        ...

    def substituted(self, container: str, warning: str) -> None:
        """The host base stands in for the container's image."""
        ...

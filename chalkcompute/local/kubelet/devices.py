"""Which GPUs are whose: the device manager of the kubelet.

Source: `pkg/kubelet/cm/devicemanager`. A container keeps its GPUs over its restarts, and over those of the
daemon: what was given is written down, as the kubelet does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.gpus import GPU_RESOURCE, Gpu
from chalkcompute.local.state import write_atomically

__all__ = ["GpuAssignments", "TooFewGpusError", "choose", "wanted_gpus"]

log = logging.getLogger(__name__)

_Given: TypeAlias = dict[str, dict[str, list[str]]]
"""Pod uid -> container name -> ids of GPUs."""


class TooFewGpusError(Exception):
    """There are not as many free as the container asks for."""


def wanted_gpus(container: Mapping[str, Any]) -> int:
    """How many a container asks for."""
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return int(parse_quantity(str(limits.get(GPU_RESOURCE) or requests.get(GPU_RESOURCE) or 0)))


def choose(gpus: Sequence[Gpu], taken: Collection[str], count: int) -> list[str]:
    """Free ones, in the machine's order. Pure.

    Raises:
        TooFewGpusError: with the kubelet's words.
    """
    free = [gpu.id for gpu in gpus if gpu.id not in taken]
    if count > len(free):
        raise TooFewGpusError(
            f"requested number of devices unavailable for {GPU_RESOURCE}. "
            f"Requested: {count}, Available: {len(free)}"
        )
    return free[:count]


class GpuAssignments:
    """The GPUs of this machine, and who has them."""

    def __init__(self, gpus: Sequence[Gpu] = (), record: Path | None = None) -> None:
        """Read what was given before.

        Args:
            gpus: All of them.
            record: File that it is noted in; None for memory alone.
        """
        self._gpus = tuple(gpus)
        self._record = record
        self._given = _read(record, {gpu.id for gpu in gpus}) if record is not None else {}

    def __bool__(self) -> bool:
        """Whether this machine has any."""
        return bool(self._gpus)

    def assign(self, pod_uid: str, container: str, count: int) -> tuple[Gpu, ...]:
        """The GPUs of a container: those that it has already, else free ones.

        Raises:
            TooFewGpusError: with the kubelet's words.
        """
        known = self._given.get(pod_uid, {}).get(container, [])
        if len(known) != count:
            taken = {
                gpu
                for uid, containers in self._given.items()
                for name, ids in containers.items()
                for gpu in ids
                if (uid, name) != (pod_uid, container)
            }
            known = choose(self._gpus, taken, count)
            self._given.setdefault(pod_uid, {})[container] = known
            self._note()
        return tuple(gpu for gpu in self._gpus if gpu.id in known)

    def release(self, pod_uid: str) -> None:
        """The Pod runs nothing any more."""
        if self._given.pop(pod_uid, None) is not None:
            self._note()

    def keep_only(self, pod_uids: Collection[str]) -> None:
        """Release those of Pods that went while nobody looked."""
        for uid in self._given.keys() - set(pod_uids):
            self.release(uid)

    def _note(self) -> None:
        if self._record is None:
            return
        try:
            write_atomically(self._record, json.dumps(self._given))
        except OSError as error:  # the Pods may then change GPUs at the next start
            log.warning("cannot note whose the GPUs are: %s", error)


def _read(record: Path, known: Collection[str]) -> _Given:
    """What was noted, as far as the GPUs are still here."""
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
        return {
            str(uid): {str(name): ids for name, ids in containers.items() if set(ids) <= set(known)}
            for uid, containers in noted.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):  # none, or not ours
        return {}

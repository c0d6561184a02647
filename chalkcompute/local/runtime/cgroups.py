"""Control groups: where the kernel lets us, it holds the limits of replicas.

Each replica has one group in each hierarchy, below one folder of this local cluster:
`<our own group>/chalk-local-<tag>/<replica>`. Its program joins them before it executes, and so does all
that it starts. Version 1 has a hierarchy for each controller, version 2 one for all of them.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from chalkcompute.local.runtime.cgroup_files import CgroupFiles, KernelFiles
from chalkcompute.local.runtime.usage import ProcessUsage

__all__ = ["Cgroups", "Hierarchy", "ReplicaCgroup", "remove_tree", "set_limit"]

CPU, MEMORY, ACCOUNTING = "cpu", "memory", "cpuacct"
PERIOD_MICROSECONDS = 100_000  # the kubelet's --cpu-cfs-quota-period
_LEAST_QUOTA = 1000  # the kernel takes no less

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups of replicas can be made.

    Attributes:
        version: 1 or 2.
        base: Folder in which they are made.
        controllers: Of `cpu`, `memory` and `cpuacct` (of version 1), those that work there.
    """

    version: int
    base: str
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Cgroups:
    """What the kernel holds for us; nothing by default.

    Attributes:
        hierarchies: Where groups can be made; each controller is in one of them.
        files: How they are made.
    """

    hierarchies: tuple[Hierarchy, ...] = ()
    files: CgroupFiles = field(default_factory=KernelFiles)

    def version_for(self, controller: str) -> int | None:
        """Which version holds `cpu` or `memory`; None for neither."""
        return next((h.version for h in self.hierarchies if controller in h.controllers), None)

    def make(self, name: str, *, cpu: float | None, memory: int | None) -> ReplicaCgroup:
        """The group of one replica.

        Args:
            name: Its name among those of this local cluster.
            cpu: Limit in cores, or None.
            memory: Limit in bytes, or None.

        Raises:
            OSError: The kernel does not make it; nothing is left of it.
        """
        folders = {f"{hierarchy.base}/{name}": hierarchy for hierarchy in self.hierarchies}
        made = ReplicaCgroup(folders, self.files)
        try:
            for folder, hierarchy in folders.items():
                self.files.make(folder)
                for controller, limit in ((CPU, cpu), (MEMORY, memory)):
                    if limit is not None and controller in hierarchy.controllers:
                        set_limit(self.files, folder, hierarchy.version, controller, limit)
        except OSError:
            made.remove()
            raise
        return made

    def close(self) -> None:
        """Remove the folders of this local cluster, where no replica is left."""
        for hierarchy in self.hierarchies:
            with contextlib.suppress(OSError):  # the next start removes what is left
                remove_tree(self.files, hierarchy.base)


def set_limit(files: CgroupFiles, folder: str, version: int, controller: str, limit: float) -> None:
    """Set a limit of a group: cores for `cpu`, bytes for `memory`.

    Raises:
        OSError: The kernel does not take it.
    """
    if controller == CPU:
        quota = max(_LEAST_QUOTA, round(limit * PERIOD_MICROSECONDS))
        if version == 2:
            files.write(f"{folder}/cpu.max", f"{quota} {PERIOD_MICROSECONDS}")
            return
        files.write(f"{folder}/cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
        try:
            files.write(f"{folder}/cpu.cfs_quota_us", str(quota))
        except OSError as error:
            if error.errno != errno.EINVAL:  # a group above has less, and that holds for this one, too
                raise
    elif version == 2:
        files.write(f"{folder}/memory.max", str(int(limit)))
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError):  # a kernel without swap, or older than 4.19
                files.write(f"{folder}/{name}", value)
    else:
        files.write(f"{folder}/memory.limit_in_bytes", str(int(limit)))
        with contextlib.suppress(OSError):  # swap is not accounted for
            files.write(f"{folder}/memory.memsw.limit_in_bytes", str(int(limit)))


def remove_tree(files: CgroupFiles, folder: str) -> None:
    """Remove a group and those below it.

    Raises:
        OSError: One has processes still.
    """
    for inner in files.below(folder):
        remove_tree(files, inner)
    files.remove(folder)


class ReplicaCgroup:
    """The groups of one replica."""

    def __init__(self, folders: Mapping[str, Hierarchy], files: CgroupFiles) -> None:
        self._folders = dict(folders)
        self._files = files

    @property
    def joins(self) -> tuple[str, ...]:
        """The files that a process writes `0` to in order to join."""
        return tuple(f"{folder}/cgroup.procs" for folder in self._folders)

    def holds(self, controller: str) -> bool:
        """Whether the kernel limits `cpu` or `memory` here."""
        return any(controller in hierarchy.controllers for hierarchy in self._folders.values())

    @property
    def kills_one_by_one(self) -> bool:
        """Out of memory, version 1 kills one process of the replica; version 2 kills them all."""
        return any(h.version == 1 and MEMORY in h.controllers for h in self._folders.values())

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it because of its limit."""
        for folder, hierarchy in self._folders.items():
            if MEMORY in hierarchy.controllers:
                name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                return self._numbers(f"{folder}/{name}").get("oom_kill", 0) > 0
        return False

    def usage(self) -> ProcessUsage | None:
        """What it has used, as cAdvisor counts (memory without file pages that are idle); None if unknown."""
        cpu: float | None = None
        memory: int | None = None
        for folder, hierarchy in self._folders.items():
            if cpu is None:
                cpu = self._cpu_seconds(folder, hierarchy)
            if memory is None and MEMORY in hierarchy.controllers:
                memory = self._working_set(folder, hierarchy.version)
        return None if cpu is None or memory is None else ProcessUsage(cpu, memory)

    def remove(self) -> bool:
        """Remove the groups; False when the kernel still has something in them."""
        removed = True
        for folder in self._folders:
            try:
                remove_tree(self._files, folder)
            except OSError:
                removed = False
        return removed

    def _cpu_seconds(self, folder: str, hierarchy: Hierarchy) -> float | None:
        if hierarchy.version == 2:
            microseconds = self._numbers(f"{folder}/cpu.stat").get("usage_usec")
            return None if microseconds is None else microseconds / 1e6
        if ACCOUNTING not in hierarchy.controllers:
            return None
        nanoseconds = self._number(f"{folder}/cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9

    def _working_set(self, folder: str, version: int) -> int | None:
        name, idle = (
            ("memory.current", "inactive_file")
            if version == 2
            else ("memory.usage_in_bytes", "total_inactive_file")
        )
        used = self._number(f"{folder}/{name}")
        if used is None:
            return None
        return max(0, used - self._numbers(f"{folder}/memory.stat").get(idle, 0))

    def _number(self, path: str) -> int | None:
        return self._parsed(path, int)

    def _numbers(self, path: str) -> dict[str, int]:
        """A file with a name and a number in each line."""
        lines = self._parsed(path, lambda text: [line.split() for line in text.splitlines()]) or []
        return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}

    def _parsed(self, path: str, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(self._files.read(path))
        except (OSError, ValueError):  # it has gone, or the kernel is another
            return None

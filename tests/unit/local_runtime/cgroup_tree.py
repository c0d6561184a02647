"""A file system of control groups in memory, with the rules of the kernel that matter here."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

V1_FILES = {
    "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.usage_in_bytes": "0",
        "memory.stat": "total_inactive_file 0",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
    },
    "cpuacct": {"cpuacct.usage": "0"},
}
V2_FILES = {
    "cpu": {"cpu.max": "max 100000"},
    "memory": {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.current": "0",
        "memory.stat": "anon 0\ninactive_file 0",
        "memory.events": "low 0\noom 0\noom_kill 0",
    },
}


def failure(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class CgroupTree:
    """Implements `CgroupFiles`; `read_only` paths (and what is below them) refuse to change."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.groups: dict[str, frozenset[str]] = {}
        self.version: dict[str, int] = {}
        self.read_only: set[str] = set()
        self.joined: list[str] = []

    def mount(self, point: str, version: int, controllers: Sequence[str]) -> None:
        self.version[point] = version
        self._add(point, frozenset(controllers))
        if version == 2:
            self.files[f"{point}/cgroup.controllers"] = " ".join(controllers)

    def _add(self, path: str, controllers: frozenset[str]) -> None:
        version = self._version(path)
        self.groups[path] = controllers
        self.files[f"{path}/cgroup.procs"] = ""
        if version == 2:
            self.files[f"{path}/cgroup.controllers"] = " ".join(sorted(controllers))
            self.files[f"{path}/cgroup.subtree_control"] = ""
            self.files[f"{path}/cpu.stat"] = "usage_usec 0\nuser_usec 0"
        for controller in controllers:
            for name, text in (V1_FILES if version == 1 else V2_FILES).get(controller, {}).items():
                self.files[f"{path}/{name}"] = text

    def _version(self, path: str) -> int:
        return next(version for point, version in self.version.items() if f"{path}/".startswith(f"{point}/"))

    def _writable(self, path: str) -> None:
        if any(f"{path}/".startswith(f"{refused}/") for refused in self.read_only):
            raise failure(errno.EACCES, path)

    def read(self, path: str) -> str:
        if path not in self.files:
            raise failure(errno.ENOENT, path)
        return self.files[path]

    def write(self, path: str, text: str) -> None:
        if path not in self.files:
            raise failure(errno.ENOENT, path)
        self._writable(path)
        folder, _, name = path.rpartition("/")
        if name == "cgroup.subtree_control":
            self._enable(folder, text.removeprefix("+"))
        elif name == "cgroup.procs":
            for other in self.groups:
                kept = [pid for pid in self.files[f"{other}/cgroup.procs"].split() if pid != text]
                self.files[f"{other}/cgroup.procs"] = " ".join(kept)
            self.files[path] = f"{self.files[path]} {text}".strip()
        else:
            self.files[path] = text

    def _enable(self, folder: str, controller: str) -> None:
        if controller not in self.files[f"{folder}/cgroup.controllers"].split():
            raise failure(errno.ENOENT, folder)
        if self.files[f"{folder}/cgroup.procs"] and folder not in self.version:
            raise failure(errno.EBUSY, folder)
        control = f"{folder}/cgroup.subtree_control"
        self.files[control] = f"{self.files[control]} {controller}".strip()

    def make(self, path: str) -> None:
        if path in self.groups:
            return
        parent = path.rpartition("/")[0]
        if parent not in self.groups:
            raise failure(errno.ENOENT, path)
        self._writable(parent)
        if self._version(path) == 1:
            self._add(path, self.groups[parent])
        else:
            self._add(path, frozenset(self.files[f"{parent}/cgroup.subtree_control"].split()))

    def remove(self, path: str) -> None:
        if path not in self.groups:
            return
        self._writable(path)
        if self.below(path) or self.files[f"{path}/cgroup.procs"]:
            raise failure(errno.EBUSY, path)
        del self.groups[path]
        self.files = {name: text for name, text in self.files.items() if name.rpartition("/")[0] != path}

    def below(self, path: str) -> list[str]:
        return sorted(group for group in self.groups if group.rpartition("/")[0] == path)

    def join(self, files: Sequence[str]) -> None:
        for path in files:
            self._writable(path)
            folder = path.rpartition("/")[0]
            if self._version(folder) == 2 and self.files[f"{folder}/cgroup.subtree_control"]:
                raise failure(errno.EBUSY, folder)
            self.joined.append(path)

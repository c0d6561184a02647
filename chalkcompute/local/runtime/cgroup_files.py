"""Where control groups are on this machine, and the few things that are done to their files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["CgroupFiles", "CgroupMount", "KernelFiles", "parse_mounts"]

_JOIN = 'for file; do echo 0 > "$file" || exit 1; done'
_JOIN_SECONDS = 5


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One mounted hierarchy of control groups.

    Attributes:
        version: 1 or 2.
        controllers: What it controls, for version 1; version 2 says so in files.
        point: Where it is mounted.
        own: Folder of this process in it.
    """

    version: int
    controllers: frozenset[str]
    point: str
    own: str


class CgroupFiles(Protocol):
    """The file system of control groups; failures are `OSError` with the kernel's number."""

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None: ...

    def make(self, path: str) -> None:
        """Make a group; one that is there is as good."""
        ...

    def remove(self, path: str) -> None:
        """Remove a group, which has to be empty; one that is not there is as good."""
        ...

    def below(self, path: str) -> list[str]:
        """The groups right below; none when the group is not there."""
        ...

    def join(self, files: Sequence[str]) -> None:
        """Let a short-lived process write itself into `cgroup.procs` files."""
        ...


class KernelFiles:
    """Implements `CgroupFiles`."""

    def read(self, path: str) -> str:
        return Path(path).read_text(encoding="ascii")

    def write(self, path: str, text: str) -> None:
        # Unbuffered: the kernel takes one write as one value, and says at once what is wrong with it.
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)

    def make(self, path: str) -> None:
        Path(path).mkdir(exist_ok=True)

    def remove(self, path: str) -> None:
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            return

    def below(self, path: str) -> list[str]:
        try:
            return sorted(entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def join(self, files: Sequence[str]) -> None:
        try:
            subprocess.run(
                ["/bin/sh", "-c", _JOIN, "sh", *files],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_JOIN_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise PermissionError(f"no process can be put into it: {error}") from error


def parse_mounts(mountinfo: str, own: str) -> tuple[CgroupMount, ...]:
    """The hierarchies that are mounted.

    Args:
        mountinfo: Text of `/proc/self/mountinfo`.
        own: Text of `/proc/self/cgroup`.
    """
    paths = _own_paths(own)
    found: dict[str, CgroupMount] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        if not separator:
            continue
        root, point = left.split(" ")[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            version, controllers = 2, frozenset({""})
        elif kind == "cgroup":
            names = options.rpartition(" ")[2].split(",")
            version, controllers = 1, frozenset(names).intersection(paths)
        else:
            continue
        path = next((paths[name] for name in sorted(controllers) if name in paths), None)
        if path is not None:
            found[point] = CgroupMount(version, controllers - {""}, point, _below(point, root, path))
    return tuple(found.values())


def _own_paths(own: str) -> dict[str, str]:
    """Path of this process by controller; that of version 2 is under ""."""
    paths: dict[str, str] = {}
    for line in own.splitlines():
        number, names, path = line.split(":", 2)
        for name in names.split(","):
            if name or number == "0":
                paths[name] = path
    return paths


def _below(point: str, root: str, path: str) -> str:
    """Where a group is whose hierarchy is mounted from `root` on, as in a container."""
    inner = path if root == "/" else path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else "/"
    if inner.startswith("/.."):  # outside what this cgroup namespace shows
        inner = "/"
    return (point + "/" + inner.strip("/")).rstrip("/")

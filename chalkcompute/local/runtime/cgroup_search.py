"""Which limits the kernel can hold here, found out by trying.

A controller counts only when a group could be made, took a limit and a process. Whatever fails on the way
means that this controller's limits are watched instead, which needs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from chalkcompute.local.runtime.cgroup_files import CgroupFiles, CgroupMount, KernelFiles, parse_mounts
from chalkcompute.local.runtime.cgroups import (
    ACCOUNTING,
    CPU,
    MEMORY,
    PERIOD_MICROSECONDS,
    Cgroups,
    Hierarchy,
    remove_tree,
    set_limit,
)

__all__ = ["ask_systemd", "find_cgroups", "forget_cgroups", "remove_leftovers", "search"]

_log = logging.getLogger(__name__)

_PREFIX = "chalk-local-"
_DAEMON = "chalk-daemon-"
_FOLDER = "runtime"
_RECORD = "cgroups.json"
_TRIAL = "trial"
_TRIAL_CORES = 0.05
_TRIAL_BYTES = 64 * 2**20
_SYSTEMD_SECONDS = 5
_MOVE_SECONDS = 2.0
_POLL_SECONDS = 0.02
# The one that a process keeps after it has ended, for a moment.
_EMPTYING_TRIES = 50

Mounts = Callable[[], tuple[CgroupMount, ...]]


def find_cgroups(folder: Path) -> Cgroups:
    """What the kernel of this machine holds for this process and its children.

    On version 2 this process may be moved: into a group of its own beside those of its replicas, and with
    the help of systemd into a scope that is delegated to it.

    Args:
        folder: The state folder, which names the groups, and where they are noted for the next start.
    """
    files, tag = KernelFiles(), _tag(folder)
    forget_cgroups(folder)
    try:
        found = search(_mounts, files, tag, delegate=lambda: ask_systemd(f"{_PREFIX}{tag}-{os.getpid()}"))
    except (OSError, ValueError) as error:  # a kernel whose files read otherwise
        _log.info("no control groups: %s", error)
        return Cgroups()
    _record(folder / _FOLDER, found)
    return found


def forget_cgroups(folder: Path) -> None:
    """Remove the groups that a daemon of a state folder left when it was killed."""
    remove_leftovers(folder / _FOLDER, _tag(folder), KernelFiles())


def _tag(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]


def search(
    mounts: Mounts,
    files: CgroupFiles,
    tag: str,
    *,
    delegate: Callable[[], bool],
    pid: int | None = None,
    root: bool | None = None,
) -> Cgroups:
    """Try one place after the other until CPU and memory are held, or no place is left.

    Args:
        mounts: The hierarchies as they are now.
        files: Their files.
        tag: Names this local cluster among those of this machine.
        delegate: Asks for a group of version 2 that this process may divide; whether it was given one.
        pid: This process.
        root: Whether it is root.
    """
    pid = os.getpid() if pid is None else pid
    root = os.geteuid() == 0 if root is None else root
    found: dict[str, Hierarchy] = {}
    for hierarchy in _candidates(mounts, files, tag, delegate, pid, root):
        for controller in _working(files, hierarchy):
            found.setdefault(controller, hierarchy)
        if {CPU, MEMORY} <= found.keys():
            break
    kept = {
        hierarchy.base: Hierarchy(
            hierarchy.version, hierarchy.base, frozenset(name for name, h in found.items() if h == hierarchy)
        )
        for hierarchy in found.values()
    }
    return Cgroups(tuple(kept.values()), files)


def _candidates(
    mounts: Mounts, files: CgroupFiles, tag: str, delegate: Callable[[], bool], pid: int, root: bool
) -> Iterator[Hierarchy]:
    # The one that only counts comes first, or the search would end before it.
    first = sorted(mounts(), key=lambda mount: not mount.controllers <= {ACCOUNTING})
    for mount in first:
        wanted = mount.controllers & {CPU, MEMORY, ACCOUNTING}
        if mount.version == 1 and wanted:
            yield Hierarchy(1, f"{mount.own}/{_PREFIX}{tag}", wanted)
    unified = next((mount for mount in first if mount.version == 2), None)
    if unified is None or not {CPU, MEMORY} & set(_words(files, f"{unified.point}/cgroup.controllers")):
        return  # none, or all controllers are with version 1
    yield from _divided(files, unified.own, tag, pid)
    if delegate():
        moved = next((mount.own for mount in mounts() if mount.version == 2), unified.own)
        if moved != unified.own:
            yield from _divided(files, moved, tag, pid)
    if root:  # the root of all groups may have processes and groups at the same time
        yield from _divided(files, unified.point, tag, pid)


def _divided(files: CgroupFiles, parent: str, tag: str, pid: int) -> Iterator[Hierarchy]:
    """A folder for groups below one of version 2, with as many controllers as it gives."""
    base = f"{parent}/{_PREFIX}{tag}"
    offered = [name for name in (CPU, MEMORY) if name in _words(files, f"{parent}/cgroup.controllers")]
    try:
        given = [name for name in offered if _enable(files, parent, name, tag, pid)]
        if given:
            files.make(base)
            inner = frozenset(name for name in given if _enable(files, base, name, tag, pid))
            yield Hierarchy(2, base, inner)
    except OSError as error:
        _log.debug("cgroup v2 at %s: %s", parent, error)


def _enable(files: CgroupFiles, parent: str, controller: str, tag: str, pid: int) -> bool:
    """Let the groups below have a controller. A group that has processes itself cannot: ours move down."""
    control = f"{parent}/cgroup.subtree_control"
    if controller in _words(files, control):
        return True
    for again in (True, False):
        try:
            files.write(control, f"+{controller}")
            return True
        except OSError as error:
            if (
                not again
                or error.errno != errno.EBUSY
                or set(_words(files, f"{parent}/cgroup.procs")) != {str(pid)}
            ):
                _log.debug("cgroup v2 controller %s at %s: %s", controller, parent, error)
                return False
        files.make(f"{parent}/{_DAEMON}{tag}")
        files.write(f"{parent}/{_DAEMON}{tag}/cgroup.procs", str(pid))
    return False


def _working(files: CgroupFiles, hierarchy: Hierarchy) -> frozenset[str]:
    """The controllers of a place that take a limit and a process."""
    trial = f"{hierarchy.base}/{_TRIAL}"
    works: set[str] = set()
    try:
        files.make(hierarchy.base)
        files.make(trial)
        for controller in hierarchy.controllers:
            if _takes(files, trial, hierarchy.version, controller):
                works.add(controller)
        files.join([f"{trial}/cgroup.procs"])
    except OSError as error:
        _log.debug("cgroup v%d at %s: %s", hierarchy.version, hierarchy.base, error)
        works.clear()
    _remove(files, hierarchy.base if not works else trial)
    return frozenset(works)


def _takes(files: CgroupFiles, folder: str, version: int, controller: str) -> bool:
    """Whether a limit stands after it was set: some kernels take any, and keep none."""
    quota = str(round(_TRIAL_CORES * PERIOD_MICROSECONDS))
    shown = {
        (1, CPU): ("cpu.cfs_quota_us", quota),
        (1, MEMORY): ("memory.limit_in_bytes", str(_TRIAL_BYTES)),
        (2, CPU): ("cpu.max", f"{quota} {PERIOD_MICROSECONDS}"),
        (2, MEMORY): ("memory.max", str(_TRIAL_BYTES)),
    }
    try:
        if controller == ACCOUNTING:
            return files.read(f"{folder}/cpuacct.usage").strip().isdigit()
        limit = _TRIAL_CORES if controller == CPU else _TRIAL_BYTES
        set_limit(files, folder, version, controller, limit)
        name, text = shown[version, controller]
        return files.read(f"{folder}/{name}").strip() == text
    except OSError as error:
        _log.debug("cgroup v%d controller %s at %s: %s", version, controller, folder, error)
        return False


def _words(files: CgroupFiles, path: str) -> list[str]:
    try:
        return files.read(path).split()
    except OSError:
        return []


def _mounts() -> tuple[CgroupMount, ...]:
    try:
        return parse_mounts(
            Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
            Path("/proc/self/cgroup").read_text(encoding="utf-8"),
        )
    except FileNotFoundError:  # no Linux
        return ()


def ask_systemd(
    name: str, *, environ: Mapping[str, str] | None = None, own: Path = Path("/proc/self/cgroup")
) -> bool:
    """Have systemd move this process into a scope that is delegated to it; False when it does not.

    Args:
        name: Name of the scope.
        environ: Environment; the process's own when None.
        own: Says in which group this process is.
    """
    values = dict(os.environ if environ is None else environ)
    manager = "--system" if os.geteuid() == 0 else "--user"
    if manager == "--user":
        values.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    scope = (
        *("Description", "s", "Replicas of the chalk local cluster"),
        *("PIDs", "au", "1", str(os.getpid())),
        *("Delegate", "b", "true"),
        *("CollectMode", "s", "inactive-or-failed"),
    )
    service, path = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
    signature = "ssa(sv)a(sa(sv))"
    call = ["busctl", manager, "call", service, path, f"{service}.Manager", "StartTransientUnit", signature]
    try:
        before = own.read_text(encoding="utf-8")
        subprocess.run(
            [*call, f"{name}.scope", "fail", "4", *scope, "0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SYSTEMD_SECONDS,
            check=True,
            env=values,
        )
        deadline = time.monotonic() + _MOVE_SECONDS
        while time.monotonic() < deadline:
            if own.read_text(encoding="utf-8") != before:
                return True
            time.sleep(_POLL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        _log.debug("no scope of systemd: %s", error)
    return False


# What an earlier daemon left -----------------------------------------------------------------


def remove_leftovers(folder: Path, tag: str, files: CgroupFiles) -> None:
    """Remove the groups that an earlier daemon of this local cluster noted, and could not remove."""
    try:
        noted = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for base in noted if isinstance(noted, list) else ():
        if isinstance(base, str) and base.endswith(f"/{_PREFIX}{tag}"):
            for path in (base, f"{base.rpartition('/')[0]}/{_DAEMON}{tag}"):
                _remove(files, path)


def _remove(files: CgroupFiles, path: str) -> None:
    for _ in range(_EMPTYING_TRIES):
        try:
            remove_tree(files, path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(_POLL_SECONDS)
        else:
            return


def _record(folder: Path, found: Cgroups) -> None:
    bases: Iterable[str] = [hierarchy.base for hierarchy in found.hierarchies]
    with contextlib.suppress(OSError):  # the worst is a folder that stays until the machine restarts
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _RECORD).write_text(json.dumps(bases), encoding="utf-8")

"""What this machine allows, found out by trying, each try in a child of its own.

`unshare` alone proves nothing: Ubuntu 24.04 lets anyone make a user namespace and then refuses the mount.
So every try does what a replica needs. Started by `probe_machine` as a process of its own; the children
are forked there, never in the daemon.
"""

# Shares its start-up budget with the init: no pathlib.
# ruff: noqa: PTH100, PTH101, PTH102, PTH106, PTH112, PTH120

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from chalkcompute.local.runtime import kernel
else:
    import kernel

__all__ = ["Capabilities", "probe_machine"]

_RUN = "import sys; sys.path.insert(0, sys.argv[1]); import probe; probe.main()"
_TIMEOUT_SECONDS = 20
TRIAL = "trial-"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found; each field is None when it works, else why it does not.

    Attributes:
        root_namespaces: Mount and pid namespaces as root.
        user_namespaces: The same inside a user namespace, with a mount.
        notification: seccomp user notification.
        disk: What replicas write can be kept in the state folder; else it is kept in memory.
    """

    root_namespaces: str | None
    user_namespaces: str | None
    notification: str | None
    disk: str | None = "not tried"


def probe_machine(folder: str | None = None) -> Capabilities:
    """Find out what this machine allows, in some ten milliseconds.

    Args:
        folder: Where what replicas write is to be kept; None to leave that open.
    """
    if not kernel.supported():
        why = f"not available on {os.uname().sysname} {os.uname().machine}"
        return Capabilities(why, why, why)
    python = getattr(sys, "_base_executable", None) or sys.executable
    try:
        answer = subprocess.run(
            [python, "-I", "-S", "-c", _RUN, os.path.dirname(os.path.abspath(__file__)), folder or ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
        return Capabilities(**json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = f"the probe failed: {error}"
        return Capabilities(why, why, why)


def main() -> None:
    """Try everything and print the result as JSON."""
    found = {
        "root_namespaces": _in_child(_try_root_namespaces),
        "user_namespaces": _in_child(_try_user_namespaces),
        "notification": _in_child(_try_notification),
    }
    if folder := sys.argv[2]:
        found["disk"] = _try_in(folder)
    sys.stdout.write(json.dumps(found))


def _try_in(folder: str) -> str | None:
    trial = tempfile.mkdtemp(prefix=TRIAL, dir=folder)
    try:
        return _in_child(lambda: _try_overlay(trial))
    finally:
        with contextlib.suppress(OSError):
            os.chmod(f"{trial}/work/work", 0o700)
        shutil.rmtree(trial, ignore_errors=True)


def _in_child(attempt: Callable[[], None]) -> str | None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        why = ""
        try:
            attempt()
        except Exception as error:  # whatever it is, it is the answer
            why = str(error) or type(error).__name__
        finally:
            os.write(writer, why.encode()[:500])
            os._exit(0)
    os.close(writer)
    why = os.read(reader, 512).decode()
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return (why or None) if status == 0 else f"the child died ({status})"


def _try_root_namespaces() -> None:
    if os.getuid() != 0:
        raise PermissionError("not root")
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
    _try_mounts()


def _try_user_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWIPC
    )
    kernel.map_to_root(uid, gid)
    _try_mounts()


def _try_mounts() -> None:
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    os.mkdir("/tmp/root")
    kernel.mount("tmpfs", "/tmp/root", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    os.mkdir("/tmp/root/usr")
    kernel.mount("/usr", "/tmp/root/usr", None, kernel.MS_BIND | kernel.MS_REC)
    os.mkdir("/tmp/root/.old")
    kernel.pivot_root("/tmp/root", "/tmp/root/.old")


def _try_notification() -> None:
    kernel.check_user_notification()
    os.close(kernel.install_filter())


def _try_overlay(trial: str) -> None:
    """An overlay that is written to in a folder of the disk: file, folder, and the mark of a removed one."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        kernel.unshare(kernel.CLONE_NEWNS)
    else:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        kernel.map_to_root(uid, gid)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(trial, trial, None, kernel.MS_BIND)
    os.chdir(trial)
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(name)
    os.mkdir("lower/old")
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    try:
        kernel.mount("overlay", f"{trial}/root", "overlay", 0, f"{options},userxattr")
    except OSError:
        kernel.mount("overlay", f"{trial}/root", "overlay", 0, options)
    os.rmdir("root/old")  # leaves a mark,
    os.mkdir("root/old")  # and this one an extended attribute
    if not os.path.isdir("upper/old"):
        raise OSError("what is written does not arrive")

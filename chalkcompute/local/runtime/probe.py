"""What this machine allows, found out by trying, each try in a child of its own.

`unshare` alone proves nothing: Ubuntu 24.04 lets anyone make a user namespace and then refuses the mount.
So every try does what a replica needs. Started by `probe_machine` as a process of its own; the children
are forked there, never in the daemon.
"""

# Shares its start-up budget with the init: no pathlib.
# ruff: noqa: PTH100, PTH102, PTH120

from __future__ import annotations

import json
import os
import subprocess
import sys
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


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found; each field is None when it works, else why it does not.

    Attributes:
        root_namespaces: Mount and pid namespaces as root.
        user_namespaces: The same inside a user namespace, with a mount.
        notification: seccomp user notification.
    """

    root_namespaces: str | None
    user_namespaces: str | None
    notification: str | None


def probe_machine() -> Capabilities:
    """Find out what this machine allows, in some ten milliseconds."""
    if not kernel.supported():
        why = f"not available on {os.uname().sysname} {os.uname().machine}"
        return Capabilities(why, why, why)
    python = getattr(sys, "_base_executable", None) or sys.executable
    try:
        answer = subprocess.run(
            [python, "-I", "-S", "-c", _RUN, os.path.dirname(os.path.abspath(__file__))],
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
    sys.stdout.write(json.dumps(found))


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

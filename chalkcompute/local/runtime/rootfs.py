"""The root file system of a replica: parts of the host under overlays, its own /tmp, /dev, /proc, and mounts.

Runs in the init of a replica, inside its own mount namespace, as root of the machine or of a user
namespace. What is written lands in a tmpfs and goes with the replica: nothing of the host changes.
"""

# The init starts sooner without pathlib, and paths here are built from strings that we wrote.
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from chalkcompute.local.runtime import kernel
else:
    import kernel

# What an image would bring along. The rest of the host (/root, /home, /tmp, data folders) stays outside.
_LAYERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var", "nix", "gnu")
_EMPTY = ("proc", "sys", "dev", "run", "root", "home", "mnt", "media", "srv", ".old")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def enter(plan: dict[str, Any]) -> None:
    """Build the root under `plan["scratch"]` (an empty folder) and make it the root of this process."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    plan = {
        **plan,
        "cwd": _resolved(plan["cwd"]),
        "mounts": [{**mount, "target": _resolved(mount["target"])} for mount in plan["mounts"]],
    }
    scratch = plan["scratch"]
    kernel.mount("tmpfs", scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    root = f"{scratch}/root"
    os.mkdir(root)
    # A mount of its own, or pivot_root refuses it.
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for name in _LAYERS:
        _layer(plan, name, root)
    for name in _EMPTY:
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in ("tmp", "var/tmp"):
        with contextlib.suppress(OSError):  # /var/tmp may be the host's, read-only
            os.makedirs(f"{root}/{name}", exist_ok=True)
            os.chmod(f"{root}/{name}", 0o1777)
    for tree in plan["trees"]:
        _tree(scratch, tree, root)
    _links(plan["links"], root)
    _kernel_file_systems(root)
    for mount in plan["mounts"]:
        _bind(mount["source"], root + mount["target"], mount["read_only"])
    _ensure_folder(root + plan["cwd"])
    kernel.pivot_root(root, f"{root}/.old")


def _resolved(path: str) -> str:
    """A path inside, free of the symbolic links that the layers share with the host (/var/run, /lib).

    Followed from outside, before the root is changed, such a link would lead to the host's own files.
    """
    top = path.split("/")[1] if path.startswith("/") else ""
    return os.path.realpath(path) if top in _LAYERS else path


def _layer(plan: dict[str, Any], name: str, root: str) -> None:
    """One top-level folder of the host, writable through an overlay, else read-only."""
    source, target = f"/{name}", f"{root}/{name}"
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if not os.path.isdir(source):
        return
    os.mkdir(target)
    upper = f"{plan['scratch']}/upper-{name}"
    os.mkdir(upper)
    # In a user namespace the host's folders belong to nobody: what must exist is made in the upper layer.
    for path, text in plan["files"].items():
        if path.startswith(f"/{name}/"):
            _write(upper + path[len(source) :], text)
    for path, link in plan["links"].items():
        if path.startswith(f"/{name}/"):
            _link(upper + path[len(source) :], link)
    for mount in plan["mounts"]:
        if mount["target"].startswith(f"/{name}/"):
            _mount_point(mount["source"], upper + mount["target"][len(source) :])
    if plan["cwd"].startswith(f"/{name}/") and not os.path.isdir(plan["cwd"]):
        os.makedirs(upper + plan["cwd"][len(source) :], exist_ok=True)
    _overlay(plan["scratch"], name, source, upper, target)


def _overlay(scratch: str, name: str, source: str, upper: str, target: str) -> None:
    work = f"{scratch}/work-{name}"
    os.mkdir(work)
    layers = f"lowerdir={source},upperdir={upper},workdir={work}"
    for data in (layers + ",userxattr", layers):  # `userxattr` came with 5.11
        try:
            kernel.mount("overlay", target, "overlay", 0, data)
        except OSError:
            continue
        return
    _bind(source, target, read_only=True)


def _tree(scratch: str, path: str, root: str) -> None:
    """A folder of the host at its own path (an interpreter): overlay, else read-only."""
    number = sum(entry.startswith("upper-tree") for entry in os.listdir(scratch))
    upper = f"{scratch}/upper-tree{number}"
    os.mkdir(upper)
    os.makedirs(root + path, exist_ok=True)
    _overlay(scratch, f"tree{number}", path, upper, root + path)


def _links(links: dict[str, str], root: str) -> None:
    for path, target in links.items():
        if not os.path.lexists(root + path):
            with contextlib.suppress(OSError):  # a read-only layer: the program is then named by full path
                _link(root + path, target)


def _link(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _mount_point(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.lexists(target):
        with open(target, "a", encoding="utf-8"):
            pass


def _bind(source: str, target: str, read_only: bool) -> None:
    _mount_point(source, target)
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    if read_only:
        kernel.make_read_only(target)


def _kernel_file_systems(root: str) -> None:
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    try:
        kernel.mount("proc", f"{root}/proc", "proc", quiet)
    except OSError:  # a container hides parts of /proc and so refuses a fresh one
        kernel.mount("/proc", f"{root}/proc", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("tmpfs", f"{root}/dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}", read_only=False)
    os.mkdir(f"{root}/dev/shm")
    kernel.mount(
        "tmpfs", f"{root}/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777,size=64m"
    )
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    with contextlib.suppress(OSError):  # programs ask it for the number of processors; few need it
        _bind("/sys", f"{root}/sys", read_only=True)


def _ensure_folder(path: str) -> None:
    """A working directory that is not there is made, as container runtimes do."""
    with contextlib.suppress(OSError):  # the change into it then fails, and that is reported
        os.makedirs(path, exist_ok=True)

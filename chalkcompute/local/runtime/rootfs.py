"""The root file system of a replica: an image's layers under an overlay, its own /dev, /proc, and mounts.

With the host base, parts of the host are the lowest layers: one overlay for each top-level folder, since a
user namespace refuses the host's root as a whole (mounts below it are locked).

Runs in the init of a replica, inside its own mount namespace, as root of the machine or of a user
namespace. What is written lands in a tmpfs and goes with the replica: nothing of the host changes. The
root is built from outside, and images are written by strangers: no path of the new root is used before its
symbolic links are resolved in there.
"""

# The init starts sooner without pathlib, and paths here are built from strings that we wrote.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH112, PTH113, PTH114, PTH115, PTH119, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from chalkcompute.local.runtime import kernel
    from chalkcompute.local.runtime.scoped import resolve
else:
    import kernel
    from scoped import resolve

# What an image would bring along. The rest of the host (/root, /home, /tmp, data folders) stays outside.
HOST_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var", "nix", "gnu")
_EMPTY = ("run", "root", "home", "mnt", "media", "srv")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_OLD = ".chalk-old"


def enter(plan: dict[str, Any]) -> None:
    """Build the root under `plan["scratch"]` (an empty folder) and make it the root of this process."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    scratch = plan["scratch"]
    if plan["disk"]:
        kernel.mount(scratch, scratch, None, kernel.MS_BIND)
    else:
        kernel.mount("tmpfs", scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    # Overlays name their folders from here, by short links: the options of a mount end at 4096 bytes.
    os.chdir(scratch)
    root = _Root(plan, f"{scratch}/root")
    root.build()
    kernel.pivot_root(root.path, f"{root.path}/{_OLD}")


class _Root:
    """A root in the making."""

    def __init__(self, plan: dict[str, Any], path: str) -> None:
        self.path = path
        self._layers: list[str] = plan["layers"]
        self._host: bool = plan["host"]
        self._trees: list[str] = plan["trees"]
        self._devices: list[str] = plan["devices"]
        self._files: dict[str, str] = plan["files"]
        self._overlays = 0
        self._mounts: list[dict[str, Any]] = [
            {**mount, "target": resolve(mount["target"], self._link_below)} for mount in plan["mounts"]
        ]
        self._cwd = resolve(plan["cwd"], self._link_below)

    def build(self) -> None:
        os.mkdir(self.path)
        self._base()
        if self._host:
            for name in HOST_FOLDERS:
                self._host_folder(name)
            for name in _EMPTY:
                if not os.path.lexists(f"{self.path}/{name}"):
                    os.mkdir(f"{self.path}/{name}")
            for name in ("/tmp", "/var/tmp"):
                with contextlib.suppress(OSError):  # /var/tmp may be the host's, read-only
                    os.chmod(self._folder(name), 0o1777)
            for tree in self._trees:
                self._tree(tree)
        self._kernel_file_systems()
        for path, text in self._files.items():
            self._write(path, text)
        for mount in self._mounts:
            _bind(mount["source"], self._mount_point(mount["source"], mount["target"]), mount["read_only"])
        with contextlib.suppress(OSError):  # the change into it then fails, and that is reported
            self._folder(self._cwd)
        os.mkdir(f"{self.path}/{_OLD}")

    # Layers ---------------------------------------------------------------------------------

    def _base(self) -> None:
        """The image's own files."""
        os.mkdir("empty")
        if self._overlay(self._layers or ["empty"], self._new_upper(), self.path):
            return
        if not self._host or len(self._layers) > 1:
            raise OSError(
                "this kernel mounts no overlay for ordinary users, as Linux does from 5.11 on: "
                "start the local cluster as root"
            )
        # A mount of its own, or pivot_root refuses it.
        kernel.mount("tmpfs", self.path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")

    def _host_folder(self, name: str) -> None:
        """One top-level folder of the host under the image's, writable through an overlay."""
        source, target = f"/{name}", f"{self.path}/{name}"
        present = os.path.lexists(target)
        if present and not _is_folder(target):
            return  # the image has something else in that place
        if os.path.islink(source):
            if not present:
                os.symlink(os.readlink(source), target)
                return
            source = os.path.realpath(source)
        if not os.path.isdir(source):
            return
        if not present:
            os.mkdir(target)
        above = [f"{layer}/{name}" for layer in self._layers if _is_folder(f"{layer}/{name}")]
        self._cover(f"/{name}", [*above, source], top=True)

    def _cover(self, path: str, folders: list[str], *, top: bool) -> None:
        """Folders over each other, the uppermost first; the lowest may be one of the host."""
        upper, target = self._new_upper(), f"{self.path}{path}"
        self._prepare_upper(upper, path)
        if self._overlay(folders, upper, target):
            return
        made = (self._cwd, *self._files, *(mount["target"] for mount in self._mounts))
        if not top and len(folders) == 1 and not any(each.startswith(f"{path}/") for each in made):
            with contextlib.suppress(OSError):  # nothing is to be in there but what the host has
                _bind(folders[0], target, read_only=True)
            return
        # A user namespace refuses what has mounts below it (/var of a machine with containers): part by part.
        kernel.mount("tmpfs", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
        names: set[str] = set()
        for folder in folders:
            with contextlib.suppress(PermissionError):
                names.update(os.listdir(folder))
        for name in sorted(names):
            self._part(f"{path}/{name}", [f"{folder}/{name}" for folder in folders])

    def _part(self, path: str, places: list[str]) -> None:
        """What several folders have at a path, where no overlay shows it."""
        present = [place for place in places if os.path.lexists(place)]
        target = f"{self.path}{path}"
        if path in self._files or not present:
            return
        if os.path.islink(present[0]):
            os.symlink(os.readlink(present[0]), target)
        elif os.path.isdir(present[0]):
            os.mkdir(target)
            hidden = next((place for place in present if not _is_folder(place)), None)
            self._cover(path, present[: present.index(hidden)] if hidden else present, top=False)
        elif os.path.isfile(present[0]):
            _make(target, folder=False)
            with contextlib.suppress(OSError):
                _bind(present[0], target, read_only=True)

    def _tree(self, path: str) -> None:
        """A folder of the host at its own path (an interpreter): overlay, else read-only."""
        target = self._folder(path)
        if not self._overlay([path], self._new_upper(), target):
            _bind(path, target, read_only=True)

    def _prepare_upper(self, upper: str, folder: str) -> None:
        """Make what must exist in a folder of the host.

        In a user namespace the host's folders belong to nobody, and nothing can be made in them.
        """
        start = f"{folder}/"
        for path, text in self._files.items():
            if path.startswith(start):
                os.makedirs(os.path.dirname(upper + path[len(folder) :]), exist_ok=True)
                with open(upper + path[len(folder) :], "w", encoding="utf-8") as file:
                    file.write(text)
        for mount in self._mounts:
            if mount["target"].startswith(start):
                _make(upper + mount["target"][len(folder) :], os.path.isdir(mount["source"]))
        if self._cwd.startswith(start):
            os.makedirs(upper + self._cwd[len(folder) :], exist_ok=True)

    def _new_upper(self) -> str:
        self._overlays += 1
        os.mkdir(f"u{self._overlays}")
        return f"u{self._overlays}"

    def _overlay(self, sources: list[str], upper: str, target: str) -> bool:
        """An overlay of folders, the uppermost first; whether the kernel mounts it."""
        number = upper[1:]
        os.mkdir(f"w{number}")
        names = [f"{number}.{index}" for index in range(len(sources))]
        for name, source in zip(names, sources, strict=True):
            os.symlink(source, name)
        layers = f"lowerdir={':'.join(names)},upperdir={upper},workdir=w{number}"
        for data in (f"{layers},userxattr", layers):  # `userxattr` came with 5.11
            try:
                kernel.mount("overlay", target, "overlay", 0, data)
            except OSError:
                continue
            return True
        return False

    # Paths ----------------------------------------------------------------------------------

    def _link_below(self, path: str) -> str | None:
        """Where the link at a path of the new root will lead, before it is there."""
        places = [f"{layer}{path}" for layer in self._layers]
        if self._host and path.split("/")[1] in HOST_FOLDERS:
            places.append(path)
        for place in places:
            if os.path.lexists(place):
                return os.readlink(place) if os.path.islink(place) else None
        return None

    def _link_at(self, path: str) -> str | None:
        place = f"{self.path}{path}"
        return os.readlink(place) if os.path.islink(place) else None

    def _at(self, path: str) -> str:
        """Where a path of the new root is now."""
        return self.path + resolve(path, self._link_at)

    def _folder(self, path: str) -> str:
        """A folder of the new root, made if it is not there."""
        place = self._at(path)
        os.makedirs(place, exist_ok=True)
        return place

    def _mount_point(self, source: str, target: str) -> str:
        place = self._at(target)
        _make(place, os.path.isdir(source))
        return place

    def _write(self, path: str, text: str) -> None:
        """A file in the place of what is there, be it a link."""
        folder, name = os.path.split(path)
        place = f"{self._folder(folder)}/{name}"
        with contextlib.suppress(OSError):  # a folder of the host that is read-only or not ours
            if os.path.islink(place):
                os.unlink(place)
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)

    # Kernel ---------------------------------------------------------------------------------

    def _kernel_file_systems(self) -> None:
        quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        proc, dev = self._folder("/proc"), self._folder("/dev")
        try:
            kernel.mount("proc", proc, "proc", quiet)
        except OSError:  # a container hides parts of /proc and so refuses a fresh one
            kernel.mount("/proc", proc, None, kernel.MS_BIND | kernel.MS_REC)
        kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755,size=64k")
        for name in _DEVICES:
            _make(f"{dev}/{name}", folder=False)
            _bind(f"/dev/{name}", f"{dev}/{name}", read_only=False)
        for device in self._devices:
            _make(f"{dev}/{os.path.basename(device)}", folder=False)
            _bind(device, f"{dev}/{os.path.basename(device)}", read_only=False)
        os.mkdir(f"{dev}/shm")
        kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777,size=64m")
        os.symlink("/proc/self/fd", f"{dev}/fd")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.symlink(f"/proc/self/fd/{number}", f"{dev}/{name}")
        with contextlib.suppress(OSError):  # programs ask it for the number of processors; few need it
            _bind("/sys", self._folder("/sys"), read_only=True)


def _is_folder(path: str) -> bool:
    """Whether it is a folder itself, not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def _make(path: str, folder: bool) -> None:
    """Something to mount on."""
    if folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.lexists(path):
        with open(path, "a", encoding="utf-8"):
            pass


def _bind(source: str, target: str, read_only: bool) -> None:
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    if read_only:
        kernel.make_read_only(target)

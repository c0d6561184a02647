"""The layers of images as folders, each unpacked once: what overlays are made of.

    <folder>/<chain id>/tree     the files of the layer
    <folder>/<chain id>/whole    instead of `tree`, where the layer takes files away: all files of the image
                                 up to this layer, hard links to those of the layers below

So an image is an overlay of the trees down to the first `whole` one, and no overlay needs whiteouts, which
ordinary users cannot make on older kernels. A chain id names a layer together with all below it.
"""

# ruff: noqa: PTH101, PTH102, PTH114, PTH115, PTH208 - strings are quicker

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from chalkcompute.local.ports import ImageLayer
from chalkcompute.local.runtime.unpack import (
    LayerError,
    Whiteouts,
    check_media_type,
    is_folder,
    remove,
    unpack_layer,
)

__all__ = ["LayerStore", "chain_ids"]

_TREE = "tree"
_WHOLE = "whole"
_TEMPORARY = ".new-"
_MERGED = "merged-"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of each layer, as the OCI image specification computes it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append("sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else diff_id)
    return chain


class LayerStore:
    """Unpacks layers, one at a time; may be used from several threads."""

    def __init__(self, folder: Path, *, owners: bool) -> None:
        """Take a folder in use; what an unpacking that was broken off left in it is removed.

        Args:
            folder: Where the layers go; made when needed.
            owners: Whether files get the owners that the archives name, which takes root.
        """
        # Apart: what belongs to others is of no use in a namespace that knows one user.
        self._folder = folder / ("owned" if owners else "plain")
        self._owners = owners
        self._lock = threading.Lock()
        for leftover in self._folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def folders(self, layers: Sequence[ImageLayer]) -> tuple[Path, ...]:
        """The folders that make up an image, the uppermost first; unpacks what is missing.

        Blocking: minutes for a large image.

        Raises:
            LayerError: A layer cannot be unpacked.
        """
        found: list[Path] = []
        with self._lock:
            for layer, chain in zip(layers, chain_ids([each.diff_id for each in layers]), strict=True):
                home = self._home(chain)
                if not home.is_dir():
                    self._unpack(layer, home, tuple(found))
                if (whole := home / _WHOLE).is_dir():
                    found = [whole]
                else:
                    found.insert(0, home / _TREE)
        return tuple(found)

    def merged(self, layers: Sequence[ImageLayer], prepare: Callable[[Path], None], kind: str) -> Path:
        """One folder with all files of an image, for systems without overlays.

        Args:
            layers: Lowest first.
            prepare: Called once with the folder before anybody else sees it.
            kind: Names what `prepare` does.

        Raises:
            LayerError: A layer cannot be unpacked.
        """
        folders = self.folders(layers)
        last = chain_ids([each.diff_id for each in layers])[-1] if layers else "empty"
        home = self._folder / f"{_MERGED}{hashlib.sha256(f'{last} {kind}'.encode()).hexdigest()}"
        with self._lock:
            if not home.is_dir():
                new = self._new()
                try:
                    for folder in reversed(folders):
                        _lay_over(str(new), str(folder))
                    prepare(new)
                    new.rename(home)
                except OSError as error:
                    raise LayerError(str(error)) from error
                finally:
                    shutil.rmtree(new, ignore_errors=True)
        return home

    def _home(self, chain: str) -> Path:
        return self._folder / chain.replace(":", "-")

    def _new(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))

    def _unpack(self, layer: ImageLayer, home: Path, below: tuple[Path, ...]) -> None:
        check_media_type(layer.media_type)
        new = self._new()
        try:
            (tree := new / _TREE).mkdir()
            whiteouts = unpack_layer(
                layer.path,
                tree,
                diff_id=layer.diff_id,
                below=lambda path: _at(path, below),
                link_below=lambda path: _link_at(path, below),
                owners=self._owners,
            )
            if whiteouts and below:
                (whole := new / _WHOLE).mkdir()
                for folder in reversed(below):
                    _lay_over(str(whole), str(folder))
                _take_away(whole, whiteouts)
                _lay_over(str(whole), str(tree))
                shutil.rmtree(tree)
            new.chmod(0o755)
            new.rename(home)  # now it counts
        except OSError as error:
            raise LayerError(str(error)) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _at(path: str, folders: tuple[Path, ...]) -> os.stat_result | None:
    """The folder at a path of an image, None where there is none."""
    for folder in folders:
        try:
            found = os.lstat(f"{folder}{path}")
        except OSError:
            continue
        return found if stat.S_ISDIR(found.st_mode) else None
    return None


def _link_at(path: str, folders: tuple[Path, ...]) -> str | None:
    """Where the symbolic link at a path of an image leads, None where something else or nothing is."""
    for folder in folders:
        place = f"{folder}{path}"
        if os.path.lexists(place):
            return os.readlink(place) if os.path.islink(place) else None
    return None


def _take_away(root: Path, whiteouts: Whiteouts) -> None:
    for path in whiteouts.removed:
        if _reachable(root, posixpath.dirname(path)):
            remove(f"{root}{path}")
    for path in whiteouts.emptied:
        if _reachable(root, path):
            for name in os.listdir(f"{root}{path}"):
                remove(f"{root}{path}/{name}")


def _reachable(root: Path, path: str) -> bool:
    """Whether a path leads to a folder over folders only: no symbolic link may lead out of the image."""
    made = str(root)
    for part in path.split("/"):
        made = f"{made}/{part}".rstrip("/")
        if not is_folder(made):
            return False
    return True


def _lay_over(root: str, layer: str) -> None:
    """Hard links to all files of a layer, over what is there."""
    _copy_attributes(layer, root)
    with os.scandir(layer) as entries:
        for entry in entries:
            target = f"{root}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if not is_folder(target):
                    remove(target)
                    os.mkdir(target)
                _lay_over(target, entry.path)
            else:
                remove(target)
                _link(entry.path, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # too many links, or a file system that has none
        shutil.copy2(source, target, follow_symlinks=False)


def _copy_attributes(source: str, target: str) -> None:
    found = os.lstat(source)
    present = os.lstat(target)
    if (found.st_uid, found.st_gid) != (present.st_uid, present.st_gid):
        os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))

"""One layer of an image, from its blob to a folder.

A layer is a tar archive that comes from strangers: whatever it says, nothing is written outside of the
folder. Names are taken as if the folder were the root of a file system, and so are symbolic links on the
way to them. Devices, extended attributes and set-user-id bits are left out; owners count only when asked for.

Source: the layer format of the OCI image specification (`layer.md`); `containerd/pkg/archive/tar.go`.
"""

# Thousands of files, and paths that are checked part by part: strings are quicker than `Path`s here.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH115, PTH211

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from chalkcompute.local.runtime.scoped import resolve

__all__ = ["LayerError", "Whiteouts", "check_media_type", "is_folder", "remove", "unpack_layer"]

_MEDIA_TYPES = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_INTERNAL = ".wh..wh."  # of the file system that whiteouts came from; other than the opaque one
_CHUNK = 1 << 20

# What an archive that is no archive makes its readers raise.
_BROKEN = (
    tarfile.TarError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    gzip.BadGzipFile,
    zstandard.ZstdError,
)


class LayerError(Exception):
    """A layer cannot be unpacked; the text says why."""


@dataclass(frozen=True, slots=True)
class Whiteouts:
    """What a layer takes away from those below it.

    Attributes:
        removed: Paths in the image (`/etc/motd`) that go, with all that is in them.
        emptied: Folders whose contents go (`opaque`).
    """

    removed: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.removed or self.emptied)


def check_media_type(media_type: str) -> None:
    """Refuse a layer that is something else than a tar archive.

    Raises:
        LayerError: An encrypted layer, or an artifact that is no image.
    """
    if media_type not in _MEDIA_TYPES:
        raise LayerError(f"media type `{media_type}` is none of an image layer that can be unpacked")


def unpack_layer(
    blob: Path,
    into: Path,
    *,
    diff_id: str,
    below: Callable[[str], os.stat_result | None],
    link_below: Callable[[str], str | None],
    owners: bool,
) -> Whiteouts:
    """Unpack a layer into an empty folder.

    The compression is told by the first bytes, as container runtimes do.

    Args:
        blob: The layer as the registry has it: tar, plain or compressed with gzip or Zstandard.
        into: An empty folder.
        diff_id: Digest of the plain tar archive, from the image's configuration.
        below: What the layers below have at a path of the image, for folders that the archive does not
            list itself: they keep their mode and owner.
        link_below: Where the symbolic link leads that the layers below have at a path of the image, None
            when they have none there. `bin/tool` on a base whose `/bin` is a link goes where that leads.
        owners: Give files to the owners that the archive names. It takes root.

    Returns:
        What it takes away from the layers below; that is not applied here.

    Raises:
        LayerError: It is broken, is not what the image's configuration names, or the disk is full.
    """
    unpacking = _Unpacking(into, below, functools.cache(link_below), owners)
    try:
        with blob.open("rb") as raw, _decompressed(raw) as plain:
            hashing = _Hashing(plain)
            with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="r|", encoding="utf-8") as archive:
                for member in archive:
                    unpacking.add(archive, member)
            hashing.drain()
    except _BROKEN as error:
        raise LayerError(f"the archive is broken: {error}") from error
    except OSError as error:
        raise LayerError(str(error)) from error
    if (found := f"sha256:{hashing.digest.hexdigest()}") != diff_id:
        raise LayerError(f"wrong diff id calculated on extraction: got `{found}`, the image says `{diff_id}`")
    return Whiteouts(tuple(unpacking.removed), tuple(unpacking.emptied))


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Hashing:
    """Reads on, and knows the digest of what was read."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data

    def drain(self) -> None:
        """Read what follows the archive's end."""
        while self.read(_CHUNK):
            continue


@contextlib.contextmanager
def _decompressed(raw: IO[bytes]) -> Iterator[_Source]:
    start = raw.read(len(_ZSTD))
    raw.seek(0)
    if start.startswith(_GZIP):
        with gzip.GzipFile(fileobj=raw) as plain:
            yield plain
    elif start == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as plain:
            yield plain
    else:
        yield raw


class _Unpacking:
    """The folder that a layer's members go into, one after the other."""

    def __init__(
        self,
        root: Path,
        below: Callable[[str], os.stat_result | None],
        link_below: Callable[[str], str | None],
        owners: bool,
    ) -> None:
        self._root = str(root)
        self._below = below
        self._link_below = link_below
        self._owners = owners
        self.removed: dict[str, None] = {}
        self.emptied: dict[str, None] = {}

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _cleaned(member.name)
        folder, name = posixpath.split(path)
        if name.startswith(_WHITEOUT):
            self._note_whiteout(folder, name)
            return
        if path == "/":
            if member.isdir():
                self._adopt(self._root, member)
            return
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            return  # devices, pipes
        # A link's target is looked up first: it may be what the new name would replace.
        source = self._at(member.linkname) if member.islnk() else ""
        target = posixpath.join(self._root + self._folder(folder), name)
        if member.isdir():
            if not is_folder(target):
                remove(target)
                os.mkdir(target)
            self._adopt(target, member)
        elif member.islnk():
            self._link(member, source, target)
        elif member.issym():
            remove(target)
            os.symlink(member.linkname, target)
            self._own(target, member.uid, member.gid)
        else:
            remove(target)
            self._write(archive, member, target)

    def _at(self, name: str) -> str:
        """Where a name's file is, the last part of it not followed."""
        folder, last = posixpath.split(_cleaned(name))
        return posixpath.join(self._root + self._resolved(folder), last)

    def _note_whiteout(self, folder: str, name: str) -> None:
        if name == _OPAQUE:
            self.emptied[folder] = None
        elif not name.startswith(_INTERNAL):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise LayerError(f"the archive is broken: `{name}` in `{folder}` takes away no file")
            self.removed[posixpath.join(folder, hidden)] = None

    def _link(self, member: tarfile.TarInfo, source: str, target: str) -> None:
        if source == target:
            return
        if not os.path.lexists(source) or is_folder(source):
            raise LayerError(
                f"the archive is broken: `{member.name}` is a hard link to `{member.linkname}`, "
                "which is no file of this layer"
            )
        # Should the name that it replaces be on the way to the file itself, the file must outlive it.
        kept = f"{self._root}/.chalk-link"
        os.link(source, kept, follow_symlinks=False)
        try:
            remove(target)
            os.rename(kept, target)
        finally:
            remove(kept)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
        content = archive.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _CHUNK)
            if file.tell() != member.size:
                raise LayerError(f"the archive is broken: `{member.name}` ends too early")
        self._own(target, member.uid, member.gid)
        # Ours to read and to write, else we could neither run it nor take it away.
        os.chmod(target, member.mode & 0o777 | 0o600)
        with contextlib.suppress(OverflowError, OSError):  # compiled Python files go by it
            os.utime(target, (member.mtime, member.mtime))

    def _adopt(self, target: str, member: tarfile.TarInfo) -> None:
        self._own(target, member.uid, member.gid)
        os.chmod(target, member.mode & 0o1777 | 0o700)

    def _own(self, target: str, uid: int, gid: int) -> None:
        if self._owners:
            os.chown(target, uid, gid, follow_symlinks=False)

    def _folder(self, path: str) -> str:
        """A folder of the image, made with what is on the way to it; free of symbolic links."""
        path = self._resolved(path)
        made = ""
        for part in path.strip("/").split("/") if path != "/" else ():
            made = f"{made}/{part}"
            target = self._root + made
            if not is_folder(target):
                remove(target)
                os.mkdir(target)
                found = self._below(made)
                if found is not None:
                    self._own(target, found.st_uid, found.st_gid)
                os.chmod(target, 0o755 if found is None else stat.S_IMODE(found.st_mode))
        return path

    def _resolved(self, path: str) -> str:
        """A path of the image without symbolic links: this layer's own, and those below that it leaves."""
        return resolve(path, self._symbolic_link)

    def _symbolic_link(self, path: str) -> str | None:
        place = self._root + path
        if os.path.lexists(place):
            return _link_at(place)
        return None if self._is_taken_away(path) else self._link_below(path)

    def _is_taken_away(self, path: str) -> bool:
        """Whether what is below at a path does not count any more, by the whiteouts so far."""
        while path != "/":
            folder = posixpath.dirname(path)
            if path in self.removed or folder in self.emptied:
                return True
            path = folder
        return False


def _cleaned(name: str) -> str:
    """A name in an archive as an absolute path of the image; `..` does not lead out of it."""
    return posixpath.normpath(f"/{name}".replace("//", "/"))


def _link_at(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def is_folder(path: str) -> bool:
    """Whether it is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def remove(path: str) -> None:
    """Whatever is there, with all that is in it; links are not followed."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

"""The content of a volume of the local cluster: a folder of this machine.

Replicas write there, too, and could put a link in the way between a look and the step after it. So every name
is opened below the folder before it, never a path as a whole, and links are followed here, by hand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from chalkcompute.errors import ClusterError
from chalkcompute.service.volume_paths import (
    UPLOAD_PREFIX,
    Kind,
    Upload,
    VolumeEntry,
    is_a_folder,
    leads_out,
    not_there,
)

__all__ = ["FolderContent"]

_PIECE = 1 << 20
_MOST_LINKS = 40  # as Linux: more are a loop
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderContent:
    """Implements `volume_paths.Content`.

    Args:
        volume: Name of the volume, for messages.
        folder: Its folder.
    """

    def __init__(self, volume: str, folder: Path) -> None:
        self._volume = volume
        self._top = folder

    def put(self, upload: Upload) -> None:
        """Write a file beside its place, then move it there."""
        self.put_all(upload.path, [upload])

    def put_all(self, folder: str, uploads: list[Upload]) -> None:
        """Receive all in a folder beside, then move them to their places."""
        with self._said(folder or "."), self._open_folder("") as top, _staging(top) as stage:
            names = [self._receive(stage, upload) for upload in uploads]
            for upload in uploads:
                with self._said(upload.path, put=True), self._parent(upload.path, make=True) as place:
                    self._check_free(*place, upload.path)
            for upload, received in zip(uploads, names, strict=True):
                with self._parent(upload.path, make=True) as (parent, name):
                    os.replace(received, name, src_dir_fd=stage, dst_dir_fd=parent)

    def entries(self, folder: str, *, recursive: bool) -> list[VolumeEntry]:
        """What is in a folder, by the folder itself, not by links."""
        with self._said(folder or "."):
            if folder:
                with self._parent(folder) as (parent, name):
                    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    return [_entry(folder, found)]
            with self._open_folder(folder) as opened:
                return list(_walk(opened, folder, recursive=recursive))

    def read(self, path: str, write: Callable[[bytes], object]) -> None:
        """The content of a file."""
        with self._said(path), self._file(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            while piece := file.read(_PIECE):
                write(piece)

    def _receive(self, stage: int, upload: Upload) -> str:
        """Write the content under a name of its own, which is returned."""
        name = secrets.token_hex(8)
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=stage), "wb") as file:
            for piece in upload.chunks():
                file.write(piece)
            os.fchmod(file.fileno(), upload.mode)
        return name

    def _check_free(self, parent: int, name: str, path: str) -> None:
        """That no folder has the name, nor a link to one."""
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=parent).st_mode):
                raise is_a_folder(self._volume, path)

    @contextlib.contextmanager
    def _said(self, path: str, *, put: bool = False) -> Iterator[None]:
        """The system's errors in our words."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and not put:
                raise not_there(self._volume, path) from None
            raise ClusterError(
                f"`{path}` in volume `{self._volume}` cannot be used: {error.strerror or error}"
            ) from error

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder that something is in, and its name there."""
        folder, _, name = path.rpartition("/")
        with self._open_folder(folder, make=make) as opened:
            yield opened, name

    @contextlib.contextmanager
    def _open_folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        with self._way(path, make=make) as (opened, name):
            if name is not None:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            yield opened

    @contextlib.contextmanager
    def _file(self, path: str) -> Iterator[int]:
        """An open file; one that is a link inside the volume is followed."""
        with self._way(path) as (parent, name):
            if name is None:
                raise is_a_folder(self._volume, path)
            # NONBLOCK: a pipe that a replica left there must not hold us.
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
            )
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise is_a_folder(self._volume, path)
                yield descriptor
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _way(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str | None]]:
        """Go there. Gives the last folder, open, and the name in it of what is no folder (None: it is one).

        With `make`, folders that are not there are made.
        """
        names = path.split("/")[::-1] if path else []
        links = 0
        opened = [os.open(self._top, _FOLDER)]
        last: str | None = None
        try:
            while names:
                name = names.pop()
                if name in ("", "."):
                    continue
                if name == "..":
                    if len(opened) == 1:
                        raise leads_out(self._volume, path)
                    os.close(opened.pop())
                    continue
                kind = self._kind(opened[-1], name, make=make)
                if kind == "link":
                    links += 1
                    target = os.readlink(name, dir_fd=opened[-1])
                    if target.startswith("/") or links > _MOST_LINKS:
                        raise leads_out(self._volume, path)
                    names += target.split("/")[::-1]
                elif kind == "directory":
                    opened.append(os.open(name, _FOLDER, dir_fd=opened[-1]))
                elif any(name not in ("", ".") for name in names):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                else:
                    last = name
            yield opened[-1], last
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _kind(self, parent: int, name: str, *, make: bool) -> Kind:
        try:
            return _kind_of(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            if not make:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=parent)
        return "directory"


def _walk(folder: int, path: str, *, recursive: bool) -> Iterator[VolumeEntry]:
    for name in os.listdir(folder):
        if name.startswith(UPLOAD_PREFIX):
            continue
        below = f"{path}/{name}" if path else name
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            yield _entry(below, found)
            if recursive and stat.S_ISDIR(found.st_mode):
                opened = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(opened, below, recursive=True)
                finally:
                    os.close(opened)
        except FileNotFoundError:  # it went meanwhile
            continue


def _entry(path: str, found: os.stat_result) -> VolumeEntry:
    kind = _kind_of(found.st_mode)
    size = found.st_size if kind == "file" else 0
    return VolumeEntry(path, kind, size, datetime.fromtimestamp(int(found.st_mtime), UTC))


def _kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


@contextlib.contextmanager
def _staging(top: int) -> Iterator[int]:
    """An open folder in the volume for what is not complete yet; it goes, with all that is still in it."""
    name = UPLOAD_PREFIX + secrets.token_hex(8)
    os.mkdir(name, 0o700, dir_fd=top)
    try:
        stage = os.open(name, _FOLDER, dir_fd=top)
        try:
            yield stage
        finally:
            for left in os.listdir(stage):  # noqa: PTH208 -- by descriptor, which pathlib cannot
                os.unlink(left, dir_fd=stage)
            os.close(stage)
    finally:
        os.rmdir(name, dir_fd=top)

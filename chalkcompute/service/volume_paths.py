"""Paths inside volumes, and what is said of what is there. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from chalkcompute.errors import NotFoundError, SpecError

__all__ = [
    "UPLOAD_PREFIX",
    "Content",
    "Kind",
    "Upload",
    "VolumeEntry",
    "inner_folder",
    "inner_path",
    "is_a_folder",
    "leads_out",
    "not_there",
]

UPLOAD_PREFIX = ".chalk-upload-"
"""What files are called until they are complete; no listing shows them."""

Kind: TypeAlias = Literal["file", "directory", "link", "other"]
_NAME_BYTES = 255  # NAME_MAX of Linux' file systems
_PATH_BYTES = 3000  # PATH_MAX is 4096, and there is something in front
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class VolumeEntry:
    """Something in a volume.

    Attributes:
        path: Where, relative to the volume's top, with `/` between names.
        kind: `file`, `directory`, `link` (a symbolic one, not followed) or `other` (a socket, a device).
        size: Bytes of a file, else 0.
        modified: When it was last written, UTC, to the second.
    """

    path: str
    kind: Kind
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be put into a volume.

    Attributes:
        path: Where to, checked by `inner_path`.
        size: Bytes, exactly what `chunks` gives.
        mode: Permission bits.
        chunks: Gives the content, anew at each call.
    """

    path: str
    size: int
    mode: int
    chunks: Callable[[], Iterable[bytes]]


class Content(Protocol):
    """What is in one volume. Paths were checked; links are followed only as far as they stay inside.

    Raises, besides what reaching it raises: `NotFoundError` for what is not there, `SpecError` for a path
    that a link leads out of the volume or that is a folder where a file is meant.
    """

    def put(self, upload: Upload) -> None:
        """Write a file, making its folders; until it is complete, what was there stays."""
        ...

    def put_all(self, folder: str, uploads: list[Upload]) -> None:
        """Write files, whose paths are below `folder`; nothing changes before all have arrived."""
        ...

    def entries(self, folder: str, *, recursive: bool) -> list[VolumeEntry]:
        """What is in a folder, or the file itself where it is one; in no order."""
        ...

    def read(self, path: str, write: Callable[[bytes], object]) -> None:
        """Hand the content of a file to `write`, piece by piece."""
        ...


def inner_path(path: str) -> str:
    """The path of a file in a volume, without `.` and doubled slashes.

    Raises:
        SpecError: It is empty, absolute, has `..` or control characters, or is longer than file systems take.
    """
    found = inner_folder(path)
    if not found or path.endswith("/"):
        raise _bad(path, "names no file")
    return found


def inner_folder(path: str) -> str:
    """The path of a folder in a volume, "" for the top.

    Raises:
        SpecError: As of `inner_path`.
    """
    if not isinstance(path, str):
        raise SpecError(f"a path in a volume must be text, not {type(path).__name__}", field="volumes")
    if path.startswith("/"):
        raise _bad(path, "is absolute", hint="paths in a volume begin at its top: write it without the `/`")
    if _CONTROL.search(path):
        raise _bad(path, "has control characters")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _bad(path, "has `..` in it")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise _bad(path, "is not valid text") from None
    if any(size > _NAME_BYTES for size in sizes) or sum(sizes) + len(sizes) > _PATH_BYTES:
        raise _bad(path, "is too long")
    if any(part.startswith(UPLOAD_PREFIX) for part in parts):
        raise _bad(path, f"has a name that begins with `{UPLOAD_PREFIX}`, which unfinished files have")
    return "/".join(parts)


def not_there(volume: str, path: str) -> NotFoundError:
    """There is nothing at that path."""
    return NotFoundError(f"there is no `{path}` in volume `{volume}`")


def is_a_folder(volume: str, path: str) -> SpecError:
    """A file is meant, and there is a folder."""
    return SpecError(f"`{path}` in volume `{volume}` is not a file", field="volumes")


def leads_out(volume: str, path: str) -> SpecError:
    """A symbolic link on the way is absolute, or has too many `..`."""
    return SpecError(f"`{path}` in volume `{volume}` leads out of it, by a symbolic link", field="volumes")


def _bad(path: str, why: str, *, hint: str | None = None) -> SpecError:
    shown = path if len(path) <= 80 else path[:77] + "..."
    return SpecError(f"the path {shown!r} in a volume {why}", field="volumes", hint=hint)

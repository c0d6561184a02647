"""`Volume`: storage of the namespace that replicas share and that outlives every group."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chalkcompute.client import ChalkClient
from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted
from chalkcompute.spec.content import ClaimRequest
from chalkcompute.spec.mounts import VolumeMount
from chalkcompute.spec.secrets import check_object_name

if TYPE_CHECKING:
    from chalkcompute.service.volume_data import VolumeAccess
    from chalkcompute.service.volume_paths import VolumeEntry

__all__ = ["Volume", "VolumeMount", "gather_volumes"]

_SIZE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)")
_MODES = ("ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany", "ReadWriteOncePod")
_FORMS = 'write `("training-data", "/data")`, `Volume("training-data")` or `VolumeMount(…)`'


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume by its name: a PersistentVolumeClaim of the namespace.

    No group owns it: it is there before the first and after the last, and `delete` leaves it alone.

    Attributes:
        name: Its name.
        create: Make it at the deploy when there is none of that name; else that is an error.
        size: Storage to ask for when it is made, such as `10Gi` (`spec.resources.requests.storage`).
        access_modes: How replicas on several nodes may use it when it is made: `ReadWriteMany` by default,
            `ReadWriteOnce`, `ReadOnlyMany`, `ReadWriteOncePod` (`spec.accessModes`).
        storage_class: What makes it (`spec.storageClassName`); None is the cluster's default class.
        client: Client through which its files are put and read; a `ChalkClient()` of its own when None.

    Files are put and read through the volume's own folder in the local cluster, and elsewhere through a Pod
    that mounts it (`CHALK_VOLUME_IMAGE`) and goes at the end; that needs the permissions `get` on
    `persistentvolumeclaims`, `get`, `list`, `create` and `delete` on `pods`, `get` and `create` on
    `pods/exec`; `list` on `events` lets it say what such a Pod waits for. Paths are relative to the volume's
    top, with `/` between names.

    Raises:
        SpecError: A value that cannot be, or `create` without `size`.
    """

    name: str
    create: bool = False
    size: str | None = None
    access_modes: tuple[str, ...] = ("ReadWriteMany",)
    storage_class: str | None = None
    client: ChalkClient | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_object_name("volumes", self.name, what="the name of a volume")
        if not isinstance(self.create, bool):
            raise SpecError(
                f"`create` of volume `{self.name}` is True or False, not {quoted(self.create)}",
                field="volumes",
            )
        if self.size is not None:
            text = check_text("volumes", self.size, what=f"the size of volume `{self.name}`")
            if not _SIZE.fullmatch(text):
                raise SpecError(
                    f"the size {quoted(text)} of volume `{self.name}` is no amount of storage",
                    field="volumes",
                    hint="for example `10Gi`",
                )
        elif self.create:
            raise SpecError(
                f"volume `{self.name}` has no size to be made with",
                field="volumes",
                hint=f'write `Volume({self.name!r}, create=True, size="10Gi")`',
            )
        if not self.create and (self.size is not None or self.storage_class is not None):
            raise SpecError(
                f"`size` and `storage_class` of volume `{self.name}` are for one that is to be made",
                field="volumes",
                hint="add `create=True`, or leave them out to use the volume as it is",
            )
        object.__setattr__(self, "access_modes", self._modes())
        if self.storage_class is not None:
            check_object_name("volumes", self.storage_class, what="the name of a storage class")

    def _modes(self) -> tuple[str, ...]:
        modes: object = self.access_modes
        if isinstance(modes, str) or not isinstance(modes, Sequence) or not modes:
            modes = (modes,)
        for mode in modes:
            if mode not in _MODES:
                raise SpecError(
                    f"{quoted(mode)} is no access mode of volume `{self.name}`",
                    field="volumes",
                    hint=f"one of {', '.join(_MODES)}",
                )
        return tuple(modes)

    def request(self) -> ClaimRequest | None:
        """What to make when there is none of that name; None when that is an error."""
        if not self.create or self.size is None:
            return None
        return ClaimRequest(self.name, self.size, self.access_modes, self.storage_class)

    def put_file(self, path: str, source: bytes | str | os.PathLike[str], *, mode: int | None = None) -> None:
        """Put one file, over one that is there; whoever reads it meanwhile sees the one or the other.

        Args:
            path: Where in the volume; folders are made.
            source: Its content, as bytes or text, or a `pathlib.Path` of a file here.
            mode: Permission bits; those of the file, or 0o644 for content.

        Raises:
            SpecError: A path that cannot be, or a source that is no readable file.
            NotFoundError: There is no such volume, and it has no `create=True`.
        """
        from chalkcompute.service.volume_data import put_file

        put_file(self._access(make=True), self.name, path, _content(source), mode=mode)

    def put_dir(self, source: str | os.PathLike[str], path: str = "") -> list[str]:
        """Put all files of a folder here; what else is in the volume stays.

        Args:
            source: The folder.
            path: Folder of the volume; "" is its top.

        Returns:
            Paths of the files in the volume, sorted.

        Raises:
            SpecError: A path that cannot be, a symbolic link or a special file in the folder.
            NotFoundError: There is no such volume, and it has no `create=True`.
        """
        from chalkcompute.service.volume_data import put_dir

        return put_dir(self._access(make=True), self.name, Path(source), path)

    def listdir(self, prefix: str = "", *, recursive: bool = True) -> list[VolumeEntry]:
        """What is in it, sorted by path. Links are listed, not followed.

        Args:
            prefix: A folder of it, or a file; "" is all.
            recursive: Also what is in folders.

        Raises:
            NotFoundError: There is no such volume, or nothing at `prefix`.
            SpecError: A path that cannot be.
        """
        from chalkcompute.service.volume_data import listdir

        return listdir(self._access(), self.name, prefix, recursive=recursive)

    def read_file(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            NotFoundError: There is no such volume, or no such file in it.
            SpecError: A path that cannot be, or that is no file's.
        """
        from chalkcompute.service.volume_data import read_file

        return read_file(self._access(), self.name, path)

    def download(self, path: str, destination: str | os.PathLike[str]) -> None:
        """Copy one file to this machine, however large; until it is complete, what was there stays.

        Raises:
            NotFoundError: There is no such volume, or no such file in it.
            SpecError: A path that cannot be, or a destination that cannot be written.
        """
        from chalkcompute.service.volume_data import download

        download(self._access(), self.name, path, Path(destination))

    def delete(self) -> None:
        """Delete it and all that is in it, if it was made here.

        Raises:
            NotFoundError: There is none.
            NotOwnedError: `create=True` has not made it.
            ConflictError: Pods use it.
        """
        from chalkcompute.service.volume_data import delete_claim

        delete_claim(self._access(), self.name)

    def _access(self, *, make: bool = False) -> VolumeAccess:
        access = (self.client or ChalkClient()).open_volumes()
        request = self.request()
        if make and request is not None:
            from chalkcompute.service.claims import ensure

            ensure(access.cluster, request, namespace=access.namespace)
        return access


def gather_volumes(value: object) -> tuple[tuple[VolumeMount, ...], tuple[ClaimRequest, ...]]:
    """The argument `volumes`: what is mounted where, and what may have to be made first.

    Raises:
        SpecError: An item that is none of `(name, path)`, `(Volume, path)`, Volume and VolumeMount, or two
            descriptions of one volume that differ.
    """
    if value is None:
        return (), ()
    if not isinstance(value, list | tuple):
        raise SpecError(
            f"`volumes` must be a list, not {type(value).__name__} {quoted(value)}",
            field="volumes",
            hint=_FORMS,
        )
    mounts: list[VolumeMount] = []
    known: dict[str, Volume] = {}
    for item in value:
        mount, volume = _one(item)
        mounts.append(mount)
        if volume is not None and known.setdefault(volume.name, volume) != volume:
            raise SpecError(f"volume `{volume.name}` is described in two ways", field="volumes")
    requests = (volume.request() for volume in known.values())
    return tuple(mounts), tuple(request for request in requests if request is not None)


def _one(item: object) -> tuple[VolumeMount, Volume | None]:
    if isinstance(item, VolumeMount):
        return item, None
    if isinstance(item, Volume):
        return VolumeMount(item.name, f"/volumes/{item.name}"), item
    if isinstance(item, list | tuple) and len(item) == 2:
        what, path = item
        if isinstance(what, Volume):
            return VolumeMount(what.name, path), what
        return VolumeMount(what, path), None
    raise SpecError(
        f"an item of `volumes` must be a name and a path, not {type(item).__name__} {quoted(item)}",
        field="volumes",
        hint=_FORMS,
    )


def _content(source: object) -> bytes | Path:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        try:
            return source.encode()
        except UnicodeEncodeError as error:
            raise SpecError(f"the text cannot be written as UTF-8: {error.reason}", field="volumes") from None
    if isinstance(source, os.PathLike):
        return Path(source)
    raise SpecError(
        f"the source of a file must be bytes, text or a `pathlib.Path`, not {type(source).__name__}",
        field="volumes",
    )

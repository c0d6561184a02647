"""Local files as ConfigMaps: immutable, named after their content, merged by projected volumes."""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chalkcompute.errors import SpecError
from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Placement
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import FileSet
from chalkcompute.spec.mounts import FileEntry, FileMount, mount_path
from chalkcompute.types import Manifest

__all__ = ["PackedMap", "config_maps", "fits_config_maps", "pack"]

MAP_BYTES = 900 * 1024
"""Of one ConfigMap: the API server takes 1 MiB with all keys (`MaxSecretSize`, apimachinery)."""
TOTAL_BYTES = 8 * 1024 * 1024
"""Of all files of a group: every kept revision has its own, and etcd is small."""
LISTED_BYTES = 160 * 1024
"""Of the list of files in a record, which holds 256 KiB in all."""
_LISTED_EACH = 180  # JSON of one `FileEntry` without its path
_LARGEST = 3


class _File(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...


class _Set(Protocol):
    @property
    def destination(self) -> str: ...
    @property
    def files(self) -> Sequence[_File]: ...


@dataclass(frozen=True, slots=True)
class PackedMap:
    """What one ConfigMap holds.

    Attributes:
        name: Its name.
        data: Keys to bytes.
    """

    name: str
    data: tuple[tuple[str, bytes], ...]

    def __repr__(self) -> str:
        return f"PackedMap({self.name!r}, {len(self.data)} files)"


def fits_config_maps(sets: Iterable[_Set]) -> bool:
    """Whether local files can be mounted out of ConfigMaps; else they have to become a layer of the image.

    Args:
        sets: `FileSet`s, or anything that has their destinations, paths and sizes.
    """
    return _refusal(list(sets)) is None


def pack(group: str, sets: Sequence[FileSet]) -> tuple[tuple[FileMount, ...], tuple[PackedMap, ...]]:
    """Where each file is mounted, and the ConfigMaps that hold them.

    Equal content has equal names, so that only a change makes new ConfigMaps and new pods.

    Args:
        group: Name of the group.
        sets: The files.

    Raises:
        SpecError: They are too large or too many for ConfigMaps; the message names the largest.
    """
    refusal = _refusal(sets)
    if refusal is not None:
        raise SpecError(
            refusal, field="image", hint='add them with `strategy="copy"`: then they are baked in'
        )
    mounts: list[FileMount] = []
    maps: dict[str, PackedMap] = {}
    for files in sets:
        mount, packed = _pack_one(group, files)
        mounts.append(mount)
        maps.update({each.name: each for each in packed})
    return tuple(mounts), tuple(maps.values())


def config_maps(
    spec: ScalingGroupSpec, placement: Placement, packed: Iterable[PackedMap]
) -> tuple[Manifest, ...]:
    """The ConfigMaps."""
    return tuple(_config_map(spec, placement, each) for each in packed)


def _config_map(spec: ScalingGroupSpec, placement: Placement, packed: PackedMap) -> Manifest:
    metadata = placement.metadata(packed.name, group=spec.name, tags=spec.tags)
    metadata["labels"][labels.CONTENT] = labels.CONTENT_FILES
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "binaryData": {key: base64.b64encode(data).decode() for key, data in packed.data},
    }


def _pack_one(group: str, files: FileSet) -> tuple[FileMount, tuple[PackedMap, ...]]:
    destination = mount_path("image", files.destination)
    ordered = sorted(files.files, key=lambda file: file.path)
    whole = hashlib.sha256()
    chunks: list[list[tuple[str, bytes]]] = []
    entries: list[FileEntry] = []
    room = 0
    for number, file in enumerate(ordered):
        digest = hashlib.sha256(file.data)
        whole.update(digest.digest())
        if not chunks or file.size > room:
            chunks.append([])
            room = MAP_BYTES
        room -= file.size
        key = f"f{number}"
        chunks[-1].append((key, file.data))
        entries.append(
            FileEntry(
                path=_inside(destination, file.path, is_directory=files.is_directory),
                key=key,
                config_map=len(chunks) - 1,
                mode=file.mode & 0o777,
                size=file.size,
                sha256=digest.hexdigest(),
            )
        )
    stem = f"{group}-files-{whole.hexdigest()[:12]}"
    packed = tuple(PackedMap(f"{stem}-{index}", tuple(chunk)) for index, chunk in enumerate(chunks))
    names = tuple(each.name for each in packed)
    return FileMount(destination, files.is_directory, names, tuple(entries)), packed


def _inside(destination: str, path: str, *, is_directory: bool) -> str:
    return posixpath.relpath(path, destination) if is_directory else posixpath.basename(destination)


def _refusal(sets: Sequence[_Set]) -> str | None:
    """Why files cannot be in ConfigMaps, or None."""
    files = [file for each in sets for file in each.files]
    by_size = sorted(files, key=lambda file: file.size, reverse=True)
    if by_size and by_size[0].size > MAP_BYTES:
        large = [file for file in by_size if file.size > MAP_BYTES][:_LARGEST]
        return f"{_named(large)}: a file in a ConfigMap has at most {MAP_BYTES // 1024} KiB"
    total = sum(file.size for file in files)
    if total > TOTAL_BYTES:
        return (
            f"the local files have {_amount(total)}, ConfigMaps hold {_amount(TOTAL_BYTES)}; the largest: "
            f"{_named(by_size[:_LARGEST])}"
        )
    if sum(len(file.path.encode()) + _LISTED_EACH for file in files) > LISTED_BYTES:
        return f"{len(files)} local files are too many for ConfigMaps"
    for each in sets:
        for file in each.files:
            # apimachinery: the path of a projected key may not begin with `..`, not even in a longer name.
            is_one = file.path == each.destination
            path = posixpath.basename(file.path) if is_one else posixpath.relpath(file.path, each.destination)
            if path.startswith(".."):
                return f"`{file.path}` begins with `..`, which a file of a ConfigMap cannot"
    return None


def _named(files: Sequence[_File]) -> str:
    return ", ".join(f"`{file.path}` ({_amount(file.size)})" for file in files)


def _amount(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB" if size >= 1024 * 1024 else f"{max(1, size // 1024)} KiB"

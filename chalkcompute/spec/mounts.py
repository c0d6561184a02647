"""What is mounted into a replica: volumes that exist, and files that came with the description."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_integer, check_text, quoted
from chalkcompute.spec.secrets import check_object_name

__all__ = [
    "FileEntry",
    "FileMount",
    "VolumeMount",
    "absolute_path",
    "check_mounts",
    "mount_path",
    "validate_files",
    "validate_volumes",
]

# What a container runtime mounts itself. Some refuse another mount there; with others the replica has no
# `/dev/null`, or no `/proc/self`.
_KERNEL = ("dev", "proc", "sys")
_SHARED_MEMORY = "/dev/shm"  # but this is often mounted, in a larger size
_MODE_MAX = 0o777  # what a projected volume can set

_T = TypeVar("_T", "VolumeMount", "FileMount")


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume of the namespace, mounted into every replica.

    Kubernetes: a PersistentVolumeClaim, `containers[].volumeMounts[]`.

    Attributes:
        name: Name of the volume (of its PersistentVolumeClaim).
        path: Absolute path in the replica.
        read_only: Whether replicas can only read it; default False.

    Raises:
        SpecError: A name no volume can have, or a path nothing can be mounted at.
    """

    name: str
    path: str
    read_only: bool = False

    def __post_init__(self) -> None:
        check_object_name("volumes", self.name, what="the name of a volume")
        object.__setattr__(self, "path", mount_path("volumes", self.path))
        if not isinstance(self.read_only, bool):
            raise SpecError(
                f"`read_only` of volume `{self.name}` must be true or false, not {quoted(self.read_only)}",
                field="volumes",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VolumeMount:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            SpecError: A key is missing, or a value cannot be.
        """
        return cls(**_known(cls, data, "volumes"))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a mount.

    Attributes:
        path: Where below the mount, relative; of a single file its base name.
        key: Key in its ConfigMap.
        config_map: Index into `FileMount.config_maps`.
        mode: Permission bits, 0 to 0o777.
        size: Bytes.
        sha256: Hash of the content, hexadecimal.
    """

    path: str
    key: str
    config_map: int
    mode: int
    size: int
    sha256: str

    def __post_init__(self) -> None:
        for name in ("path", "key", "sha256"):
            check_text("files", getattr(self, name), what=f"`{name}` of a file")
        for name, most in (("config_map", 10**6), ("mode", _MODE_MAX), ("size", 2**40)):
            check_integer("files", getattr(self, name), 0, most, meaning=f"`{name}` of a file")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileEntry:
        """The inverse of `dataclasses.asdict`; unknown keys are ignored.

        Raises:
            SpecError: A key is missing, or a value cannot be.
        """
        return cls(**_known(cls, data, "files"))


@dataclass(frozen=True, slots=True)
class FileMount:
    """Files that came with the description, out of the group's own ConfigMaps; always read-only.

    Attributes:
        path: Absolute path in the replica: of the directory, or of the one file.
        is_directory: Whether a directory is mounted, which hides what the image has there.
        config_maps: Names of the ConfigMaps that hold the content.
        entries: The files, in order of their paths.
    """

    path: str
    is_directory: bool
    config_maps: tuple[str, ...]
    entries: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", mount_path("files", self.path))
        object.__setattr__(self, "is_directory", bool(self.is_directory))
        for name in ("config_maps", "entries"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise SpecError(f"`{name}` of `{self.path}` must be a list", field="files")
        maps = tuple(check_object_name("files", n, what="the name of a ConfigMap") for n in self.config_maps)
        entries = [FileEntry.from_dict(e) if isinstance(e, Mapping) else e for e in self.entries]
        for entry in entries:
            if not isinstance(entry, FileEntry) or entry.config_map >= len(maps):
                raise SpecError(f"`entries` of `{self.path}` do not fit its ConfigMaps", field="files")
        if not self.is_directory and len(entries) != 1:
            raise SpecError(f"`{self.path}` is one file and has {len(entries)} entries", field="files")
        object.__setattr__(self, "config_maps", maps)
        object.__setattr__(self, "entries", tuple(entries))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        plain = dataclasses.asdict(self)
        return {**plain, "config_maps": list(self.config_maps), "entries": list(plain["entries"])}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileMount:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            SpecError: A key is missing, or a value cannot be.
        """
        return cls(**_known(cls, data, "files"))


def absolute_path(field: str, value: object) -> str:
    """An absolute path in the replica, without `.`, doubled or trailing slashes.

    Raises:
        SpecError: It is relative, or has `..` in it.
    """
    text = check_text(field, value, what="a path in the replica")
    if not text.startswith("/"):
        raise SpecError(
            f"the path {quoted(text)} in the replica is not absolute", field=field, hint=f"write `/{text}`"
        )
    if ".." in text.split("/"):
        raise SpecError(f"the path {quoted(text)} in the replica has `..` in it", field=field)
    return "/" + posixpath.normpath(text).lstrip("/")


def mount_path(field: str, value: object) -> str:
    """An absolute path in the replica at which something can be mounted.

    Raises:
        SpecError: It is relative, the root, has `..` or `:` in it, or is where the kernel shows itself.
    """
    path = absolute_path(field, value)
    if ":" in path or path == "/":
        raise SpecError(f"nothing can be mounted at {quoted(path)}", field=field)
    top = path.split("/")[1]
    if top in _KERNEL and not f"{path}/".startswith(f"{_SHARED_MEMORY}/"):
        raise SpecError(
            f"nothing can be mounted at {quoted(path)}: `/{top}` is the kernel's",
            field=field,
            hint="take a folder of your own, such as `/data`",
        )
    return path


def validate_volumes(value: object) -> tuple[VolumeMount, ...]:
    """Mounts of volumes in order of their paths.

    Raises:
        SpecError: Something that is none.
    """
    return _mounts("volumes", value, VolumeMount)


def validate_files(value: object) -> tuple[FileMount, ...]:
    """Mounts of files in order of their paths.

    Raises:
        SpecError: Something that is none.
    """
    return _mounts("files", value, FileMount)


def check_mounts(volumes: Sequence[VolumeMount], files: Sequence[FileMount]) -> None:
    """That no two mounts are at one path, and none is inside a read-only one.

    A container runtime has to make the place that it mounts at, which it cannot inside what is read-only.

    Raises:
        SpecError: Two mounts exclude each other; the message names both.
    """
    named = [(m.path, f"volume `{m.name}`", "volumes", m.read_only) for m in volumes]
    field_of_files = "volumes" if volumes else "image"  # what the user can change
    named += [(m.path, f"the local content of `{m.path}`", field_of_files, True) for m in files]
    closed: dict[str, str] = {}
    seen: dict[str, str] = {}
    for path, what, field, read_only in sorted(named):
        if path in seen:
            raise SpecError(f"`{path}` is given to {seen[path]} and to {what}", field=field)
        above = next((closed[p] for p in _parents(path) if p in closed), None)
        if above is not None:
            raise SpecError(
                f"{what} would be at `{path}`, inside {above}, where nothing can be mounted: it is read-only",
                field=field,
                hint="mount it beside, not inside",
            )
        seen[path] = what
        if read_only:
            closed[path] = what


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(2, len(parts))]


def _mounts(field: str, value: object, kind: type[_T]) -> tuple[_T, ...]:
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise SpecError(f"`{field}` must be a list, not {type(value).__name__}", field=field)
    found = [kind.from_dict(item) if isinstance(item, Mapping) else item for item in value]
    for item in found:
        if not isinstance(item, kind):
            raise SpecError(
                f"an item of `{field}` must be a {kind.__name__}, not {type(item).__name__}", field=field
            )
    return tuple(sorted(found, key=lambda mount: mount.path))


def _known(kind: Any, data: Mapping[str, Any], field: str) -> dict[str, Any]:
    for f in dataclasses.fields(kind):
        if f.name not in data and f.default is dataclasses.MISSING:
            raise SpecError(f"`{f.name}` of an item of `{field}` is missing", field=field)
    return {f.name: data[f.name] for f in dataclasses.fields(kind) if f.name in data}

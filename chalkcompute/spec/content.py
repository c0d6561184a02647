"""What travels beside a spec and is never in a record: values of secrets, bytes of files, claims to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ClaimRequest", "Content", "FileContent", "FileSet"]


@dataclass(frozen=True, slots=True)
class FileContent:
    """One file.

    Attributes:
        path: Absolute path in the replica.
        mode: Permission bits.
        data: Its bytes.
    """

    path: str
    mode: int
    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class FileSet:
    """What one `add_local_file` or `add_local_dir` brings.

    Attributes:
        destination: Absolute path in the replica: of the directory, or of the one file.
        is_directory: Whether it is a directory.
        files: The files.
    """

    destination: str
    is_directory: bool
    files: tuple[FileContent, ...]


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A PersistentVolumeClaim to make when there is none of that name.

    Attributes:
        name: Its name.
        size: Storage, a Kubernetes quantity such as `10Gi`.
        access_modes: Kubernetes: `spec.accessModes`.
        storage_class: Kubernetes: `spec.storageClassName`; None is the cluster's default.
    """

    name: str
    size: str
    access_modes: tuple[str, ...] = ("ReadWriteMany",)
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What belongs to a spec and is not part of it.

    Attributes:
        secret_values: Environment variables of the group's own Secret, names to values.
        whole_secrets: Names of Secrets of the namespace every key of which becomes a variable.
        files: Local files for the replicas.
        claims: Volumes to make when they are not there.
    """

    secret_values: Mapping[str, str] = field(default_factory=dict)
    whole_secrets: tuple[str, ...] = ()
    files: tuple[FileSet, ...] = ()
    claims: tuple[ClaimRequest, ...] = ()

    def __repr__(self) -> str:
        # Values are secrets; reprs end in logs and tracebacks.
        secrets = dict.fromkeys(self.secret_values, "***")
        return (
            f"Content(secret_values={secrets!r}, whole_secrets={self.whole_secrets!r}, "
            f"files={self.files!r}, claims={self.claims!r})"
        )

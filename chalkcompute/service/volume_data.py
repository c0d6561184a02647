"""What is in volumes: files put there, listed and read, and volumes removed.

A volume is a PersistentVolumeClaim. One of this machine's local cluster is a folder, and is used as such; any
other is mounted into a short-lived Pod (`service.volume_pod`).
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from chalkcompute.cluster.exec import Execs
from chalkcompute.cluster.kubeconfig import read_kubeconfig
from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ChalkError,
    ClusterError,
    ConflictError,
    NotFoundError,
    NotOwnedError,
    ObjectNotFoundError,
    SpecError,
)
from chalkcompute.manifests.labels import MANAGED_BY, MANAGED_BY_CHALK
from chalkcompute.service.scope import World
from chalkcompute.service.volume_folder import FolderContent
from chalkcompute.service.volume_paths import Content, Upload, VolumeEntry, inner_folder, inner_path
from chalkcompute.service.volume_pod import IMAGE, open_in_pod, remove_finished, users_of
from chalkcompute.spec.checks import check_permissions
from chalkcompute.types import Manifest

__all__ = [
    "VolumeAccess",
    "delete_claim",
    "download",
    "listdir",
    "open_volume",
    "put_dir",
    "put_file",
    "read_file",
]

LOCAL_PATH = "chalk.ai/local-path"
"""Annotation with which the local cluster says which folder a claim is."""
_CLAIM = "PersistentVolumeClaim"
_MODE = 0o644
_PIECE = 1 << 20
_BIND_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeAccess:
    """How the volumes of a namespace are reached.

    Attributes:
        cluster: Their cluster.
        namespace: Their namespace.
        execs: Gives what runs programs in its Pods; called only when a Pod is needed.
        local_kubeconfig: kubeconfig of this machine's local cluster, whether it exists or not.
        image: Image of the Pods: a shell with `tar`, `head`, `find`, `stat` and `readlink`.
        world: Clock and sleep.
    """

    cluster: Cluster
    namespace: str
    execs: Callable[[], Execs]
    local_kubeconfig: Path
    image: str = IMAGE
    world: World = field(default_factory=World)


@contextlib.contextmanager
def open_volume(access: VolumeAccess, name: str, *, write: bool) -> Iterator[Content]:
    """The content of a volume, for several steps: in a Pod they share it, and it goes at the end.

    Args:
        access: Where it is.
        name: The volume.
        write: Whether anything is to be changed.

    Raises:
        NotFoundError: There is no such volume.
        ConflictError: It is being deleted.
        ClusterError: It cannot be reached: not bound, or no Pod can be started to open it.
    """
    claim = _claim(access, name)
    if claim["metadata"].get("deletionTimestamp"):
        raise ConflictError(f"the volume `{name}` is being deleted")
    if claim["spec"].get("volumeMode") == "Block":
        raise SpecError(f"the volume `{name}` is a block device without files", field="volumes")
    if _is_local(access):
        yield FolderContent(name, _folder(access, claim))
        return
    with open_in_pod(
        access.cluster, access.execs(), claim, image=access.image, write=write, world=access.world
    ) as content:
        yield content


def put_file(
    access: VolumeAccess, name: str, path: str, source: bytes | Path, *, mode: int | None = None
) -> None:
    """Put a file into a volume, over one that is there; whoever reads it meanwhile sees the one or the other.

    Args:
        access: Where the volume is.
        name: The volume.
        path: Where in it, relative; folders are made.
        source: The content, or a file of this machine.
        mode: Permission bits; those of the file, or 0o644.

    Raises:
        SpecError: A path that cannot be, or a source that is no readable file.
        NotFoundError: There is no such volume.
    """
    upload = _upload(inner_path(path), source, mode)
    with open_volume(access, name, write=True) as content:
        content.put(upload)


def put_dir(access: VolumeAccess, name: str, source: Path, path: str = "") -> list[str]:
    """Put all files of a folder of this machine into a volume; what else is there stays.

    Args:
        access: Where the volume is.
        name: The volume.
        source: The folder.
        path: Folder of the volume, "" for its top.

    Returns:
        Paths of the files in the volume, sorted.

    Raises:
        SpecError: A path that cannot be, a symbolic link or a special file in the folder.
        NotFoundError: There is no such volume.
    """
    folder = inner_folder(path)
    uploads = [
        _upload(inner_path(f"{folder}/{found.relative_to(source).as_posix()}".lstrip("/")), found, None)
        for found in _files_of(source)
    ]
    with open_volume(access, name, write=True) as content:
        if uploads:
            content.put_all(folder, uploads)
    return [upload.path for upload in uploads]


def listdir(
    access: VolumeAccess, name: str, prefix: str = "", *, recursive: bool = True
) -> list[VolumeEntry]:
    """What is in a volume, sorted by path. Links are listed, not followed.

    Args:
        access: Where the volume is.
        name: The volume.
        prefix: A folder of it, or a file; "" for all.
        recursive: Also what is in folders.

    Raises:
        NotFoundError: There is no such volume, or nothing at `prefix`.
        SpecError: A path that cannot be.
    """
    folder = inner_folder(prefix)
    with open_volume(access, name, write=False) as content:
        return sorted(content.entries(folder, recursive=recursive), key=lambda entry: entry.path)


def read_file(access: VolumeAccess, name: str, path: str) -> bytes:
    """The content of a file of a volume.

    Raises:
        NotFoundError: There is no such volume, or no such file in it.
        SpecError: A path that cannot be, or that is no file's.
    """
    whole = BytesIO()
    found = inner_path(path)
    with open_volume(access, name, write=False) as content:
        content.read(found, whole.write)
    return whole.getvalue()


def download(access: VolumeAccess, name: str, path: str, destination: Path) -> None:
    """Copy a file of a volume to this machine, however large; until it is complete, what was there stays.

    Raises:
        NotFoundError: There is no such volume, or no such file in it.
        SpecError: A path that cannot be, or a destination that cannot be written.
    """
    found = inner_path(path)
    part = destination.with_name(f".{destination.name}.part")
    with open_volume(access, name, write=False) as content:
        try:
            with part.open("wb") as file:
                content.read(found, file.write)
            part.replace(destination)
        except OSError as error:
            raise SpecError(
                f"`{destination}` cannot be written: {error.strerror or error}", field="volumes"
            ) from error
        finally:
            part.unlink(missing_ok=True)


def delete_claim(access: VolumeAccess, name: str) -> None:
    """Delete a volume and all that is in it.

    Raises:
        NotFoundError: There is none.
        NotOwnedError: Not this project made it.
        ConflictError: Pods use it.
    """
    claim = _claim(access, name)
    metadata = claim["metadata"]
    if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGED_BY_CHALK:
        raise NotOwnedError(
            f"the volume `{name}` was not made by chalk; it was not deleted",
            kind=_CLAIM,
            name=name,
            namespace=access.namespace,
            hint=f"`kubectl delete pvc {name} -n {access.namespace}` if it is to go",
        )
    remove_finished(access.cluster, claim)
    users = users_of(access.cluster, claim)
    if users:
        listed = ", ".join(f"`{user['metadata']['name']}`" for user in users)
        raise ConflictError(
            f"the volume `{name}` is in use by {'pod' if len(users) == 1 else 'pods'} {listed}",
            hint="delete the scaling groups that mount it first",
        )
    access.cluster.delete(_CLAIM, name, access.namespace, uid=metadata["uid"])


def _claim(access: VolumeAccess, name: str) -> Manifest:
    try:
        return access.cluster.get(_CLAIM, name, access.namespace)
    except ObjectNotFoundError:
        raise NotFoundError(f"there is no volume `{name}` in namespace `{access.namespace}`") from None


def _is_local(access: VolumeAccess) -> bool:
    """Whether the cluster is this machine's own local one, so that its folders are within reach."""
    if not _is_loopback(access.cluster.server):
        return False
    try:
        contexts = read_kubeconfig((access.local_kubeconfig,)).contexts
    except ChalkError:  # one that cannot be read names no cluster
        return False
    return access.cluster.server in {context.server for context in contexts.values()}


def _folder(access: VolumeAccess, claim: Manifest) -> Path:
    """The folder of a claim of the local cluster, which binds it within a moment.

    The annotation is believed only where it says what this cluster would say: anybody may write it.
    """
    name: str = claim["metadata"]["name"]
    folder = access.local_kubeconfig.parent.resolve() / "volumes" / access.namespace / name
    deadline = access.world.monotonic() + _BIND_SECONDS
    while (claim.get("status") or {}).get("phase") != "Bound":
        if access.world.monotonic() > deadline:
            raise ClusterError(
                f"the volume `{name}` is not bound yet",
                hint=f"`kubectl describe pvc {name} -n {access.namespace}` says what it waits for",
            )
        access.world.sleep(0.1)
        claim = _claim(access, name)
    said = (claim["metadata"].get("annotations") or {}).get(LOCAL_PATH)
    if said is None or Path(said).resolve() != folder or not folder.is_dir():
        raise ClusterError(f"the volume `{name}` is not in the local cluster's folder `{folder}`")
    return folder


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _files_of(source: Path) -> Iterator[Path]:
    """The regular files below a folder, sorted."""
    if not source.is_dir():
        raise SpecError(f"`{source}` is not a folder", field="volumes")
    try:
        found = sorted(source.rglob("*"))
    except OSError as error:
        raise SpecError(f"`{source}` cannot be read: {error.strerror or error}", field="volumes") from error
    for path in found:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            what = "a symbolic link" if path.is_symlink() else "no regular file"
            raise SpecError(
                f"`{path}` is {what}, which cannot be put into a volume",
                field="volumes",
                hint="put a copy in its place",
            )
        if path.is_file():
            yield path


def _upload(path: str, source: bytes | Path, mode: int | None) -> Upload:
    if mode is not None:
        check_permissions("volumes", mode)
    if isinstance(source, bytes):
        return Upload(path, len(source), _MODE if mode is None else mode, lambda: [source])
    try:
        found = source.stat()
        if not source.is_file():
            raise SpecError(f"`{source}` is not a file", field="volumes")
        source.open("rb").close()
    except OSError as error:
        raise SpecError(f"`{source}` cannot be read: {error.strerror or error}", field="volumes") from error
    bits = found.st_mode & 0o777 if mode is None else mode
    return Upload(path, found.st_size, bits, lambda: _pieces(source, found.st_size))


def _pieces(source: Path, size: int) -> Iterable[bytes]:
    """The content, which must still be as long as when its length was told."""
    left = size
    try:
        with source.open("rb") as file:
            while piece := file.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except OSError as error:  # its own, not of the volume that it goes to
        raise SpecError(f"`{source}` cannot be read: {error.strerror or error}", field="volumes") from error
    if left:
        raise ConflictError(f"`{source}` changed while it was read", hint="try again when it is complete")

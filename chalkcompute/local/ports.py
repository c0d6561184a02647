"""The seams inside the embedded cluster: what its parts may ask of each other, as Protocols.

    api         serves and stores objects              implements `Api`
    controllers reconcile objects                      use `Api`
    kubelet     turns Pods into replicas               uses `Api` and `Runtime`
    runtime     starts and stops replica processes     implements `Runtime`, uses `Images`
    images      keeps and fetches container images     implements `Images`
    gateway     turns HTTPRoutes into an Envoy set-up  uses `Api`, implements `measures.Traffic`

What replicas use and what requests ask for is in `measures`.

Everything runs in one asyncio loop of one process. `Api` calls are synchronous and quick (an
in-memory store written through to SQLite); nothing else touches the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

__all__ = [
    "Api",
    "Change",
    "ImageLayer",
    "ImagePullError",
    "Images",
    "Manifest",
    "Mount",
    "PulledImage",
    "Replica",
    "ReplicaExit",
    "ReplicaSpec",
    "RunningContainer",
    "Runtime",
    "StartError",
]

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One change in the store.

    Attributes:
        type: `ADDED`, `MODIFIED` or `DELETED`.
        kind: Kubernetes kind.
        obj: The object after the change (its last state when deleted). Do not mutate.
        old: The object before the change, or None when added.
    """

    type: str
    kind: str
    obj: Manifest
    old: Manifest | None = None


class Api(Protocol):
    """The API server from the inside: the very handlers that HTTP requests reach, without HTTP.

    Objects returned are copies that the caller may change. Failures raise
    `local.apimachinery.status.StatusError` with the HTTP code and reason that a client would see
    (404 NotFound, 409 Conflict on a stale resourceVersion, 409 AlreadyExists, 422 Invalid).
    `namespace` is "" for cluster-scoped kinds, and for a list over all namespaces.
    """

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest: ...

    def list(
        self, kind: str, namespace: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]: ...

    def create(self, obj: Manifest, *, manager: str) -> Manifest:
        """POST: defaults, validation, uid, generateName, managedFields (operation Update)."""
        ...

    def update(self, obj: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        """PUT of the object or of its `status`; a resourceVersion in it is a precondition."""
        ...

    def scale(self, kind: str, name: str, namespace: str, replicas: int, *, manager: str) -> None:
        """PUT of the `scale` subresource; 404 for a kind that has none."""
        ...

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """DELETE. A scheduled Pod only gets its deletionTimestamp unless `grace_seconds` is 0."""
        ...

    def changes(self, kinds: Iterable[str], *, replay: bool = True) -> AsyncIterator[Change]:
        """Every change of these kinds from now on; with `replay`, what exists comes first as ADDED."""
        ...


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path that appears at `target` in the replica (absolute), file or directory."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One container to run, all references resolved.

    Attributes:
        namespace: Namespace of the Pod.
        pod: Pod name, also the host name inside.
        pod_uid: Pod uid; one loopback address per uid.
        container: Container name.
        image: Image reference as written in the Pod.
        command: Entry point override (`container.command`), () for the image's own.
        args: `container.args`, () for the image's own (dropped when `command` is given).
        env: Environment, complete but for what the image sets.
        working_dir: `container.workingDir`, or None for the image's own.
        mounts: Host paths to make visible.
        ports: Declared TCP ports, which a runtime with a network of its own has to publish.
        cpu_limit: Cores, or None.
        memory_limit: Bytes, or None.
        gpus: GPUs of this machine that it may use, by id (UUID or number).
        devices: Device files of this machine that it sees in its `/dev`, beside the usual ones.
        log_path: File that standard output and error are appended to (created by the runtime).
    """

    namespace: str
    pod: str
    pod_uid: str
    container: str
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    mounts: tuple[Mount, ...] = ()
    ports: tuple[int, ...] = ()
    cpu_limit: float | None = None
    memory_limit: int | None = None
    gpus: tuple[str, ...] = ()
    devices: tuple[Path, ...] = ()
    log_path: Path = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class ReplicaExit:
    """How a replica ended.

    Attributes:
        exit_code: 0-255; 128 + signal number when killed by a signal.
        reason: `Completed`, `Error` or `OOMKilled`.
        finished_at: When (UTC).
    """

    exit_code: int
    reason: str
    finished_at: datetime


class ImagePullError(Exception):
    """The image cannot be had.

    Attributes:
        reason: `ErrImagePull`, `InvalidImageName` or `ErrImageNeverPull` as the kubelet says.
    """

    def __init__(self, message: str, *, reason: str = "ErrImagePull") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer of a pulled image.

    Attributes:
        digest: Digest of the blob as it is stored, compressed or not (`sha256:...`).
        diff_id: Digest of the uncompressed tar archive, from the image's config.
        media_type: Says how the blob is compressed.
        path: The blob's file, verified; do not change or remove it.
    """

    digest: str
    diff_id: str
    media_type: str
    path: Path


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image whose every part is on this machine.

    Attributes:
        id: Digest of the image's config.
        reference: What was pulled, by digest: `docker.io/library/python@sha256:...`.
        config: The whole OCI image config: `config`, `rootfs`, `architecture` and so on.
        layers: Lowest first.
        warning: What whoever runs it should know (the host base stands in), or None.
        host_base: Version of this machine's Python that is the lowest layer, or None.
    """

    id: str
    reference: str
    config: Mapping[str, Any]
    layers: tuple[ImageLayer, ...]
    warning: str | None = None
    host_base: str | None = None


class Images(Protocol):
    """Fetches images, and keeps them."""

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> PulledImage:
        """Have an image ready; `policy` is the container's `imagePullPolicy`.

        Raises:
            ImagePullError: It cannot be had; worded as containerd and the kubelet do.
        """
        ...


class StartError(Exception):
    """The container could not be started (no such program, no such working directory).

    Attributes:
        exit_code: 127 or 128, as a container runtime reports.
    """

    def __init__(self, message: str, *, exit_code: int = 128) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Replica(Protocol):
    """A running container."""

    @property
    def pid(self) -> int: ...

    @property
    def started_at(self) -> datetime: ...

    @property
    def loopback_ports(self) -> frozenset[int]:
        """Ports that it bound on a loopback address only: reachable here, and not on other clusters."""
        ...

    async def wait(self) -> ReplicaExit:
        """Until it ends; may be awaited by several."""
        ...

    async def stop(self, grace_seconds: float) -> ReplicaExit:
        """SIGTERM, then SIGKILL after `grace_seconds`; returns when every process of it is gone."""
        ...

    def usage(self) -> tuple[float, int]:
        """CPU seconds used so far, and resident memory in bytes, of all its processes; from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class RunningContainer:
    """A container that runs now, and whose it is."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    replica: Replica


class Runtime(Protocol):
    """Runs replicas on this machine in the best tier it allows."""

    @property
    def tier(self) -> str:
        """`ns-root`, `ns-user`, `notify`, `plain` or `engine (NAME VERSION)`."""
        ...

    @property
    def limitations(self) -> tuple[str, ...]:
        """What this tier cannot do, one sentence each, for `chalk local status`."""
        ...

    @property
    def limits(self) -> Mapping[str, str]:
        """How limits of `cpu` and `memory` are held.

        `cgroup v1`, `cgroup v2`, `watched` (processes are paused, or ended), `engine`, or `not enforced`.
        """
        ...

    def assign_address(self, pod_uid: str, preferred: str | None = None) -> str:
        """The loopback address of a Pod (127.77.x.y), stable while the Pod lives; `preferred` if free."""
        ...

    def release_address(self, pod_uid: str) -> None: ...

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> tuple[str, str | None]:
        """Make an image ready: `(image id, warning or None)`; raises `ImagePullError`.

        `policy` is the container's `imagePullPolicy`. The warning is set when the host base stands in for
        the image.
        """
        ...

    async def start(self, spec: ReplicaSpec) -> Replica:
        """Start a container; raises `StartError`. Returns once the program is executing."""
        ...

    async def close(self) -> None:
        """Stop everything that this runtime started."""
        ...

"""Volumes that a spec names: are they there, and can this many replicas share them?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, ObjectExistsError, ObjectNotFoundError, SpecError
from chalkcompute.manifests.claims import claim
from chalkcompute.service.namespaces import read_namespace
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import ClaimRequest
from chalkcompute.types import Manifest

__all__ = ["Claims", "ensure", "look", "make"]

_SHARED = {"ReadWriteMany", "ReadOnlyMany"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a deploy has to know of the volumes.

    Attributes:
        missing: Those to make.
        warnings: What may go wrong with them.
    """

    missing: tuple[ClaimRequest, ...] = ()
    warnings: tuple[str, ...] = ()


def look(
    cluster: Cluster, namespace: str, spec: ScalingGroupSpec, requests: Sequence[ClaimRequest]
) -> Claims:
    """Ask for each volume of a spec.

    Raises:
        SpecError: One is not there and not to be made, or cannot be shared by that many replicas.
    """
    wanted = {request.name: request for request in requests}
    missing: list[ClaimRequest] = []
    warnings: list[str] = []
    for name in sorted({mount.name for mount in spec.volumes}):
        try:
            obj = cluster.get("PersistentVolumeClaim", name, namespace)
        except ForbiddenError:
            warnings.append(f"volume `{name}` may not be read: assuming that it is there and can be shared")
            continue
        except ObjectNotFoundError:
            if name not in wanted:
                raise SpecError(
                    f"there is no volume `{name}` in namespace `{namespace}` (PersistentVolumeClaim)",
                    field="volumes",
                    hint=f"create it first, or let the deploy do it: `Volume({name!r}, create=True, size=…)`",
                ) from None
            missing.append(wanted[name])
            modes = wanted[name].access_modes
        else:
            _check_usable(obj)
            modes = tuple((obj.get("spec") or {}).get("accessModes") or ())
        warnings += _sharing(name, modes, spec)
    return Claims(tuple(missing), tuple(warnings))


def make(
    cluster: Cluster, requests: Sequence[ClaimRequest], *, namespace: str, environment: str, dry_run: bool
) -> None:
    """Make the volumes; one that somebody else made meanwhile is as good.

    Raises:
        InvalidObjectError: The API server refuses one.
        ForbiddenError: The credential may not make it.
    """
    for request in requests:
        with contextlib.suppress(ObjectExistsError):
            cluster.create(claim(request, namespace=namespace, environment=environment), dry_run=dry_run)


def ensure(cluster: Cluster, request: ClaimRequest, *, namespace: str) -> None:
    """Make a volume unless it is there, for content that comes before the first group.

    Raises:
        NotFoundError: The namespace does not exist.
        InvalidObjectError: The API server refuses it.
        ForbiddenError: The credential may not make it.
    """
    with contextlib.suppress(ObjectExistsError):
        try:
            cluster.create(claim(request, namespace=namespace, environment=None))
        except ObjectNotFoundError:
            read_namespace(cluster, namespace)
            raise


def _check_usable(claim: Manifest) -> None:
    """That a claim that is there can be mounted as a folder.

    Raises:
        SpecError: It is on its way out, or a block device.
    """
    meta = claim["metadata"]
    if meta.get("deletionTimestamp"):
        raise SpecError(
            f"volume `{meta['name']}` in namespace `{meta['namespace']}` is being deleted",
            field="volumes",
            hint="wait until it is gone, and create it anew",
        )
    if (claim.get("spec") or {}).get("volumeMode") == "Block":
        raise SpecError(
            f"volume `{meta['name']}` in namespace `{meta['namespace']}` is a block device without files "
            "(`volumeMode: Block`)",
            field="volumes",
            hint="take one with `volumeMode: Filesystem`",
        )


def _sharing(name: str, modes: Sequence[str], spec: ScalingGroupSpec) -> list[str]:
    """Warnings on how a volume can be shared.

    Raises:
        SpecError: Only one pod at a time can have it, and there may be more.
    """
    if "ReadWriteOncePod" in modes:
        if spec.max_replicas > 1:
            raise SpecError(
                f"volume `{name}` is ReadWriteOncePod: one replica can have it, and there may be "
                f"{spec.max_replicas}",
                field="volumes",
                hint="set `max_replicas` to 1, or use a volume that is ReadWriteMany",
            )
        return [
            f"volume `{name}` is ReadWriteOncePod: a rollout starts the new replica before it stops the old "
            "one, and the new one cannot have the volume; it will not come to an end by itself"
        ]
    if not modes or _SHARED & set(modes):
        return []
    if spec.max_replicas > 1:
        return [
            f"volume `{name}` is ReadWriteOnce and there may be {spec.max_replicas} replicas: those on "
            "another node than the first will stay in ContainerCreating, with the event FailedAttachVolume "
            "(`Multi-Attach error`)"
        ]
    return [
        f"volume `{name}` is ReadWriteOnce: a rollout starts the new replica before it stops the old one, "
        "and on another node that one will stay in ContainerCreating (`Multi-Attach error`)"
    ]

"""Revisions: one immutable ConfigMap for each spec that was deployed, the newest twenty kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ObjectExistsError
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record, Revision
from chalkcompute.service.scope import World

__all__ = ["KEEP", "of", "write"]

KEEP = 20


def write(cluster: Cluster, record: Record, changes: Sequence[str], world: World) -> None:
    """Record the current revision, and forget the oldest beyond `KEEP`."""
    # An interrupted deploy, run again, finds the revision that it wrote the first time.
    with contextlib.suppress(ObjectExistsError):
        cluster.create(_revision(record, changes, world).to_manifest())
    if record.revision <= KEEP:
        return
    for obj in cluster.list("ConfigMap", record.namespace, labels=labels.revisions_of(record.id)):
        number = obj["metadata"]["labels"].get(labels.REVISION, "")
        if number.isdigit() and int(number) <= record.revision - KEEP:
            cluster.delete("ConfigMap", obj["metadata"]["name"], record.namespace)


def of(cluster: Cluster, record: Record) -> tuple[Revision, ...]:
    """The revisions that are kept, oldest first."""
    found = cluster.list("ConfigMap", record.namespace, labels=labels.revisions_of(record.id))
    return tuple(sorted((Revision.from_manifest(obj) for obj in found), key=lambda r: r.revision))


def _revision(record: Record, changes: Sequence[str], world: World) -> Revision:
    return Revision(
        id=record.id,
        name=record.name,
        environment=record.environment,
        namespace=record.namespace,
        revision=record.revision,
        spec=record.spec,
        created_at=record.updated_at,
        created_by=world.holder().rpartition(":")[0],
        changes=tuple(changes),
        owner=record.owner,
    )

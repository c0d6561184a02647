"""Revisions: one immutable ConfigMap for each spec that was deployed, the newest twenty kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ClusterError, ObjectExistsError
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record, Revision, outcome_annotations
from chalkcompute.service.scope import World
from chalkcompute.types import Verdict

__all__ = ["KEEP", "conclude", "of", "write"]

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


def conclude(cluster: Cluster, record: Record, outcome: str, verdict: Verdict | None = None) -> None:
    """Note how a wait for the current revision ended, and the verdict on a failed one.

    A courtesy to whoever reads the history: that it cannot be written fails no deploy.
    """
    post_mortem = verdict.to_dict() if verdict is not None else None
    patch = {"metadata": {"annotations": outcome_annotations(outcome, post_mortem)}}
    with contextlib.suppress(ClusterError):
        cluster.merge(
            "ConfigMap", labels.revision_name(record.name, record.revision), patch, record.namespace
        )


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

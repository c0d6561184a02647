"""Revisions: one immutable ConfigMap for each spec that was deployed, the newest twenty kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ClusterError, ObjectExistsError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record, Revision, outcome_annotations
from chalkcompute.service import existing
from chalkcompute.service.scope import World
from chalkcompute.types import Manifest, Verdict

__all__ = ["AVAILABLE", "FAILED", "KEEP", "TIMED_OUT", "conclude", "of", "write"]

KEEP = 20
AVAILABLE, FAILED, TIMED_OUT = "available", "failed", "timed-out"  # how a wait ended


def write(cluster: Cluster, record: Record, changes: Sequence[str], world: World) -> None:
    """Record the current revision, and forget the oldest beyond `KEEP`."""
    # An interrupted deploy, run again, finds the revision that it wrote the first time.
    manifest = _revision(record, changes, world).to_manifest()
    try:
        cluster.create(manifest)
    except ObjectExistsError:
        _replace_an_earlier_groups(cluster, manifest, record)
    if record.revision <= KEEP:
        return
    for obj in cluster.list("ConfigMap", record.namespace, labels=labels.revisions_of(record.id)):
        number = obj["metadata"]["labels"].get(labels.REVISION, "")
        if number.isdigit() and int(number) <= record.revision - KEEP:
            meta = obj["metadata"]
            existing.remove(cluster, "ConfigMap", meta["name"], record.namespace, meta["uid"])


def _replace_an_earlier_groups(cluster: Cluster, manifest: Manifest, record: Record) -> None:
    """One of a deleted group of that name that is not collected yet must not pass for ours."""
    name = manifest["metadata"]["name"]
    with contextlib.suppress(ObjectNotFoundError):
        found = cluster.get("ConfigMap", name, record.namespace)
        if labels.is_owned_by(found, record.id):
            return
        existing.remove(cluster, "ConfigMap", name, record.namespace, found["metadata"]["uid"])
    with contextlib.suppress(ObjectExistsError):
        cluster.create(manifest)


def conclude(cluster: Cluster, record: Record, outcome: str, verdict: Verdict | None = None) -> None:
    """Note how a wait for the current revision ended, and the verdict on a failed one.

    With the revision it is for whoever reads the history; a failure stands on the record too, where `list`
    finds it. A courtesy: that it cannot be written fails no deploy.
    """
    post_mortem = verdict.to_dict() if verdict is not None else None
    annotations = outcome_annotations(outcome, post_mortem)
    name = labels.revision_name(record.name, record.revision)
    with contextlib.suppress(ClusterError):
        found = cluster.get("ConfigMap", name, record.namespace)
        if labels.is_owned_by(found, record.id):
            uid = found["metadata"]["uid"]  # a precondition
            cluster.merge(
                "ConfigMap", name, {"metadata": {"annotations": annotations, "uid": uid}}, record.namespace
            )
    if outcome != FAILED and record.failure is None:
        return
    if outcome != FAILED:
        annotations = dict.fromkeys(annotations)
    with contextlib.suppress(ClusterError):
        cluster.merge(
            "ConfigMap",
            labels.record_name(record.name),
            # A deploy that came meanwhile is not judged by this one. By another field manager, since
            # `Record.written_at` is when ours wrote last.
            {"metadata": {"annotations": annotations, "resourceVersion": record.resource_version}},
            record.namespace,
            manager=labels.OUTCOME_MANAGER,
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

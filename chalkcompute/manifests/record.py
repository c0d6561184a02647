"""What is remembered of a group: its record, its revisions, and the tombstone of a deleted one.

Each is a ConfigMap with plain JSON in it (`docs/concepts/ownership.md`). The record owns every object of the
group; revisions and tombstones are immutable, so what is learnt later of a revision (its outcome) goes into
annotations, which an immutable ConfigMap lets change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chalkcompute.manifests import labels
from chalkcompute.manifests.codec import (
    Remembered,
    compact_json,
    config_map,
    fitting,
    read_body,
    read_gateway,
    read_identity,
    read_ports,
    reading,
    required_time,
    written_at,
)
from chalkcompute.manifests.placement import Gateway, Owner, Placement, PortHistory, Profile
from chalkcompute.manifests.times import parse_time
from chalkcompute.times import rfc3339
from chalkcompute.types import Manifest, Verdict

__all__ = [
    "Operation",
    "Record",
    "Revision",
    "Tombstone",
    "is_record",
    "is_tombstone",
    "outcome_annotations",
]


@dataclass(frozen=True, slots=True)
class Operation:
    """Who is working on a group: an advisory lease, which ends by itself.

    Attributes:
        kind: `deploy` or `delete`.
        holder: `user@host:pid/realm`: which process, and which set of process ids that is one of.
        deadline: When it ends even if nobody ends it (UTC).
    """

    kind: str
    holder: str
    deadline: datetime

    def is_over(self, now: datetime) -> bool:
        """Whether the holder had all the time it asked for, and so is dead or does not care."""
        return now >= self.deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Remembered):
    """The record of one group: ConfigMap `chalk-sg-<name>`.

    Attributes:
        gateway: Where the route attaches.
        updated_at: When it was last changed (UTC).
        state: `active`, or `deleting` from the moment a delete has begun.
        operation: Who is working on it, or None.
        uid: `metadata.uid`, None before it exists.
        resource_version: `metadata.resourceVersion`, None before it exists.
        removed_at: `metadata.deletionTimestamp`: since then the cluster removes what it owns (UTC).
        written_at: When the API server last took it from us, which every deploy that writes does (UTC).
        ports: How its port has changed.
        failure: The verdict that the last wait for this revision ended with, None if it did not fail. It is
            an annotation, for readers that do not look at the pods (`list`); the next deploy takes it away.
    """

    gateway: Gateway
    updated_at: datetime
    state: Literal["active", "deleting"] = "active"
    operation: Operation | None = None
    uid: str | None = None
    resource_version: str | None = None
    removed_at: datetime | None = None
    written_at: datetime | None = None
    ports: PortHistory = field(default_factory=PortHistory)
    failure: Verdict | None = None

    @property
    def web_url(self) -> str:
        """The address of the group."""
        return self.placement().web_url(self.name)

    @property
    def owner(self) -> Owner | None:
        """This record as the owner of objects; None before it exists."""
        return Owner(labels.record_name(self.name), self.uid) if self.uid is not None else None

    def placement(self, profile: Profile | None = None) -> Placement:
        """Where the objects of the current revision go."""
        return Placement(
            namespace=self.namespace,
            environment=self.environment,
            group_id=self.id,
            revision=self.revision,
            gateway=self.gateway,
            owner=self.owner,
            profile=profile or Profile(),
            ports=self.ports,
        )

    def to_manifest(self) -> Manifest:
        """The ConfigMap; with `metadata.resourceVersion` if it was read, so a PUT is a compare-and-swap.

        Raises:
            SpecError: It is larger than a record may be.
        """
        operation = self.operation
        body = {
            "updated_at": rfc3339(self.updated_at),
            "gateway": dataclasses.asdict(self.gateway),
            "web_url": self.web_url,
            "ports": dataclasses.asdict(self.ports),
            "operation": operation
            and {"kind": operation.kind, "holder": operation.holder, "deadline": rfc3339(operation.deadline)},
        }
        manifest = config_map(
            labels.record_name(self.name), self, labels.RECORD_GROUP, {labels.STATE: self.state}, body
        )
        if self.uid is not None:
            manifest["metadata"]["uid"] = self.uid
        if self.resource_version is not None:
            manifest["metadata"]["resourceVersion"] = self.resource_version
        return manifest

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Record:
        """Read the ConfigMap.

        Raises:
            ChalkError: It is no record that this version can read.
        """
        with reading(manifest):
            body, metadata = read_body(manifest), manifest["metadata"]
            state = (metadata.get("labels") or {}).get(labels.STATE, labels.STATE_ACTIVE)
            operation = body.get("operation")
            return cls(
                **read_identity(manifest, body),
                updated_at=required_time(body["updated_at"]),
                gateway=read_gateway(body["gateway"]),
                state="deleting" if state == labels.STATE_DELETING else "active",
                operation=operation
                and Operation(operation["kind"], operation["holder"], required_time(operation["deadline"])),
                uid=metadata.get("uid"),
                resource_version=metadata.get("resourceVersion"),
                removed_at=parse_time(metadata.get("deletionTimestamp")),
                written_at=written_at(metadata),
                ports=read_ports(body.get("ports") or {}),
                failure=_failure(metadata.get("annotations") or {}),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision(Remembered):
    """One revision: ConfigMap `labels.revision_name(name, revision)`, immutable, owned by the record.

    Attributes:
        created_by: `user@host`.
        changes: Names of the spec fields that differ from the revision before.
        owner: The record.
        outcome: `available`, `failed` or `timed-out`, as the last wait ended; None before one has.
        post_mortem: The verdict on a failed one, JSON-shaped.
    """

    created_by: str = ""
    changes: tuple[str, ...] = ()
    owner: Owner | None = None
    outcome: str | None = None
    post_mortem: Mapping[str, Any] | None = None

    def to_manifest(self) -> Manifest:
        """The ConfigMap.

        Raises:
            SpecError: It is larger than a record may be.
        """
        body = {
            "created_by": self.created_by,
            "changes": list(self.changes),
        }
        extra = {labels.REVISION: str(self.revision)}
        manifest = config_map(
            labels.revision_name(self.name, self.revision), self, labels.RECORD_REVISION, extra, body
        )
        manifest["immutable"] = True
        known = outcome_annotations(self.outcome, self.post_mortem)
        if annotations := {key: value for key, value in known.items() if value is not None}:
            manifest["metadata"]["annotations"] = annotations
        if self.owner is not None:
            manifest["metadata"]["ownerReferences"] = [self.owner.reference()]
        return manifest

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Revision:
        """Read the ConfigMap.

        Raises:
            ChalkError: It is no revision that this version can read.
        """
        with reading(manifest):
            body, metadata = read_body(manifest), manifest["metadata"]
            annotations = metadata.get("annotations") or {}
            post_mortem = annotations.get(labels.POST_MORTEM_ANNOTATION)
            owners = metadata.get("ownerReferences") or ()
            return cls(
                **read_identity(manifest, body),
                created_by=body.get("created_by", ""),
                changes=tuple(body.get("changes", ())),
                owner=Owner(owners[0]["name"], owners[0]["uid"]) if owners else None,
                outcome=annotations.get(labels.OUTCOME_ANNOTATION),
                post_mortem=json.loads(post_mortem) if post_mortem else None,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone(Remembered):
    """What is left of a deleted group: ConfigMap `chalk-sg-hist-<id>`, immutable, owned by nobody.

    Attributes:
        updated_at: When it was last changed (UTC).
        deleted_at: When its delete began (UTC).
        web_url: Its address while it lived.
        history: Earlier revisions, newest last, JSON-shaped.
    """

    updated_at: datetime
    deleted_at: datetime
    web_url: str | None = None
    history: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, record: Record, *, deleted_at: datetime, revisions: tuple[Revision, ...] = ()) -> Tombstone:
        """The tombstone of a record; as many of the newest revisions as fit."""
        return cls(
            id=record.id,
            name=record.name,
            environment=record.environment,
            namespace=record.namespace,
            revision=record.revision,
            spec=record.spec,
            created_at=record.created_at,
            updated_at=record.updated_at,
            deleted_at=deleted_at,
            web_url=record.web_url,
            history=fitting([_history_entry(r) for r in sorted(revisions, key=lambda r: r.revision)]),
        )

    def to_manifest(self) -> Manifest:
        """The ConfigMap."""
        body = {
            "updated_at": rfc3339(self.updated_at),
            "deleted_at": rfc3339(self.deleted_at),
            "web_url": self.web_url,
            "history": [dict(entry) for entry in self.history],
        }
        extra = {labels.STATE: labels.STATE_DELETED}
        manifest = config_map(labels.tombstone_name(self.id), self, labels.RECORD_GROUP, extra, body)
        manifest["immutable"] = True
        return manifest

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Tombstone:
        """Read the ConfigMap.

        Raises:
            ChalkError: It is no tombstone that this version can read.
        """
        with reading(manifest):
            body = read_body(manifest)
            return cls(
                **read_identity(manifest, body),
                updated_at=required_time(body["updated_at"]),
                deleted_at=required_time(body["deleted_at"]),
                web_url=body.get("web_url"),
                history=tuple(body.get("history", ())),
            )


def outcome_annotations(outcome: str | None, post_mortem: Mapping[str, Any] | None) -> dict[str, str | None]:
    """What a merge patch writes into `metadata.annotations` of a revision or record; None takes one away."""
    return {
        labels.OUTCOME_ANNOTATION: outcome,
        labels.POST_MORTEM_ANNOTATION: None if post_mortem is None else compact_json(post_mortem),
    }


def _failure(annotations: Mapping[str, str]) -> Verdict | None:
    """The verdict in a record's annotation; one that cannot be read is none, the record says all else."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, RecursionError):
        if text := annotations.get(labels.POST_MORTEM_ANNOTATION):
            return Verdict.from_dict(json.loads(text))
    return None


def is_record(manifest: Manifest) -> bool:
    """Whether a ConfigMap is the record of a group that is not deleted."""
    found = manifest["metadata"].get("labels") or {}
    return found.get(labels.RECORD) == labels.RECORD_GROUP and found.get(labels.STATE) != labels.STATE_DELETED


def is_tombstone(manifest: Manifest) -> bool:
    """Whether a ConfigMap is the tombstone of a deleted group."""
    found = manifest["metadata"].get("labels") or {}
    return found.get(labels.RECORD) == labels.RECORD_GROUP and found.get(labels.STATE) == labels.STATE_DELETED


def _history_entry(revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.revision,
        "created_at": rfc3339(revision.created_at),
        "created_by": revision.created_by,
        "changes": list(revision.changes),
        "outcome": revision.outcome,
        "spec": revision.spec.to_dict(),
    }

"""Frozen results: what the verbs return. Plain values, no I/O.

`to_dict()` of each is the JSON of the command line (schema 1): keys are the field names here,
times are RFC 3339 in UTC, fields are only ever added.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from chalkcompute.autoscaler import AutoscalerInfo
from chalkcompute.times import rfc3339

__all__ = [
    "Action",
    "Cause",
    "DeleteResult",
    "DeployResult",
    "Evidence",
    "ListScalingGroupsResponse",
    "Manifest",
    "OnProgress",
    "Progress",
    "ReplicaCounts",
    "ScalingGroupInfo",
    "Status",
    "Target",
    "Verdict",
]

SCHEMA = 1

Manifest: TypeAlias = dict[str, Any]
"""One Kubernetes object as plain data, wire names (camelCase)."""


class Status(enum.StrEnum):
    """The closed list of statuses (`docs/concepts/status.md`)."""

    PENDING = "Pending"
    RUNNING = "Running"
    AVAILABLE = "Available"
    SCALED_TO_ZERO = "ScaledToZero"
    FAILED = "Failed"
    DELETING = "Deleting"
    DELETED = "Deleted"


class Cause(enum.StrEnum):
    """The closed list of causes a verdict can name (`docs/reference/verdicts.md`)."""

    IMAGE_PULL = "ImagePull"
    INVALID_IMAGE = "InvalidImage"
    CRASH_LOOP = "CrashLoop"
    START_ERROR = "StartError"
    OUT_OF_MEMORY = "OutOfMemory"
    MISSING_CONFIG = "MissingConfig"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_REFUSED = "AdmissionRefused"
    NOT_LISTENING = "NotListening"
    VOLUME_NOT_READY = "VolumeNotReady"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    NO_GATEWAY = "NoGateway"
    AUTOSCALER_NOT_READY = "AutoscalerNotReady"
    ROLLOUT_STUCK = "RolloutStuck"
    INTERRUPTED = "Interrupted"


class Action(enum.StrEnum):
    """What a deploy did to the record."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence behind a verdict.

    Attributes:
        kind: `log`, `event`, `container`, `condition` or `object`.
        pod: Pod name, where it is about one.
        lines: Log lines, or the message, newest last.
        reason: The Kubernetes reason (`BackOff`, `FailedScheduling`, …), or None.
        exit_code: Exit code of the container, or None.
    """

    kind: str
    lines: tuple[str, ...] = ()
    pod: str | None = None
    reason: str | None = None
    exit_code: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form; absent parts are left out."""
        out: dict[str, Any] = {"kind": self.kind}
        if self.pod is not None:
            out["pod"] = self.pod
        if self.reason is not None:
            out["reason"] = self.reason
        if self.exit_code is not None:
            out["exit_code"] = self.exit_code
        out["lines"] = list(self.lines)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evidence:
        """The inverse of `to_dict`; unknown keys are left out.

        Raises:
            KeyError: `kind` is missing.
        """
        return cls(
            kind=data["kind"],
            lines=tuple(data.get("lines") or ()),
            pod=data.get("pod"),
            reason=data.get("reason"),
            exit_code=data.get("exit_code"),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a group is not available: cause, evidence, next step.

    Attributes:
        cause: One of `Cause`.
        message: What is wrong, one sentence.
        evidence: What it was concluded from.
        next: What to do, or None.
        terminal: True when the group cannot get there by itself.
    """

    cause: Cause
    message: str
    evidence: tuple[Evidence, ...] = ()
    next: str | None = None
    terminal: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "cause": self.cause.value,
            "message": self.message,
            "evidence": [e.to_dict() for e in self.evidence],
            "next": self.next,
            "terminal": self.terminal,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`; unknown keys are left out.

        Raises:
            KeyError: `cause` or `message` is missing.
            ValueError: The cause is none of `Cause`.
        """
        return cls(
            cause=Cause(data["cause"]),
            message=data["message"],
            evidence=tuple(map(Evidence.from_dict, data.get("evidence") or ())),
            next=data.get("next"),
            terminal=bool(data.get("terminal")),
        )


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    """Replica counts: `desired` and live ones from the Deployment, `min`/`max` from the spec.

    Attributes:
        desired: `Deployment.spec.replicas`.
        ready: `Deployment.status.readyReplicas`.
        available: `Deployment.status.availableReplicas`.
        min: Lower bound asked for.
        max: Upper bound asked for.
    """

    desired: int = 0
    ready: int = 0
    available: int = 0
    min: int = 1
    max: int = 1

    def to_dict(self) -> dict[str, int]:
        """JSON form."""
        return {
            "desired": self.desired,
            "ready": self.ready,
            "available": self.available,
            "min": self.min,
            "max": self.max,
        }


@dataclass(frozen=True, slots=True)
class ScalingGroupInfo:
    """One scaling group as seen at one moment.

    Attributes:
        id: UUID of this incarnation of the group; a re-created name gets a new one.
        name: Its name.
        environment: Environment id, the first part of the host name.
        namespace: Kubernetes namespace.
        status: One of `Status`.
        status_message: One sentence, or None when there is nothing to say.
        revision: Current revision number, from 1.
        image: Image reference as deployed.
        port: Port the replicas listen on.
        replicas: Counts.
        web_url: `https://<environment>-<name>.<gateway-domain>[:port]`.
        tags: Tags as given.
        created_at: When the record was created (UTC).
        updated_at: When the record last changed (UTC).
        deleted_at: When it was deleted (UTC), or None.
        spec: All that was asked for, JSON-shaped; secret names but never values.
        verdict: Why it is not available, or None.
        warnings: What its replicas are that was not asked for, such as another image in its place.
        autoscaler: What sets its replica count and how that does; None for a fixed count, and in lists.
    """

    id: str
    name: str
    environment: str
    namespace: str
    status: Status
    status_message: str | None
    revision: int
    image: str
    port: int
    replicas: ReplicaCounts
    web_url: str | None
    tags: Mapping[str, str]
    created_at: datetime | None
    updated_at: datetime | None
    deleted_at: datetime | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    autoscaler: AutoscalerInfo | None = None

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        env = self.spec.get("env")
        if env:
            shown["spec"] = {**self.spec, "env": dict.fromkeys(env, "***")}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def desired_replicas(self) -> int:
        """`replicas.desired`."""
        return self.replicas.desired

    @property
    def ready_replicas(self) -> int:
        """`replicas.ready`."""
        return self.replicas.ready

    @property
    def available_replicas(self) -> int:
        """`replicas.available`."""
        return self.replicas.available

    def to_dict(self) -> dict[str, Any]:
        """JSON of one group (`get -o json`), schema 1."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "name": self.name,
            "environment": self.environment,
            "namespace": self.namespace,
            "status": self.status.value,
            "status_message": self.status_message,
            "revision": self.revision,
            "image": self.image,
            "port": self.port,
            "replicas": self.replicas.to_dict(),
            "web_url": self.web_url,
            "tags": dict(self.tags),
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "deleted_at": rfc3339(self.deleted_at),
            "spec": dict(self.spec),
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "warnings": list(self.warnings),
            "autoscaler": self.autoscaler.to_dict() if self.autoscaler else None,
        }


@dataclass(frozen=True, slots=True)
class ListScalingGroupsResponse:
    """What `ChalkClient.list_scaling_groups` returns: `scaling_groups`, ordered by name."""

    scaling_groups: tuple[ScalingGroupInfo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON of `list -o json`, schema 1."""
        return {"schema": SCHEMA, "scaling_groups": [g.to_dict() for g in self.scaling_groups]}


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a wait: emitted only when something changed.

    Attributes:
        phase: `building`, `applying`, `scheduling`, `pulling`, `starting`, `routing`, `deleting`, `done`.
        message: What is going on, one line, for people.
        ready: Replicas of the current revision that are ready.
        desired: Replicas wanted.
        elapsed: Seconds since the wait began.
    """

    phase: str
    message: str
    ready: int = 0
    desired: int = 0
    elapsed: float = 0.0


OnProgress: TypeAlias = Callable[[Progress], None]
"""What a verb that takes its time calls on every step."""


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What a create or update did.

    Attributes:
        action: `created`, `updated` or `unchanged`.
        info: The group after the write.
        previous_revision: Revision before an update, or None.
        changes: Names of the spec fields that differ from the previous revision.
        warnings: What the API server or we think worth saying, in order.
    """

    action: Action
    info: ScalingGroupInfo
    previous_revision: int | None = None
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the group's own JSON plus `action`, `changes`, `warnings`."""
        return {
            **self.info.to_dict(),
            "action": self.action.value,
            "previous_revision": self.previous_revision,
            "changes": list(self.changes),
            "warnings": list(dict.fromkeys((*self.warnings, *self.info.warnings))),
        }


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What a delete removed and what it kept on purpose.

    Attributes:
        id: UUID of the group.
        name: Its name.
        removed: `Kind/name` of every object that is gone.
        kept: `Kind/name: why` of what was left alone (existing volumes, shared grants, the tombstone).
    """

    id: str
    name: str
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form, schema 1."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "name": self.name,
            "removed": list(self.removed),
            "kept": list(self.kept),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """Where a write goes; printed before every write.

    Attributes:
        server: URL of the API server.
        context: kubeconfig context, or `in-cluster`.
        namespace: Kubernetes namespace.
    """

    server: str
    context: str
    namespace: str

"""What a DELETE does to an object: gone at once, or marked and left to its finalizers or its kubelet.

Source: k8s.io/apiserver `registry/rest/delete.go`, `registry/generic/registry/store.go`; Pods:
`pkg/registry/core/pod/strategy.go` CheckGracefulDelete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalkcompute.local.api.failures import bad_request, invalid, precondition_failed
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.status import Cause, StatusError
from chalkcompute.local.ports import Manifest

__all__ = ["DeleteOptions", "Deletion", "plan_deletion", "timestamp", "vanishes"]

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_GC_FINALIZER = {"Orphan": ORPHAN, "Foreground": FOREGROUND, "Background": None}
_DEFAULT_POD_GRACE_SECONDS = 30


def timestamp(moment: datetime) -> str:
    """A `metav1.Time`: RFC 3339 in UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """`meta/v1.DeleteOptions`.

    Attributes:
        propagation: `Background`, `Foreground`, `Orphan`, or "" for the kind's default (Background).
        grace_seconds: None leaves it to the object.
        uid: Precondition, "" for none.
        resource_version: Precondition, "" for none.
        dry_run: Say what would happen, change nothing.
    """

    propagation: str = ""
    grace_seconds: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def parse(cls, body: dict[str, Any], query: dict[str, str]) -> DeleteOptions:
        """From a request's body and query; the body wins.

        Raises:
            StatusError: 400 for a value of the wrong type, 422 for an unknown policy.
        """
        preconditions = {} if body.get("preconditions") is None else body["preconditions"]
        dry_run = body.get("dryRun") or [value for value in [query.get("dryRun")] if value]
        if not isinstance(preconditions, dict):
            raise bad_request("DeleteOptions cannot be read: preconditions must be an object")
        if not isinstance(dry_run, list) or any(value != "All" for value in dry_run):
            raise _unsupported("dryRun", dry_run, "All")
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        orphans = body.get("orphanDependents", query.get("orphanDependents"))
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
        try:
            grace_seconds = None if grace is None else int(grace)
        except (TypeError, ValueError) as exc:
            raise bad_request(f"invalid gracePeriodSeconds: {grace!r}") from exc
        if propagation and (not isinstance(propagation, str) or propagation not in _GC_FINALIZER):
            raise _unsupported("propagationPolicy", propagation, "Background", "Foreground", "Orphan")
        if orphans is not None and not propagation:
            propagation = "Orphan" if orphans in (True, "true") else "Background"
        return cls(
            propagation=propagation,
            grace_seconds=grace_seconds,
            uid=preconditions.get("uid") or "",
            resource_version=preconditions.get("resourceVersion") or "",
            dry_run=bool(dry_run),
        )


def _unsupported(field: str, value: object, *supported: str) -> StatusError:
    listed = ", ".join(f'"{word}"' for word in supported)
    message = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    return invalid("DeleteOptions", "meta.k8s.io", "", Cause(field, message, "FieldValueNotSupported"))


@dataclass(frozen=True, slots=True)
class Deletion:
    """What is to be done.

    Attributes:
        obj: The object as it lingers, or as it goes.
        gone: It goes now.
        changed: `obj` differs from what is stored.
    """

    obj: Manifest
    gone: bool
    changed: bool


def plan_deletion(kind: Kind, live: Manifest, options: DeleteOptions, now: datetime) -> Deletion:
    """What a DELETE means for this object. Pure; `live` is not changed.

    Raises:
        StatusError: 409 Conflict when a precondition does not hold.
    """
    metadata = live["metadata"]
    _check_preconditions(kind, metadata, options)
    new_metadata = dict(metadata)
    _set_gc_finalizer(new_metadata, options.propagation)
    new = {**live, "metadata": new_metadata}
    if kind.kind == "Namespace":
        new = _terminating(new)
    grace = _grace_seconds(kind, live, options)
    if "deletionTimestamp" not in metadata:
        new_metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace))
        if kind.kind != "Namespace":
            new_metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata:
            new_metadata["generation"] = metadata["generation"] + 1
    elif grace < (pending := metadata.get("deletionGracePeriodSeconds", 0)):
        started = datetime.fromisoformat(metadata["deletionTimestamp"]) - timedelta(seconds=pending)
        new_metadata["deletionTimestamp"] = timestamp(started + timedelta(seconds=grace))
        new_metadata["deletionGracePeriodSeconds"] = grace
    return Deletion(new, gone=vanishes(new), changed=new != live)


def vanishes(obj: Manifest) -> bool:
    """A marked object that nothing holds any more: no finalizer, no grace period left to run."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if obj["kind"] == "Namespace":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _check_preconditions(kind: Kind, metadata: dict[str, Any], options: DeleteOptions) -> None:
    name = metadata["name"]
    if options.uid and options.uid != metadata["uid"]:
        raise precondition_failed(kind, name, "UID", options.uid, metadata["uid"])
    if options.resource_version and options.resource_version != metadata["resourceVersion"]:
        raise precondition_failed(
            kind, name, "ResourceVersion", options.resource_version, metadata["resourceVersion"]
        )


def _set_gc_finalizer(metadata: dict[str, Any], propagation: str) -> None:
    """The garbage collector's finalizer that a policy asks for; without a policy what is there stays."""
    if not propagation:
        return
    finalizers = [f for f in metadata.get("finalizers") or [] if f not in (ORPHAN, FOREGROUND)]
    if wanted := _GC_FINALIZER[propagation]:
        finalizers.append(wanted)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _terminating(namespace: Manifest) -> Manifest:
    return {**namespace, "status": {**(namespace.get("status") or {}), "phase": "Terminating"}}


def _grace_seconds(kind: Kind, live: Manifest, options: DeleteOptions) -> int:
    if kind.kind != "Pod":
        return 0
    spec = live.get("spec") or {}
    finished = (live.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    if not spec.get("nodeName") or finished:
        return 0
    asked = options.grace_seconds
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", _DEFAULT_POD_GRACE_SECONDS)
    return 1 if asked < 0 else int(asked)

"""Readings of plain Kubernetes objects that every controller needs: owners, times, conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.selectors import match_label_selector
from chalkcompute.local.ports import Manifest

__all__ = [
    "Claims",
    "Key",
    "claim",
    "controller_of",
    "created_at",
    "find_condition",
    "format_micro_time",
    "format_time",
    "is_deleting",
    "key_of",
    "owner_reference",
    "parse_time",
    "reference_to",
    "without_owner",
]

Key: TypeAlias = tuple[str, ...]
"""`(namespace, name)`; the namespace is "" for cluster-scoped objects. The garbage collector's has more."""

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Claims:
    """What an owner's selector makes of candidates: its own, those to adopt and those to let go.

    Attributes:
        owned: Controlled by the owner and selected by it (adopted ones included).
        adopt: Selected, without a controller: the owner takes them.
        release: Controlled by the owner and no longer selected.
    """

    owned: list[Manifest] = field(default_factory=list)
    adopt: list[Manifest] = field(default_factory=list)
    release: list[Manifest] = field(default_factory=list)


def key_of(obj: Manifest) -> tuple[str, str]:
    """Namespace and name."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def is_deleting(obj: Manifest) -> bool:
    """Whether deletion was asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def parse_time(text: str | None) -> datetime | None:
    """A `metav1.Time` or `MicroTime` as an aware datetime."""
    return datetime.fromisoformat(text) if text else None


def format_time(moment: datetime) -> str:
    """`metav1.Time`: RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """`metav1.MicroTime`: RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def created_at(obj: Manifest) -> datetime:
    """`metadata.creationTimestamp`; the epoch for an object that was never stored."""
    return parse_time(obj["metadata"].get("creationTimestamp")) or _EPOCH


def owner_reference(owner: Manifest) -> dict[str, Any]:
    """The controller reference to `owner`, as `metav1.NewControllerRef` makes it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Manifest, kind: str | None = None) -> dict[str, Any] | None:
    """The owner reference with `controller: true`, if any (and of this kind, if one is named)."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference) if kind is None or reference["kind"] == kind else None
    return None


def without_owner(obj: Manifest, uids: Iterable[str]) -> Manifest:
    """`obj` without its references to these owners."""
    gone = set(uids)
    meta = dict(obj["metadata"])
    kept = [r for r in meta.get("ownerReferences") or () if r["uid"] not in gone]
    if kept:
        meta["ownerReferences"] = kept
    else:
        meta.pop("ownerReferences", None)
    return {**obj, "metadata": meta}


def reference_to(obj: Manifest) -> dict[str, Any]:
    """An `ObjectReference` with what an Event says of its object."""
    meta = obj["metadata"]
    reference = {
        "kind": obj["kind"],
        "namespace": meta.get("namespace"),
        "name": meta["name"],
        "uid": meta.get("uid"),
        "apiVersion": obj["apiVersion"],
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {k: v for k, v in reference.items() if v}


def find_condition(status: Manifest, kind: str) -> dict[str, Any] | None:
    """The condition of this type."""
    return next((c for c in status.get("conditions") or () if c["type"] == kind), None)


def claim(owner: Manifest, candidates: Sequence[Manifest]) -> Claims:
    """Sort candidates by `owner.spec.selector` and by whose they are.

    The rules of Kubernetes' `ControllerRefManager`: another controller's object is never touched, an
    owner or a candidate that is being deleted changes nothing.
    """
    selector = owner["spec"]["selector"]
    uid = owner["metadata"]["uid"]
    claims = Claims()
    for obj in candidates:
        reference = controller_of(obj)
        selected = match_label_selector(selector, obj["metadata"].get("labels") or {})
        if reference is not None:
            if reference["uid"] != uid:
                continue
            if selected:
                claims.owned.append(obj)
            elif not is_deleting(owner):
                claims.release.append(obj)
        elif selected and not is_deleting(owner) and not is_deleting(obj):
            meta = obj["metadata"]
            references = [*(meta.get("ownerReferences") or ()), owner_reference(owner)]
            adopted = {**obj, "metadata": {**meta, "ownerReferences": references}}
            claims.adopt.append(adopted)
            claims.owned.append(adopted)
    return claims

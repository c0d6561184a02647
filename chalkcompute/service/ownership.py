"""May we touch this object? Only if it carries the id of our group. Which of its fields are ours (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalkcompute.errors import NotOwnedError
from chalkcompute.manifests import labels
from chalkcompute.types import Manifest

__all__ = ["applied_fields", "is_shared", "require_ours"]


class GoingError(NotOwnedError):
    """An object of an earlier group of that name, whose record is gone: about to be collected."""


def is_shared(obj: Manifest) -> bool:
    """Whether it is made by chalk but belongs to no single group (a ReferenceGrant)."""
    return bool(obj["kind"] == "ReferenceGrant")


def require_ours(obj: Manifest, group_id: str | None) -> None:
    """Accept our own object.

    Raises:
        NotOwnedError: It is someone else's.
    """
    meta = obj["metadata"]
    found = meta.get("labels") or {}
    if is_shared(obj) and found.get(labels.MANAGED_BY) == labels.MANAGED_BY_CHALK:
        return
    if group_id is not None and labels.is_owned_by(obj, group_id):
        return
    if meta.get("deletionTimestamp"):
        raise NotOwnedError(
            f"{obj['kind']} `{meta['name']}` in namespace `{meta['namespace']}` is still being deleted",
            kind=obj["kind"],
            name=meta["name"],
            namespace=meta["namespace"],
            hint="wait until it is gone, and create the scaling group then",
        )
    manager = found.get(labels.MANAGED_BY)
    if manager == labels.MANAGED_BY_CHALK and labels.GROUP_ID in found:
        raise (GoingError if meta.get("ownerReferences") else NotOwnedError)(
            f"{obj['kind']} `{meta['name']}` in namespace `{meta['namespace']}` is of a scaling group "
            f"`{found.get(labels.GROUP)}` that has no record here: one that is gone, or applied from "
            "`chalk scaling-group manifests`",
            kind=obj["kind"],
            name=meta["name"],
            namespace=meta["namespace"],
            hint=f"`chalk scaling-group delete {found.get(labels.GROUP)}` removes it; then create it",
        )
    by = f" (managed by `{manager}`)" if manager else ""
    raise NotOwnedError(
        f"{obj['kind']} `{meta['name']}` exists in namespace `{meta['namespace']}` and is not this "
        f"scaling group's{by}; it was not touched",
        kind=obj["kind"],
        name=meta["name"],
        namespace=meta["namespace"],
        hint="choose another name for the scaling group, or remove that object",
    )


def applied_fields(obj: Manifest) -> Mapping[str, Any]:
    """What our server-side apply set in an object (`managedFields[].fieldsV1`); empty if it never did."""
    for entry in obj["metadata"].get("managedFields") or ():
        ours = entry.get("manager") == labels.FIELD_MANAGER and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource"):
            return entry.get("fieldsV1") or {}
    return {}

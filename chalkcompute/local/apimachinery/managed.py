"""Who owns which field: server-side apply, and the bookkeeping of ordinary writes.

Source: k8s.io/apimachinery `pkg/util/managedfields` and sigs.k8s.io/structured-merge-diff
`merge/update.go`. Times are passed in as RFC 3339 text.
"""

from __future__ import annotations

from typing import Any, Literal

from chalkcompute.local.apimachinery.decode import ConversionError, convert, empty_struct
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.entries import (
    Entry,
    Manager,
    decode_entries,
    encode_entries,
    manager_text,
)
from chalkcompute.local.apimachinery.fieldset import FieldSet, KeylessItemError, path_text
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.last_applied import KUBECTL, last_applied_fields, with_last_applied
from chalkcompute.local.apimachinery.schema import Schema, field_schema
from chalkcompute.local.apimachinery.status import Cause, StatusError
from chalkcompute.local.apimachinery.typed import Comparison, compare, field_set, merge, named_parents, remove
from chalkcompute.local.apimachinery.typed_errors import typed_errors

__all__ = ["apply", "update"]

_NEVER_OWNED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    }
)
_REPLICAS = ("f:spec", "f:replicas")
# Set by the API server after it has recorded who sets what, so nobody owns them.
_ALLOCATED = {
    "Service": (("f:spec", "f:clusterIPs"), ("f:spec", "f:ipFamilies"), ("f:spec", "f:ipFamilyPolicy"))
}
_CLUSTER_IP = ("f:spec", "f:clusterIP")  # an allocated address is nobody's
_FIRST_MANAGER = Manager("before-first-apply", "Update", "", "")


def update(
    kind: Kind,
    new: dict[str, Any],
    old: dict[str, Any] | None,
    *,
    manager: str,
    operation: Literal["Update"] = "Update",
    now: str,
    subresource: str = "",
    api_version: str = "",
) -> dict[str, Any]:
    """`new` with its managedFields as POST, PUT or a patch by `manager` leaves them.

    Args:
        kind: The object's kind.
        new: The object to be stored, defaulted.
        old: The stored one, or None for a create.
        manager: `fieldManager` of the request.
        operation: Always `Update`; `apply` records `Apply`.
        now: RFC 3339.
        subresource: `status`, `scale` or "".
        api_version: Version that the request used; the stored one when "".
    """
    live = old if old is not None else _empty(kind)
    entries = _entries_of(new, live, subresource)
    identity = Manager(manager, operation, api_version or kind.api_version, subresource)
    if subresource == "scale":
        return _with_entries(new, _rescaled(entries, live, new, identity))
    if not entries and old is not None:
        return _with_entries(new, entries)
    schema = field_schema(kind)
    try:
        difference = _difference(kind, schema, live, new, subresource)
    except KeylessItemError:  # no request fails on bookkeeping (FieldManager.UpdateNoErrors): nobody owns it
        return _with_entries(new, {})
    taken = difference.added | difference.modified
    if kind.kind == "Service" and new.get("spec", {}).get("clusterIP") != "None":
        taken -= {_CLUSTER_IP}
    previous = entries.pop(identity, None)
    entries, _ = _taken_from(entries, difference, taken)
    owned = (previous.fields - difference.removed if previous else frozenset()) | taken
    owned -= _NEVER_OWNED
    if previous and not taken:
        entries[identity] = Entry(owned, previous.time)
    else:
        entries[identity] = Entry(owned, now)
    if not owned:
        del entries[identity]
    return _with_entries(new, entries)


def apply(
    kind: Kind,
    live: dict[str, Any] | None,
    patch_obj: dict[str, Any],
    *,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
    api_version: str = "",
) -> dict[str, Any]:
    """The object that server-side apply of `patch_obj` makes of `live`, managedFields included.

    Raises:
        StatusError: 400 for managedFields or another version in the patch, 409 with a cause for each
            conflicting field, 500 (as the real server answers) for a field that the schema does not
            have, a value of the wrong type, or a repeated key of a keyed list; 500 as well for a live
            object with an item of a keyed list that lacks its key.
    """
    version = api_version or kind.api_version
    _check_patch(kind, patch_obj, version)
    if patch_obj.get("metadata") is None:
        patch_obj = {**patch_obj, "metadata": {}}
    schema = field_schema(kind)
    where = _where(kind, patch_obj, version)
    if problems := typed_errors(schema, patch_obj):
        raise StatusError(500, "", f"failed to create typed patch object {where}: {'; '.join(problems)}")
    base = live if live is not None else _empty(kind)
    base = {**base, "apiVersion": version}
    _check_live(schema, base, where)
    entries = decode_entries(base.get("metadata", {}).get("managedFields"))
    if not entries and live is not None:
        everything = _difference(kind, schema, _empty(kind), base, subresource).added - _NEVER_OWNED
        if everything:
            first = Manager(_FIRST_MANAGER.name, "Update", version, "")
            entries[first] = Entry(everything, now)
    identity = Manager(manager, "Apply", version, subresource)
    key = next((known for known in entries if known.same_applier(identity)), identity)
    last = entries.pop(key, None)
    asked = _tracked(kind, field_set(schema, patch_obj), subresource)
    merged = merge(schema, base, patch_obj)
    if last:
        owned = frozenset().union(*(entry.fields for entry in entries.values()), asked)
        merged = _prune(schema, merged, last.fields, owned)
    merged = merged or {}
    difference = compare(schema, _bare(base), _bare(merged))
    entries, conflicts = _taken_from(entries, difference, difference.added | difference.modified)
    if manager == KUBECTL and conflicts and not force:
        mine = last_applied_fields(schema, base)
        conflicts = {owner: left for owner, lost in conflicts.items() if (left := lost - mine)}
    if conflicts and not force:
        raise _conflict(conflicts)
    changed = bool(difference.added or difference.modified or difference.removed)
    out = _converted(kind, merged, where) if changed or live is None else base
    if owned_now := asked - _NEVER_OWNED:
        entries[identity] = Entry(owned_now, now if changed or live is None else (last.time if last else ""))
    if manager == KUBECTL and live is not None:
        out = with_last_applied(out, base, patch_obj)
    result = _with_entries(out, entries)
    return base if live is not None and _same_but_times(result, base) else result


def _same_but_times(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether only the times of entries differ: such a write is none (IgnoreManagedFieldsTimestamps)."""
    if _bare(new) != _bare(old):
        return False
    before = decode_entries(old["metadata"].get("managedFields"))
    after = decode_entries(new["metadata"].get("managedFields"))
    return {m: e.fields for m, e in before.items()} == {m: e.fields for m, e in after.items()}


def _check_patch(kind: Kind, patch_obj: dict[str, Any], version: str) -> None:
    if patch_obj.get("kind") != kind.kind or patch_obj.get("apiVersion") != version:
        given = f"{patch_obj.get('apiVersion')}, Kind={patch_obj.get('kind')}"
        raise StatusError(
            400,
            "BadRequest",
            f"Incorrect version specified in apply patch. Specified patch version: {given}, "
            f"expected: {version}, Kind={kind.kind}",
        )
    metadata = patch_obj.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields"):
        raise StatusError(400, "BadRequest", "metadata.managedFields must be nil")


def _check_live(schema: Schema, live: dict[str, Any], where: str) -> None:
    """An object may be stored with an item that has not its key (POST allows it), but not be applied to."""
    try:
        field_set(schema, _bare(live))
    except KeylessItemError as error:
        raise StatusError(500, "", f"failed to create typed live object {where}: {error}") from error


def _where(kind: Kind, patch_obj: dict[str, Any], version: str) -> str:
    metadata = patch_obj.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    group_version = version if "/" in version else f"/{version}"
    return f"(/{name}; {group_version}, Kind={kind.kind})"


def _converted(kind: Kind, merged: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        obj, _ = convert(kind, merged)
    except ConversionError as error:
        group_version = where[1:-1].partition("; ")[2]
        raise StatusError(
            500,
            "",
            f"failed to convert new object {where} to proper version: unable to convert "
            "unstructured object to "
            f"{group_version}: {error}",
        ) from error
    return default(kind, obj)


def _empty(kind: Kind) -> dict[str, Any]:
    """The object before there was one: what a plain Go struct always has, nothing of a custom kind."""
    if kind.custom:
        return {"metadata": {}}
    return _zero(field_schema(kind))


def _zero(schema: Schema) -> dict[str, Any]:
    out: dict[str, Any] = empty_struct(schema)
    for name, child in schema.fields.items():
        if name in out:
            out[name] = _zero(child)
        elif name in schema.required and child.type in ("array", "object"):
            out[name] = None
    return out


def _entries_of(new: dict[str, Any], live: dict[str, Any], subresource: str) -> dict[Manager, Entry]:
    """Entries to start from: the request's own where it gives some, else the stored ones."""
    given = new.get("metadata", {}).get("managedFields")
    stored = live.get("metadata", {}).get("managedFields")
    if subresource or given is None:
        return decode_entries(stored)
    if given == [{}]:
        return {}
    return decode_entries(given) or decode_entries(stored)


def _bare(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in obj.get("metadata", {}).items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def _tracked(kind: Kind, fields: FieldSet, subresource: str) -> FieldSet:
    """Without the part of the object that this endpoint does not write."""
    hidden: tuple[str, ...] = ()
    if kind.status:
        hidden = ("f:spec",) if subresource == "status" else ("f:status",)
    allocated = _ALLOCATED.get(kind.kind, ())
    return frozenset(
        path
        for path in fields
        if path[0] not in hidden and not any(path[: len(prefix)] == prefix for prefix in allocated)
    )


def _difference(
    kind: Kind, schema: Schema, old: dict[str, Any], new: dict[str, Any], subresource: str
) -> Comparison:
    found = compare(schema, _bare(old), _bare(new))
    return Comparison(
        _tracked(kind, found.added, subresource),
        _tracked(kind, found.modified, subresource),
        found.removed,
    )


def _taken_from(
    entries: dict[Manager, Entry], difference: Comparison, taken: FieldSet
) -> tuple[dict[Manager, Entry], dict[Manager, FieldSet]]:
    """The other managers' entries without what was taken or removed, and what was taken from whom."""
    conflicts: dict[Manager, FieldSet] = {}
    left: dict[Manager, Entry] = {}
    for owner, entry in entries.items():
        if lost := entry.fields & taken:
            conflicts[owner] = lost
        if kept := entry.fields - taken - difference.removed:
            left[owner] = Entry(kept, entry.time)
    return left, conflicts


def _prune(schema: Schema, merged: dict[str, Any], last: FieldSet, owned: FieldSet) -> dict[str, Any]:
    """`merged` without what this manager applied last time and nobody owns any more."""
    all_fields = named_parents(schema, field_set(schema, merged))
    dropped = named_parents(schema, last)
    pruned = remove(schema, merged, dropped)
    kept = named_parents(schema, field_set(schema, pruned) if pruned else frozenset())
    pruned = remove(schema, merged, all_fields - (kept | named_parents(schema, owned)))
    kept = named_parents(schema, field_set(schema, pruned) if pruned else frozenset())
    result: dict[str, Any] = remove(schema, merged, (all_fields - kept) & dropped)
    return result


def _rescaled(
    entries: dict[Manager, Entry], live: dict[str, Any], new: dict[str, Any], identity: Manager
) -> dict[Manager, Entry]:
    """A write of `scale` is recorded only where somebody already owns the count."""
    owners = [owner for owner, entry in entries.items() if _REPLICAS in entry.fields]
    if not owners or live.get("spec", {}).get("replicas") == new.get("spec", {}).get("replicas"):
        return entries
    for owner in owners:
        entry = entries.pop(owner)
        if left := entry.fields - {_REPLICAS}:
            entries[owner] = Entry(left, entry.time)
    entries[identity] = Entry(frozenset({_REPLICAS}), "")
    return entries


def _with_entries(obj: dict[str, Any], entries: dict[Manager, Entry]) -> dict[str, Any]:
    metadata = {name: value for name, value in obj.get("metadata", {}).items() if name != "managedFields"}
    if entries:
        metadata["managedFields"] = encode_entries(entries)
    return {**obj, "metadata": metadata}


def _conflict(conflicts: dict[Manager, FieldSet]) -> StatusError:
    found = sorted(
        (manager_text(owner), path_text(path)) for owner, paths in conflicts.items() for path in paths
    )
    causes = [Cause(path, f"conflict with {owner}", "FieldManagerConflict") for owner, path in found]
    if len(found) == 1:
        owner, path = found[0]
        return StatusError(
            409, "Conflict", f"Apply failed with 1 conflict: conflict with {owner}: {path}", causes=causes
        )
    lines: list[str] = []
    for owner in dict.fromkeys(owner for owner, _ in found):
        lines.append(f"conflicts with {owner}:")
        lines.extend(f"- {path}" for by, path in found if by == owner)
    return StatusError(
        409, "Conflict", f"Apply failed with {len(found)} conflicts: " + "\n".join(lines), causes=causes
    )

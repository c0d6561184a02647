"""Strategic merge patch: merge patch that knows which lists are keyed.

Source: k8s.io/apimachinery `pkg/util/strategicpatch/patch.go`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.defaults import copied
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.schema import Schema, field_schema
from chalkcompute.local.apimachinery.status import StatusError

__all__ = ["strategic_merge_patch"]

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_ANY = Schema("any", open=True)


def strategic_merge_patch(kind: Kind, doc: Any, patch: Any) -> Any:
    """`doc` with a strategic merge patch, list keys as the schema says.

    Raises:
        StatusError: 415 for a custom kind, 400 for a malformed patch.
    """
    if kind.custom:
        raise StatusError(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )
    if not isinstance(patch, dict) or not isinstance(doc, dict):
        raise _bad("the strategic merge patch must be a JSON object")
    merged: Any = _object(field_schema(kind), copied(doc), patch)
    return merged


def _object(schema: Schema, doc: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {name: copied(value) for name, value in patch.items() if name != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise _bad(f"Unknown patch type: {directive}")
    if _RETAIN in patch:
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise _bad(f"{_RETAIN} must be a list")
        doc = {name: value for name, value in doc.items() if name in kept}
    out = dict(doc)
    for name, value in patch.items():
        if name in (_DIRECTIVE, _RETAIN):
            continue
        if name.startswith(_DELETE_PRIMITIVES):
            _delete_primitives(out, name.removeprefix(_DELETE_PRIMITIVES), value)
        elif name.startswith(_ORDER):
            continue
        elif value is None:
            out.pop(name, None)
        else:
            out[name] = _value(schema.child(name) or _ANY, out.get(name), value)
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            out[field] = _ordered(schema.child(field) or _ANY, out.get(field), order, patch.get(field))
            if not out[field]:
                del out[field]
    return out


def _value(schema: Schema, doc: Any, patch: Any) -> Any:
    if isinstance(patch, dict):
        return _object(schema, doc if isinstance(doc, dict) else {}, patch)
    if isinstance(patch, list):
        return _list(schema, doc if isinstance(doc, list) else [], patch)
    return patch


def _list(schema: Schema, doc: list[Any], patch: list[Any]) -> list[Any]:
    if "merge" not in schema.merge_strategy:
        return [_without_directives(item) for item in patch]
    if not schema.merge_key:
        return doc + [item for item in copied(patch) if item not in doc]
    items = [item for item in patch if isinstance(item, dict)]
    if len(items) != len(patch):
        raise _bad("the items of a keyed list must be objects")
    if any(item.get(_DIRECTIVE) == "replace" for item in items):
        return [_without_directives(item) for item in items if item.get(_DIRECTIVE) != "replace"]
    out = list(doc)
    for item in items:
        out = _merge_item(schema, out, item)
    return out


def _merge_item(schema: Schema, items: list[Any], patch: dict[str, Any]) -> list[Any]:
    key = schema.merge_key
    if key not in patch:
        raise _bad(f"map: {patch} does not contain declared merge key: {key}")
    if patch.get(_DIRECTIVE) == "delete":
        return [item for item in items if not isinstance(item, dict) or item.get(key) != patch[key]]
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get(key) == patch[key]:
            return [*items[:index], _object(schema.element or _ANY, item, patch), *items[index + 1 :]]
    return [*items, _object(schema.element or _ANY, {}, patch)]


def _ordered(schema: Schema, items: Any, order: Any, patched: Any) -> list[Any]:
    """Items in the order the client wants; those it does not know keep their place relative to the others."""
    if not isinstance(order, list):
        raise _bad("a $setElementOrder list must be a list")
    present = items if isinstance(items, list) else []
    key = schema.merge_key

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    for item in patched if isinstance(patched, list) else []:
        deleted = isinstance(item, dict) and item.get(_DIRECTIVE) == "delete"
        if not deleted and identity(item) not in wanted:
            raise _bad("the list in a patch and its $setElementOrder list do not match")
    listed = [item for item in present if identity(item) in wanted]
    listed.sort(key=lambda item: wanted.index(identity(item)))
    out: list[Any] = []
    for item in present:
        if identity(item) in wanted:
            out.append(listed.pop(0))
        else:
            out.append(item)
    return out


def _delete_primitives(out: dict[str, Any], field: str, values: Any) -> None:
    if not isinstance(values, list):
        raise _bad(f"{_DELETE_PRIMITIVES}{field} must be a list")
    present = out.get(field)
    if isinstance(present, list):
        left = [item for item in present if item not in values]
        if left:
            out[field] = left
        else:
            del out[field]


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_directives(child) for name, child in value.items() if not name.startswith("$")}
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value


def _bad(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)

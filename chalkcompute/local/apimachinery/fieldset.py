"""Sets of field paths, as `managedFields` writes them (fieldsV1).

A path is a tuple of elements in their written form: `f:spec`, `k:{"name":"app"}`, `v:"x"`.
Source: sigs.k8s.io/structured-merge-diff `fieldpath/serialize.go`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.schema import Schema

__all__ = [
    "FieldSet",
    "KeylessItemError",
    "Path",
    "decode_fields",
    "encode_fields",
    "field_element",
    "item_element",
    "path_text",
]

Path: TypeAlias = tuple[str, ...]
FieldSet: TypeAlias = frozenset[Path]


class KeylessItemError(ValueError):
    """An item of a keyed list that nobody can own: it is not an object, or has not its key."""


def field_element(name: str) -> str:
    """A field of an object or a key of a map."""
    return f"f:{name}"


def item_element(schema: Schema, item: Any) -> str:
    """An item of a `map` or `set` list; absent key fields count with their defaults.

    Raises:
        KeylessItemError: A `map` item is not an object, or lacks a key field that has no default.
    """
    if schema.list_type != "map":
        return f"v:{_compact(item)}"
    if not isinstance(item, dict):
        raise KeylessItemError("associative list with keys may not have non-map elements")
    keys = {}
    for key in sorted(schema.keys):
        value = item.get(key)
        if value is None:
            declared = schema.element.child(key) if schema.element else None
            value = declared.default if declared else None
        if value is None:
            raise KeylessItemError(
                f'associative list with keys has an element that omits key field "{key}" '
                "(and doesn't have default value)"
            )
        keys[key] = value
    return f"k:{_compact(keys)}"


def encode_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """The fieldsV1 object of a set."""
    tree: dict[str, Any] = {}
    members: set[Path] = set(paths)
    for path in sorted(members):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
    for path in members:
        node = tree
        for element in path:
            node = node[element]
        if any(key != "." for key in node):
            node["."] = {}
    return _sorted(tree)


def decode_fields(fields: Any) -> FieldSet:
    """The set of a fieldsV1 object; whatever is malformed in it is left out."""
    found: set[Path] = set()
    waiting: list[tuple[Path, Any]] = [((), fields)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if path and (not node or "." in node):
            found.add(path)
        waiting.extend(((*path, name), child) for name, child in node.items() if name != ".")
    return frozenset(found)


def path_text(path: Path) -> str:
    """A path as messages write it: `.spec.containers[name="app"].image`."""
    out = ""
    for element in path:
        kind, text = element[:2], element[2:]
        if kind == "f:":
            out += f".{text}"
        elif kind == "k:":
            keys = json.loads(text)
            out += "[" + ",".join(f"{key}={_compact(value)}" for key, value in sorted(keys.items())) + "]"
        else:
            out += f"[={text}]"
    return out


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _sorted(tree[key]) for key in sorted(tree)}

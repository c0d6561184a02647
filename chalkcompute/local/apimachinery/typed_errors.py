"""What server-side apply refuses before it merges: fields, types and list keys the schema does not allow.

Source: sigs.k8s.io/structured-merge-diff `typed/validate.go`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.fieldset import (
    KeylessItemError,
    Path,
    field_element,
    item_element,
    path_text,
)
from chalkcompute.local.apimachinery.schema import Schema

__all__ = ["typed_errors"]

_SCALARS: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "string"),
    "boolean": ((bool,), "boolean"),
    "integer": ((int, float), "numeric (int or float)"),
    "number": ((int, float), "numeric (int or float)"),
}
_NAMES: dict[type, str] = {
    dict: "map",
    list: "list",
    str: "string",
    bool: "boolean",
    int: "int",
    float: "float",
}


def typed_errors(schema: Schema, value: Any) -> list[str]:
    """Every problem of an apply patch, `path: what`; [] when it can be merged."""
    found: list[str] = []
    _check(schema, value, (), found)
    return found


def _check(schema: Schema, value: Any, path: Path, found: list[str]) -> None:
    if value is None or schema.type == "any":
        return
    if schema.type == "object":
        if not isinstance(value, dict):
            found.append(f"{path_text(path)}: expected map, got {_shown(value)}")
            return
        for name, child in value.items():
            declared = schema.child(name)
            below = (*path, field_element(name))
            if declared is not None:
                _check(declared, child, below, found)
            elif not schema.open and (path or name not in ("apiVersion", "kind")):
                found.append(f"{path_text(below)}: field not declared in schema")
    elif schema.type == "array":
        _check_list(schema, value, path, found)
    elif expected := _SCALARS.get(schema.type):
        types, name = expected
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            found.append(f"{path_text(path)}: expected {name}, got {_shown(value)}")
    elif isinstance(value, dict | list):
        found.append(f"{path_text(path)}: expected scalar, got {_shown(value)}")


def _check_list(schema: Schema, value: Any, path: Path, found: list[str]) -> None:
    if not isinstance(value, list):
        found.append(f"{path_text(path)}: expected list, got {_shown(value)}")
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        below = path
        if schema.list_type in ("map", "set"):
            try:
                element = item_element(schema, item)
            except KeylessItemError as error:
                found.append(f"{path_text(path)}: element {index}: {error}")
                continue
            below = (*path, element)
            if element in seen:
                found.append(f"{path_text(path)}: duplicate entries for key {path_text((element,))}")
                continue
            seen.add(element)
        if schema.element is not None:
            _check(schema.element, item, below, found)


def _shown(value: Any) -> str:
    return f"&value.valueUnstructured{{Value:{_NAMES.get(type(value), 'null')}}}"

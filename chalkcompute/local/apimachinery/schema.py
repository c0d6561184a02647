"""What every field of a served kind is: type, list-map keys, defaults, bounds.

The data are in `schemas/`, written by `scripts/make_schemas.py` from a Kubernetes release's own
OpenAPI documents and the CustomResourceDefinitions of the Gateway API and KEDA.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chalkcompute.local.apimachinery.definitions import definitions
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.openapi import openapi_v3

__all__ = ["Schema", "field_schema", "openapi_v3"]


@dataclass(frozen=True, slots=True)
class Schema:
    """One field, or one item of a list or map.

    Attributes:
        type: `object`, `array`, `string`, `integer`, `number`, `boolean`, `quantity`,
            `int-or-string`, or `any` where nothing is declared.
        format: OpenAPI format: `int32`, `int64`, `byte`, `date-time`, …
        name: Name of the Kubernetes type, "" where it has none.
        fields: Declared fields of an object.
        element: Values of a map, or items of a list; None when neither.
        list_type: `atomic`, `set` or `map` (`x-kubernetes-list-type`).
        keys: Fields that identify an item of a `map` list.
        atomic: Whether an object or map is owned and replaced as a whole.
        required: Fields that must be there.
        default: Value of an absent field; None for none.
        always: Whether the Go field is a plain struct, so that an API server always answers it.
        omit_zero: Whether the zero value is left out of answers.
        open: Whether undeclared fields are kept.
        merge_key: Key of strategic merge patch.
        merge_strategy: Strategies of strategic merge patch: `merge`, `retainKeys`, `replace`.
        rules: Bounds of the value, OpenAPI names (`enum`, `pattern`, `minimum`, …).
    """

    type: str
    format: str = ""
    name: str = ""
    fields: Mapping[str, Schema] = field(default_factory=dict)
    element: Schema | None = None
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    atomic: bool = False
    required: tuple[str, ...] = ()
    default: Any = None
    always: bool = False
    omit_zero: bool = False
    open: bool = False
    merge_key: str = ""
    merge_strategy: tuple[str, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)

    def child(self, name: str) -> Schema | None:
        """The schema of a field or map value, or None when there can be no such field."""
        return self.fields.get(name) or self.element

    def has(self, name: str) -> bool:
        """Whether the field is declared by name, not just a key of a map."""
        return name in self.fields


_ANY = Schema("any", open=True)
_RULES = (
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)


@functools.cache
def field_schema(kind: Kind) -> Schema:
    """The schema of a kind's objects, in its stored version."""
    if not kind.custom:
        return _type(definitions("kubernetes")["kinds"][f"{kind.api_version}/{kind.kind}"])
    root = _build(definitions("custom")["kinds"][f"{kind.api_version}/{kind.kind}"])
    return replace(root, name=kind.kind, fields={**root.fields, "metadata": _type("ObjectMeta")})


@functools.cache
def _type(name: str) -> Schema:
    return replace(_build(definitions("kubernetes")["types"][name]), name=name)


def _build(node: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        return replace(_type(node["$ref"]), **_field_attributes(node))
    fields = {name: _build(child) for name, child in node.get("properties", {}).items()}
    element = node.get("items") or node.get("additionalProperties")
    kind = "int-or-string" if node.get("x-kubernetes-int-or-string") else node.get("type", "any")
    undeclared = kind == "object" and not fields and not element
    return Schema(
        type=kind,
        format=node.get("format", ""),
        fields=fields,
        element=_build(element) if element else None,
        list_type=node.get("x-kubernetes-list-type", "atomic"),
        keys=tuple(node.get("x-kubernetes-list-map-keys", ())),
        required=tuple(node.get("required", ())),
        open=bool(node.get("x-kubernetes-preserve-unknown-fields")) or undeclared or kind == "any",
        rules={name: node[name] for name in _RULES if name in node},
        **_field_attributes(node),
    )


def _field_attributes(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a field says beside its type: the part that stands next to a `$ref`."""
    out: dict[str, Any] = {}
    if node.get("x-kubernetes-map-type") == "atomic":
        out["atomic"] = True
    if node.get("default") is not None:
        out["default"] = node["default"]
        out["always"] = node["default"] == {}
    if node.get("x-omit-zero"):
        out["omit_zero"] = True
    if key := node.get("x-kubernetes-patch-merge-key"):
        out["merge_key"] = key
    if strategy := node.get("x-kubernetes-patch-strategy"):
        out["merge_strategy"] = tuple(strategy.split(","))
    return out

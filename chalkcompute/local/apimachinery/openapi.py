"""OpenAPI v3 documents of the served groups: what `kubectl explain`, `apply` and `diff` read.

Source: GET /openapi/v3/apis/<group>/<version> of an API server.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from chalkcompute.local.apimachinery.definitions import definitions
from chalkcompute.local.apimachinery.kinds import KINDS, Kind

__all__ = ["openapi_v3"]

_PREFIX = "#/components/schemas/"
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_OBJECT_META = "ObjectMeta"
_QUANTITY = {"oneOf": [{"type": "string"}, {"type": "number"}]}
_INT_OR_STRING = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
_OWN = ("x-omit-zero",)  # ours, not Kubernetes's


@functools.cache
def openapi_v3(group_version: str) -> dict[str, Any]:
    """The document of `v1` or `apps/v1`; empty when nothing of it is served. Do not change it."""
    group, _, version = group_version.rpartition("/")
    kinds = [kind for kind in KINDS if kind.group == group and version in kind.versions]
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for kind in kinds:
        name = _schema_name(kind, version)
        schemas[name] = {
            **_root(kind, version, schemas),
            "x-kubernetes-group-version-kind": [_gvk(kind, version)],
        }
        schemas[f"{name}List"] = _list(kind, version, name)
        paths.update(_paths(kind, version, name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _gvk(kind: Kind, version: str) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": version}


def _schema_name(kind: Kind, version: str) -> str:
    if kind.custom:
        return ".".join([*reversed(kind.group.split(".")), version, kind.kind])
    return _type_name(kind.kind)


def _type_name(short: str) -> str:
    return f"io.k8s.api.{short}"


def _root(kind: Kind, version: str, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind.custom:
        node = definitions("custom")["kinds"][f"{kind.group}/{version}/{kind.kind}"]
        meta = {"metadata": {"$ref": _OBJECT_META, "default": {}}}
        return _expanded({**node, "properties": {**node["properties"], **meta}}, schemas)
    name = definitions("kubernetes")["kinds"][f"{kind.api_version}/{kind.kind}"]
    return _expanded(definitions("kubernetes")["types"][name], schemas)


def _expanded(node: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A compact schema as OpenAPI; the types that it refers to are added to `schemas`."""
    if node.get("type") == "quantity":
        return dict(_QUANTITY)
    if node.get("type") == "int-or-string":
        return dict(_INT_OR_STRING)
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in _OWN:
            continue
        if key == "$ref":
            reference = {"$ref": _PREFIX + _referred(value, schemas)}
            if len(node) == 1:
                out.update(reference)
            else:
                out["allOf"] = [reference]
        elif key == "properties":
            out[key] = {name: _expanded(child, schemas) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _expanded(value, schemas)
        else:
            out[key] = value
    return out


def _referred(short: str, schemas: dict[str, Any]) -> str:
    name = _type_name(short)
    if name not in schemas:
        schemas[name] = {}  # a placeholder, so that a type may refer to itself
        schemas[name] = _expanded(definitions("kubernetes")["types"][short], schemas)
    return name


def _list(kind: Kind, version: str, name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": _PREFIX + name}},
        },
        "x-kubernetes-group-version-kind": [{**_gvk(kind, version), "kind": f"{kind.kind}List"}],
    }


def _paths(kind: Kind, version: str, name: str) -> dict[str, Any]:
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    if kind.namespaced:
        base += "/namespaces/{namespace}"
    collection, one = f"{base}/{kind.plural}", f"{base}/{kind.plural}/{{name}}"
    paths = {
        collection: {
            "get": _operation(kind, version, "list", f"{name}List"),
            "post": _operation(kind, version, "post", name, body=("*/*",), write=True),
        },
        one: {
            "get": _operation(kind, version, "get", name),
            "put": _operation(kind, version, "put", name, body=("*/*",), write=True),
            "patch": _operation(kind, version, "patch", name, body=_patch_types(kind), write=True),
            "delete": _operation(kind, version, "delete", name),
        },
    }
    if kind.status:
        patch = _operation(kind, version, "patch", name, body=_patch_types(kind), write=True)
        paths[f"{one}/status"] = {"get": _operation(kind, version, "get", name), "patch": patch}
    return paths


def _patch_types(kind: Kind) -> tuple[str, ...]:
    return tuple(name for name in _PATCH_TYPES if not (kind.custom and "strategic" in name))


def _operation(
    kind: Kind, version: str, action: str, name: str, *, body: tuple[str, ...] = (), write: bool = False
) -> dict[str, Any]:
    queries = ("dryRun", "fieldManager", "fieldValidation", *(("force",) if action == "patch" else ()))
    out: dict[str, Any] = {
        "tags": [f"{kind.group or 'core'}_{version}"],
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": _PREFIX + name}}},
            }
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind, version),
    }
    if write:
        out["parameters"] = [
            {
                "name": q,
                "in": "query",
                "schema": {"type": "boolean" if q == "force" else "string", "uniqueItems": True},
            }
            for q in queries
        ]
    if body:
        schema = {"type": "object"} if action == "patch" else {"$ref": _PREFIX + name}
        out["requestBody"] = {"content": {media: {"schema": schema} for media in body}, "required": True}
    return out

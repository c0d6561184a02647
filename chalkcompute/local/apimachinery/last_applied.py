"""The annotation of client-side `kubectl apply`, which server-side apply by kubectl honours.

Source: k8s.io/apimachinery `pkg/util/managedfields/internal/lastappliedmanager.go`, `lastappliedupdater.go`.
"""

from __future__ import annotations

import json
from typing import Any

from chalkcompute.local.apimachinery.fieldset import FieldSet
from chalkcompute.local.apimachinery.schema import Schema
from chalkcompute.local.apimachinery.typed import compare, field_set
from chalkcompute.local.apimachinery.typed_errors import typed_errors

__all__ = ["ANNOTATION", "KUBECTL", "last_applied_fields", "with_last_applied"]

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"  # the field manager of `kubectl apply --server-side`
_SIZE_MAX = 256 * 1024  # bytes: more than annotations may hold, then it is dropped


def last_applied_fields(schema: Schema, live: dict[str, Any]) -> FieldSet:
    """Fields that kubectl applied from the client's side and that still are as it left them."""
    text = _annotations(live).get(ANNOTATION)
    try:
        applied = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return frozenset()
    if not isinstance(applied, dict) or typed_errors(schema, applied):
        return frozenset()
    difference = compare(schema, applied, live)
    return field_set(schema, applied) - difference.modified - difference.added - difference.removed


def with_last_applied(obj: dict[str, Any], live: dict[str, Any], patch_obj: dict[str, Any]) -> dict[str, Any]:
    """`obj` whose annotation follows `patch_obj`, where the live object has one."""
    if ANNOTATION not in _annotations(live):
        return obj
    metadata = {k: v for k, v in patch_obj.get("metadata", {}).items() if k != "managedFields"}
    given = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != ANNOTATION}
    applied = {**patch_obj, "metadata": {**metadata, "annotations": given}}
    text = json.dumps(applied, separators=(",", ":"), sort_keys=True) + "\n"
    annotations = {k: v for k, v in _annotations(obj).items() if k != ANNOTATION}
    if len(text.encode()) <= _SIZE_MAX:
        annotations[ANNOTATION] = text
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _annotations(obj: dict[str, Any]) -> dict[str, Any]:
    annotations: dict[str, Any] = obj.get("metadata", {}).get("annotations") or {}
    return annotations

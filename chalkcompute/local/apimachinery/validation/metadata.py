"""Validity of `metadata`: names, labels, annotations, owners.

Source: k8s.io/apimachinery `pkg/api/validation/objectmeta.go`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.names import (
    dns_label_problem,
    dns_subdomain_problem,
    label_key_problem,
    label_value_problem,
)
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_labels", "check_metadata", "check_metadata_change"]

_ANNOTATIONS_MAX = 256 * 1024  # bytes, all keys and values together: TotalAnnotationSizeLimitB
_LABEL_NAMED = ("Namespace", "Service")  # these become DNS labels


def check_metadata(kind: Kind, metadata: dict[str, Any], problems: Problems) -> None:
    """A new or changed object's metadata."""
    name = metadata.get("name") or ""
    generated = metadata.get("generateName") or ""
    problem = dns_label_problem if kind.kind in _LABEL_NAMED else dns_subdomain_problem
    if generated:
        base = generated.removesuffix("-")
        problems.named("metadata.generateName", generated, problem(base) if base else None)
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    else:
        problems.named("metadata.name", name, problem(name))
    if kind.namespaced and not metadata.get("namespace"):
        problems.required("metadata.namespace")
    check_labels(metadata.get("labels") or {}, "metadata.labels", problems)
    _check_annotations(metadata.get("annotations") or {}, problems)
    _check_owners(metadata.get("ownerReferences") or [], problems)
    for index, finalizer in enumerate(metadata.get("finalizers") or []):
        field = f"metadata.finalizers[{index}]"
        problems.named(field, finalizer, label_key_problem(finalizer))


def check_metadata_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """What a change must leave alone."""
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        if new.get(field) != old.get(field):
            problems.invalid(f"metadata.{field}", new.get(field), "field is immutable")
    if old.get("deletionTimestamp"):
        before, after = set(old.get("finalizers") or []), set(new.get("finalizers") or [])
        if added := sorted(after - before):
            problems.forbidden(
                "metadata.finalizers",
                (
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"{added}"
                ),
            )


def check_labels(labels: dict[str, str], field: str, problems: Problems) -> None:
    """Label keys and values, wherever labels stand."""
    for key, value in labels.items():
        problems.named(field, key, label_key_problem(key))
        problems.named(field, value, label_value_problem(value))


def _check_annotations(annotations: dict[str, str], problems: Problems) -> None:
    for key in annotations:
        problems.named("metadata.annotations", key, label_key_problem(key.lower()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _ANNOTATIONS_MAX:
        problems.too_long("metadata.annotations", _ANNOTATIONS_MAX)


def _check_owners(owners: list[dict[str, Any]], problems: Problems) -> None:
    controllers = 0
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                problems.invalid(
                    f"metadata.ownerReferences[{index}].{field}",
                    owner.get(field) or "",
                    f"{field} must not be empty",
                )
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        problems.invalid(
            "metadata.ownerReferences", owners, "Only one reference can have Controller set to true"
        )

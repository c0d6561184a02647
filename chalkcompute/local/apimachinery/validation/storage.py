"""Validity of PersistentVolumeClaims."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_claim", "check_claim_change"]

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def check_claim(obj: dict[str, Any], problems: Problems) -> None:
    """Access modes and a requested size."""
    spec = obj.get("spec") or {}
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required("spec.accessModes", "at least 1 access mode is required")
    for index, mode in enumerate(modes):
        if mode not in _MODES:
            problems.unsupported(f"spec.accessModes[{index}]", mode, _MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        problems.forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes")
    size = _size(obj)
    if size is None:
        problems.required("spec.resources[storage]")
    elif parse_quantity(size) <= 0:
        problems.invalid("spec.resources[storage]", size, "must be greater than zero")
    if spec.get("volumeMode") not in (None, "Block", "Filesystem"):
        problems.unsupported("spec.volumeMode", spec["volumeMode"], ("Block", "Filesystem"))


def check_claim_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """A claim may only grow, once it is bound."""
    is_bound = (old.get("status") or {}).get("phase") == "Bound"
    capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage")
    size, size_before = _size(new), _size(old)
    spec, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    for fields in (spec, before):
        if is_bound:
            fields.pop("resources", None)
        fields.pop("volumeAttributesClassName", None)
    if not before.get("volumeName"):
        spec.pop("volumeName", None)
    if spec != before:
        problems.forbidden(
            "spec",
            (
                "spec is immutable after creation except resources.requests and "
                "volumeAttributesClassName for bound claims"
            ),
        )
    elif size and size_before and parse_quantity(size) < parse_quantity(size_before):
        # A growth that has not happened yet may be taken back.
        if capacity and parse_quantity(size) > parse_quantity(capacity):
            return
        problems.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def _size(claim: dict[str, Any]) -> str | None:
    """The size asked for."""
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return requests.get("storage")

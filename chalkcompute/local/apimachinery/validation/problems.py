"""Collecting what is wrong with an object, field by field, into one 422.

Source: k8s.io/apimachinery `pkg/util/validation/field/errors.go`.
"""

from __future__ import annotations

import json
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.status import Cause, StatusError

__all__ = ["Problems"]


class Problems:
    """The problems of one object, in the order found."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def invalid(self, field: str, value: Any, why: str) -> None:
        """The value is wrong."""
        self._add(field, f"Invalid value: {_shown(value)}: {why}", "FieldValueInvalid")

    def required(self, field: str, why: str = "") -> None:
        """There must be a value."""
        self._add(field, f"Required value: {why}" if why else "Required value", "FieldValueRequired")

    def forbidden(self, field: str, why: str) -> None:
        """There must be no such value, or no such change."""
        self._add(field, f"Forbidden: {why}", "FieldValueForbidden")

    def duplicate(self, field: str, value: Any) -> None:
        """The value occurs twice where it may once."""
        self._add(field, f"Duplicate value: {_shown(value)}", "FieldValueDuplicate")

    def unsupported(self, field: str, value: Any, supported: tuple[str, ...]) -> None:
        """The value is none of a closed list."""
        names = ", ".join(f'"{name}"' for name in sorted(supported))
        self._add(
            field, f"Unsupported value: {_shown(value)}: supported values: {names}", "FieldValueNotSupported"
        )

    def not_found(self, field: str, value: Any) -> None:
        """The value names something that is not there."""
        self._add(field, f"Not found: {_shown(value)}", "FieldValueNotFound")

    def too_long(self, field: str, limit: int) -> None:
        """There is too much of it, in bytes."""
        self._add(field, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")

    def too_many(self, field: str, count: int, limit: int) -> None:
        """There are too many items."""
        message = f"Too many: {count}: must have at most {limit} items"
        self._add(field, message, "FieldValueTooMany")

    def wrong_type(self, field: str, value: Any, wanted: str) -> None:
        """A custom object's value is of another type."""
        message = (
            f'Invalid value: "{_type_name(value)}": {field} in body must be of type {wanted}: '
            f'"{_type_name(value)}"'
        )
        self._add(field, message, "FieldValueTypeInvalid")

    def named(self, field: str, value: Any, why: str | None) -> None:
        """Shorthand: the value is wrong when `why` says so."""
        if why is not None:
            self.invalid(field, value, why)

    def raise_for(self, kind: Kind, obj: dict[str, Any]) -> None:
        """Raise the collected problems, if there are any.

        Raises:
            StatusError: 422 Invalid with a cause for each.
        """
        if not self.causes:
            return
        name = (obj.get("metadata") or {}).get("name") or ""
        parts = [f"{cause.field}: {cause.message}" for cause in self.causes]
        text = parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"
        details: dict[str, Any] = {"name": name} if name else {}
        if kind.group:
            details["group"] = kind.group
        details["kind"] = kind.kind
        message = f'{kind.qualified} "{name}" is invalid: {text}'
        raise StatusError(422, "Invalid", message, details=details, causes=self.causes)

    def _add(self, field: str, message: str, reason: str) -> None:
        cause = Cause(field, message, reason)
        if cause not in self.causes:
            self.causes.append(cause)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")

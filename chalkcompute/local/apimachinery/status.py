"""Kubernetes-shaped failures: the `Status` object that an API server answers with.

Source: k8s.io/apimachinery `meta/v1.Status` and `api/errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Cause", "StatusError"]


@dataclass(frozen=True, slots=True)
class Cause:
    """`StatusCause`: one field that is wrong.

    Attributes:
        field: Path of the field, `spec.ports[0].port`.
        message: What is wrong with it.
        reason: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueForbidden`,
            `FieldValueNotSupported`, `FieldValueDuplicate`, `FieldValueTooLong`,
            `FieldManagerConflict`, …
    """

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusError(Exception):
    """A failure with the HTTP code and the `Status` body that a client sees."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        causes: Iterable[Cause] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = tuple(causes)
        self.details = dict(details or {})

    def to_status(self) -> dict[str, Any]:
        """The `Status` object (v1)."""
        details = dict(self.details)
        if self.causes:
            details["causes"] = [
                {"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes
            ]
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:  # an internal error of the real server names none
            status["reason"] = self.reason
        if details:
            status["details"] = details
        return status

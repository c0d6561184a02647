"""From an answer of the API server to an error: one table, by `Status.reason`, else by HTTP code.

Source of the reasons: k8s.io/apimachinery `meta/v1.StatusReason`.
"""

from __future__ import annotations

import json
from typing import Any

from chalkcompute.errors import (
    ApiError,
    ForbiddenError,
    InvalidObjectError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    ServerBusyError,
    UnauthorizedError,
)

__all__ = ["BY_CODE", "BY_REASON", "api_error"]

BY_REASON: dict[str, type[ApiError]] = {
    "Unauthorized": UnauthorizedError,
    "Forbidden": ForbiddenError,
    "NotFound": ObjectNotFoundError,
    "AlreadyExists": ObjectExistsError,
    "Conflict": ObjectConflictError,
    "Gone": ObjectConflictError,
    "Expired": ObjectConflictError,
    "Invalid": InvalidObjectError,
    "BadRequest": InvalidObjectError,
    "NotAcceptable": InvalidObjectError,
    "UnsupportedMediaType": InvalidObjectError,
    "RequestEntityTooLarge": InvalidObjectError,
    "ServerTimeout": ServerBusyError,
    "Timeout": ServerBusyError,
    "TooManyRequests": ServerBusyError,
    "ServiceUnavailable": ServerBusyError,
    "MethodNotAllowed": ApiError,
    "StoreReadError": ApiError,
    "InternalError": ApiError,
}

BY_CODE: dict[int, type[ApiError]] = {
    400: InvalidObjectError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: ObjectNotFoundError,
    409: ObjectConflictError,
    410: ObjectConflictError,
    413: InvalidObjectError,
    415: InvalidObjectError,
    422: InvalidObjectError,
    429: ServerBusyError,
    502: ServerBusyError,
    503: ServerBusyError,
    504: ServerBusyError,
}

# Server-side apply answers 500 with no telling reason for an object that can never be accepted
# (unknown field, malformed quantity); these openings of its message are the only mark.
_APPLY_REFUSALS = ("failed to create typed patch object", "failed to convert new object")


def api_error(code: int, body: bytes | str | None, *, request: str) -> ApiError:
    """The error for an answer with HTTP `code` and `body`.

    Args:
        code: HTTP status code.
        body: A `Status` object as JSON, or whatever a proxy in between sent.
        request: What was asked, `get deployments hello in namespace default`; the message says
            it when the body does not.
    """
    status = _status_of(body)
    reason = _text(status.get("reason"))
    details = status.get("details")
    message = _text(status.get("message")).strip().rstrip(".")
    cls = BY_REASON.get(reason) or BY_CODE.get(code, ApiError)
    if code >= 500 and message.startswith(_APPLY_REFUSALS):
        cls = InvalidObjectError
    return cls(
        _compose(cls, code, message, request),
        status=code,
        reason=reason,
        details=details if isinstance(details, dict) else None,
        hint=_hint(cls, message),
    )


_HINTS: dict[type[ApiError], str] = {
    UnauthorizedError: "log in to the cluster again, or choose another context with `--context`",
    ForbiddenError: "ask whoever runs the cluster for that permission; "
    "docs/guides/real-cluster.md lists those needed",
    ServerBusyError: "try again in a moment",
}


def _hint(cls: type[ApiError], message: str) -> str | None:
    if cls is ForbiddenError and message and "cannot" not in message:
        return None  # admission refuses the object, and says why: no permission is missing
    return _HINTS.get(cls)


def _compose(cls: type[ApiError], code: int, message: str, request: str) -> str:
    if cls is UnauthorizedError:
        return f"the cluster refuses the credential (HTTP 401, {request}): it is missing, wrong or expired"
    if not message:
        return f"the API server answered HTTP {code} to `{request}`"
    # A refusal names verb, resource and namespace itself; anything terser gets them from us.
    if cls is ForbiddenError and "cannot" not in message:
        return f"{message} ({request})"
    return message


def _status_of(body: bytes | str | None) -> dict[str, Any]:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    try:
        status = json.loads(text)
    except ValueError:
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

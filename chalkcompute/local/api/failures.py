"""The refusals that every verb shares, worded and shaped as the API server's.

Source: k8s.io/apimachinery `api/errors` and k8s.io/apiserver `pkg/endpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.status import Cause, StatusError

__all__ = [
    "already_exists",
    "bad_request",
    "conflict",
    "forbidden",
    "invalid",
    "method_not_allowed",
    "not_acceptable",
    "not_found",
    "not_served",
    "precondition_failed",
    "refuse_all_but_reads",
    "unavailable",
    "unknown_resource",
]


def _details(kind: Kind, name: str) -> dict[str, Any]:
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}


def not_found(kind: Kind, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(404, "NotFound", f'{kind.resource} "{name}" not found', details=_details(kind, name))


def already_exists(kind: Kind, name: str) -> StatusError:
    """409: the name is taken."""
    return StatusError(
        409, "AlreadyExists", f'{kind.resource} "{name}" already exists', details=_details(kind, name)
    )


def conflict(kind: Kind, name: str, why: str = "") -> StatusError:
    """409 for a stale resourceVersion, or for `why`."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}',
        details=_details(kind, name),
    )


def precondition_failed(kind: Kind, name: str, what: str, wanted: str, actual: str) -> StatusError:
    """409 for a delete whose uid or resourceVersion precondition does not hold."""
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {kind.kind} "{name}": the {what} in the precondition ({wanted}) '
        f"does not match the {what} in record ({actual}). "
        "The object might have been deleted and then recreated",
        details={"name": name, "kind": kind.kind},
    )


def forbidden(kind: Kind, name: str, why: str, *causes: Cause) -> StatusError:
    """403: admission refuses."""
    return StatusError(
        403,
        "Forbidden",
        f'{kind.resource} "{name}" is forbidden: {why}',
        details=_details(kind, name),
        causes=causes,
    )


def invalid(kind: str, group: str, name: str, *causes: Cause) -> StatusError:
    """422 with what is wrong, field by field."""
    listed = [f"{cause.field}: {cause.message}" for cause in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    qualified = f"{kind}.{group}" if group else kind
    return StatusError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {text}',
        details={**({"name": name} if name else {}), **({"group": group} if group else {}), "kind": kind},
        causes=causes,
    )


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def not_served(resource: str, instead: str) -> StatusError:
    """Part of Kubernetes, but not of this cluster."""
    return StatusError(404, "NotFound", f"{resource} is not served by the local cluster: {instead}")


def unknown_resource() -> StatusError:
    """404: the API group is served, the resource is not."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> StatusError:
    """405."""
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def refuse_all_but_reads(method: str, query: Mapping[str, str]) -> None:
    """What is made when it is asked for can be neither written nor watched.

    Raises:
        StatusError: 405.
    """
    if method not in ("GET", "HEAD") or query.get("watch") in ("true", "1"):
        raise method_not_allowed()


def not_acceptable() -> StatusError:
    """406: none of the forms that the client accepts."""
    return StatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/json;stream=watch",
    )


def unavailable() -> StatusError:
    """503: an API group whose server does not answer."""
    return StatusError(503, "ServiceUnavailable", "the server is currently unable to handle the request")

"""The table from answers of the API server to errors."""

import json

import pytest

from chalkcompute import errors
from chalkcompute.cluster.reasons import BY_CODE, BY_REASON, api_error

# Every constant of k8s.io/apimachinery meta/v1 `StatusReason`, 1.36, but for StatusReasonUnknown ("").
STATUS_REASONS = {
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InternalError",
    "Expired",
    "ServiceUnavailable",
}


def status(code: int, reason: str, message: str = "no", **details: object) -> bytes:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return json.dumps(body).encode()


def test_the_table_knows_every_reason() -> None:
    assert set(BY_REASON) == STATUS_REASONS


def test_every_answer_of_the_api_has_a_class_that_is_used() -> None:
    used = {*BY_REASON.values(), *BY_CODE.values()}
    declared = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ApiError)
    }
    assert used == declared


@pytest.mark.parametrize("as_text", [False, True])
def test_reason_wins_over_code(as_text: bool) -> None:
    body = status(409, "AlreadyExists")
    error = api_error(409, body.decode() if as_text else body, request="create")
    assert type(error) is errors.ObjectExistsError
    assert (error.status, error.reason, error.exit_code) == (409, "AlreadyExists", 5)


@pytest.mark.parametrize(
    "body", [b"<html>bad gateway</html>", b"", None, b"[1]", b'{"kind": "Pod"}', b"\xff"]
)
@pytest.mark.parametrize("code", [*BY_CODE, 418, 500])
def test_an_answer_of_a_proxy_goes_by_its_code_and_says_what_was_asked(code: int, body: bytes | None) -> None:
    error = api_error(code, body, request="list pods in namespace `x`")
    assert type(error) is BY_CODE.get(code, errors.ApiError)
    assert "list pods in namespace `x`" in error.message


@pytest.mark.parametrize(
    "opening", ["failed to create typed patch object (default/x; apps/v1)", "failed to convert new object"]
)
def test_server_side_apply_reports_a_bad_object_as_500(opening: str) -> None:
    error = api_error(500, status(500, "", f"{opening}: .spec.oops: field not declared"), request="apply")
    assert type(error) is errors.InvalidObjectError


def test_a_missing_permission_names_verb_resource_and_namespace() -> None:
    message = (
        'configmaps is forbidden: User "ann" cannot list resource "configmaps" in API group "" in the '
        'namespace "default"'
    )
    error = api_error(403, status(403, "Forbidden", message, kind="configmaps"), request="list configmaps")
    assert error.message == message
    assert error.details["kind"] == "configmaps"
    terse = api_error(403, status(403, "Forbidden", "Forbidden"), request="list configmaps in namespace `x`")
    assert "list configmaps in namespace `x`" in terse.message


def test_a_refused_credential_is_said_in_our_words() -> None:
    error = api_error(401, status(401, "Unauthorized", "Unauthorized"), request="get pods")
    assert "credential" in error.message
    assert error.hint is not None


def test_only_a_missing_permission_is_advised_to_be_asked_for() -> None:
    rbac = 'pods is forbidden: User "ann" cannot list resource "pods" in API group ""'
    ending = (
        'configmaps "x" is forbidden: unable to create new content in namespace t: it is being terminated'
    )
    asked = {
        text: api_error(403, status(403, "Forbidden", text), request="r").hint for text in (rbac, ending, "")
    }
    assert "permission" in (asked[rbac] or "")
    assert "permission" in (asked[""] or "")
    assert asked[ending] is None

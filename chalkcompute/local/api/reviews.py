"""Access reviews: whoever holds the token may do everything, and is told so."""

from __future__ import annotations

from chalkcompute.local.api.failures import bad_request
from chalkcompute.local.ports import Manifest

__all__ = ["review"]

_USER = {"username": "chalk-local-admin", "groups": ["system:masters", "system:authenticated"]}
_EVERYTHING = {
    "incomplete": False,
    "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "resourceRules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
}


def review(kind: str, api_version: str, body: object) -> Manifest:
    """The answered review.

    Raises:
        StatusError: 400 BadRequest when the body is no review of that kind.
    """
    if not isinstance(body, dict) or body.get("kind", kind) != kind:
        raise bad_request(f"the object provided is unrecognized (must be of type {kind})")
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request(f"{kind}.spec must be an object")
    metadata = body.get("metadata") or {}
    answer: Manifest = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    if kind == "SelfSubjectReview":
        return answer | {"status": {"userInfo": dict(_USER)}}
    if kind == "SelfSubjectRulesReview":
        return answer | {"spec": spec, "status": _EVERYTHING}
    if bool(spec.get("resourceAttributes")) == bool(spec.get("nonResourceAttributes")):
        raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    return answer | {"spec": spec, "status": {"allowed": True}}

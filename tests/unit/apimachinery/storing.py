"""Objects as an API server would store them, and what it refuses them for."""

from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.strategy import prepare_create
from chalkcompute.local.apimachinery.validation import validate_create


def stored(body: dict[str, Any]) -> dict[str, Any]:
    """The object as it would be stored, validated."""
    kind = by_kind(body["kind"])
    obj, _ = decode(kind, body)
    if kind.namespaced:
        obj["metadata"]["namespace"] = "ns"
    obj = prepare_create(kind, default(kind, obj))
    validate_create(kind, obj)
    return obj


def causes(body: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(StatusError) as refused:
        stored(body)
    assert refused.value.code == 422
    return [(cause.field, cause.reason.removeprefix("FieldValue")) for cause in refused.value.causes]

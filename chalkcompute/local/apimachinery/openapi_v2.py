"""As much of OpenAPI v2 as kubectl before 1.29 asks for: which query parameters a PATCH takes.

Those clients read `/openapi/v2` in protobuf only, to learn whether the server knows `dryRun` and
`fieldValidation`; without an answer neither `apply` nor `diff` works. The schemas are in OpenAPI v3.

Source: the field numbers of google/gnostic `openapiv2/OpenAPIv2.proto`; `HasSupport` of
k8s.io/cli-runtime `pkg/resource/query_param_verifier.go`.
"""

from __future__ import annotations

import functools
import json

from chalkcompute.local.apimachinery.kinds import KINDS, Kind

__all__ = ["ASKED_TYPE", "MEDIA_TYPE", "openapi_v2"]

ASKED_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What clients send as `Accept`. It is no valid media type, so the answer's is another."""

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_QUERIES = ("dryRun", "fieldManager", "fieldValidation", "force")


@functools.cache
def openapi_v2() -> bytes:
    """The `openapi.v2.Document`."""
    paths = b"".join(_field(2, _path(kind, version)) for kind in KINDS for version in kind.versions)
    info = _field(1, "Kubernetes") + _field(2, "v1.36")
    return _field(1, "2.0") + _field(2, info) + _field(8, paths)


def _path(kind: Kind, version: str) -> bytes:
    """A `NamedPathItem` with nothing but its PATCH."""
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    namespace = "/namespaces/{namespace}" if kind.namespaced else ""
    gvk = json.dumps({"group": kind.group, "kind": kind.kind, "version": version})
    extension = _field(1, "x-kubernetes-group-version-kind") + _field(2, _field(2, gvk))
    parameters = b"".join(_field(8, _query_parameter(name)) for name in _QUERIES)
    item = _field(8, parameters + _field(13, extension))
    return _field(1, f"{base}{namespace}/{kind.plural}/{{name}}") + _field(2, item)


def _query_parameter(name: str) -> bytes:
    """`ParametersItem` > `Parameter` > `NonBodyParameter` > `QueryParameterSubSchema`."""
    return _field(1, _field(2, _field(3, _field(2, "query") + _field(4, name))))


def _field(number: int, value: bytes | str) -> bytes:
    """A length-delimited field."""
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

"""The protobuf bodies that `kubectl create`, `kubectl auth` and other typed clients send.

Only what those commands write is understood; a message with any other field set is refused rather
than read in part. Answers are always JSON, which every client accepts.

Source: the field numbers of k8s.io/api and k8s.io/apimachinery `generated.proto`, and the envelope of
`pkg/runtime/serializer/protobuf`.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.api.failures import bad_request
from chalkcompute.local.apimachinery.status import StatusError

__all__ = ["MEDIA_TYPE", "decode_protobuf"]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_CONTINUES, _PAYLOAD = 0x80, 0x7F

# Field number, JSON name, type. Types: s string, i integer, b boolean, y bytes, or a message; a capital
# letter keeps a zero (the field is a pointer in Go), `*` repeats, `{}` is a map with string keys.
_MESSAGES = {
    "ObjectMeta": "1 name s, 2 generateName s, 3 namespace s, 5 uid s, 6 resourceVersion s, 7 generation i, "
    "8 creationTimestamp Time, 11 labels {}s, 12 annotations {}s, 14 finalizers *s",
    "ConfigMap": "1 metadata ObjectMeta, 2 data {}s, 3 binaryData {}y, 4 immutable B",
    "Secret": "1 metadata ObjectMeta, 2 data {}y, 3 type s, 4 stringData {}s, 5 immutable B",
    "Namespace": "1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status NamespaceStatus",
    "NamespaceSpec": "1 finalizers *s",
    "NamespaceStatus": "1 phase s",
    "ServiceAccount": "1 metadata ObjectMeta",
    "Service": "1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status ServiceStatus",
    "ServiceStatus": "1 loadBalancer Empty",
    "Empty": "",
    "ServiceSpec": "1 ports *ServicePort, 2 selector {}s, 3 clusterIP s, 4 type s, 5 externalIPs *s, "
    "7 sessionAffinity s, 10 externalName s, 11 externalTrafficPolicy s",
    "ServicePort": "1 name s, 2 protocol s, 3 port i, 4 targetPort IntOrString, 5 nodePort i, "
    "6 appProtocol S",
    "Deployment": "1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status Empty",
    "DeploymentSpec": "1 replicas I, 2 selector LabelSelector, 3 template PodTemplateSpec, "
    "4 strategy DeploymentStrategy, 5 minReadySeconds i, 6 revisionHistoryLimit I, 7 paused b, "
    "9 progressDeadlineSeconds I",
    "DeploymentStrategy": "1 type s, 2 rollingUpdate RollingUpdate",
    "RollingUpdate": "1 maxUnavailable IntOrString, 2 maxSurge IntOrString",
    "LabelSelector": "1 matchLabels {}s, 2 matchExpressions *LabelSelectorRequirement",
    "LabelSelectorRequirement": "1 key s, 2 operator s, 3 values *s",
    "PodTemplateSpec": "1 metadata ObjectMeta, 2 spec PodSpec",
    "Pod": "1 metadata ObjectMeta, 2 spec PodSpec, 3 status Empty",
    "PodSpec": "2 containers *Container, 3 restartPolicy s, 4 terminationGracePeriodSeconds I, "
    "6 dnsPolicy s, 7 nodeSelector {}s, 8 serviceAccountName s",
    "Container": "1 name s, 2 image s, 3 command *s, 4 args *s, 5 workingDir s, 6 ports *ContainerPort, "
    "7 env *EnvVar, 8 resources Resources, 13 terminationMessagePath s, 14 imagePullPolicy s, "
    "16 stdin b, 17 stdinOnce b, 18 tty b, 20 terminationMessagePolicy s",
    "ContainerPort": "1 name s, 2 hostPort i, 3 containerPort i, 4 protocol s, 5 hostIP s",
    "EnvVar": "1 name s, 2 value s",
    "Resources": "1 limits {}Quantity, 2 requests {}Quantity",
    "SelfSubjectAccessReview": "1 metadata ObjectMeta, 2 spec AccessSpec, 3 status Empty",
    "AccessSpec": "1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes NonResourceAttributes",
    "ResourceAttributes": "1 namespace s, 2 verb s, 3 group s, 4 version s, 5 resource s, 6 subresource s, "
    "7 name s",
    "NonResourceAttributes": "1 path s, 2 verb s",
    "SelfSubjectRulesReview": "1 metadata ObjectMeta, 2 spec RulesSpec, 3 status Empty",
    "RulesSpec": "1 namespace s",
    "SelfSubjectReview": "1 metadata ObjectMeta, 2 status Empty",
    "DeleteOptions": "1 gracePeriodSeconds I, 2 preconditions Preconditions, 3 orphanDependents B, "
    "4 propagationPolicy S, 5 dryRun *s",
    "Preconditions": "1 uid S, 2 resourceVersion S",
    "Eviction": "1 metadata ObjectMeta, 2 deleteOptions DeleteOptions",
}
_INT_OR_STRING = {1: "type", 2: "intVal", 3: "strVal"}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: str
    repeated: bool
    mapped: bool


@functools.cache
def _fields(message: str) -> dict[int, _Field]:
    fields = {}
    for entry in filter(None, _MESSAGES[message].split(", ")):
        number, name, type_ = entry.split()
        fields[int(number)] = _Field(
            name, type_.removeprefix("*").removeprefix("{}"), type_.startswith("*"), type_.startswith("{}")
        )
    return fields


def decode_protobuf(raw: bytes) -> dict[str, Any]:
    """The object in a protobuf body, as JSON-like data.

    Raises:
        StatusError: 400 for bytes that are no such message, 415 for one with fields or of a kind that
            is not understood.
    """
    if not raw.startswith(_MAGIC):
        raise bad_request("the body is not a Kubernetes protobuf message: its first four bytes are others")
    try:
        envelope = dict(_wire(raw[len(_MAGIC) :]))
        type_meta = dict(_wire(_bytes(envelope.get(1, b""))))
        api_version, kind = _bytes(type_meta.get(1, b"")).decode(), _bytes(type_meta.get(2, b"")).decode()
        if kind not in _MESSAGES:
            raise _not_understood(f"kind `{kind}`")
        return {"apiVersion": api_version, "kind": kind, **_message(kind, _bytes(envelope.get(2, b"")))}
    except (IndexError, UnicodeDecodeError, TypeError) as exc:
        raise bad_request(
            "the body is not a Kubernetes protobuf message: it is cut off or malformed"
        ) from exc


def _not_understood(what: str) -> StatusError:
    return StatusError(
        415, "UnsupportedMediaType", f"{what} is not understood in protobuf here: send application/json"
    )


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError
    return value


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == _LENGTH:
            length, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise IndexError
        if position + length > len(data):
            raise IndexError
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & _PAYLOAD) << shift
        shift += 7
        if not byte & _CONTINUES:
            return value, position


def _message(message: str, data: bytes) -> dict[str, Any]:
    fields, result = _fields(message), dict[str, Any]()
    for number, raw in _wire(data):
        field = fields.get(number)
        if field is None:
            # Go writes the zeros of plain fields too; they say nothing.
            if raw in (0, b"") or _empty(raw):
                continue
            raise _not_understood(f"field {number} of {message}")
        if field.mapped:
            entry = dict(_wire(_bytes(raw)))
            key = _bytes(entry.get(1, b"")).decode()
            result.setdefault(field.name, {})[key] = _value(field.type, entry.get(2, b""))
        elif field.repeated:
            result.setdefault(field.name, []).append(_value(field.type, raw))
        else:
            value = _value(field.type, raw)
            if field.type in ("S", "I", "B") or value not in ("", 0, None):
                result[field.name] = value
    return result


def _empty(raw: int | bytes) -> bool:
    """Whether a message holds nothing but zeros."""
    try:
        return isinstance(raw, bytes) and all(value in (0, b"") for _, value in _wire(raw))
    except IndexError:
        return False


def _value(type_: str, raw: int | bytes) -> Any:
    if type_ in ("i", "I", "b", "B"):
        number = raw if isinstance(raw, int) else 0
        signed = number - (1 << 64) if number >= 1 << 63 else number
        return bool(number) if type_ in ("b", "B") else signed
    data = _bytes(raw)
    if type_ in ("s", "S"):
        return data.decode()
    if type_ == "y":
        return base64.b64encode(data).decode()
    if type_ == "Quantity":
        return _bytes(dict(_wire(data)).get(1, b"")).decode()
    if type_ == "Time":
        return None  # only the server sets times in what clients create
    if type_ == "IntOrString":
        parts = {_INT_OR_STRING[number]: value for number, value in _wire(data) if number in _INT_OR_STRING}
        return _bytes(parts.get("strVal", b"")).decode() if parts.get("type") else parts.get("intVal", 0)
    return _message(type_, data)

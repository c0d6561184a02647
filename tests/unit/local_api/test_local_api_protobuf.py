"""Bodies in the shape in which typed Go clients such as `kubectl create` write them."""

from __future__ import annotations

import pytest

from chalkcompute.local.api.protobuf import decode_protobuf
from chalkcompute.local.apimachinery.status import StatusError


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\x00" + field(1, meta) + field(2, raw) + field(3, b"") + field(4, b"")


# What Go writes for an ObjectMeta with only a name: its other plain fields are there, empty.
NAMED = field(1, b"a") + field(2, b"") + field(3, b"") + field(4, b"") + field(5, b"") + field(8, b"")


def test_config_map() -> None:
    raw = (
        field(1, NAMED)
        + field(2, field(1, b"k") + field(2, b"v"))
        + field(3, field(1, b"b") + field(2, b"\0"))
    )
    assert decode_protobuf(envelope("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"k": "v"},
        "binaryData": {"b": "AA=="},
    }


def test_pointers_keep_their_zeros_and_plain_fields_do_not() -> None:
    port = field(3, 8080) + field(2, 0)
    container = (
        field(1, b"app") + field(6, port) + field(8, field(1, field(1, b"cpu") + field(2, field(1, b"1"))))
    )
    template = field(2, field(2, container))
    rolling = field(1, field(1, 1) + field(2, 0) + field(3, b"25%")) + field(2, field(1, 0) + field(2, 3))
    spec = field(1, 0) + field(3, template) + field(4, field(2, rolling)) + field(5, 0)
    decoded = decode_protobuf(envelope("apps/v1", "Deployment", field(2, spec)))
    assert decoded["spec"] == {
        "replicas": 0,
        "template": {
            "spec": {
                "containers": [
                    {"name": "app", "ports": [{"containerPort": 8080}], "resources": {"limits": {"cpu": "1"}}}
                ]
            }
        },
        "strategy": {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 3}},
    }


def test_negative_numbers() -> None:
    raw = field(1, (1 << 64) - 1)
    assert decode_protobuf(envelope("v1", "DeleteOptions", raw))["gracePeriodSeconds"] == -1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (b"k8s\x00\x0a\xff", 400),
        (envelope("v1", "ConfigMap", b"\x0a\x7f"), 400),
        (envelope("v1", "ConfigMap", b"\x0b"), 400),
        (envelope("v1", "Unheard", b""), 415),
        (envelope("v1", "ConfigMap", field(9, b"new")), 415),
        (envelope("v1", "ConfigMap", field(9, 1)), 415),
    ],
)
def test_refusals(body: bytes, code: int) -> None:
    with pytest.raises(StatusError) as failure:
        decode_protobuf(body)
    assert failure.value.code == code


def test_unknown_fields_that_say_nothing_are_passed_over() -> None:
    raw = field(1, NAMED) + field(9, 0) + field(10, b"") + field(11, field(1, b"") + field(2, 0))
    assert decode_protobuf(envelope("v1", "ConfigMap", raw))["metadata"] == {"name": "a"}

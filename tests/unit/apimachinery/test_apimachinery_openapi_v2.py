"""The protobuf document that old kubectl reads, taken apart by field number."""

from __future__ import annotations

from collections.abc import Iterator

from chalkcompute.local.apimachinery.kinds import KINDS
from chalkcompute.local.apimachinery.openapi_v2 import openapi_v2


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields (wire type 2), the only ones there are."""

    def varint() -> int:
        nonlocal message
        value = shift = 0
        while True:
            byte, message = message[0], message[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while message:
        key, size = varint(), varint()
        assert key & 7 == 2
        yield key >> 3, message[:size]
        message = message[size:]


def inside(message: bytes, *path: int) -> list[bytes]:
    """Every value at a path of field numbers."""
    found = [message]
    for number in path:
        found = [value for one in found for n, value in fields(one) if n == number]
    return found


def test_every_patch_says_its_kind_and_its_parameters() -> None:
    items = inside(openapi_v2(), 8, 2)
    assert len(items) == sum(len(kind.versions) for kind in KINDS)
    by_path = {inside(item, 1)[0].decode(): item for item in items}
    deployment = by_path["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    (patch,) = inside(deployment, 2, 8)
    assert inside(patch, 13, 1) == [b"x-kubernetes-group-version-kind"]
    assert inside(patch, 13, 2, 2) == [b'{"group": "apps", "kind": "Deployment", "version": "v1"}']
    names = [value.decode() for value in inside(patch, 8, 1, 2, 3, 4)]
    assert names == ["dryRun", "fieldManager", "fieldValidation", "force"]
    assert "/api/v1/nodes/{name}" in by_path

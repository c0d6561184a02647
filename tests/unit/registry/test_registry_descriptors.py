"""Manifests, and the choice of a platform."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalkcompute.errors import ImageNotFoundError, RegistryError
from chalkcompute.registry import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    choose_platform,
    digest_of,
    parse_descriptor,
)
from chalkcompute.registry.descriptors import parse_manifest


def index(*platforms: str) -> dict[str, Any]:
    def entry(platform: str) -> dict[str, Any]:
        names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        return {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(platform.encode()),
            "size": 7,
            "platform": names,
            "annotations": {"of": platform},
        }

    return {"schemaVersion": 2, "manifests": [entry(platform) for platform in platforms]}


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/aarch64", ["linux/amd64", "linux/arm64"], "linux/arm64"),
        ("linux/x86_64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("linux/amd64/v3", ["linux/amd64"], "linux/amd64"),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
    ],
)
def test_the_platform_that_fits(wanted: str, there: list[str], chosen: str) -> None:
    found = choose_platform(index(*there), wanted)
    assert found.annotations == {"of": chosen}
    assert found.platform == chosen


def test_a_platform_that_is_not_there() -> None:
    body = index("linux/arm64", "linux/amd64", "unknown/unknown")
    with pytest.raises(ImageNotFoundError) as none:
        choose_platform(body, "linux/s390x")
    assert str(none.value) == "the image has nothing for `linux/s390x`; it has `linux/amd64`, `linux/arm64`"
    with pytest.raises(ImageNotFoundError, match="it has no platform at all"):
        choose_platform({"manifests": []}, "linux/amd64")
    with pytest.raises(ImageNotFoundError, match=r"it has `linux/arm/v7`"):
        choose_platform(index("linux/arm/v7"), "linux/arm/v6")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"mediaType": "a/b", "digest": "sha256:1", "size": 1},
        {"mediaType": "a/b", "digest": digest_of(b""), "size": -1},
        {"mediaType": "a/b", "digest": digest_of(b""), "size": "1"},
        {"mediaType": 1, "digest": digest_of(b""), "size": 1},
    ],
)
def test_what_is_no_descriptor(value: object) -> None:
    with pytest.raises(RegistryError, match="the index has"):
        parse_descriptor(value, "the index")


@pytest.mark.parametrize(
    ("body", "content_type", "media_type"),
    [
        ({"mediaType": OCI_MANIFEST, "layers": []}, "text/plain; charset=utf-8", OCI_MANIFEST),
        ({"layers": []}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({"manifests": []}, DOCKER_INDEX, DOCKER_INDEX),
        ({"manifests": []}, "application/json", OCI_INDEX),
        ({"layers": []}, "", OCI_MANIFEST),
        ({"x": 1}, "application/vnd.other+json", "application/vnd.other+json"),
    ],
)
def test_the_media_type_of_a_manifest(body: dict[str, Any], content_type: str, media_type: str) -> None:
    assert parse_manifest(json.dumps(body).encode(), content_type, "it") == (body, media_type)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<html>", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"schemaVersion":1}', "schema 1"),
        (b'{"manifests":[],"layers":[]}', "an image and an index at once"),
        (json.dumps({"mediaType": OCI_INDEX, "layers": []}).encode(), "and is not"),
    ],
)
def test_what_is_no_manifest(raw: bytes, why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        parse_manifest(raw, OCI_MANIFEST, "manifest `v1`")

"""Configurations of bases that are none: an error that says so, whatever a registry serves."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from chalkcompute.build.base import Place, read_image
from chalkcompute.errors import RegistryError
from chalkcompute.registry import OCI_MANIFEST, Descriptor, FetchedManifest, Registry

DIGEST = f"sha256:{'0' * 64}"
SIGN = {"mediaType": "x", "digest": DIGEST, "size": 1}


class Served:
    """A registry that has one blob."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def read_blob(self, *_: Any, **__: Any) -> bytes:
        return self._blob


@pytest.mark.parametrize(
    "config",
    [
        [],
        "text",
        {"rootfs": {"diff_ids": 1}},
        {"rootfs": []},
        {"rootfs": {"diff_ids": [1]}},
        {"rootfs": {"diff_ids": ["a"]}, "config": ["Env"]},
        {"rootfs": {"diff_ids": ["a"]}, "config": {"Env": 7}},
        {"rootfs": {"diff_ids": ["a"]}, "config": {"Env": [7]}},
        {"rootfs": {"diff_ids": ["a"]}, "config": {"Env": "A=1"}},
        {"rootfs": {"diff_ids": ["a"]}, "config": {"Labels": ["a"]}},
    ],
)
def test_what_is_no_configuration(config: Any) -> None:
    place = Place(cast(Registry, Served(json.dumps(config).encode())), "base", None, True)
    raw = json.dumps({"config": SIGN, "layers": [SIGN]}).encode()
    manifest = FetchedManifest(Descriptor(OCI_MANIFEST, DIGEST, len(raw)), raw)
    with pytest.raises(RegistryError, match="not that of a container image"):
        read_image(place, manifest, "linux/amd64", "base:1")

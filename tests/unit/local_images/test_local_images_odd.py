"""Manifests and configurations of other registries that are none: a pull that fails, and never more."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import ImageNotFoundError
from chalkcompute.local.ports import ImagePullError
from chalkcompute.registry import OCI_INDEX, OCI_MANIFEST, Descriptor, FetchedManifest, digest_of
from tests.properties import examples
from tests.unit.local_images.conftest import Cluster, Image, encoded

ODD = [None, 0, 1.5, True, "", "text", [], ["text"], [None], {}, {"a": 1}, -1]


class Odd:
    """A registry that serves one manifest, whatever is asked for."""

    def __init__(self, raw: bytes, media_type: str, config: bytes) -> None:
        self.raw, self.media_type, self.config = raw, media_type, config

    def resolve(self, _repository: str, _reference: str) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))

    def manifest(self, repository: str, reference: str) -> FetchedManifest:
        return FetchedManifest(self.resolve(repository, reference), self.raw)

    def download_blob(self, repository: str, digest: str, size: int, into: Path, **_: Any) -> None:
        del repository, size
        for blob in (Image().layer, self.config):
            if digest_of(blob) == digest:
                into.write_bytes(blob)
                return
        raise ImageNotFoundError(f"no `{digest}`", status=404)

    def close(self) -> None:
        pass


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a document."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            found += places(value[key], (*path, key))
    return found


def changed(document: Any, path: tuple[Any, ...], odd: Any) -> Any:
    made = copy.deepcopy(document)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = odd
    return made


CONFIG = {**json.loads(Image().config), "config": {"Cmd": ["/greeting"], "Labels": {"a": "b"}}}


def manifest_of(config: bytes) -> dict[str, Any]:
    return {**json.loads(Image().manifest), "config": Image.descriptor("config.v1+json", config)}


INDEX = {
    "schemaVersion": 2,
    "manifests": [
        {**Image.descriptor("manifest.v1+json", b"x"), "platform": {"os": "linux", "architecture": "amd64"}}
    ],
}
PLACES = [
    *(("config", path) for path in places(CONFIG)),
    *(("manifest", path) for path in places(manifest_of(b""))),
    *(("index", path) for path in places(INDEX)),
]


@given(where=st.sampled_from(PLACES), odd=st.sampled_from(ODD))
@examples(120)
def test_whatever_is_odd_fails_as_a_pull(
    tmp_path_factory: pytest.TempPathFactory, where: tuple[str, tuple[Any, ...]], odd: Any
) -> None:
    part, path = where
    config = encoded(changed(CONFIG, path, odd) if part == "config" else CONFIG)
    manifest = manifest_of(config)
    media_type = OCI_MANIFEST
    if part == "manifest":
        manifest = changed(manifest, path, odd)
    elif part == "index":
        manifest, media_type = changed(INDEX, path, odd), OCI_INDEX
    upstream = Odd(encoded(manifest), media_type, config)
    cluster = Cluster(tmp_path_factory.mktemp("odd") / "images", lambda _: upstream)
    try:
        cluster.run(cluster.images.pull("registry.example/odd:1"))
    except ImagePullError:
        pass
    finally:
        cluster.close()

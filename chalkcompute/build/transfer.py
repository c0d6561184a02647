"""Blobs and manifests of a build on their way to the target registry."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from chalkcompute.build.base import Base
from chalkcompute.build.compose import Composed
from chalkcompute.build.layers import Layer
from chalkcompute.build.progress import Meter, Say
from chalkcompute.registry import Descriptor, Registry, digest_of

__all__ = ["fetch_layer", "locked", "push_image", "transfer_base"]

_AT_ONCE = 4


def transfer_base(base: Base, target: Registry, repository: str, cache: Path, say: Say) -> None:
    """Have the layers of the base in `repository`: mounted where the registry does that, or else copied."""
    place = base.place
    layers = list({layer.digest: layer for image in base.images for layer in image.layers}.values())

    def is_missing(layer: Descriptor) -> bool:
        if place.is_target and place.repository == repository:
            return False
        if target.has_blob(repository, layer.digest):
            return False
        return not (place.is_target and target.mount_blob(repository, layer.digest, place.repository))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        missing = [layer for layer, gone in zip(layers, pool.map(is_missing, layers), strict=True) if gone]
    for layer in missing:
        path = fetch_layer(base, layer, cache, say)
        meter = Meter("pushing base layer", layer.size, say)
        target.push_blob(repository, layer.digest, layer.size, path, on_bytes=meter)
        path.unlink(missing_ok=True)  # the registry has it from now on


def fetch_layer(base: Base, layer: Descriptor, cache: Path, say: Say) -> Path:
    """A layer of the base as a file in `cache`; goes on where an earlier download stopped."""
    path = cache / "blobs" / layer.digest.replace(":", "-")
    with locked(path):
        if not path.exists():
            place = base.place
            place.registry.download_blob(
                place.repository,
                layer.digest,
                layer.size,
                path,
                namespace=place.namespace,
                on_bytes=Meter("fetching base layer", layer.size, say),
            )
    return path


def push_image(
    target: Registry, repository: str, image: Composed, layers: Sequence[Layer], scratch: Path, say: Say
) -> None:
    """Layers first, the manifest last and by its digest: nobody sees an image that is not whole."""
    for layer in layers:
        meter = Meter("pushing layer", layer.size, say)
        target.push_blob(repository, layer.digest, layer.size, layer.path, on_bytes=meter)
    handle, name = tempfile.mkstemp(dir=scratch)
    with os.fdopen(handle, "wb") as stream:
        stream.write(image.config)
    target.push_blob(repository, digest_of(image.config), len(image.config), Path(name))
    target.push_manifest(repository, image.digest, image.media_type, image.manifest)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time makes `path`; its folder comes to be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield

"""Blobs and manifests of a build on their way to the target registry."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from chalkcompute.build.base import Base, BaseImage
from chalkcompute.build.compose import Composed
from chalkcompute.build.layers import Layer
from chalkcompute.build.progress import Meter, Say
from chalkcompute.registry import Descriptor, Registry, digest_of, file_matches, parse_descriptor

__all__ = ["fetched_layer", "locked", "push_base_image", "push_image", "transfer_base"]

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
        with fetched_layer(base, layer, cache, say) as path:
            meter = Meter("pushing base layer", layer.size, say)
            target.push_blob(repository, layer.digest, layer.size, path, on_bytes=meter)
            path.unlink()  # the registry has it from now on


@contextmanager
def fetched_layer(base: Base, layer: Descriptor, cache: Path, say: Say) -> Iterator[Path]:
    """A layer of the base as a file in `cache`; goes on where an earlier download stopped.

    Until it is left no other build has it: whoever has pushed it removes it.
    """
    path = cache / "blobs" / layer.digest.replace(":", "-")
    with locked(path, say):
        if not path.exists() or not file_matches(path, layer.digest):
            place = base.place
            place.registry.download_blob(
                place.repository,
                layer.digest,
                layer.size,
                path,
                namespace=place.namespace,
                on_bytes=Meter("fetching base layer", layer.size, say),
            )
        yield path


def push_image(
    target: Registry, repository: str, image: Composed, layers: Sequence[Layer], scratch: Path, say: Say
) -> None:
    """Layers first, the manifest last and by its digest: nobody sees an image that is not whole."""
    for layer in layers:
        meter = Meter("pushing layer", layer.size, say)
        target.push_blob(repository, layer.digest, layer.size, layer.path, on_bytes=meter)
    push_bytes(target, repository, image.config, scratch)
    target.push_manifest(repository, image.digest, image.media_type, image.manifest)


def push_base_image(base: Base, image: BaseImage, target: Registry, repository: str, scratch: Path) -> None:
    """The base itself, whose layers are in `repository` already, so that an engine can start from there."""
    config = parse_descriptor(json.loads(image.raw)["config"], "the manifest of the base")
    raw = base.place.registry.read_blob(
        base.place.repository, config.digest, limit=config.size, namespace=base.place.namespace
    )
    push_bytes(target, repository, raw, scratch)
    target.push_manifest(repository, image.digest, image.media_type, image.raw)


def push_bytes(target: Registry, repository: str, blob: bytes, scratch: Path) -> None:
    """A small blob."""
    handle, name = tempfile.mkstemp(dir=scratch)
    with os.fdopen(handle, "wb") as stream:
        stream.write(blob)
    target.push_blob(repository, digest_of(blob), len(blob), Path(name))


@contextmanager
def locked(path: Path, say: Say) -> Iterator[None]:
    """One process at a time makes `path`; its folder comes to be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build that makes the same layer")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield

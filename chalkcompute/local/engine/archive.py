"""An image as `docker save` writes one, so that an engine can load it without pulling.

So the credentials, the authority of the registry and the cache stay those of the local cluster, and podman
needs no `registries.conf` to take images from a registry without TLS.

Source: the Docker image specification, version 1.2 ("Combined Image JSON + Filesystem Changeset Format").
"""

from __future__ import annotations

import contextlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from chalkcompute.local.ports import ImageLayer, PulledImage

__all__ = ["archive_chunks"]

_CHUNK = 1024 * 1024
_ZSTD = b"\x28\xb5\x2f\xfd"


def archive_chunks(pulled: PulledImage, tag: str) -> Iterator[bytes]:
    """The archive, piece by piece.

    Args:
        pulled: The image.
        tag: Name that it is to have in the engine.

    Raises:
        OSError: A layer cannot be read.
        zstandard.ZstdError: A layer is broken.
    """
    # Written anew, so that the engine's image id is another one; the tag tells which image it is.
    config = json.dumps(pulled.config).encode()
    yield from _member("config.json", config)
    names = []
    for number, layer in enumerate(pulled.layers):
        names.append(f"{number}/layer.tar")
        with _readable(layer) as (file, size):
            yield _header(names[-1], size)
            while chunk := file.read(_CHUNK):
                yield chunk
            yield _padding(size)
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": names}]
    yield from _member("manifest.json", json.dumps(manifest).encode())
    yield bytes(2 * tarfile.BLOCKSIZE)


@contextlib.contextmanager
def _readable(layer: ImageLayer) -> Iterator[tuple[BinaryIO, int]]:
    """A layer as every engine reads it, and its size: docker and podman know gzip, older ones no zstd."""
    with layer.path.open("rb") as blob:
        compressed = blob.read(len(_ZSTD)) == _ZSTD
        blob.seek(0)
        if not compressed:
            yield blob, layer.path.stat().st_size
            return
        with tempfile.TemporaryFile() as plain:
            with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as reader:
                while chunk := reader.read(_CHUNK):
                    plain.write(chunk)
            size = plain.tell()
            plain.seek(0)
            yield plain, size


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)

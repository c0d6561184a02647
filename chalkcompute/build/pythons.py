"""Which Python an image has, and where its packages go."""

from __future__ import annotations

import gzip
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from chalkcompute.build.base import BaseImage
from chalkcompute.errors import ImageBuildError
from chalkcompute.registry import Descriptor

__all__ = ["ImagePython", "find_python"]

Fetch = Callable[[Descriptor], AbstractContextManager[Path]]

_VERSION = re.compile(r"(3\.\d+)(?:\.\d+\S*)?")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OFFICIAL = ("/usr/local/bin", "/usr/local/sbin")
# How a history says which libc it is, lowest layer first. Wolfi (made by `apko`) has `apk` too, and glibc.
_LIBC = re.compile(r"(?P<musl>alpine-minirootfs|\bapk add\b)|debian\.sh|\bapt-get\b|\bapko\b")
_INTERPRETER = re.compile(r"(?P<folder>.*)/python(?P<version>3\.\d+)")


@dataclass(frozen=True, slots=True)
class ImagePython:
    """The Python of an image.

    Attributes:
        version: `3.12`.
        site: Absolute path of its site-packages.
        prefix: Absolute path above `bin`, `share` and so on.
        is_musl: Whether the image has musl rather than glibc (Alpine).
    """

    version: str
    site: str
    prefix: str
    is_musl: bool = False

    @property
    def scripts(self) -> str:
        """Where commands go."""
        return posixpath.join(self.prefix, "bin")


def find_python(base: BaseImage, name: str, fetch: Fetch) -> ImagePython:
    """The Python of the base: the first on its `PATH`.

    Of official images, and others made from them, `PYTHON_VERSION` says it, unless another folder comes
    first on the `PATH`: a virtual environment there has site-packages of its own.

    Args:
        base: The image.
        name: Its reference, for messages and, where its history does not say, for whether it is an Alpine.
        fetch: Downloads a layer; only asked when the configuration does not say.

    Raises:
        ImageBuildError: It has no Python 3, or a layer cannot be read.
    """
    environment = base.environment
    path = environment.get("PATH", _PATH)
    said = _VERSION.fullmatch(environment.get("PYTHON_VERSION", ""))
    official = None
    if said:
        site = f"/usr/local/lib/python{said[1]}/site-packages"
        official = ImagePython(said[1], site, "/usr/local", is_musl=_is_musl(base, name))
        if path.split(":")[0].rstrip("/") in _OFFICIAL:
            return official
    files: set[str] = set()
    for layer in base.layers:
        with fetch(layer) as file:
            files.update(_names(file, layer))
    found = _among(files, path)
    if found is None or (official is not None and found.prefix == official.prefix):
        found = official
    if found is None:
        raise ImageBuildError(
            f"the base `{name}` has no Python 3, so no packages can be installed into it",
            hint="take one that has: `Image.debian_slim()`, or `python:3.12`",
        )
    return found


def _is_musl(base: BaseImage, name: str) -> bool:
    """By the history, as an image made from an Alpine one need not say so in its name."""
    history = base.config.get("history")
    for entry in history if isinstance(history, list) else ():
        said = _LIBC.search(str(entry.get("created_by", ""))) if isinstance(entry, dict) else None
        if said:
            return said["musl"] is not None
    return "alpine" in name


def _among(files: set[str], path: str) -> ImagePython | None:
    found: dict[str, list[str]] = {}
    for file in files:
        match = _INTERPRETER.fullmatch(file)
        if match:
            found.setdefault(match["folder"], []).append(match["version"])
    folders = [folder.rstrip("/") for folder in path.split(":")]
    for folder in folders:
        # `/bin` is a link to `/usr/bin` nowadays, and the files are listed there.
        versions = found.get(folder) or (found.get("/usr" + folder) if folder == "/bin" else None)
        if versions:
            version = max(versions, key=lambda text: int(text.split(".")[1]))
            return _placed(version, folder, files)
    return None


def _placed(version: str, folder: str, files: set[str]) -> ImagePython:
    prefix = posixpath.dirname(folder)
    is_musl = "/etc/alpine-release" in files
    if prefix not in ("/usr", "/"):
        return ImagePython(version, f"{prefix}/lib/python{version}/site-packages", prefix, is_musl)
    if "/etc/debian_version" in files:  # what pip uses there; `/usr/lib/python3` is apt's
        return ImagePython(version, f"/usr/local/lib/python{version}/dist-packages", "/usr/local")
    if is_musl:
        return ImagePython(version, f"/usr/lib/python{version}/site-packages", "/usr", is_musl)
    return ImagePython(version, f"/usr/local/lib/python{version}/site-packages", "/usr/local")


def _names(path: Path, layer: Descriptor) -> Iterator[str]:
    """Absolute paths of what a layer has."""
    try:
        with (
            path.open("rb") as stream,
            _unpacked(stream, layer.media_type) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for member in tar:
                yield "/" + posixpath.normpath(member.name).lstrip("/")
    except ImportError:
        raise ImageBuildError(
            f"the layer `{layer.digest}` is compressed with zstd, which cannot be read here",
            hint="install `chalk-scaling-groups[local]`",
        ) from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ImageBuildError(f"the layer `{layer.digest}` cannot be read: {error}") from None


def _unpacked(stream: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith("zstd"):
        import zstandard

        reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        return reader
    if media_type.endswith("gzip"):
        return cast("IO[bytes]", gzip.open(stream))
    return stream

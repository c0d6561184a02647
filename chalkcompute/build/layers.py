"""Layers: the same files give the same bytes, whoever packs them and wherever, by the same zlib.

Other implementations (zlib-ng, which some distributions have in its place) compress otherwise: there the
`diff_id` is the same, and the digest of the file another.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import tarfile
import tempfile
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from chalkcompute.errors import ImageBuildError
from chalkcompute.registry import file_matches
from chalkcompute.sources import SourceSet

__all__ = ["Entry", "Layer", "cached_layer", "save_layer", "source_entries", "write_layer"]

# 1980-01-01, where ZIP's time begins: with 1970 whoever zips files of the image gets an error.
_MTIME = 315_532_800
_LEVEL = 4  # of the CPU time of 6 half, for one twentieth more bytes (benchmarks/image_build.py)
_PIECE = 4 << 20  # compressed apart, on as many cores as there are, as one gzip member each (RFC 1952, 2.2)

# Folders that every image has, with owners and modes of their own, or as links: they are never replaced.
_SYSTEM = frozenset(
    """
    bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var
    usr/bin usr/lib usr/lib64 usr/local usr/local/bin usr/local/lib usr/sbin usr/share
    var/cache var/lib var/lock var/log var/run var/tmp
    """.split()  # noqa: SIM905 -- one name a line would be a page
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder of a layer.

    Attributes:
        path: Absolute path in the image.
        mode: Permission bits.
        content: A file of this machine, or bytes; None is a folder.
        sha256: What the content must be, hexadecimal, or "" for whatever it is.
    """

    path: str
    mode: int
    content: Path | bytes | None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer on disk.

    Attributes:
        path: The file, `.tar.gz`.
        digest: Of the file.
        size: Its bytes.
        diff_id: Digest of the tar in it.
        made_by: How it came about, for the image's history.
    """

    path: Path
    digest: str
    size: int
    diff_id: str
    made_by: str


def source_entries(files: SourceSet) -> list[Entry]:
    """What a copied file or directory brings."""
    entries = [Entry(file.path, file.mode, file.source, file.sha256) for file in files.files]
    if files.is_directory:
        entries.append(Entry(files.destination, 0o755, None))
    return entries


def write_layer(entries: Iterable[Entry], into: Path, made_by: str, *, existing: Sequence[str] = ()) -> Layer:
    """Pack `entries` into a file.

    Args:
        entries: In any order.
        into: The file; it comes to be whole or not at all. Its folder must exist.
        made_by: For the history.
        existing: Absolute paths of folders that the image has, with their parents.

    Raises:
        ImageBuildError: A file is not what it was when it was looked at, or cannot be read.
        OSError: The layer cannot be written.
    """
    known = set(_SYSTEM)
    for folder in existing:
        known.update(_parents(folder.strip("/") + "/x"))
    handle, name = tempfile.mkstemp(dir=into.parent, prefix=into.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream, _Packed(stream) as packed:
            # PAX: names of any length, any character.
            with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for entry in _with_folders(entries, known):
                    _add(tar, entry)
            packed.finish()
            layer = Layer(into, packed.digest, packed.size, packed.diff_id, made_by)
        Path(name).replace(into)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return layer


def save_layer(layer: Layer) -> None:
    """Remember what `cached_layer` is to find."""
    facts = {key: value for key, value in asdict(layer).items() if key != "path"}
    path = layer.path.with_suffix(".json")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(facts, sort_keys=True))
    part.replace(path)


def cached_layer(path: Path) -> Layer | None:
    """The layer that an earlier build left at `path`, if it is whole: after a crash it may be damaged."""
    try:
        layer = Layer(path=path, **json.loads(path.with_suffix(".json").read_text()))
        whole = path.stat().st_size == layer.size and file_matches(path, layer.digest)
        return layer if whole else None
    except (OSError, ValueError, TypeError):
        return None


def _with_folders(entries: Iterable[Entry], known: set[str]) -> list[Entry]:
    """The entries in order of their paths, and the folders above them that the image may not have."""
    every = {entry.path.strip("/"): entry for entry in entries}
    for name, entry in list(every.items()):
        if name in known and entry.content is not None:
            raise ImageBuildError(
                f"`{entry.path}` is a folder of the image, and a file cannot be in its place",
                hint=f"name the file as well: `{entry.path}/…`",
            )
        for parent in _parents(name):
            if parent not in known and parent not in every:
                every[parent] = Entry("/" + parent, 0o755, None)
    return [every[name] for name in sorted(every) if name not in known]


def _parents(name: str) -> Iterable[str]:
    while name := posixpath.dirname(name):
        yield name


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path.strip("/"))
    info.mode, info.mtime = entry.mode, _MTIME
    if entry.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        return
    if isinstance(entry.content, bytes):
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))
        return
    changed = ImageBuildError(
        f"`{entry.content}` has changed while the image was being built", hint="build it again"
    )
    with _opened(entry.content) as stream:
        info.size = os.fstat(stream.fileno()).st_size
        hashed = _Hashed(stream, entry.content)
        try:
            tar.addfile(info, hashed)
        except OSError as error:
            if error.errno is None:  # `tarfile`: the file has become shorter
                raise changed from None
            raise  # the layer cannot be written
    if entry.sha256 and hashed.digest.hexdigest() != entry.sha256:
        raise changed


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise ImageBuildError(f"cannot read `{path}`: {error.strerror}") from None


class _Hashed(io.RawIOBase):
    """A file that knows the hash of what was read of it."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path = stream, path
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            piece = self._stream.read(size)
        except OSError as error:
            raise ImageBuildError(f"cannot read `{self._path}`: {error.strerror}") from None
        self.digest.update(piece)
        return piece


class _Packed(io.RawIOBase):
    """Takes a tar, writes it compressed, and knows the digests of both."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._buffer = bytearray()
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._waiting: deque[Future[bytes]] = deque()
        self._most = 2 * (os.cpu_count() or 1)
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._plain.update(piece)
        self._buffer += piece
        while len(self._buffer) >= _PIECE:
            self._waiting.append(self._pool.submit(_gzip_member, bytes(self._buffer[:_PIECE])))
            del self._buffer[:_PIECE]
            if len(self._waiting) > self._most:
                self._emit()
        return len(piece)

    def finish(self) -> None:
        """Write what is left; the digests are right from here on."""
        if self._buffer:
            self._waiting.append(self._pool.submit(_gzip_member, bytes(self._buffer)))
        while self._waiting:
            self._emit()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _emit(self) -> None:
        member = self._waiting.popleft().result()
        self._packed.update(member)
        self.size += len(member)
        self._stream.write(member)

    @property
    def digest(self) -> str:
        return f"sha256:{self._packed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._plain.hexdigest()}"


def _gzip_member(data: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
    trailer = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return header + packer.compress(data) + packer.flush() + trailer

"""The content store: blobs by digest, and which manifests and tags each repository has.

    blobs/sha256/<hex>                      every blob, manifests too
    sources/<hex>                           where a blob that is not here yet can be fetched (JSON)
    repositories/<host>/<name>/_manifests/<hex>   media type of a manifest of this repository
    repositories/<host>/<name>/_tags/<tag>        digest
    staging/                                uploads and downloads that are not whole yet

Names of repositories cannot begin with `_`, so nothing clashes. Every file is written beside its place,
brought to the disk and renamed: after a crash each is whole or absent. A blob's own digest proves it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalkcompute.local.state import read_json, write_atomically
from chalkcompute.registry import digest_of

__all__ = ["OWN", "BlobSource", "ContentStore", "StoredManifest", "is_digest"]

OWN = "local"
"""Host under which what was pushed here is kept, whatever port the registry has just now."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1024 * 1024
_STAGING_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class BlobSource:
    """Where a blob can be fetched.

    Attributes:
        host: Registry, as in an image reference.
        repository: Repository there.
        size: Bytes.
    """

    host: str
    repository: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest or an index.

    Attributes:
        digest: Of `raw`.
        media_type: As it was pushed or fetched.
        raw: The very bytes.
    """

    digest: str
    media_type: str
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        """Parsed; {} when it is no JSON object."""
        try:
            parsed = json.loads(self.raw)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Descriptors of its configuration and layers, the lowest first; {} where something else is."""
        body = self.body
        layers = body.get("layers")
        listed = [body.get("config"), *(layers if isinstance(layers, list) else ())]
        return [part if isinstance(part, dict) else {} for part in listed]


def is_digest(text: str) -> bool:
    """Whether this is a digest of the one kind that is kept here, SHA-256."""
    return _DIGEST.fullmatch(text) is not None


class ContentStore:
    """Images on disk. Safe to use from several threads of one process."""

    def __init__(self, folder: Path) -> None:
        """Open the store; what earlier uploads left unfinished a day ago is removed.

        Args:
            folder: Where it is, made if need be.
        """
        self._blobs = folder / "blobs" / "sha256"
        self._sources = folder / "sources"
        self._repositories = folder / "repositories"
        self.staging = folder / "staging"
        self._verified: dict[str, tuple[int, int, int]] = {}
        for path in (self._blobs, self._sources, self._repositories, self.staging):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = time.time() - _STAGING_SECONDS
        for path in self.staging.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
        for path in self._blobs.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    # Blobs ----------------------------------------------------------------------------------

    def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob that is here, whole or not; None where it is not."""
        try:
            return self._blob(digest).stat().st_size
        except FileNotFoundError:
            return None

    def blob(self, digest: str) -> Path | None:
        """A blob's file, verified; None where there is none.

        A file whose content is not what its name says is removed. A file is read once: until it changes, it
        is known to be good.
        """
        path = self._blob(digest)
        try:
            found = path.stat()
            state = (found.st_ino, found.st_size, found.st_mtime_ns)
            if self._verified.get(digest) == state:
                return path
            if _digest_of_file(path) == digest:
                self._verified[digest] = state
                return path
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return None

    def put_blob(self, data: bytes) -> str:
        """Keep some bytes; returns their digest."""
        digest = digest_of(data)
        if self.blob(digest) is None:
            write_atomically(self._blob(digest), data, durable=True)
        return digest

    def adopt(self, path: Path, digest: str) -> bool:
        """Make a file of the staging folder the blob of this digest.

        Returns:
            False when its content is another; it is then removed.
        """
        if _digest_of_file(path) != digest:
            path.unlink()
            return False
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(self._blob(digest))
        return True

    def source(self, digest: str) -> BlobSource | None:
        """Where a blob can be fetched, as a manifest that was passed through said."""
        data = read_json(self._sources / _hex(digest))
        try:
            return BlobSource(str(data["host"]), str(data["repository"]), int(data["size"]))
        except (KeyError, TypeError, ValueError):
            return None

    # Manifests ------------------------------------------------------------------------------

    def put_manifest(
        self,
        host: str,
        repository: str,
        raw: bytes,
        media_type: str,
        *,
        tag: str | None = None,
        remember_sources: bool = False,
    ) -> StoredManifest:
        """Keep a manifest of a repository.

        Args:
            host: Registry that the repository is of, `OWN` for what was pushed here.
            repository: Repository.
            raw: The manifest.
            media_type: What it is.
            tag: Tag that is to name it.
            remember_sources: Whether the blobs that it names can be fetched from that repository.
        """
        digest = self.put_blob(raw)
        manifest = StoredManifest(digest, media_type, raw)
        folder = self._repository(host, repository)
        record = folder / "_manifests" / _hex(digest)
        if not record.exists():
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(record, media_type, durable=True)
        if remember_sources:
            self._remember_sources(host, repository, manifest)
        if tag is not None:
            self.tag(host, repository, tag, digest)
        return manifest

    def tag(self, host: str, repository: str, tag: str, digest: str) -> None:
        """Let a tag name a manifest."""
        path = self._repository(host, repository) / "_tags" / tag
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, digest, durable=True)

    def tagged(self, host: str, repository: str, tag: str) -> str | None:
        """The digest that a tag names, or None."""
        try:
            digest = (self._repository(host, repository) / "_tags" / tag).read_text().strip()
        except (OSError, UnicodeError):
            return None
        return digest if is_digest(digest) else None

    def manifest(self, host: str, repository: str, reference: str) -> StoredManifest | None:
        """A manifest by tag or digest; None where the repository has none, or a damaged one."""
        digest = reference if is_digest(reference) else self.tagged(host, repository, reference)
        if digest is None:
            return None
        record = self._repository(host, repository) / "_manifests" / _hex(digest)
        path = self.blob(digest) if record.exists() else None
        if path is None:
            return None
        return StoredManifest(digest, record.read_text(), path.read_bytes())

    def tags(self, host: str, repository: str) -> list[str] | None:
        """All tags in order; None for a repository that does not exist."""
        folder = self._repository(host, repository)
        if not (folder / "_manifests").is_dir():
            return None
        # What a crash left beside a tag begins with a dot, which no tag does.
        names = [path.name for path in (folder / "_tags").glob("*") if not path.name.startswith(".")]
        return sorted(names)

    def _remember_sources(self, host: str, repository: str, manifest: StoredManifest) -> None:
        for part in manifest.parts:
            digest, size = part.get("digest"), part.get("size")
            if not isinstance(digest, str) or not is_digest(digest):
                continue
            if not isinstance(size, int) or size < 0:
                continue
            text = json.dumps({"host": host, "repository": repository, "size": size})
            write_atomically(self._sources / _hex(digest), text)

    def _blob(self, digest: str) -> Path:
        return self._blobs / _hex(digest)

    def _repository(self, host: str, repository: str) -> Path:
        return self._repositories / urllib.parse.quote(host, safe="") / repository


def _hex(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"`{digest}` is no SHA-256 digest")
    return digest.partition(":")[2]


def _digest_of_file(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return f"sha256:{checksum.hexdigest()}"

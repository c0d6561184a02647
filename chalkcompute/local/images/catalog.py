"""Every image that can be had here: pushed to this cluster, of other registries, or stood in for."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalkcompute.errors import ImageNotFoundError, RegistryError
from chalkcompute.local.images.hostbase import StandIn, is_official_python, put_host_base
from chalkcompute.local.images.passthrough import TAG_SECONDS, Passthrough, is_unreachable
from chalkcompute.local.images.store import OWN, ContentStore, StoredManifest, is_digest
from chalkcompute.local.ports import ImagePullError
from chalkcompute.local.runtime.images import ImageReference
from chalkcompute.local.state import write_atomically

__all__ = ["Catalog", "Found", "OwnHosts"]

_log = logging.getLogger(__name__)


class OwnHosts:
    """Which hosts of image references mean this cluster's registry: every port that it ever had."""

    def __init__(self, path: Path, port: int) -> None:
        """Read the earlier ports and remember this one.

        Args:
            path: The file that they are in.
            port: Port of this run.
        """
        self.port = port
        self._earlier = _read_ports(path) - {port}
        if port not in _read_ports(path):
            write_atomically(path, json.dumps(sorted(self._earlier | {port})))

    @property
    def name(self) -> str:
        """Host to write into references: `localhost:5005`."""
        return f"localhost:{self.port}"

    def are_now(self, host: str) -> bool:
        """Whether this host is the registry of this run."""
        return _port(host) == self.port

    def were_once(self, host: str) -> bool:
        """Whether this host was the registry, of this run or of an earlier one."""
        return _port(host) in self._earlier | {self.port}


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest, and what to say about it."""

    manifest: StoredManifest
    warning: str | None = None


class Catalog:
    """Finds manifests and blobs."""

    def __init__(
        self, store: ContentStore, passthrough: Passthrough, own: OwnHosts, host_base: StandIn | None
    ) -> None:
        self.store = store
        self.own = own
        self._passthrough = passthrough
        self._host_base = host_base

    async def manifest(
        self, host: str, repository: str, reference: str, *, max_age: float = TAG_SECONDS
    ) -> Found:
        """A manifest by tag or digest.

        Args:
            host: Registry as in an image reference.
            repository: Repository there.
            reference: Tag or digest.
            max_age: Seconds for which a tag of another registry is taken as known.

        Raises:
            RegistryError: It cannot be had; a status of 404 where there is none.
        """
        if self.own.were_once(host):
            found = self.store.manifest(OWN, repository, reference)
            if found is not None:
                return Found(found)
            if self.own.are_now(host):
                raise ImageNotFoundError(
                    f"`{host}` has no `{repository}` `{reference}`", status=404, code="MANIFEST_UNKNOWN"
                )
            # Another registry may have the port now.
        try:
            return Found(await self._passthrough.manifest(host, repository, reference, max_age=max_age))
        except RegistryError as error:
            stand_in = await self.stand_in(host, repository, reference, error)
            if stand_in is None:
                raise
            return stand_in

    async def blob(self, digest: str) -> Path | None:
        """A blob's file, verified; None where there is none.

        Raises:
            RegistryError: It is of another registry and cannot be fetched.
        """
        return await self._passthrough.blob(digest)

    def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob that is here or can be fetched, else None."""
        size = self.store.blob_size(digest)
        if size is None:
            source = self.store.source(digest)
            size = None if source is None else source.size
        return size

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a manifest of a repository of this cluster may name this blob."""
        del repository  # blobs are shared by all: there is one user
        return self.blob_size(digest) is not None

    def has_own_manifest(self, repository: str, digest: str) -> bool:
        """Whether a repository of this cluster has this manifest."""
        return self.store.manifest(OWN, repository, digest) is not None

    async def stand_in(
        self, host: str, repository: str, reference: str, error: RegistryError
    ) -> Found | None:
        """The host base for an official `python` image that cannot be fetched, or None.

        Args:
            host: Registry.
            repository: Repository there.
            reference: Tag or digest.
            error: Why it cannot be fetched: only that there is no answer counts.
        """
        if self._host_base is None or not is_unreachable(error) or not is_official_python(host, repository):
            return None
        exact = is_digest(reference)
        asked = ImageReference(host, repository, None if exact else reference, reference if exact else None)
        with contextlib.suppress(ImagePullError):  # no such Python here: why it was not fetched says more
            interpreter, warning = await self._host_base.resolve(asked, str(asked))
            manifest = put_host_base(self.store, asked, interpreter.version)
            # Not in the warning: what runs on it later says the same words, and users read them once.
            _log.info("%s is stood in for: %s", asked, error.message)
            return Found(manifest, warning)
        return None


def _read_ports(path: Path) -> set[int]:
    try:
        ports: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return set()
    return {port for port in ports if isinstance(port, int)} if isinstance(ports, list) else set()


def _port(host: str) -> int | None:
    name, _, port = host.rpartition(":")
    return int(port) if name in ("localhost", "127.0.0.1") and port.isdecimal() else None

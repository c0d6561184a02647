"""`ports.Images`: pulls for the kubelet, with the words of containerd and the kubelet for what fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from chalkcompute.errors import RegistryError
from chalkcompute.local.images.catalog import Catalog, Found
from chalkcompute.local.images.hostbase import ASKED_LABEL, LABEL, StandIn, machine_architecture
from chalkcompute.local.images.passthrough import is_unreachable
from chalkcompute.local.images.store import OWN, StoredManifest, is_digest
from chalkcompute.local.ports import ImageLayer, ImagePullError, PulledImage
from chalkcompute.local.runtime.images import ImageReference, parse_reference
from chalkcompute.registry import INDEX_TYPES, MANIFEST_TYPES, choose_platform

__all__ = ["LocalImages"]

# Seconds for which a tag is taken as known; an answer of this very moment is not for `Always`.
_MAX_AGE = {"Always": -1.0, "IfNotPresent": float("inf")}


class LocalImages:
    """Implements `ports.Images`."""

    def __init__(self, catalog: Catalog, host_base: StandIn | None) -> None:
        self._catalog = catalog
        self._host_base = host_base

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> PulledImage:
        reference = parse_reference(image)
        if policy == "Never" and not self._is_present(reference):
            raise ImagePullError(
                f'Container image "{image}" is not present with pull policy of Never',
                reason="ErrImageNeverPull",
            )
        try:
            return await self._pulled(reference, policy)
        except OSError as error:  # the disk is full: the next try may find room
            raise _failed(reference, f"failed to copy: {error.strerror or error}") from error

    async def _pulled(self, reference: ImageReference, policy: str) -> PulledImage:
        """As `pull`.

        Raises:
            ImagePullError: It cannot be had.
            OSError: It cannot be kept.
        """
        try:
            found = await self._catalog.manifest(
                reference.domain,
                reference.path,
                reference.digest or reference.tag or "latest",
                max_age=_MAX_AGE.get(policy, float("inf")),
            )
        except RegistryError as error:
            raise _unresolved(reference, error) from error
        try:
            return await self._whole(reference, found)
        except RegistryError as error:
            stand_in = await self._catalog.stand_in(
                reference.domain, reference.path, reference.digest or reference.tag or "latest", error
            )
            if stand_in is None:
                raise _failed(reference, f"failed to copy: {_why(error)}") from error
            return await self._whole(reference, stand_in)

    async def _whole(self, reference: ImageReference, found: Found) -> PulledImage:
        """All parts of an image.

        Raises:
            RegistryError: One cannot be fetched.
            ImagePullError: One does not exist, or is no part of an image.
        """
        manifest = await self._of_this_machine(reference, found.manifest)
        described = manifest.parts
        digests = [str(part.get("digest")) for part in described]
        if manifest.media_type not in MANIFEST_TYPES or not all(map(is_digest, digests)):
            raise _failed(reference, f"unsupported manifest media type {manifest.media_type or '(none)'}")
        paths = await asyncio.gather(*(self._catalog.blob(digest) for digest in digests))
        present = [path for path in paths if path is not None]
        if len(present) < len(paths):
            digest = digests[paths.index(None)]
            raise _failed(reference, f"failed to copy: content {digest}: not found")
        config = _parsed(present[0].read_bytes())
        diff_ids = _mapping(config.get("rootfs")).get("diff_ids")
        if not isinstance(diff_ids, list) or len(diff_ids) != len(paths) - 1:
            raise _failed(reference, "mismatched image rootfs and manifest layers")
        layers = [
            ImageLayer(digest, str(diff_id), str(part.get("mediaType") or ""), path)
            for digest, diff_id, part, path in zip(
                digests[1:], diff_ids, described[1:], present[1:], strict=True
            )
        ]
        named = _mapping(_mapping(config.get("config")).get("Labels"))
        labels = {name: text for name, text in named.items() if isinstance(text, str)}
        host_base = labels.get(LABEL)
        warning = found.warning
        if host_base is not None and warning is None:
            warning = await self._warning(labels)
        pinned = f"{reference.domain}/{reference.path}@{found.manifest.digest}"
        return PulledImage(digests[0], pinned, config, tuple(layers), warning, host_base)

    async def _of_this_machine(self, reference: ImageReference, manifest: StoredManifest) -> StoredManifest:
        """The manifest itself, or of an index the one for this machine."""
        if manifest.media_type not in INDEX_TYPES:
            return manifest
        try:
            chosen = choose_platform(manifest.body, f"linux/{machine_architecture()}")
        except RegistryError as error:
            raise _failed(reference, "no match for platform in manifest: not found") from error
        found = await self._catalog.manifest(reference.domain, reference.path, chosen.digest)
        return found.manifest

    async def _warning(self, labels: Mapping[str, str]) -> str | None:
        """What to say of an image that was built on the host base earlier, maybe elsewhere."""
        if self._host_base is None:
            return None
        asked = labels.get(ASKED_LABEL) or "docker.io/library/python:latest"
        _, warning = await self._host_base.resolve(parse_reference(asked), asked)
        return warning

    def _is_present(self, reference: ImageReference) -> bool:
        store, own = self._catalog.store, self._catalog.own.were_once(reference.domain)
        host = OWN if own else reference.domain
        manifest = store.manifest(host, reference.path, reference.digest or reference.tag or "latest")
        if manifest is not None and manifest.media_type in INDEX_TYPES:
            try:
                chosen = choose_platform(manifest.body, f"linux/{machine_architecture()}")
            except RegistryError:
                return False
            manifest = store.manifest(host, reference.path, chosen.digest)
        if manifest is None:
            return False
        digests = [str(part.get("digest")) for part in manifest.parts]
        return all(is_digest(digest) and store.blob_size(digest) is not None for digest in digests)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: object) -> dict[str, Any]:
    """An object of a document that a stranger wrote; {} where something else is."""
    return value if isinstance(value, dict) else {}


def _unresolved(reference: ImageReference, error: RegistryError) -> ImagePullError:
    if error.status == 404:
        why = f"{reference}: not found"
    elif error.status in (401, 403):
        why = (
            "pull access denied, repository does not exist or may require authorization: "
            f"server message: {error.message}"
        )
    elif error.status == 429:
        why = f"unexpected status code 429 Too Many Requests: toomanyrequests: {error.message}"
    else:
        why = _why(error)
    return _failed(reference, f'failed to resolve reference "{reference}": {why}')


def _why(error: RegistryError) -> str:
    return f"failed to do request: dial tcp: {error.message}" if is_unreachable(error) else error.message


def _failed(reference: ImageReference, why: str) -> ImagePullError:
    return ImagePullError(f'failed to pull and unpack image "{reference}": {why}')

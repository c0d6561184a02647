"""The image that a build starts from: where it is, and its manifest and configuration for each platform."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalkcompute.errors import RegistryError
from chalkcompute.registry import (
    Descriptor,
    FetchedManifest,
    ImageReference,
    Registry,
    choose_platform,
    parse_descriptor,
)

__all__ = ["Base", "BaseImage", "Place", "find_base", "read_image"]

_CONFIG_LIMIT = 8 << 20  # bytes; real ones have a few thousand


@dataclass(frozen=True, slots=True)
class Place:
    """Where the blobs of the base are.

    Attributes:
        registry: That serves them.
        repository: In which.
        namespace: The registry that `registry` passes through to, None when they are its own.
        is_target: Whether it is the registry that the build is pushed to, so that blobs can be mounted.
    """

    registry: Registry
    repository: str
    namespace: str | None
    is_target: bool


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The base for one platform.

    Attributes:
        platform: As it was asked for.
        digest: Of its manifest.
        media_type: Of its manifest.
        raw: The manifest's bytes.
        config_type: Media type of its configuration.
        config: The whole configuration document.
        layers: Lowest first.
    """

    platform: str
    digest: str
    media_type: str
    raw: bytes
    config_type: str
    config: dict[str, Any]
    layers: tuple[Descriptor, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What containers of it start with: `Env`, `User`, `WorkingDir`, `Labels` and so on."""
        return self.config.get("config") or {}

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables; of one that it has twice, the last."""
        return dict(item.split("=", 1) for item in self.settings.get("Env") or () if "=" in item)


@dataclass(frozen=True, slots=True)
class Base:
    """The base.

    Attributes:
        name: The reference in full.
        digest: Of what the reference names: an image, or the index of several platforms.
        place: Where its blobs are.
        images: By platform, in the order asked for.
        warnings: What the registry says about it.
    """

    name: str
    digest: str
    place: Place
    images: tuple[BaseImage, ...]
    warnings: tuple[str, ...]


def find_base(
    reference: ImageReference, own: Registry | None, target: Registry, platforms: Sequence[str]
) -> Base:
    """Find the base, by way of the target if that passes through to the base's own registry.

    When that registry is out of reach, a copy under the same name in the target is as good, with a warning.

    Args:
        reference: What it is.
        own: Its own registry, None when that is the target.
        target: The registry that the build is pushed to.
        platforms: That are needed.

    Raises:
        ImageNotFoundError: There is no such image, or not for a platform.
        RegistryError: A registry cannot be reached, or refuses us.
    """
    place, found = _locate(reference, own, target)
    images = []
    for platform in platforms:
        manifest = found
        if found.is_index:
            chosen = choose_platform(found.body, platform)
            manifest = place.registry.manifest(place.repository, chosen.digest, namespace=place.namespace)
        images.append(read_image(place, manifest, platform, str(reference)))
    return Base(str(reference), found.descriptor.digest, place, tuple(images), found.warnings)


def _locate(
    reference: ImageReference, own: Registry | None, target: Registry
) -> tuple[Place, FetchedManifest]:
    if own is None:
        return Place(target, reference.path, None, True), target.manifest(reference.path, reference.reference)
    found = None
    try:
        found = target.manifest(reference.path, reference.reference, namespace=reference.domain)
    except RegistryError as error:
        if error.status is None:  # nobody is there: no use to go on
            raise
    if found is not None and found.proxied_for == reference.domain:
        return Place(target, reference.path, reference.domain, True), found
    try:
        return Place(own, reference.path, None, False), own.manifest(reference.path, reference.reference)
    except RegistryError as error:
        if error.status is not None or error.code:
            raise
        if found is None:
            error.hint = (
                f"{error.hint or 'see to the connection'}; or push a copy of `{reference.path}` to "
                f"`{target.host}` under the same name: it is used when `{reference.domain}` is out of reach"
            )
            raise
        # As with a mirror: the same repository of the registry that the image goes to.
        warning = f"{error.message}: its copy in `{target.host}` is used for `{reference}`"
        return Place(target, reference.path, None, True), replace(found, warnings=(*found.warnings, warning))


def read_image(place: Place, manifest: FetchedManifest, platform: str, name: str) -> BaseImage:
    """An image for one platform, its configuration read.

    Raises:
        RegistryError: It is no container image, or not for this platform.
    """
    body = manifest.body
    what = f"the manifest of `{name}`"
    layers = body.get("layers")
    if not isinstance(layers, list) or "config" not in body:
        raise RegistryError(f"{what} is not that of a container image")
    described = parse_descriptor(body["config"], what)
    raw = place.registry.read_blob(
        place.repository, described.digest, limit=_CONFIG_LIMIT, namespace=place.namespace
    )
    config = _parsed(raw, what)
    image = BaseImage(
        platform,
        manifest.descriptor.digest,
        manifest.descriptor.media_type,
        manifest.raw,
        described.media_type,
        config,
        tuple(parse_descriptor(layer, what) for layer in layers),
    )
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(image.layers):
        raise RegistryError(f"{what} has {len(image.layers)} layers and its configuration {len(diff_ids)}")
    there = f"{config.get('os')}/{config.get('architecture')}"
    if "/".join(platform.split("/")[:2]) != there:
        raise RegistryError(
            f"`{name}` is for `{there}`, not for `{platform}`", hint="choose a base that has this platform"
        )
    return image


def _parsed(raw: bytes, what: str) -> dict[str, Any]:
    try:
        config = json.loads(raw)
        settings = config.get("config") or {}
        lists = (config["rootfs"]["diff_ids"], settings.get("Env") or [])
        are_texts = all(isinstance(each, list) and all(isinstance(x, str) for x in each) for each in lists)
        if are_texts and isinstance(settings.get("Labels") or {}, dict):
            return dict(config)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        pass
    raise RegistryError(f"{what} names a configuration that is not that of a container image")

"""Manifest, configuration and index of an image out of those of its base."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chalkcompute.build.base import BaseImage
from chalkcompute.build.layers import Layer
from chalkcompute.build.plan import canonical
from chalkcompute.image import Image
from chalkcompute.registry import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of

__all__ = ["Composed", "compose", "compose_index"]

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class Composed:
    """An image or an index, ready to be pushed.

    Attributes:
        media_type: Of the manifest.
        manifest: Its bytes.
        config: The configuration's bytes; empty for an index.
        platform: `os`, `architecture`, perhaps `variant`; empty for an index.
    """

    media_type: str
    manifest: bytes
    config: bytes
    platform: dict[str, str]

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)


def compose(base: BaseImage, layers: Sequence[Layer], image: Image, *, base_name: str) -> Composed:
    """The base with `layers` on top and the configuration of `image`."""
    is_docker = base.media_type == DOCKER_MANIFEST
    config = canonical(_config(base.config, layers, image))
    described = [
        {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in base.layers
    ]
    layer_type = _DOCKER_LAYER if is_docker else _OCI_LAYER
    described += [{"mediaType": layer_type, "digest": made.digest, "size": made.size} for made in layers]
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if is_docker else OCI_MANIFEST,
        "config": {"mediaType": base.config_type, "digest": digest_of(config), "size": len(config)},
        "layers": described,
    }
    if not is_docker:
        # https://github.com/opencontainers/image-spec/blob/main/annotations.md
        manifest["annotations"] = {
            "org.opencontainers.image.base.name": base_name,
            "org.opencontainers.image.base.digest": base.digest,
        }
    platform = {
        key: base.config[key]
        for key in ("os", "architecture", "variant")
        if isinstance(base.config.get(key), str)
    }
    return Composed(manifest["mediaType"], canonical(manifest), config, platform)


def compose_index(images: Sequence[Composed]) -> Composed:
    """One name for the images of several platforms."""
    is_docker = all(image.media_type == DOCKER_MANIFEST for image in images)
    index = {
        "schemaVersion": 2,
        "mediaType": DOCKER_INDEX if is_docker else OCI_INDEX,
        "manifests": [
            {
                "mediaType": image.media_type,
                "digest": image.digest,
                "size": len(image.manifest),
                "platform": image.platform,
            }
            for image in images
        ],
    }
    return Composed(str(index["mediaType"]), canonical(index), b"", {})


def _config(base: dict[str, Any], layers: Sequence[Layer], image: Image) -> dict[str, Any]:
    made = copy.deepcopy(base)
    settings: dict[str, Any] = dict(made.get("config") or {})
    if image.variables:
        settings["Env"] = _merged(settings.get("Env") or [], dict(image.variables))
    if image.working_dir is not None:
        settings["WorkingDir"] = image.working_dir
    if image.command is not None:
        settings["Entrypoint"] = list(image.command)
        settings.pop("Cmd", None)  # as of a Dockerfile: the base's arguments are for the base's entrypoint
    if image.args is not None:
        settings["Cmd"] = list(image.args)
    made["config"] = settings
    made["rootfs"]["diff_ids"] = [*made["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)]
    # The time of the base: no two builds would have the same digest with a clock in it.
    created = {"created": base["created"]} if isinstance(base.get("created"), str) else {}
    made["history"] = [
        *_history(base),
        *({**created, "created_by": layer.made_by} for layer in layers),
    ]
    for stale in ("container", "container_config"):  # Docker's notes on how the base was made
        made.pop(stale, None)
    return made


def _history(base: dict[str, Any]) -> list[Any]:
    """The base's history, with one entry for each of its layers: engines refuse one that does not add up."""
    history = base.get("history")
    told = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    layers = len(base["rootfs"]["diff_ids"])
    missing = layers - sum(not entry.get("empty_layer") for entry in told)
    if missing < 0:
        told, missing = [], layers
    return [*told, *({"comment": "the base does not say"} for _ in range(missing))]


def _merged(base: Sequence[str], variables: dict[str, str]) -> list[str]:
    """The base's order is kept; what is new comes after it, by name."""
    left = dict(variables)
    merged = []
    for item in base:
        name = item.partition("=")[0]
        if name in left:
            merged.append(f"{name}={left.pop(name)}")
        elif name not in variables:  # of a name that the base has twice the last would win
            merged.append(item)
    return merged + [f"{name}={left[name]}" for name in sorted(left)]

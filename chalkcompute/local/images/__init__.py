"""Images of the local cluster: what is kept of them, the registry that serves them, and pulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chalkcompute.local.images.announce import announce_registry, namespace_annotations
from chalkcompute.local.images.catalog import Catalog, OwnHosts
from chalkcompute.local.images.hostbase import StandIn
from chalkcompute.local.images.http import RegistryServer
from chalkcompute.local.images.passthrough import Passthrough
from chalkcompute.local.images.pulls import LocalImages
from chalkcompute.local.images.store import ContentStore
from chalkcompute.registry import Registry, docker_credentials

__all__ = [
    "ImageSupply",
    "LocalImages",
    "OwnHosts",
    "RegistryServer",
    "announce_registry",
    "namespace_annotations",
    "supply_images",
]


@dataclass(frozen=True, slots=True)
class ImageSupply:
    """The parts that have to do with images, over one store.

    Attributes:
        images: Pulls for the runtime.
        server: The registry, to be started.
        own: Hosts of references that mean this registry.
        passthrough: Fetches from other registries, to be closed.
    """

    images: LocalImages
    server: RegistryServer
    own: OwnHosts
    passthrough: Passthrough


def supply_images(
    folder: Path, *, port: int, host_base: StandIn | None, environ: Mapping[str, str]
) -> ImageSupply:
    """Make them, inside a running loop.

    Args:
        folder: Where images are kept.
        port: Port that the registry will have.
        host_base: Finds this machine's interpreters, to stand in for images; None for no such thing.
        environ: Environment: where Docker's credentials are.

    Raises:
        OSError: The folder cannot be used.
    """
    credentials = docker_credentials(environ)
    store = ContentStore(folder)
    own = OwnHosts(folder / "ports.json", port)
    passthrough = Passthrough(store, lambda host: Registry(host, credentials=credentials))
    catalog = Catalog(store, passthrough, own, host_base)
    return ImageSupply(LocalImages(catalog, host_base), RegistryServer(catalog), own, passthrough)

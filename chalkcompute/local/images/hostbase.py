"""An image for an official `python` that cannot be pulled: this machine's own Python stands in for it.

It is an ordinary image of the OCI Image Format Specification, so whoever builds on it or runs it needs no
special case: one layer of one small file, and a config whose labels say what it is. The runtime puts this
machine's own root and Python below the layers of an image that has the label.
"""

from __future__ import annotations

import gzip
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from typing import Any, Protocol

from chalkcompute.local.images.store import ContentStore, StoredManifest
from chalkcompute.local.runtime.hostbase import Interpreter
from chalkcompute.local.runtime.images import ImageReference
from chalkcompute.registry import OCI_MANIFEST, digest_of

__all__ = ["ASKED_LABEL", "LABEL", "StandIn", "is_official_python", "machine_architecture", "put_host_base"]

LABEL = "chalk.ai/host-base"
"""Version of the Python that really runs."""

ASKED_LABEL = "chalk.ai/host-base-asked"
"""The reference that it stands in for."""

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class StandIn(Protocol):
    """Finds interpreters; `local.runtime.hostbase.HostBase`."""

    async def resolve(self, reference: ImageReference, image: str) -> tuple[Interpreter, str]:
        """The interpreter for an official `python` image, and the warning that says so.

        Raises:
            ImagePullError: There is none.
        """
        ...


def is_official_python(host: str, repository: str) -> bool:
    """Whether this machine's own Python may stand in for images of this repository."""
    return host == "docker.io" and repository == "library/python"


def machine_architecture() -> str:
    """Architecture of this machine as images name it: `amd64`, `arm64`."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def put_host_base(store: ContentStore, reference: ImageReference, version: str) -> StoredManifest:
    """Make the image and keep it; the same every time, and found again by its digest.

    Args:
        store: Where to.
        reference: What it stands in for.
        version: Version of the interpreter that is used.
    """
    archive = _archive(version)
    layer = gzip.compress(archive, mtime=0)
    config = _encoded(
        {
            "architecture": machine_architecture(),
            "os": "linux",
            "config": {
                "Env": [f"PATH={_PATH}", "LANG=C.UTF-8", f"PYTHON_VERSION={version}"],
                "Cmd": ["python3"],
                "Labels": {LABEL: version, ASKED_LABEL: str(reference)},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest_of(archive)]},
            "history": [{"created_by": f"this machine's own Python {version}"}],
        }
    )
    store.put_blob(layer)
    store.put_blob(config)
    manifest = _encoded(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(_CONFIG_TYPE, config),
            "layers": [_descriptor(_LAYER_TYPE, layer)],
        }
    )
    # No tag: the next pull asks its registry again. And no place to fetch its parts from.
    return store.put_manifest(
        reference.domain, reference.path, manifest, OCI_MANIFEST, remember_sources=False
    )


def _archive(version: str) -> bytes:
    content = f"Python {version} of the machine stands in for the layers of this image\n".encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(".chalk-host-base")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _descriptor(media_type: str, data: bytes) -> Mapping[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

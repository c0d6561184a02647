"""What the tests of the registry client share: small images, files with digests, answers of a registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx

__all__ = ["PAUSING", "errors", "file_of", "manifest_of", "sha256"]

PAUSING = (
    "chalkcompute.registry.connection",
    "chalkcompute.registry.download",
    "chalkcompute.registry.upload",
)


def sha256(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def file_of(folder: Path, raw: bytes) -> tuple[Path, str]:
    """A file with this content, and its digest."""
    path = folder / sha256(raw)[7:19]
    path.write_bytes(raw)
    return path, sha256(raw)


def manifest_of(config: bytes, *layers: bytes) -> bytes:
    """An OCI manifest over these blobs."""

    def entry(kind: str, raw: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(raw), "size": len(raw)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": entry("config.v1+json", config),
            "layers": [entry("layer.v1.tar+gzip", layer) for layer in layers],
        }
    ).encode()


def errors(status: int, code: str, message: str = "s3cret in a body") -> httpx.Response:
    """An answer as the distribution specification has errors."""
    return httpx.Response(status, json={"errors": [{"code": code, "message": message}]})

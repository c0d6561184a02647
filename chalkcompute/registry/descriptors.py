"""What a registry serves: descriptors, manifests, indexes, and which entry of an index fits a platform."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chalkcompute.errors import ImageNotFoundError, RegistryError
from chalkcompute.registry.reference import check_digest

__all__ = [
    "ACCEPT",
    "DOCKER_INDEX",
    "DOCKER_MANIFEST",
    "INDEX_TYPES",
    "MANIFEST_LIMIT",
    "MANIFEST_TYPES",
    "OCI_INDEX",
    "OCI_MANIFEST",
    "Descriptor",
    "FetchedManifest",
    "choose_platform",
    "digest_of",
    "hasher_for",
    "parse_descriptor",
    "parse_manifest",
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
# The least that the distribution specification has registries accept; Docker's own takes no more.
MANIFEST_LIMIT = 4 * 1024 * 1024

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm"}
# What "no variant" means, as containerd reads it (platforms/database.go).
_VARIANTS = {("arm64", "v8"): "", ("arm64", "8"): "", ("amd64", "v1"): "", ("arm", ""): "v7"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: what it is, its digest and its size.

    Attributes:
        media_type: Media type of the content.
        digest: `sha256:…` of its bytes.
        size: Bytes.
        platform: `linux/amd64`, `linux/arm/v7`; None where it says none.
        annotations: As they stand in the descriptor.
    """

    media_type: str
    digest: str
    size: int
    platform: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest or an index as a registry gave it, its digest verified.

    Attributes:
        descriptor: Media type, digest and size of it.
        raw: Its bytes.
        warnings: Texts of the answer's `Warning` headers (code 299).
        proxied_for: The answer's `OCI-Namespace` header: the registry that it passes through, or None.
    """

    descriptor: Descriptor
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...] = ()
    proxied_for: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object; parsed anew each time, so that changing it changes nothing here."""
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @property
    def is_index(self) -> bool:
        """Whether it lists images of several platforms rather than being one."""
        return self.descriptor.media_type in INDEX_TYPES


def digest_of(raw: bytes) -> str:
    """The `sha256:…` digest of bytes."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def hasher_for(digest: str) -> hashlib._Hash:
    """A fresh hash of the algorithm of a digest."""
    return hashlib.new(check_digest(digest).partition(":")[0])


def parse_descriptor(value: object, what: str) -> Descriptor:
    """A descriptor of a manifest or an index.

    Args:
        value: Part of a parsed JSON document.
        what: What it is part of, for the message.

    Raises:
        RegistryError: It is not a descriptor.
    """
    if not isinstance(value, Mapping):
        raise RegistryError(f"{what} has something else where a descriptor belongs")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if (
        not isinstance(media_type, str)
        or not isinstance(digest, str)
        or not isinstance(size, int)
        or size < 0
    ):
        raise RegistryError(f"{what} has a descriptor without `mediaType`, `digest` or `size`")
    try:
        check_digest(digest)
    except ValueError as error:
        raise RegistryError(f"{what} has a descriptor that is wrong: {error}") from None
    annotations = value.get("annotations")
    texts = annotations.items() if isinstance(annotations, Mapping) else ()
    return Descriptor(
        media_type,
        digest,
        size,
        platform=_platform_text(value.get("platform")),
        annotations={k: v for k, v in texts if isinstance(k, str) and isinstance(v, str)},
    )


def _platform_text(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None
    parts = [value.get("os"), value.get("architecture"), value.get("variant")]
    named = [part for part in parts if isinstance(part, str) and part]
    return "/".join(named) if len(named) >= 2 else None


def parse_manifest(raw: bytes, content_type: str, what: str) -> tuple[dict[str, Any], str]:
    """The JSON object of a manifest, and its media type: the one inside it, which its digest covers.

    Raises:
        RegistryError: It is no manifest that this client reads.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise RegistryError(f"{what} is not JSON", code="MANIFEST_INVALID") from None
    if not isinstance(body, dict):
        raise RegistryError(f"{what} is not a JSON object", code="MANIFEST_INVALID")
    if body.get("schemaVersion") == 1:
        raise RegistryError(
            f"{what} is in Docker's schema 1, which no current runtime reads",
            code="MANIFEST_INVALID",
            hint="push the image anew with a current tool",
        )
    if "manifests" in body and ("layers" in body or "config" in body):
        # Two clients could read two images from one digest (CVE-2021-41190).
        raise RegistryError(f"{what} is an image and an index at once", code="MANIFEST_INVALID")
    inside = body.get("mediaType")
    said = inside if isinstance(inside, str) and inside else content_type.partition(";")[0].strip()
    known = INDEX_TYPES if "manifests" in body else MANIFEST_TYPES
    if said not in known and (said in INDEX_TYPES or said in MANIFEST_TYPES):
        raise RegistryError(f"{what} says it is `{said}` and is not", code="MANIFEST_INVALID")
    if said in known:
        return body, said
    generic = said in ("", "application/json", "text/plain", "application/octet-stream")
    return body, known[0] if generic else said


def choose_platform(index_body: Mapping[str, Any], platform: str) -> Descriptor:
    """The entry of an index that runs on a platform: the same one, or an older variant of it.

    Args:
        index_body: `FetchedManifest.body` of an index.
        platform: `linux/arm64`, `linux/amd64`, `linux/arm/v6`; `x86_64` and `aarch64` are understood.

    Raises:
        ImageNotFoundError: None fits; the message lists what there is.
        RegistryError: An entry is not a descriptor.
    """
    manifests = index_body.get("manifests")
    entries = manifests if isinstance(manifests, list) else []
    found = [parse_descriptor(entry, "the index") for entry in entries]
    for wanted in _acceptable(_normalized(platform)):
        for descriptor in found:
            if descriptor.platform is not None and _normalized(descriptor.platform) == wanted:
                return descriptor
    # Attestations of BuildKit stand in the index as `unknown/unknown`.
    there = sorted({d.platform for d in found if d.platform and not d.platform.startswith("unknown/")})
    listed = ", ".join(f"`{name}`" for name in there) or "no platform at all"
    raise ImageNotFoundError(
        f"the image has nothing for `{platform}`; it has {listed}",
        code="MANIFEST_UNKNOWN",
        hint="choose an image, or nodes, of a platform that fits",
    )


def _normalized(platform: str) -> tuple[str, str, str]:
    os_name, _, rest = platform.lower().partition("/")
    architecture, _, variant = rest.partition("/")
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if architecture == "arm" and variant.isdigit():
        variant = f"v{variant}"
    return os_name, architecture, _VARIANTS.get((architecture, variant), variant)


def _acceptable(wanted: tuple[str, str, str]) -> Iterator[tuple[str, str, str]]:
    """What a machine can run, best first: 32-bit ARM runs what was made for its predecessors."""
    os_name, architecture, variant = wanted
    yield wanted
    digits = variant.removeprefix("v")
    if architecture == "arm" and digits.isdigit():
        for older in range(int(digits) - 1, 4, -1):
            yield os_name, architecture, f"v{older}"
    elif variant and architecture in ("amd64", "arm64"):
        yield os_name, architecture, ""

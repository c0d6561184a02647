"""Image references: parsing, and which are official `python` images."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalkcompute.local.ports import ImagePullError

__all__ = ["ImageReference", "PythonRequest", "parse_reference", "python_request"]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?)+(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?"
)
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")

_VERSION = re.compile(r"(?P<major>\d+)(?:\.(?P<minor>\d+))?(?:\.(?P<patch>\d+))?(?:(?:a|b|rc)\d+)?")
_FLAVOR = re.compile(
    r"(?:slim|alpine(?:\d+\.\d+)?|bullseye|bookworm|trixie|forky|buster)"
    r"(?:-(?:bullseye|bookworm|trixie|forky|buster))?"
)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A reference in full: `python:3.12` is `docker.io/library/python:3.12`.

    Attributes:
        domain: Registry host.
        path: Repository in that registry.
        tag: Tag, None where only a digest is given.
        digest: Digest, or None.
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


@dataclass(frozen=True, slots=True)
class PythonRequest:
    """The version that an official `python` image stands for.

    Attributes:
        major: Major version, None for `latest` and the like.
        minor: Minor version, None when the tag leaves it open.
        patch: Patch version, None when the tag leaves it open.
    """

    major: int | None
    minor: int | None
    patch: int | None

    def __str__(self) -> str:
        given = [part for part in (self.major, self.minor, self.patch) if part is not None]
        return ".".join(map(str, given)) if given else "latest"


def _invalid(image: str, why: str) -> ImagePullError:
    return ImagePullError(
        f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": '
        f"invalid reference format{why}",
        reason="InvalidImageName",
    )


def parse_reference(image: str) -> ImageReference:
    """Parse an image reference as container runtimes do.

    Raises:
        ImagePullError: with reason `InvalidImageName`.
    """
    rest, _, digest = image.partition("@")
    if "@" in image and not _DIGEST.fullmatch(digest):
        raise _invalid(image, "")
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, name = first, remainder
    else:
        domain, name = "docker.io", rest
    name, colon, tag = name.partition(":")
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in name:
        name = f"library/{name}"
    if name.lower() != name:
        raise _invalid(image, f": repository name ({name}) must be lowercase")
    if not _PATH.fullmatch(name) or not _DOMAIN.fullmatch(domain) or (colon and not _TAG.fullmatch(tag)):
        raise _invalid(image, "")
    return ImageReference(domain, name, tag or (None if digest else "latest"), digest or None)


def python_request(reference: ImageReference) -> PythonRequest | None:
    """Which Python an official `python` image holds, or None for any other image or an unknown tag."""
    if reference.domain != "docker.io" or reference.path != "library/python":
        return None
    if reference.tag is None or reference.tag == "latest":
        return PythonRequest(None, None, None)
    version, _, flavor = reference.tag.partition("-")
    found = _VERSION.fullmatch(version)
    if found is None:
        return PythonRequest(None, None, None) if _FLAVOR.fullmatch(reference.tag) else None
    if flavor and not _FLAVOR.fullmatch(flavor):
        return None
    major, minor, patch = (int(part) if part is not None else None for part in found.groups())
    return PythonRequest(major, minor, patch)

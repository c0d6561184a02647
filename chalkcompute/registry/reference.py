"""Image references in full, by the grammar of the OCI distribution project (`distribution/reference`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ImageReference", "check_digest", "check_repository", "check_tag", "parse_reference"]

DOCKER_HUB = "docker.io"

_PATH_MAX = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A reference in full: `python:3.12` is `docker.io/library/python:3.12`.

    Attributes:
        domain: Registry host, with its port where one was given.
        path: Repository in that registry.
        tag: Tag, None where only a digest is given.
        digest: Digest, or None.
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def reference(self) -> str:
        """What to ask the registry for: the digest, or else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Parse an image reference as container runtimes do, with their defaults.

    No registry means `docker.io`, no namespace there means `library`, neither tag nor digest means
    the tag `latest`.

    Raises:
        ValueError: It is no reference; the text says why.
    """
    rest, at, digest = text.partition("@")
    if at:
        check_digest(digest)
    first, slash, remainder = rest.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost" or first.lower() != first):
        domain, name = first, remainder
    else:
        domain, name = DOCKER_HUB, rest
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"`{domain}` in `{text}` is not a registry host")
    if domain == "index.docker.io":
        domain = DOCKER_HUB
    path, colon, tag = name.partition(":")
    if colon:
        check_tag(tag)
    if not slash and not at and _HEX_ID.fullmatch(path):
        raise ValueError(f"`{text}` is the id of an image on one machine; a registry knows no such name")
    if domain == DOCKER_HUB and "/" not in path:
        path = f"library/{path}" if path else path
    check_repository(path)
    return ImageReference(domain, path, tag or (None if at else "latest"), digest or None)


def check_repository(path: str) -> str:
    """A repository that a registry can have, so that it is safe in a URL.

    Raises:
        ValueError: It is none; the text says why.
    """
    if not path:
        raise ValueError("the repository is empty")
    if len(path) > _PATH_MAX:
        raise ValueError(f"the repository has more than {_PATH_MAX} characters")
    if path.lower() != path:
        raise ValueError(f"the repository `{path}` must be in lower case")
    if not _PATH.fullmatch(path):
        raise ValueError(f"`{path}` is not a repository")
    return path


def check_digest(digest: str) -> str:
    """A digest of an algorithm that this client verifies: `sha256:` or `sha512:` and small hexadecimals.

    Raises:
        ValueError: It is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"`{digest}` is not a digest: `sha256:` and 64 digits or small letters from a to f")
    return digest


def check_tag(tag: str) -> str:
    """A tag that a registry can have.

    Raises:
        ValueError: It is none.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"`{tag}` is not a tag: at most 128 letters, digits, `_`, `.` or `-`")
    return tag

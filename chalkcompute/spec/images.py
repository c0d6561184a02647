"""Image references, by the grammar of the OCI distribution project (`distribution/reference`)."""

from __future__ import annotations

import re

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted

__all__ = ["tag_moves", "validate_image"]

_REPOSITORY_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?"
)
_SCHEME = re.compile(r"(https?|docker|oci)://", re.IGNORECASE)
_RULE = "write `registry/repository:tag` or `repository@sha256:…`"


def validate_image(image: object) -> str:
    """An image reference that a container runtime can parse; it says nothing about whether it exists.

    Raises:
        SpecError: Empty, with white space, upper case in the repository, or otherwise no reference.
    """
    text = check_text("image", image, number=lambda _: _RULE)
    if not text:
        raise SpecError("`image` is empty", field="image", hint=_RULE)
    if any(c.isspace() for c in text):
        raise SpecError(f"`image` {quoted(text)} has white space in it", field="image", hint=_RULE)
    if scheme := _SCHEME.match(text):
        raise SpecError(
            f"`image` {quoted(text)} has a URL scheme; an image reference has none",
            field="image",
            hint=f"did you mean `{text[scheme.end() :]}`?",
        )
    match = _REFERENCE.fullmatch(text)
    if match is None or _is_misspelt(match["repository"]):
        if _REFERENCE.fullmatch(_repository_lowered(text)):
            raise SpecError(
                f"`image` {quoted(text)} has upper case in its repository, which no registry allows",
                field="image",
                hint=f"did you mean `{_repository_lowered(text)}`?",
            )
        raise SpecError(f"`image` {quoted(text)} is not an image reference", field="image", hint=_RULE)
    if len(match["repository"]) > _REPOSITORY_MAX:
        raise SpecError(
            f"the repository of `image` has more than {_REPOSITORY_MAX} characters: {quoted(text)}",
            field="image",
        )
    return text


def tag_moves(image: str) -> bool:
    """Whether a reference means `latest`, so that each pull may bring another image."""
    match = _REFERENCE.fullmatch(image)
    return match is not None and match["digest"] is None and match["tag"] in (None, "latest")


def _is_misspelt(repository: str) -> bool:
    """Whether upper case alone makes a registry of the first part: `MyOrg/app`, which nobody means."""
    first, slash, _ = repository.partition("/")
    return bool(slash) and first != first.lower() and not any(c in first for c in ".:")


def _repository_lowered(text: str) -> str:
    """The reference with its repository in lower case; tag and digest stay."""
    head, slash, last = text.rpartition("/")
    cut = min((i for i in (last.find(":"), last.find("@")) if i >= 0), default=len(last))
    return head.lower() + slash + last[:cut].lower() + last[cut:]

"""Where a replica's secret environment variables come from: names and keys, never values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted
from chalkcompute.spec.environment import validate_variable

__all__ = ["SecretRef", "check_object_name", "check_unique_variables", "validate_secrets"]

_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # RFC 1123 subdomain: names of most objects
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")  # IsConfigMapKey of apimachinery


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One environment variable out of one key of a Kubernetes Secret.

    Kubernetes: `containers[].env[].valueFrom.secretKeyRef`.

    Attributes:
        env: Name of the variable.
        secret: Name of the Secret.
        key: Key in it.
        version: `resourceVersion` of a Secret that is not the group's own, as it was at the deploy: a changed
            one makes a new revision. None for the group's own, whose name says what is in it.
    """

    env: str
    secret: str
    key: str
    version: str | None = None

    def __post_init__(self) -> None:
        validate_variable(self.env, field="secrets")
        check_object_name("secrets", self.secret, what="the name of a Secret")
        text = check_text("secrets", self.key, what="the key of a Secret")
        if not _KEY.fullmatch(text):
            raise SpecError(f"{quoted(text)} cannot be a key of a Secret", field="secrets")
        if self.version is not None:
            check_text("secrets", self.version, what="the version of a Secret")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SecretRef:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            SpecError: A key is missing, or a value cannot be.
        """
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name in ("env", "secret", "key"):
            if name not in known:
                raise SpecError(f"`{name}` of a secret is missing", field="secrets")
        return cls(**known)


def check_object_name(field: str, value: object, *, what: str) -> str:
    """The name of a Kubernetes object that is made elsewhere.

    Raises:
        SpecError: No object can have it.
    """
    text = check_text(field, value, what=what)
    if not _OBJECT.fullmatch(text):
        raise SpecError(
            f"{quoted(text)} cannot be {what}",
            field=field,
            hint="lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit",
        )
    return text


def validate_secrets(value: object) -> tuple[SecretRef, ...]:
    """References in order of their variables, each variable once.

    Raises:
        SpecError: Something that is no reference, or two for one variable.
    """
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise SpecError(f"`secrets` must be a list, not {type(value).__name__}", field="secrets")
    refs = [SecretRef.from_dict(item) if isinstance(item, Mapping) else item for item in value]
    for item in refs:
        if not isinstance(item, SecretRef):
            raise SpecError(
                f"an item of `secrets` must be a SecretRef, not {type(item).__name__}", field="secrets"
            )
    check_unique_variables([ref.env for ref in refs])
    return tuple(sorted(refs, key=lambda ref: ref.env))


def check_unique_variables(secret: Sequence[str], plain: Mapping[str, object] | None = None) -> None:
    """That each variable is given once: by one secret, and not in `env` as well.

    Raises:
        SpecError: One is given twice; the message names it.
    """
    seen: set[str] = set()
    for name in secret:
        if name in seen:
            raise SpecError(f"two secrets give environment variable `{name}`", field="secrets")
        if plain is not None and name in plain:
            raise SpecError(
                f"environment variable `{name}` is given as a plain value and as a secret",
                field="secrets",
                hint="give it once: a plain value would win silently in Kubernetes",
            )
        seen.add(name)

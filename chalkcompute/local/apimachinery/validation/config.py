"""Validity of ConfigMaps and Secrets."""

from __future__ import annotations

import base64
from typing import Any

from chalkcompute.local.apimachinery.names import config_key_problem
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_config_change", "check_config_map", "check_secret", "check_secret_change"]

SIZE_MAX = 1024 * 1024  # bytes of all values: MaxSecretSize, and the limit of a ConfigMap

_REQUIRED_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_IMMUTABLE = "field is immutable when `immutable` is set"


def check_config_map(obj: dict[str, Any], problems: Problems) -> None:
    """Keys, and no more than 1 MiB."""
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        problems.named(f"data[{key}]", key, config_key_problem(key))
        if key in binary:
            problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(value.encode("utf-8", "surrogatepass"))
    for key, value in binary.items():
        problems.named(f"binaryData[{key}]", key, config_key_problem(key))
        size += len(base64.b64decode(value))
    if size > SIZE_MAX:
        problems.too_long("", SIZE_MAX)


def check_secret(obj: dict[str, Any], problems: Problems) -> None:
    """Keys, no more than 1 MiB, and what the type asks for."""
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        problems.named(f"data[{key}]", key, config_key_problem(key))
        size += len(base64.b64decode(value))
    if size > SIZE_MAX:
        problems.too_long("data", SIZE_MAX)
    for key in _REQUIRED_KEYS.get(obj.get("type", ""), ()):
        if key not in data:
            problems.required(f"data[{key}]")


def check_config_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """An immutable ConfigMap stays as it is."""
    _check_immutable(new, old, ("data", "binaryData"), problems)


def check_secret_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """The type stays; an immutable Secret stays as it is."""
    if new.get("type") != old.get("type"):
        problems.invalid("type", new.get("type", ""), "field is immutable")
    _check_immutable(new, old, ("data",), problems)


def _check_immutable(
    new: dict[str, Any], old: dict[str, Any], fields: tuple[str, ...], problems: Problems
) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        problems.forbidden("immutable", _IMMUTABLE)
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            problems.forbidden(field, _IMMUTABLE)

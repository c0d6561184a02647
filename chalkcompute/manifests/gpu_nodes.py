"""How the GPU nodes of a cluster are told apart: names that settings give, read and checked (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalkcompute.errors import ConfigError
from chalkcompute.types import Manifest

__all__ = ["Toleration", "label_key", "resource_name", "tolerations"]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:{_PREFIX}/)?{_NAME}")
_PREFIXED = re.compile(rf"{_PREFIX}/{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_PREFIX_MAX = 253
_RULE = "write taints as kubectl does, comma-separated: `nvidia.com/gpu:NoSchedule,sku=gpu:NoSchedule`"


@dataclass(frozen=True, slots=True)
class Toleration:
    """What lets a pod onto nodes with a taint.

    Attributes:
        key: The taint's key.
        effect: Its effect.
        value: Its value, or None for any.
    """

    key: str
    effect: str = "NoSchedule"
    value: str | None = None

    def to_manifest(self) -> Manifest:
        """The item of `spec.tolerations`."""
        if self.value is None:
            return {"key": self.key, "operator": "Exists", "effect": self.effect}
        return {"key": self.key, "operator": "Equal", "value": self.value, "effect": self.effect}


def tolerations(variable: str, text: str) -> tuple[Toleration, ...]:
    """Read `key[=value]:Effect,...`, the syntax of `kubectl taint`; without a value, any is tolerated.

    Raises:
        ConfigError: A taint that cannot be; it names the variable.
    """
    return tuple(_toleration(variable, part.strip()) for part in text.split(",") if part.strip())


def _toleration(variable: str, taint: str) -> Toleration:
    named, colon, effect = taint.rpartition(":")
    if not colon:
        raise ConfigError(f"{variable}: the taint `{taint}` has no effect", hint=_RULE)
    if effect not in _EFFECTS:
        near = next((each for each in _EFFECTS if each.lower() == effect.lower()), None)
        raise ConfigError(
            f"{variable}: `{effect}` of the taint `{taint}` is none of {', '.join(_EFFECTS)}",
            hint=f"did you mean `{named}:{near}`?" if near else _RULE,
        )
    key, equals, value = named.partition("=")
    if not _is_key(key) or not _VALUE.fullmatch(value):
        part = f"key `{key}`" if not _is_key(key) else f"value `{value}`"
        raise ConfigError(f"{variable}: the {part} of the taint `{taint}` cannot be one", hint=_RULE)
    return Toleration(key, effect, value if equals else None)


def label_key(variable: str, text: str) -> str:
    """A key of a label: `name` or `prefix/name`.

    Raises:
        ConfigError: It is none; it names the variable.
    """
    if not _is_key(text):
        raise ConfigError(
            f"{variable} `{text}` cannot be the key of a node's label",
            hint="for example `cloud.google.com/gke-accelerator`, `karpenter.k8s.aws/instance-gpu-name` or "
            "`nvidia.com/gpu.product`; `kubectl get nodes --show-labels` lists them",
        )
    return text


def resource_name(variable: str, text: str) -> str:
    """A name of an extended resource, which always has a domain.

    Raises:
        ConfigError: It is none; it names the variable.
    """
    if not _PREFIXED.fullmatch(text) or not _is_key(text) or text.startswith("requests."):
        raise ConfigError(
            f"{variable} `{text}` cannot be a resource of a node",
            hint="for example `nvidia.com/gpu`, `amd.com/gpu` or `nvidia.com/mig-1g.5gb`; "
            "`kubectl describe nodes` lists them under Allocatable",
        )
    return text


def _is_key(text: str) -> bool:
    return bool(_KEY.fullmatch(text)) and len(text.rpartition("/")[0]) <= _PREFIX_MAX

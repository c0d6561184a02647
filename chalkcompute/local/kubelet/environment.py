"""The environment of a container: values, references, `$(VAR)` expansion. Pure.

Source: `pkg/kubelet/kubelet_pods.go` makeEnvironmentVariables and `third_party/forked/golang/expansion`.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.ports import Manifest

__all__ = ["ContainerConfigError", "Lookup", "PodFacts", "container_environment", "expand", "field_value"]

Lookup: TypeAlias = Callable[[str, str], Manifest | None]
"""Kind and name of an object in the Pod's namespace -> the object."""

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ContainerConfigError(Exception):
    """What the container asks for is not there: `CreateContainerConfigError`."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known only on the node.

    Attributes:
        pod_ip: The Pod's address.
        host_ip: The node's address.
    """

    pod_ip: str
    host_ip: str


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; unknown names stay, `$$` is a dollar sign."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def container_environment(
    pod: Manifest, container: Mapping[str, Any], facts: PodFacts, lookup: Lookup
) -> dict[str, str]:
    """The environment of a container.

    Raises:
        ContainerConfigError: A Secret, ConfigMap or key that is not optional is missing.
    """
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        env.update(_from_source(pod, source, lookup))
    for item in container.get("env") or ():
        if (reference := item.get("valueFrom")) is not None:
            value = _from_reference(pod, container, reference, facts, lookup)
            if value is not None:
                env[item["name"]] = value
        else:
            env[item["name"]] = expand(item.get("value") or "", env)
    return env


def _from_source(pod: Manifest, source: Mapping[str, Any], lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if (reference := source.get(field)) is not None:
            obj = lookup(kind, reference["name"])
            if obj is None:
                if reference.get("optional"):
                    return {}
                raise ContainerConfigError(f'{kind.lower()} "{reference["name"]}" not found')
            return {prefix + key: value.decode(errors="replace") for key, value in _text(obj).items()}
    return {}


def _from_reference(
    pod: Manifest,
    container: Mapping[str, Any],
    reference: Mapping[str, Any],
    facts: PodFacts,
    lookup: Lookup,
) -> str | None:
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if (key_reference := reference.get(field)) is not None:
            return _key(pod, kind, key_reference, lookup)
    if (field_reference := reference.get("fieldRef")) is not None:
        return field_value(pod, field_reference["fieldPath"], facts)
    if (resource := reference.get("resourceFieldRef")) is not None:
        return resource_value(container, resource)
    raise ContainerConfigError("valueFrom names no source that the local cluster knows")


def _key(pod: Manifest, kind: str, reference: Mapping[str, Any], lookup: Lookup) -> str | None:
    name, key = reference["name"], reference["key"]
    obj = lookup(kind, name)
    if obj is None:
        if reference.get("optional"):
            return None
        raise ContainerConfigError(f'{kind.lower()} "{name}" not found')
    data = _text(obj)
    if key not in data:
        if reference.get("optional"):
            return None
        raise ContainerConfigError(f"couldn't find key {key} in {kind} {pod['metadata']['namespace']}/{name}")
    return data[key].decode(errors="replace")


def _text(obj: Manifest) -> dict[str, bytes]:
    """What may become an environment variable: `binaryData` may not."""
    return object_data({**obj, "binaryData": None})


def object_data(obj: Manifest) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret and what they hold."""
    if obj["kind"] == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    found = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {**found, **binary}


def field_value(pod: Manifest, path: str, facts: PodFacts) -> str:
    """A field of the Pod for the downward API.

    Raises:
        ContainerConfigError: A field that is not offered.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    if (found := _SUBSCRIPT.fullmatch(path)) is not None:
        return str((metadata.get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        items = sorted((metadata.get(path.split(".")[1]) or {}).items())
        return "\n".join(f'{key}="{value}"' for key, value in items)
    values = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
    }
    if path not in values:
        raise ContainerConfigError(f"unsupported fieldPath: {path}")
    return str(values[path])


def resource_value(container: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """`resourceFieldRef`: a request or limit over its divisor, rounded up.

    Raises:
        ContainerConfigError: It is not set; the node's allocatable resources are not offered in its place.
    """
    where, _, name = reference["resource"].partition(".")
    quantity = ((container.get("resources") or {}).get(where) or {}).get(name)
    if quantity is None:
        raise ContainerConfigError(f"resourceFieldRef {reference['resource']} is not set in the container")
    divisor = parse_quantity(str(reference.get("divisor") or "1")) or 1
    return str(math.ceil(parse_quantity(str(quantity)) / divisor))

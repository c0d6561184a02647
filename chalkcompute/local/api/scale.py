"""The `scale` subresource: a workload's replica count as an `autoscaling/v1` Scale."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.api.failures import bad_request, invalid
from chalkcompute.local.apimachinery.status import Cause
from chalkcompute.local.ports import Manifest

__all__ = ["replicas_of", "scaled", "to_scale"]

_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def to_scale(obj: Manifest) -> Manifest:
    """The Scale of a Deployment or ReplicaSet."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    status: dict[str, Any] = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
    if selector := _selector_text(spec.get("selector") or {}):
        status["selector"] = selector
    replicas = spec.get("replicas", 0)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _COPIED if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def replicas_of(scale: Manifest) -> int:
    """The count a client's Scale asks for.

    Raises:
        StatusError: 400 when it is no Scale, 422 for a negative count.
    """
    spec = {} if scale.get("spec") is None else scale["spec"]
    if scale.get("kind") != "Scale" or not isinstance(spec, dict):
        raise bad_request(f"{scale.get('kind')} cannot be handled as a Scale: it needs kind Scale and a spec")
    replicas = 0 if spec.get("replicas") is None else spec["replicas"]
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request(
            'Scale in version "v1" cannot be handled as a Scale: spec.replicas must be an integer'
        )
    if replicas < 0:
        name = (scale.get("metadata") or {}).get("name", "")
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise invalid("Scale", "autoscaling", name, Cause("spec.replicas", message))
    return replicas


def scaled(obj: Manifest, scale: Manifest) -> Manifest:
    """The workload with the Scale's count; the Scale's resourceVersion stays a precondition."""
    metadata = dict(obj["metadata"])
    metadata["resourceVersion"] = (scale.get("metadata") or {}).get("resourceVersion", "")
    return {**obj, "metadata": metadata, "spec": {**obj["spec"], "replicas": replicas_of(scale)}}


def _selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector as text, the way `metav1.FormatLabelSelector` writes it."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        values = ",".join(sorted(expression.get("values") or []))
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(
                operator, f"!{key}"
            )
        )
    return ",".join(parts)

"""A workload as an `autoscaling/v1` Scale: what the `scale` subresource shows, and autoscalers go by."""

from __future__ import annotations

from typing import Any

__all__ = ["to_scale"]

_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def to_scale(obj: dict[str, Any]) -> dict[str, Any]:
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

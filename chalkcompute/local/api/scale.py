"""Writes to the `scale` subresource: what a client's `autoscaling/v1` Scale asks of a workload."""

from __future__ import annotations

from chalkcompute.local.api.failures import bad_request, invalid
from chalkcompute.local.apimachinery.status import Cause
from chalkcompute.local.ports import Manifest

__all__ = ["replicas_of", "scaled"]


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

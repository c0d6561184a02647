"""A PersistentVolumeClaim that a deploy makes because there was none."""

from __future__ import annotations

from chalkcompute.manifests import labels
from chalkcompute.spec.content import ClaimRequest
from chalkcompute.types import Manifest

__all__ = ["claim"]


def claim(request: ClaimRequest, *, namespace: str, environment: str | None) -> Manifest:
    """The claim. It has no owner and names no group: it outlives all that use it."""
    spec: Manifest = {
        "accessModes": list(request.access_modes),
        "resources": {"requests": {"storage": request.size}},
    }
    if request.storage_class is not None:
        spec["storageClassName"] = request.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": request.name,
            "namespace": namespace,
            "labels": labels.shared_labels(environment),
        },
        "spec": spec,
    }

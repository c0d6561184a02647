"""Where images of a namespace are pushed to, and what its nodes can run."""

from __future__ import annotations

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ConfigError, ForbiddenError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.service.namespaces import read_namespace
from chalkcompute.service.scope import Scope

__all__ = ["find_platforms", "find_registry"]

_USUAL_PLATFORMS = ("linux/amd64",)
_ARCHITECTURE = "kubernetes.io/arch"  # well-known label, set by every kubelet
_SYSTEM = "kubernetes.io/os"


def find_registry(cluster: Cluster, scope: Scope) -> str:
    """`host/path` below which the images of this namespace go: the setting, else the namespace's annotation.

    Raises:
        NotFoundError: The namespace does not exist.
        ConfigError: Neither says one.
    """
    namespace = read_namespace(cluster, scope.namespace)
    if scope.registry is not None:
        return scope.registry
    annotations = (namespace or {}).get("metadata", {}).get("annotations") or {}
    found = str(annotations.get(labels.REGISTRY_ANNOTATION, "")).strip().rstrip("/")
    if not found:
        raise ConfigError(
            f"the image has to be built, and no registry is named for namespace `{scope.namespace}`",
            hint="set CHALK_REGISTRY to where images are pushed and the cluster pulls from "
            f"(`ghcr.io/my-team`), or annotate the namespace with `{labels.REGISTRY_ANNOTATION}`",
        )
    return found


def find_platforms(cluster: Cluster, scope: Scope) -> tuple[tuple[str, ...], str | None]:
    """The platforms to build for, and a warning when they are only assumed.

    Returns:
        `linux/amd64`, …: the setting, else those of the cluster's Linux nodes.
    """
    if scope.platforms:
        return scope.platforms, None
    try:
        nodes = cluster.list("Node")
    except (ForbiddenError, ObjectNotFoundError):
        return _USUAL_PLATFORMS, (
            f"the nodes of the cluster may not be read: the image is built for {_USUAL_PLATFORMS[0]} "
            "(CHALK_PLATFORM names others)"
        )
    found = {
        f"linux/{labels_of[_ARCHITECTURE]}"
        for node in nodes
        if (labels_of := node["metadata"].get("labels") or {}).get(_ARCHITECTURE)
        and labels_of.get(_SYSTEM, "linux") == "linux"
    }
    return tuple(sorted(found)) or _USUAL_PLATFORMS, None

"""The namespace that everything happens in: whether it is there at all."""

from __future__ import annotations

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, NotFoundError, ObjectNotFoundError
from chalkcompute.types import Manifest

__all__ = ["read_namespace"]


def read_namespace(cluster: Cluster, name: str) -> Manifest | None:
    """The Namespace object, or None when the credential may not read it.

    An API server answers a list in a namespace that does not exist with no objects, so that only this tells a
    typing mistake from an empty namespace.

    Raises:
        NotFoundError: It does not exist.
    """
    try:
        return cluster.get("Namespace", name)
    except ObjectNotFoundError as error:
        raise NotFoundError(
            f"namespace `{name}` does not exist on `{cluster.server}`",
            hint=f"`kubectl create namespace {name}`, or choose another one with `--namespace`",
        ) from error
    except ForbiddenError:
        return None  # namespaces are cluster-scoped; a namespaced role may deploy all the same

"""Where to push images for this cluster, written where a client of any cluster looks: on the namespaces."""

from __future__ import annotations

from collections.abc import Mapping

from chalkcompute.local.images.catalog import OwnHosts
from chalkcompute.local.ports import Api

__all__ = ["announce_registry", "namespace_annotations"]

ANNOTATION = "chalk.ai/registry"
_MANAGER = "chalk-local"


def namespace_annotations(own: OwnHosts) -> Mapping[str, str]:
    """What a new Namespace gets: the registry of this run."""
    return {ANNOTATION: own.name}


def announce_registry(api: Api, own: OwnHosts) -> None:
    """Correct the Namespaces that name no registry, or one of ours from before; another one is the user's."""
    for namespace in api.list("Namespace"):
        metadata = namespace["metadata"]
        annotations = metadata.get("annotations") or {}
        named = annotations.get(ANNOTATION)
        if (
            "deletionTimestamp" in metadata
            or named == own.name
            or not (named is None or own.were_once(named))
        ):
            continue
        metadata["annotations"] = {**annotations, ANNOTATION: own.name}
        api.update(namespace, manager=_MANAGER)

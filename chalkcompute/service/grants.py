"""The one object of ours in another namespace, a ReferenceGrant, where we may not write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.types import Manifest

__all__ = ["check", "of_others", "suffices"]

_KIND = "ReferenceGrant"


def check(cluster: Cluster, wanted: Manifest, refusal: ForbiddenError) -> list[str]:
    """What follows from the server's refusal to let us apply the grant: nothing, if one is there that does.

    Args:
        cluster: The cluster.
        wanted: The grant as it would be applied.
        refusal: What the server said.

    Returns:
        A warning if it cannot be known whether there is one.

    Raises:
        ForbiddenError: There is none, so that no request would ever reach the group.
    """
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    try:
        found, is_all = cluster.list(_KIND, namespace), True
    except ForbiddenError:
        found, is_all = _named(cluster, name, namespace), False
    if any(suffices(grant, wanted) for grant in found):
        return []
    (source,) = wanted["spec"]["from"]
    (target,) = wanted["spec"]["to"]
    needed = (
        f"that routes of namespace `{source['namespace']}` reach Service `{target['name']}` takes "
        f"{_KIND} `{name}` in namespace `{namespace}`"
    )
    remedy = f"an administrator creates it with `{_command(wanted)}`"
    if not is_all:
        return [f"{needed}, which you may neither write nor look for ({refusal.message}): {remedy}"]
    raise ForbiddenError(
        f"{needed}, which is not there and which you may not write: {refusal.message}",
        status=refusal.status,
        reason=refusal.reason,
        details=refusal.details,
        hint=remedy,
    ) from refusal


def of_others(live: Iterable[Manifest]) -> set[str]:
    """`Kind/name` of the grants among these that chalk did not make: they are left as they are."""
    return {
        f"{_KIND}/{obj['metadata']['name']}"
        for obj in live
        if obj["kind"] == _KIND
        and (obj["metadata"].get("labels") or {}).get(labels.MANAGED_BY) != labels.MANAGED_BY_CHALK
    }


def suffices(grant: Manifest, wanted: Manifest) -> bool:
    """Whether a live grant allows all that the one we would apply does (pure)."""
    spec = grant.get("spec") or {}
    (source,) = wanted["spec"]["from"]
    (target,) = wanted["spec"]["to"]
    return any(_is_source(each, source) for each in spec.get("from") or ()) and any(
        _is_target(each, target) for each in spec.get("to") or ()
    )


def _is_source(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(given.get(key) == wanted[key] for key in ("group", "kind", "namespace"))


def _is_target(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Without a name, a grant is for all of the kind."""
    same_kind = (given.get("group") or "", given.get("kind")) == (wanted["group"], wanted["kind"])
    return same_kind and given.get("name") in (None, "", wanted["name"])


def _named(cluster: Cluster, name: str, namespace: str) -> list[Manifest]:
    try:
        return [cluster.get(_KIND, name, namespace)]
    except (ForbiddenError, ObjectNotFoundError):
        return []


def _command(manifest: Manifest) -> str:
    """One line of shell that applies a manifest whose values have no quotes."""
    return f"echo '{json.dumps(manifest, separators=(',', ':'))}' | kubectl apply -f -"

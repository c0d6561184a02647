"""What is there already: whose it is, and whether an apply would change anything of ours in it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ForbiddenError,
    InvalidObjectError,
    NotOwnedError,
    ObjectConflictError,
    ObjectNotFoundError,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record
from chalkcompute.service.grants import suffices
from chalkcompute.service.ownership import applied_fields, require_ours
from chalkcompute.types import Manifest

__all__ = [
    "Live",
    "find",
    "get",
    "has_controller",
    "identity",
    "is_as_applied",
    "key_of",
    "left_over",
    "let_go",
    "remove",
    "require_removable",
]

Live = dict[tuple[str, str], Manifest]
"""Objects that exist, by kind and name."""

_SCALERS = (
    ("HorizontalPodAutoscaler", "autoscaling", "horizontalpodautoscalers"),
    ("ScaledObject", "keda.sh", "scaledobjects"),
)
_SCALER_OF = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}  # by `spec.mode`
# Made in some modes only, so a change of mode may leave one behind.
_OPTIONAL = (*_SCALERS, ("InterceptorRoute", "http.keda.sh", "interceptorroutes"))


def identity(manifest: Manifest) -> tuple[str, str]:
    """Kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]


def key_of(manifest: Manifest) -> str:
    """`Kind/name`, as messages have it."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def find(
    cluster: Cluster,
    manifests: Sequence[Manifest],
    *,
    name: str,
    namespace: str,
    group_id: str,
    mode: str | None = None,
) -> Live:
    """The objects of a group that are there already, each of them ours.

    Args:
        cluster: The cluster.
        manifests: What is going to be applied.
        name: Name of the group.
        namespace: Its namespace.
        group_id: Its id.
        mode: `spec.mode` as last recorded: the autoscaler of that is there, and whoever deploys must see it.

    Raises:
        NotOwnedError: An object of such a name is someone else's, or someone else's autoscaler sets the
            replicas of our Deployment.
        ForbiddenError: The credential may not see what it has to change.
    """
    needed = {manifest["kind"] for manifest in manifests} | {_SCALER_OF.get(mode or "", "")}
    if mode == "keda" and "ScaledObject" not in {manifest["kind"] for manifest in manifests}:
        needed.add("HorizontalPodAutoscaler")  # KEDA's own, whose end has to be waited for
    live = _scalers(cluster, needed, name=name, namespace=namespace, group_id=group_id)
    listed = {kind for kind, _, _ in _SCALERS}
    for manifest in manifests:
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind in listed or labels.CONTENT in meta["labels"]:
            continue  # the latter by `contents.find`, without what is in them
        obj = get(cluster, kind, meta["name"], meta["namespace"])
        if obj is not None:
            if not (kind == "ReferenceGrant" and suffices(obj, manifest)):  # whoever made it
                require_ours(obj, group_id)
            live[(kind, meta["name"])] = obj
    return live


def get(cluster: Cluster, kind: str, name: str, namespace: str) -> Manifest | None:
    """One object, or None."""
    try:
        return cluster.get(kind, name, namespace)
    except ObjectNotFoundError:
        return None
    except ForbiddenError:
        if kind == "ReferenceGrant":
            return None  # in KEDA's namespace, where we may have no rights; the apply will tell
        raise


def left_over(cluster: Cluster, record: Record, wanted: AbstractSet[tuple[str, str]]) -> Live:
    """What an earlier mode of a group needed and the objects named `wanted` do not.

    A kind that the credential may not see is not there: `find` has refused what had to be seen. Whatever
    something else in the cluster looks after goes with that.
    """
    name = record.name
    capabilities = cluster.capabilities()
    kinds = [kind for kind, group, plural in _OPTIONAL if capabilities.serves(group, plural)]
    found: Live = {}
    for identity in [*((kind, name) for kind in kinds), ("Service", labels.vip_name(name))]:
        if identity in wanted:
            continue
        with contextlib.suppress(ObjectNotFoundError, ForbiddenError):
            obj = cluster.get(*identity, record.namespace)
            if labels.is_owned_by(obj, record.id) and not has_controller(obj):
                found[identity] = obj
    return found


def remove(
    cluster: Cluster,
    kind: str,
    name: str,
    namespace: str,
    uid: str | None,
    *,
    propagation: str = "Background",
) -> None:
    """Delete the object with this uid; that it is gone, even if another has its name by now, is as good."""
    with contextlib.suppress(ObjectConflictError):
        cluster.delete(kind, name, namespace, uid=uid, propagation=propagation)


def require_removable(cluster: Cluster, leaving: Live) -> None:
    """Ask, before anything is written, whether these objects may be deleted.

    Raises:
        ForbiddenError: One of them may not.
    """
    for (kind, name), obj in leaving.items():
        meta = obj["metadata"]
        # Gone by now is as good; a webhook that refuses dry runs says nothing about the real one.
        with contextlib.suppress(ObjectConflictError, InvalidObjectError):
            cluster.delete(kind, name, meta["namespace"], uid=meta["uid"], dry_run=True)


def let_go(scaled_object: str, namespace: str) -> str:
    """What takes KEDA's finalizer off a ScaledObject where its operator is gone for good."""
    return (
        "if KEDA is gone for good, "
        f"`kubectl patch scaledobject {scaled_object} -n {namespace} --type=merge "
        """-p '{"metadata":{"finalizers":null}}'` lets it go"""
    )


def has_controller(obj: Manifest) -> bool:
    """Whether something else in the cluster made this object and looks after it."""
    return any(owner.get("controller") for owner in obj["metadata"].get("ownerReferences") or ())


def is_as_applied(manifest: Manifest, before: Manifest, after: Manifest) -> bool:
    """Whether an apply of `manifest` made no difference to what we set, or used to set.

    A field that an earlier version set and this one does not shows in the fields that our apply owns.
    What others put into the object is not looked at: an admission webhook may stamp a time on every write,
    and an autoscaler set the replicas between two of our requests.
    """
    return _only(manifest, before) == _only(manifest, after) and applied_fields(before) == applied_fields(
        after
    )


def _scalers(cluster: Cluster, needed: AbstractSet[str], *, name: str, namespace: str, group_id: str) -> Live:
    """The autoscalers that have the group's name or scale its Deployment, each of them ours."""
    live: Live = {}
    capabilities = cluster.capabilities()
    for kind, group, plural in _SCALERS:
        if not capabilities.serves(group, plural):
            continue
        try:
            found = cluster.list(kind, namespace)
        except ForbiddenError:
            if kind in needed:
                raise
            continue  # whoever may not see them has made none
        for obj in found:
            if obj["metadata"]["name"] != name and not _scales(obj, name):
                continue
            if not _is_kedas(obj, name):
                _require_our_scaler(obj, name, group_id)
            live[(kind, obj["metadata"]["name"])] = obj
    return live


def _require_our_scaler(scaler: Manifest, name: str, group_id: str) -> None:
    """Accept our own autoscaler; of one that scales our Deployment, say how to go on.

    Raises:
        NotOwnedError: It is someone else's.
    """
    maker = next((o for o in scaler["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    kind, meta = (scaler["kind"], scaler["metadata"]) if maker is None else (maker["kind"], maker)
    namespace = scaler["metadata"]["namespace"]
    try:
        require_ours(scaler, group_id)
    except NotOwnedError as error:
        if not _scales(scaler, name) or scaler["metadata"].get("deletionTimestamp"):
            raise
        raise NotOwnedError(
            f"{kind} `{meta['name']}` in namespace `{namespace}` sets the number of replicas of Deployment "
            f"`{name}`, and is not this scaling group's; nothing was changed",
            kind=kind,
            name=meta["name"],
            namespace=namespace,
            hint=f"remove it with `kubectl delete {kind.lower()} {meta['name']} -n {namespace}` and give its "
            "bounds as `min_replicas` and `max_replicas`, or choose another name for the scaling group",
        ) from error


def _scales(scaler: Manifest, name: str) -> bool:
    target = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
    return target.get("name") == name and target.get("kind", "Deployment") == "Deployment"


def _is_kedas(scaler: Manifest, name: str) -> bool:
    """Whether KEDA made this HPA for the ScaledObject of that name, which is looked at by itself."""
    return any(
        owner.get("controller") and owner.get("kind") == "ScaledObject" and owner.get("name") == name
        for owner in scaler["metadata"].get("ownerReferences") or ()
    )


def _only(pattern: Any, value: Any) -> Any:
    """`value` without what `pattern` does not mention; list items are matched by name."""
    if isinstance(pattern, dict) and isinstance(value, dict):
        return {key: _only(inner, value.get(key)) for key, inner in pattern.items()}
    if isinstance(pattern, list) and isinstance(value, list) and _all_named(pattern) and _all_named(value):
        named = {item["name"]: item for item in value}
        return [_only(item, named.get(item["name"])) for item in pattern]
    return value


def _all_named(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)

"""The garbage collector: objects whose owners are gone go too.

Source: k8s.io/kubernetes `pkg/controller/garbagecollector`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from chalkcompute.local.apimachinery.kinds import KINDS, by_api_version, by_kind
from chalkcompute.local.controllers.actions import Action, Delete, Update, perform
from chalkcompute.local.controllers.controller import find
from chalkcompute.local.controllers.objects import Key, is_deleting, key_of, without_owner
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["GarbageCollector", "OwnerState", "reconcile"]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class OwnerState(Enum):
    """What has become of an owner."""

    SOLID = "there"
    DANGLING = "gone, or replaced by another of the same name"
    WAITING = "being deleted in the foreground: it waits for its dependents"


def reconcile(
    item: Manifest, owners: Mapping[str, OwnerState], dependents: Sequence[Manifest]
) -> list[Action]:
    """What is to become of one object. Pure.

    Args:
        item: The object.
        owners: State of its owners by uid.
        dependents: Objects that name it as an owner (needed only when it has owners that wait, or is
            itself being deleted with one of the collector's finalizers).
    """
    finalizers = item["metadata"].get("finalizers") or ()
    uid = item["metadata"]["uid"]
    if is_deleting(item):
        if ORPHAN in finalizers:
            freed = [Update(without_owner(d, [uid])) for d in dependents]
            return [*freed, Update(_without_finalizer(item, ORPHAN))]
        if FOREGROUND in finalizers and not any(_blocks(d, uid) for d in dependents):
            return [Update(_without_finalizer(item, FOREGROUND))]
        return []
    if not owners:
        return []
    lost = [owner for owner, state in owners.items() if state is not OwnerState.SOLID]
    if len(lost) < len(owners):
        return [Update(without_owner(item, lost))] if lost else []
    if OwnerState.WAITING in owners.values() and dependents:
        return [*_break_cycle(uid, dependents), Delete(item, "Foreground")]
    if ORPHAN in finalizers:
        return [Delete(item, "Orphan")]
    return [Delete(item, "Foreground" if FOREGROUND in finalizers else "Background")]


def _blocks(dependent: Manifest, owner_uid: str) -> bool:
    references = dependent["metadata"].get("ownerReferences") or ()
    return any(r["uid"] == owner_uid and r.get("blockOwnerDeletion") for r in references)


def _break_cycle(uid: str, dependents: Iterable[Manifest]) -> Iterator[Action]:
    """A dependent that is itself waiting in the foreground must not block, or both wait for ever."""
    for dependent in dependents:
        meta = dependent["metadata"]
        if not is_deleting(dependent) or FOREGROUND not in (meta.get("finalizers") or ()):
            continue
        references = [
            {**r, "blockOwnerDeletion": False} if r["uid"] == uid else r for r in meta["ownerReferences"]
        ]
        if references != meta["ownerReferences"]:
            yield Update({**dependent, "metadata": {**meta, "ownerReferences": references}})


def _without_finalizer(obj: Manifest, finalizer: str) -> Manifest:
    meta = dict(obj["metadata"])
    kept = [f for f in meta["finalizers"] if f != finalizer]
    if kept:
        meta["finalizers"] = kept
    else:
        del meta["finalizers"]
    return {**obj, "metadata": meta}


class GarbageCollector:
    """Looks at an object when it, its owner or its dependent changed; keys are `(kind, namespace, name)`."""

    name = "garbage-collector"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds = tuple(k.kind for k in KINDS if k.kind != "Event")  # Events own nothing, nor are owned
        self._dependents: defaultdict[str, set[Key]] = defaultdict(set)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Everything that can own or be owned."""
        return self._kinds

    def keys(self, change: Change) -> Iterator[Key]:
        """The object if it has owners or finalizers; its dependents and owners when it goes."""
        meta = change.obj["metadata"]
        key = (change.kind, *key_of(change.obj))
        owners = [reference["uid"] for reference in meta.get("ownerReferences") or ()]
        if change.type == "DELETED":
            for owner in owners:
                self._dependents[owner].discard(key)
            yield from self._dependents.pop(meta["uid"], ())
            yield from self._owner_keys(change.obj)
            return
        for owner in owners:
            self._dependents[owner].add(key)
        held = is_deleting(change.obj) and {FOREGROUND, ORPHAN} & set(meta.get("finalizers") or ())
        if held:
            yield from self._dependents.get(meta["uid"], ())
        if owners or held:
            yield key
        if change.old is not None and (change.old["metadata"].get("ownerReferences") or []) != (
            meta.get("ownerReferences") or []
        ):
            yield from self._owner_keys(change.old)  # it may have stopped blocking an owner

    def _owner_keys(self, obj: Manifest) -> Iterator[Key]:
        namespace = obj["metadata"].get("namespace", "")
        for reference in obj["metadata"].get("ownerReferences") or ():
            kind = by_api_version(reference["apiVersion"], reference["kind"])
            if kind is not None:
                yield kind.kind, namespace if kind.namespaced else "", reference["name"]

    def sync(self, key: Key) -> float | None:
        kind, namespace, name = key
        item = find(self._api, kind, (namespace, name))
        if item is None:
            return None
        owners = {r["uid"]: self._state(r, namespace) for r in item["metadata"].get("ownerReferences") or ()}
        held = is_deleting(item) and item["metadata"].get("finalizers")
        needed = held or OwnerState.WAITING in owners.values()
        perform(self._api, reconcile(item, owners, self._dependents_of(item) if needed else []))
        return None

    def _state(self, reference: Mapping[str, Any], namespace: str) -> OwnerState:
        kind = by_api_version(reference["apiVersion"], reference["kind"])
        if kind is None:  # not served here, so nobody can say that it is gone
            return OwnerState.SOLID
        owner = find(self._api, kind.kind, (namespace if kind.namespaced else "", reference["name"]))
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            return OwnerState.DANGLING
        if is_deleting(owner) and FOREGROUND in (owner["metadata"].get("finalizers") or ()):
            return OwnerState.WAITING
        return OwnerState.SOLID

    def _dependents_of(self, item: Manifest) -> list[Manifest]:
        """Read from the store, not from what changes have told so far: orphaning must miss none."""
        uid = item["metadata"]["uid"]
        namespace = item["metadata"].get("namespace", "")
        return [
            obj
            for kind in self._kinds
            if not namespace or by_kind(kind).namespaced
            for obj in self._api.list(kind, namespace)
            if any(r["uid"] == uid for r in obj["metadata"].get("ownerReferences") or ())
        ]

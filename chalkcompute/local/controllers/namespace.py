"""Namespaces: a new one gets its default ServiceAccount; one that is deleted is emptied, then let go.

Source: k8s.io/kubernetes `pkg/controller/namespace` and `pkg/controller/serviceaccount`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chalkcompute.local.apimachinery.kinds import KINDS
from chalkcompute.local.controllers.actions import Action, Create, Delete, Update, perform
from chalkcompute.local.controllers.controller import find
from chalkcompute.local.controllers.objects import Key, is_deleting
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["NamespaceController", "reconcile"]

FINALIZER = "kubernetes"
_MAKERS_FIRST = ("Deployment", "ReplicaSet")  # what would make its content anew goes before the content


def reconcile(namespace: Manifest, content: Sequence[Manifest], *, has_account: bool) -> list[Action]:
    """What a Namespace needs. Pure.

    Args:
        namespace: The Namespace.
        content: Every object in it (needed only when it is being deleted).
        has_account: Whether the ServiceAccount `default` is there.
    """
    name = namespace["metadata"]["name"]
    if not is_deleting(namespace):
        meta = {"name": "default", "namespace": name}
        account: Manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        return [] if has_account else [Create(account)]
    if content:
        return [Delete(obj) for obj in content if not is_deleting(obj)]
    finalizers = (namespace.get("spec") or {}).get("finalizers") or []
    if FINALIZER not in finalizers:
        return []
    spec = {**namespace["spec"], "finalizers": [f for f in finalizers if f != FINALIZER]}
    return [Update({**namespace, "spec": spec}, "finalize")]


class NamespaceController:
    """Starts and ends Namespaces."""

    name = "namespace"

    def __init__(self, api: Api) -> None:
        self._api = api
        names = [k.kind for k in KINDS if k.namespaced]
        self._content = sorted(names, key=lambda n: _MAKERS_FIRST.index(n) if n in _MAKERS_FIRST else 9)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Namespaces, and all that can be in one."""
        return "Namespace", *self._content

    def keys(self, change: Change) -> Iterator[Key]:
        """The Namespace; also when the last thing in it may have gone, or its account went."""
        if change.kind == "Namespace":
            yield "", change.obj["metadata"]["name"]
        elif change.type == "DELETED":
            name = change.obj["metadata"]["namespace"]
            namespace = find(self._api, "Namespace", ("", name))
            if namespace is not None and (is_deleting(namespace) or change.kind == "ServiceAccount"):
                yield "", name

    def sync(self, key: Key) -> float | None:
        namespace = find(self._api, "Namespace", key)
        if namespace is None:
            return None
        name = key[1]
        if not is_deleting(namespace):
            has_account = find(self._api, "ServiceAccount", (name, "default")) is not None
            perform(self._api, reconcile(namespace, (), has_account=has_account))
            return None
        content = self._content_of(name)
        perform(self._api, reconcile(namespace, content, has_account=True))
        if content and not (left := self._content_of(name)):
            perform(self._api, reconcile(namespace, left, has_account=True))
        return None

    def _content_of(self, name: str) -> list[Manifest]:
        return [obj for kind in self._content for obj in self._api.list(kind, name)]

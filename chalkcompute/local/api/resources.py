"""The verbs on resources: what HTTP handlers and controllers alike do to the store.

Order of a write, as in the real server: decode, default, admission, system fields, strategy
(`prepare_*`), field managers, validation, store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from chalkcompute.local.api.admission import admit_delete
from chalkcompute.local.api.deletion import DeleteOptions, plan_deletion
from chalkcompute.local.api.failures import not_found, unknown_resource
from chalkcompute.local.api.listing import ListQuery, Page, Selection, list_page
from chalkcompute.local.api.store import Store, Subscription, clone
from chalkcompute.local.api.writes import WriteOptions, Writer, Written
from chalkcompute.local.apimachinery.kinds import Kind, by_kind
from chalkcompute.local.clock import utc_now
from chalkcompute.local.ports import Change, Manifest

__all__ = ["ResourceApi"]

SYSTEM_NAMESPACES = ("default", "kube-system")


class _Changes:
    """The changes of some kinds; subscribed from construction, so that nothing between is missed."""

    def __init__(self, replay: list[Change], subscription: Subscription) -> None:
        self._pending = deque(replay)
        self._subscription = subscription

    def __aiter__(self) -> _Changes:
        return self

    async def __anext__(self) -> Change:
        while not self._pending:
            self._pending.extend(entry.change for entry in await self._subscription.next())
        return self._pending.popleft()


class ResourceApi:
    """The API server without HTTP; implements `ports.Api`.

    Args:
        store: Where objects are kept.
        now: The clock, in UTC.
        namespace_annotations: What a new Namespace gets where it does not say otherwise.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = utc_now,
        namespace_annotations: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.store = store
        self.now = now
        self._writer = Writer(store, now, namespace_annotations)
        for name in SYSTEM_NAMESPACES:
            if store.get("Namespace", "", name) is None:
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                self.create(body, manager="kube-apiserver")

    # ports.Api ------------------------------------------------------------------------------

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        copy: Manifest = clone(self.read(by_kind(kind), namespace, name))
        return copy

    def list(
        self, kind: str, namespace: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        wanted = (labels or {}).items()
        return [
            clone(obj)
            for obj in self.store.items(kind, namespace)
            if wanted <= (obj["metadata"].get("labels") or {}).items()
        ]

    def create(self, obj: Manifest, *, manager: str) -> Manifest:
        kind = by_kind(obj["kind"])
        options = WriteOptions(manager=manager, api_version=kind.api_version, field_validation="Strict")
        written = self.post(kind, obj["metadata"].get("namespace") or "", clone(obj), options)
        copy: Manifest = clone(written.obj)
        return copy

    def update(self, obj: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        kind = by_kind(obj["kind"])
        metadata = obj["metadata"]
        options = WriteOptions(
            manager=manager,
            api_version=kind.api_version,
            subresource=subresource,
            field_validation="Strict",
        )
        namespace = metadata.get("namespace") or ""
        written = self._writer.replace(kind, namespace, metadata["name"], clone(obj), options)
        copy: Manifest = clone(written.obj)
        return copy

    def scale(self, kind: str, name: str, namespace: str, replicas: int, *, manager: str) -> None:
        served = by_kind(kind)
        if not served.scale:
            raise unknown_resource()
        scale = {"kind": "Scale", "metadata": {"name": name}, "spec": {"replicas": replicas}}
        options = WriteOptions(manager=manager, api_version=served.api_version, subresource="scale")
        self._writer.replace(served, namespace, name, scale, options)

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        options = DeleteOptions(propagation=propagation, grace_seconds=grace_seconds, uid=uid or "")
        self.remove(by_kind(kind), namespace, name, options)

    def changes(self, kinds: Iterable[str], *, replay: bool = True) -> AsyncIterator[Change]:
        wanted = tuple(kinds)
        subscription = self.store.subscribe(wanted)
        existing = [Change("ADDED", kind, obj) for kind in wanted if replay for obj in self.store.items(kind)]
        return _Changes(existing, subscription)

    # What HTTP needs beyond -----------------------------------------------------------------

    def read(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """The stored object itself: do not mutate."""
        obj = self.store.get(kind.kind, namespace, name)
        if obj is None:
            raise not_found(kind, name)
        return obj

    def page(self, selection: Selection, query: ListQuery) -> Page:
        """One page of a list; the objects are the stored ones."""
        return list_page(self.store, selection, query)

    def post(self, kind: Kind, namespace: str, body: Manifest, options: WriteOptions) -> Written:
        """POST."""
        return self._writer.create(kind, namespace, body, options)

    def put(self, kind: Kind, namespace: str, name: str, body: Manifest, options: WriteOptions) -> Written:
        """PUT of an object or subresource."""
        return self._writer.replace(kind, namespace, name, body, options)

    def patch(
        self, kind: Kind, namespace: str, name: str, patch: object, media_type: str, options: WriteOptions
    ) -> Written:
        """PATCH of an object or subresource in any of the four media types."""
        return self._writer.patch(kind, namespace, name, patch, media_type, options)

    def remove(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> tuple[Manifest, bool]:
        """DELETE: the object as it lingers or went, and whether it is gone."""
        live = self.read(kind, namespace, name)
        admit_delete(kind, live)
        deletion = plan_deletion(kind, live, options, self.now())
        if options.dry_run:
            return deletion.obj, deletion.gone
        if deletion.gone:
            return self.store.remove(kind.kind, deletion.obj), True
        if deletion.changed:
            return self.store.put(kind.kind, clone(deletion.obj)), False
        return live, False

    def remove_all(self, selection: Selection, query: ListQuery, options: DeleteOptions) -> Page:
        """DELETE of a collection: the page of objects as they were, all deleted or marked."""
        page = self.page(selection, query)
        for obj in page.items:
            metadata = obj["metadata"]
            self.remove(selection.kind, metadata.get("namespace") or "", metadata["name"], options)
        return page

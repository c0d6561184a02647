"""Delete a group: mark, remember, cut the traffic, let the cluster collect, and look that nothing is left.

Order: record to `deleting` (compare-and-swap), tombstone, route, then the record itself, which owns all
the rest: from there on the cluster's garbage collector finishes even if this process dies. Each step
may find itself already done, so a delete that broke off is finished by running it again.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record, Tombstone, is_tombstone
from chalkcompute.service import existing, records, revisions
from chalkcompute.service.progress import Reporter
from chalkcompute.service.scope import Scope, World
from chalkcompute.types import DeleteResult, Manifest, OnProgress

__all__ = ["delete_group"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_KEPT_OF_A_NAME = 20
_KEPT_OF_A_NAMESPACE = 200
_MADE = ("ConfigMap", "Secret", "Service", "Deployment", "HorizontalPodAutoscaler")
_MADE_WHERE_SERVED = (
    ("HTTPRoute", "gateway.networking.k8s.io", "httproutes"),
    ("ScaledObject", "keda.sh", "scaledobjects"),
    ("InterceptorRoute", "http.keda.sh", "interceptorroutes"),
)
_WRITTEN = ("ConfigMap", "HTTPRoute")  # a delete has to write these itself
_FOLLOWING = ("ReplicaSet", "Pod")  # made by the cluster out of ours


def delete_group(
    cluster: Cluster,
    scope: Scope,
    *,
    name: str | None,
    group_id: str | None,
    timeout: float,
    on_progress: OnProgress | None,
    world: World,
) -> DeleteResult:
    """Delete; see `ChalkClient.delete_scaling_group`."""
    run = _Delete(cluster, scope.namespace, timeout, Reporter(on_progress, world), world)
    if group_id is not None:
        found = records.by_id(cluster, scope.namespace, group_id)
        record = found if isinstance(found, Record) else None
        return run.record(record) if record else run.leftovers(labels.objects_of(group_id), group_id)
    assert name is not None  # the client has checked that one of the two is given
    record = records.by_name(cluster, scope.namespace, name)
    selector = f"{labels.managed()},{labels.GROUP}={name}"
    return run.record(record) if record else run.leftovers(selector, name, name=name)


class _Delete:
    """One run."""

    def __init__(
        self, cluster: Cluster, namespace: str, timeout: float, reporter: Reporter, world: World
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._timeout = timeout
        self._reporter = reporter
        self._world = world

    def record(self, record: Record) -> DeleteResult:
        """Delete a group that has a record."""
        self._reporter.say("deleting", "marking the record")
        try:
            marked = self._mark(record)
        except NotFoundError:
            # Someone else's delete was quicker, or the cluster itself: wait for the end of it all the same.
            return self._followed(record)
        selector = labels.objects_of(marked.id)
        made = self._objects(self._kinds(), selector)
        tombstone = self._remember(marked)
        self._reporter.say("deleting", "removing the route")
        self._delete_if_ours("HTTPRoute", marked.name, marked.id)
        self._reporter.say("deleting", "removing the record and what it owns")
        name = labels.record_name(marked.name)
        existing.remove(
            self._cluster, "ConfigMap", name, self._namespace, marked.uid, propagation="Foreground"
        )
        self._wait_gone(selector, marked.name)
        kept = [f"ConfigMap/{tombstone}: its history"]
        if marked.spec.mode == "keda":
            grant = labels.grant_name(self._namespace)
            kept.append(f"ReferenceGrant/{grant}: shared by the groups of this environment")
        kept += _volumes_kept(marked)
        return DeleteResult(marked.id, marked.name, _named(made), tuple(kept))

    def _followed(self, record: Record) -> DeleteResult:
        """A record that went while we looked at it: remember it if nobody has, and wait for its objects."""
        tombstone = self._remember(replace(record, updated_at=self._world.now()))
        selector = labels.objects_of(record.id)
        made = self._objects(self._kinds(), selector)
        self._wait_gone(selector, record.name)
        kept = (f"ConfigMap/{tombstone}: its history", *_volumes_kept(record))
        return DeleteResult(record.id, record.name, _named(made), kept)

    def leftovers(self, selector: str, wanted: str, *, name: str | None = None) -> DeleteResult:
        """Remove objects whose record is gone, if there are any.

        Raises:
            NotFoundError: There are none.
        """
        found = self._objects(self._kinds(), selector) if records.may_be(wanted) else []
        if not found:
            raise records.missing(self._cluster, self._namespace, wanted)
        # A record comes before its objects: what is here without one now is nobody's any more.
        record = records.by_name(self._cluster, self._namespace, name) if name is not None else None
        if record is not None:
            return self.record(record)
        ids = sorted({labels.group_id_of(obj) or "" for obj in found})
        for obj in found:
            meta = obj["metadata"]
            self._reporter.say("deleting", f"removing {obj['kind']}/{meta['name']}")
            existing.remove(
                self._cluster,
                obj["kind"],
                meta["name"],
                self._namespace,
                meta["uid"],
                propagation="Foreground",
            )
        of = found[0]["metadata"]["labels"].get(labels.GROUP, wanted)
        self._wait_gone(labels.objects_of_any(ids) if all(ids) else selector, of)
        return DeleteResult(ids[0], of, _named(found))

    def _mark(self, record: Record) -> Record:
        def edit(current: Record) -> Record:
            if current.state == "deleting":
                return current
            return replace(current, state="deleting", updated_at=self._world.now())

        return records.acquire(
            self._cluster,
            record,
            "delete",
            self._world,
            patience=min(records.PATIENCE, self._timeout),
            edit=edit,
            on_wait=partial(self._reporter.say, "deleting"),
        )

    def _remember(self, record: Record) -> str:
        """Write the tombstone, unless an earlier try has."""
        kept = revisions.of(self._cluster, record)
        tombstone = Tombstone.of(record, deleted_at=record.updated_at, revisions=kept)
        with contextlib.suppress(ObjectExistsError):
            self._cluster.create(tombstone.to_manifest())
        with contextlib.suppress(ClusterError):  # the next delete forgets them
            self._forget_oldest(record.name)
        return labels.tombstone_name(record.id)

    def _forget_oldest(self, name: str) -> None:
        """History keeps the newest tombstones of a name, and of a namespace."""
        found = self._cluster.list("ConfigMap", self._namespace, labels=labels.deleted_records())
        found.sort(key=lambda obj: str(obj["metadata"].get("creationTimestamp")), reverse=True)
        of_name = [obj for obj in found if (obj["metadata"].get("labels") or {}).get(labels.GROUP) == name]
        surplus = {
            obj["metadata"]["name"]: obj["metadata"].get("uid")
            for obj in (*of_name[_KEPT_OF_A_NAME:], *found[_KEPT_OF_A_NAMESPACE:])
        }
        for tombstone, uid in surplus.items():
            self._cluster.delete("ConfigMap", tombstone, self._namespace, uid=uid)

    def _delete_if_ours(self, kind: str, name: str, group_id: str) -> None:
        try:
            obj = self._cluster.get(kind, name, self._namespace)
        except ObjectNotFoundError:
            return
        if labels.is_owned_by(obj, group_id):
            existing.remove(self._cluster, kind, name, self._namespace, obj["metadata"]["uid"])

    def _wait_gone(self, selector: str, name: str) -> None:
        until = self._world.monotonic() + self._timeout
        everything = (*self._kinds(), *_FOLLOWING)
        left = everything
        pause = _FIRST_PAUSE
        while True:
            found = self._objects(left, selector)
            if not found and left != everything:
                left = everything  # a ReplicaSet may have made pods while nobody looked for these
                continue
            if not found:
                self._reporter.say("done", "nothing is left")
                return
            left = tuple(dict.fromkeys(obj["kind"] for obj in found))
            names = ", ".join(_named(found))
            if self._world.monotonic() >= until:
                raise ConflictError(
                    f"scaling group `{name}` is deleted, but after {self._timeout:g} s the cluster still "
                    f"has {names}",
                    hint=_why_left(found),
                )
            self._reporter.say("deleting", f"waiting for {names}")
            self._world.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _kinds(self) -> tuple[str, ...]:
        capabilities = self._cluster.capabilities()
        served = (kind for kind, group, plural in _MADE_WHERE_SERVED if capabilities.serves(group, plural))
        return (*_MADE, *served)

    def _objects(self, kinds: tuple[str, ...], selector: str) -> list[Manifest]:
        found: list[Manifest] = []
        for kind in kinds:
            try:
                # What is in them matters to nobody here, and must not travel where it is a secret.
                found += self._cluster.list(kind, self._namespace, labels=selector, metadata_only=True)
            except ForbiddenError:
                if kind in _WRITTEN:
                    raise
                # The others go by themselves, whether or not they may be seen.
        return [obj for obj in found if not is_tombstone(obj)]


def _volumes_kept(record: Record) -> list[str]:
    names = sorted({mount.name for mount in record.spec.volumes})
    return [f"PersistentVolumeClaim/{name}: a volume, with what is in it" for name in names]


def _named(objects: list[Manifest]) -> tuple[str, ...]:
    return tuple(f"{obj['kind']}/{obj['metadata']['name']}" for obj in objects)


def _why_left(found: list[Manifest]) -> str:
    held = [obj for obj in found if obj["metadata"].get("finalizers")]
    grace = [g for obj in found if (g := obj["metadata"].get("deletionGracePeriodSeconds"))]
    if grace and not held:
        return f"replicas have up to {max(grace)} s to drain and end; wait longer with `--timeout`"
    scaled = next((obj["metadata"] for obj in held if obj["kind"] == "ScaledObject"), None)
    if scaled is not None:
        forced = existing.let_go(scaled["name"], scaled["namespace"])
        return f"KEDA's operator must run to let a ScaledObject go; the cluster goes on by itself; {forced}"
    if held:
        finalizers = sorted({f for obj in held for f in obj["metadata"]["finalizers"]})
        return f"held by the finalizers {', '.join(finalizers)}; the cluster goes on by itself"
    return "the cluster goes on by itself; run the command again to see"

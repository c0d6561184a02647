"""The record ConfigMap: found, changed by compare-and-swap, leased for the time of an operation.

The lease is advisory: it keeps two deploys from interleaving, and says who is at work. It ends by
itself, so that a killed process blocks nobody for long.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ConflictError,
    NotFoundError,
    NotOwnedError,
    ObjectConflictError,
    ObjectNotFoundError,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Operation, Record, Tombstone, is_record, is_tombstone
from chalkcompute.service.namespaces import read_namespace
from chalkcompute.service.scope import World
from chalkcompute.types import Manifest

__all__ = [
    "LEASE",
    "PATIENCE",
    "abandon",
    "acquire",
    "by_id",
    "by_name",
    "hold",
    "may_be",
    "missing",
    "parse",
    "release",
    "tombstones",
]

LEASE = timedelta(seconds=60)
PATIENCE = 75.0
_TRIES = 5


def by_name(cluster: Cluster, namespace: str, name: str) -> Record | None:
    """The record of that group, or None.

    Raises:
        NotOwnedError: A ConfigMap of the record's name is someone else's.
    """
    if not may_be(name):
        return None
    try:
        obj = cluster.get("ConfigMap", labels.record_name(name), namespace)
    except ObjectNotFoundError:
        return None
    return parse(obj)


def may_be(wanted: str) -> bool:
    """Whether a name or an id may be one: no other text belongs into a path or a label selector."""
    return re.fullmatch(r"[0-9a-z]([-0-9a-z]{0,61}[0-9a-z])?", wanted) is not None


def parse(obj: Manifest) -> Record:
    """The record in a ConfigMap.

    Raises:
        NotOwnedError: It is not one of ours.
    """
    if not is_record(obj):
        meta = obj["metadata"]
        raise NotOwnedError(
            f"ConfigMap `{meta['name']}` exists in namespace `{meta['namespace']}` and is no record of chalk",
            kind="ConfigMap",
            name=meta["name"],
            namespace=meta["namespace"],
            hint="rename or remove it, or choose another name for the scaling group",
        )
    return Record.from_manifest(obj)


def by_id(cluster: Cluster, namespace: str, group_id: str) -> Record | Tombstone | None:
    """The record with that id, else the tombstone, else None."""
    if not may_be(group_id):
        return None
    selector = f"{labels.records()},{labels.GROUP_ID}={group_id}"
    found = cluster.list("ConfigMap", namespace, labels=selector)
    record = next((obj for obj in found if is_record(obj)), None)
    if record is not None:
        return parse(record)
    tombstone = next((obj for obj in found if is_tombstone(obj)), None)
    return Tombstone.from_manifest(tombstone) if tombstone is not None else None


def tombstones(cluster: Cluster, namespace: str, name: str) -> list[Tombstone]:
    """The deleted groups of that name, newest last."""
    if not may_be(name):
        return []
    found = cluster.list("ConfigMap", namespace, labels=labels.records_named(name))
    dead = [Tombstone.from_manifest(obj) for obj in found if is_tombstone(obj)]
    return sorted(dead, key=lambda tombstone: tombstone.deleted_at)


def missing(cluster: Cluster, namespace: str, wanted: str) -> NotFoundError:
    """What to raise when there is no such group; it says so when there was one of that name.

    Raises:
        NotFoundError: The namespace itself does not exist.
    """
    message = f"there is no scaling group `{wanted}` in namespace `{namespace}`"
    dead = tombstones(cluster, namespace, wanted)
    if dead:
        when = dead[-1].deleted_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return NotFoundError(
            f"{message}; it was deleted at {when}", hint="`chalk scaling-group list --all` shows deleted ones"
        )
    if may_be(wanted):
        read_namespace(cluster, namespace)
    return NotFoundError(message, hint="`chalk scaling-group list` shows those there are")


def _is_active(record: Record, world: World) -> bool:
    """Whether someone else is at work on the group right now."""
    operation = record.operation
    if operation is None:
        return False
    return not operation.is_over(world.now()) and not world.is_gone(operation.holder)


def _change(cluster: Cluster, record: Record, edit: Callable[[Record], Record], world: World) -> Record:
    """PUT `edit(record)`; when the record changed meanwhile, reread and edit that, five times at most.

    Raises:
        NotFoundError: The record is gone, or is that of a later incarnation.
        ConflictError: It goes on changing.
    """
    current = record
    for attempt in range(_TRIES):
        try:
            return parse(cluster.replace(edit(current).to_manifest()))
        except ObjectNotFoundError:
            raise _gone(record) from None
        except ObjectConflictError as error:
            world.sleep(0.05 * (attempt + 1) * (1.0 + world.jitter()))
            reread = by_name(cluster, record.namespace, record.name)
            if reread is None or reread.id != record.id:
                raise _gone(record) from error
            current = reread
    raise ConflictError(
        f"the record of scaling group `{record.name}` goes on changing",
        hint="someone else is working on it; try again in a moment",
    )


def acquire(
    cluster: Cluster,
    record: Record,
    kind: str,
    world: World,
    *,
    patience: float = PATIENCE,
    edit: Callable[[Record], Record] = lambda record: record,
    on_wait: Callable[[str], None] | None = None,
) -> Record:
    """Take the lease, waiting for whoever has it, and make `edit` in the same write.

    Raises:
        ConflictError: It is still taken after `patience` seconds; the message names the holder.
        NotFoundError: The record went away meanwhile.
    """
    began = world.monotonic()
    until = began + patience
    current, version_since = record, began
    while True:
        # A lease is never longer than this: whoever has not let go by then ended, whatever its clock said.
        outlived = world.monotonic() - version_since >= LEASE.total_seconds()
        if outlived or not _is_active(current, world):
            mine = Operation(kind=kind, holder=world.holder(), deadline=world.now() + LEASE)
            try:
                return parse(cluster.replace(replace(edit(current), operation=mine).to_manifest()))
            except ObjectNotFoundError:
                raise _gone(record) from None
            except ObjectConflictError:
                world.sleep(0.05 * (1.0 + world.jitter()))
        elif world.monotonic() >= until:
            raise _locked(current)
        else:
            if on_wait is not None:
                on_wait(f"waiting for {_holder(current)}")
            world.sleep(0.5 + 0.5 * world.jitter())
        reread = by_name(cluster, record.namespace, record.name)
        if reread is None or reread.id != record.id:
            raise _gone(record)
        if reread.resource_version != current.resource_version:
            version_since = world.monotonic()
        current = reread


def release(cluster: Cluster, record: Record, world: World) -> Record:
    """Give the lease back, all done: the record says no more that something is under way."""

    def edit(current: Record) -> Record:
        _require_held(current, record)
        return replace(current, operation=None)

    return _change(cluster, record, edit, world)


def hold(cluster: Cluster, record: Record, world: World) -> Record:
    """Prolong the lease when half of it is over: before every write, so that none comes after its end.

    Raises:
        ConflictError: Our time was up, and someone else took over.
        NotFoundError: The record went away meanwhile.
    """
    assert record.operation is not None
    if record.operation.deadline - world.now() > LEASE / 2:
        return record
    longer = replace(record.operation, deadline=world.now() + LEASE)

    def edit(current: Record) -> Record:
        _require_held(current, record)
        return replace(current, operation=longer)

    return _change(cluster, record, edit, world)


def _require_held(current: Record, ours: Record) -> None:
    if current.operation == ours.operation:
        return
    if current.operation is not None:
        raise _locked(current)
    raise ConflictError(
        f"scaling group `{ours.name}` was deployed by someone else (revision {current.revision}): "
        "this deploy had stopped for longer than its lease",
        hint="read it again and decide anew",
    )


def abandon(cluster: Cluster, record: Record, world: World) -> None:
    """End the lease now but keep saying that the operation was not finished."""

    def edit(current: Record) -> Record:
        operation = current.operation
        if operation is None or operation != record.operation:
            return current
        return replace(current, operation=replace(operation, deadline=world.now()))

    _change(cluster, record, edit, world)


def _holder(record: Record) -> str:
    operation = record.operation
    return f"`{operation.holder}` ({operation.kind})" if operation is not None else "nobody"


def _locked(record: Record) -> ConflictError:
    return ConflictError(
        f"scaling group `{record.name}` is being worked on by {_holder(record)}",
        hint="wait until it is done; a crashed one lets go by itself within a minute",
    )


def _gone(record: Record) -> NotFoundError:
    return NotFoundError(f"scaling group `{record.name}` was deleted meanwhile")

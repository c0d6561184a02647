"""Look at groups: one in at most seven requests, all of a namespace in two."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, NotFoundError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.manifests.live import FORBIDDEN, UNASKED, UNSERVED, LiveGroup, Unasked, rollout
from chalkcompute.manifests.observe import observe, observe_tombstone, route_accepted
from chalkcompute.manifests.placement import Gateway
from chalkcompute.manifests.record import Record, Tombstone, is_record, is_tombstone
from chalkcompute.manifests.scaler import is_group_scaler
from chalkcompute.service import records
from chalkcompute.service.namespaces import read_namespace
from chalkcompute.service.scope import Scope, World
from chalkcompute.spec.tags import validate_tags
from chalkcompute.types import Cause, Manifest, ScalingGroupInfo

__all__ = [
    "WayIn",
    "describe",
    "events_of",
    "find_record",
    "get_group",
    "get_group_by_id",
    "list_groups",
    "live_groups",
    "look_closer",
    "pods_of",
    "snapshot",
    "way_in",
    "with_nodes",
]


def get_group(cluster: Cluster, scope: Scope, name: str, *, world: World) -> ScalingGroupInfo:
    """One group by name; see `ChalkClient.get_scaling_group`."""
    record = find_record(cluster, scope.namespace, name)
    live = snapshot(cluster, record)
    if _is_torn(live):  # deleted since, or deployed anew: the record says so
        record = find_record(cluster, scope.namespace, name)
        if record.resource_version != live.record.resource_version:
            live = snapshot(cluster, record)
    return observe(look_closer(cluster, live, world.now()), world.now())


def _is_torn(live: LiveGroup) -> bool:
    """Whether an object is missing that the record says was made: it may be older than the rest."""
    return live.record.operation is None and (live.own_deployment is None or live.route is None)


def get_group_by_id(cluster: Cluster, scope: Scope, group_id: str, *, world: World) -> ScalingGroupInfo:
    """One group by id, deleted ones included."""
    found = records.by_id(cluster, scope.namespace, group_id)
    if found is None:
        if records.may_be(group_id):
            read_namespace(cluster, scope.namespace)
        raise NotFoundError(
            f"there is no scaling group with id `{group_id}` in namespace `{scope.namespace}`",
            hint="`chalk scaling-group list --all` shows all, deleted ones too",
        )
    if isinstance(found, Tombstone):
        return observe_tombstone(found)
    return observe(look_closer(cluster, snapshot(cluster, found), world.now()), world.now())


def find_record(cluster: Cluster, namespace: str, name: str, *, group_id: str | None = None) -> Record:
    """The record of that name.

    Args:
        cluster: The cluster.
        namespace: Its namespace.
        name: Name of the group.
        group_id: The id that it must have, or None for any.

    Raises:
        NotFoundError: There is none, and the hint says so when there was one; or it has another id.
    """
    record = records.by_name(cluster, namespace, name)
    if record is None:
        raise records.missing(cluster, namespace, name)
    if group_id not in (None, record.id):
        raise NotFoundError(
            f"the scaling group `{name}` with id `{group_id}` is gone; the one of that name in namespace "
            f"`{namespace}` is another, with id `{record.id}`",
            hint=f"take that one with `ScalingGroup.from_name({name!r})`",
        )
    return record


def list_groups(
    cluster: Cluster,
    scope: Scope,
    *,
    include_deleted: bool,
    tags: Mapping[str, str] | None,
    world: World,
) -> tuple[ScalingGroupInfo, ...]:
    """All groups; two requests for up to 500 of them.

    Raises:
        NotFoundError: The namespace does not exist.
        SpecError: Tags that no label may have.
    """
    found, live = _records_and_deployments(cluster, scope, include_deleted, tags)
    now = world.now()
    infos = [observe(group, now) for group in live]
    if include_deleted:
        alive = {group.record.id for group in live}  # one that is being deleted has a tombstone already
        dead = [Tombstone.from_manifest(obj) for obj in found if is_tombstone(obj)]
        infos += [observe_tombstone(tombstone) for tombstone in dead if tombstone.id not in alive]
    return tuple(sorted(infos, key=lambda info: (info.name, info.created_at)))


def live_groups(cluster: Cluster, scope: Scope) -> list[LiveGroup]:
    """All groups that are not deleted, by their records and Deployments.

    Raises:
        NotFoundError: The namespace does not exist.
    """
    return _records_and_deployments(cluster, scope, False, None)[1]


def _records_and_deployments(
    cluster: Cluster, scope: Scope, include_deleted: bool, tags: Mapping[str, str] | None
) -> tuple[list[Manifest], list[LiveGroup]]:
    """What was found of records and tombstones, and the groups that are live."""
    checked = validate_tags(tags if tags is not None else {})
    wanted = ",".join(f"{key}={value}" for key, value in labels.tag_labels(checked).items())
    among = labels.records() if include_deleted else labels.active_records()
    selector = f"{among},{wanted}" if wanted else among
    for _ in range(2):
        found = cluster.list("ConfigMap", scope.namespace, labels=selector)
        deployments = {
            labels.group_id_of(obj): obj
            for obj in cluster.list("Deployment", scope.namespace, labels=labels.managed())
        }
        live = [Record.from_manifest(obj) for obj in found if is_record(obj)]
        if all(record.id in deployments or record.operation is not None for record in live):
            break  # else one was deleted between the two lists, or its Deployment by someone else: look again
    if not found and not deployments:
        read_namespace(cluster, scope.namespace)  # a third request, where nothing may mean a typing mistake
    return found, [LiveGroup(record=record, deployment=deployments.get(record.id)) for record in live]


def describe(cluster: Cluster, record: Record, *, world: World) -> ScalingGroupInfo:
    """The group of that record as it is now."""
    return observe(snapshot(cluster, record), world.now())


def snapshot(cluster: Cluster, record: Record) -> LiveGroup:
    """What is live of a group, in at most four requests.

    Events are asked for only while it is not complete, and the Gateway when it is and the route is not
    accepted.
    """
    found = _ours(cluster, "Deployment", record)
    live = LiveGroup(record=record, deployment=found, route=_ours(cluster, "HTTPRoute", record))
    if found is None:
        return live
    if not rollout(live).complete:
        return replace(live, pods=pods_of(cluster, record), events=_events(cluster, record))
    if route_accepted(live):
        live = replace(live, pods=pods_of(cluster, record))
    else:
        live = replace(live, gateway=_gateway(cluster, record))
    # A HorizontalPodAutoscaler that cannot scale leaves a group that serves; KEDA's leaves none.
    if record.spec.mode == "keda":
        live = replace(live, scaled_object=_scaled_object(cluster, record))
    return live


def look_closer(cluster: Cluster, live: LiveGroup, now: datetime) -> LiveGroup:
    """The same, with what tells how its autoscaler does: at most two requests more, none for a fixed count.

    And one for the nodes where they may tell why GPUs are not to be had.
    """
    return with_nodes(cluster, _with_autoscaler(cluster, live), now)


def _with_autoscaler(cluster: Cluster, live: LiveGroup) -> LiveGroup:
    record = live.record
    if record.spec.mode == "fixed" or live.own_deployment is None:
        return live
    live = replace(live, hpa=_hpa(cluster, record))
    if record.spec.mode == "keda" and live.scaled_object is UNASKED:
        return replace(live, scaled_object=_scaled_object(cluster, record))
    return replace(live, scaler_events=events_of(cluster, record))


def _hpa(cluster: Cluster, record: Record) -> Manifest | Unasked | None:
    """The HorizontalPodAutoscaler of a group, its own or KEDA's."""
    try:
        found = cluster.get("HorizontalPodAutoscaler", record.name, record.namespace)
    except ObjectNotFoundError:
        return None
    except ForbiddenError:
        return FORBIDDEN
    return found if is_group_scaler(found, record.id, record.name) else None


def _scaled_object(cluster: Cluster, record: Record) -> Manifest | Unasked | None:
    try:
        found = _ours(cluster, "ScaledObject", record)
    except ForbiddenError:
        return FORBIDDEN
    if found is None and not cluster.capabilities().serves("keda.sh", "scaledobjects"):
        return UNSERVED
    return found


def events_of(cluster: Cluster, record: Record) -> list[Manifest] | None:
    """Events about the objects that have the group's name; None if they may not be seen."""
    with contextlib.suppress(ForbiddenError):
        return cluster.list("Event", record.namespace, fields=f"involvedObject.name={record.name}")
    return None


def with_nodes(cluster: Cluster, live: LiveGroup, now: datetime) -> LiveGroup:
    """The same, with the nodes where they may tell why no node takes a replica that asks for GPUs."""
    if live.record.spec.gpu is None or live.nodes is not UNASKED:
        return live
    verdict = observe(live, now).verdict
    if verdict is None or verdict.cause is not Cause.UNSCHEDULABLE:
        return live
    try:
        return replace(live, nodes=cluster.list("Node"))
    except ForbiddenError:
        return replace(live, nodes=FORBIDDEN)


def pods_of(cluster: Cluster, record: Record) -> list[Manifest] | None:
    """The pods of a group; None if they may not be seen."""
    with contextlib.suppress(ForbiddenError):  # diagnosis is poorer without, that is all
        return cluster.list("Pod", record.namespace, labels=labels.objects_of(record.id))
    return None


@dataclass(frozen=True, slots=True)
class WayIn:
    """How to reach a Gateway from here.

    Attributes:
        authority: What it advertises as the authority behind its certificate, PEM; None for the system's own.
        addresses: Its addresses (`status.addresses`).
    """

    authority: str | None = None
    addresses: tuple[str, ...] = ()


def way_in(cluster: Cluster, gateway: Gateway) -> WayIn:
    """How to reach a Gateway; nothing is known of one that may not be read."""
    try:
        obj = cluster.get("Gateway", gateway.name, gateway.namespace)
    except (ForbiddenError, ObjectNotFoundError):
        return WayIn()
    value = (obj["metadata"].get("annotations") or {}).get(labels.CA_ANNOTATION)
    found = (obj.get("status") or {}).get("addresses") or ()
    return WayIn(
        value if isinstance(value, str) and value else None,
        tuple(address["value"] for address in found if address.get("value")),
    )


def _gateway(cluster: Cluster, record: Record) -> Manifest | Unasked | None:
    try:
        return cluster.get("Gateway", record.gateway.name, record.gateway.namespace)
    except ObjectNotFoundError:
        return None
    except ForbiddenError:
        return UNASKED


def _ours(cluster: Cluster, kind: str, record: Record) -> Manifest | None:
    try:
        obj = cluster.get(kind, record.name, record.namespace)
    except ObjectNotFoundError:
        return None
    return obj if labels.is_owned_by(obj, record.id) else None


def _events(cluster: Cluster, record: Record) -> list[Manifest] | None:
    with contextlib.suppress(ForbiddenError):  # as for pods
        found = cluster.list("Event", record.namespace, fields="involvedObject.kind=Pod,type=Warning")
        prefix = f"{record.name}-"
        return [event for event in found if event["involvedObject"].get("name", "").startswith(prefix)]
    return None

"""What a deploy is going to do, out of the record as it is and what is asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chalkcompute.manifests.record import Record
from chalkcompute.service.discovery import Place
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Action

__all__ = ["Plan", "plan_deploy"]

_GATEWAYS_FOLLOW = timedelta(minutes=1)
"""By then a gateway goes by the route as it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deploy is going to do.

    Attributes:
        action: Created, updated or unchanged.
        record: The record as it shall be; not yet written.
        previous: The revision before, or None.
        changes: What differs from it.
    """

    action: Action
    record: Record
    previous: int | None = None
    changes: tuple[str, ...] = ()


def plan_deploy(
    found: Record | None, spec: ScalingGroupSpec, place: Place, *, namespace: str, now: datetime, new_id: str
) -> Plan:
    """The plan.

    Args:
        found: The record as it is, or None for a new group.
        spec: What is asked for.
        place: Environment and gateway.
        namespace: Where.
        now: The time of day, UTC.
        new_id: Id of a new group.
    """
    if found is None:
        record = Record(
            id=new_id,
            name=spec.name,
            environment=place.environment,
            namespace=namespace,
            revision=1,
            created_at=now,
            updated_at=now,
            spec=spec,
            gateway=place.gateway,
        )
        return Plan(Action.CREATED, record)
    changes = _changes(found, spec, place)
    if not changes:
        return Plan(Action.UNCHANGED, found, found.revision)
    record = replace(
        found,
        environment=place.environment,
        revision=found.revision + 1,
        updated_at=now,
        spec=spec,
        gateway=place.gateway,
        ports=found.ports.then(
            found.spec.port,
            spec.port,
            settled=found.operation is None and now - found.updated_at >= _GATEWAYS_FOLLOW,
        ),
    )
    return Plan(Action.UPDATED, record, found.revision, changes)


def _changes(found: Record, spec: ScalingGroupSpec, place: Place) -> tuple[str, ...]:
    changes = found.spec.changes(spec)
    if found.environment != place.environment:
        changes = (*changes, "environment")
    # What its class is known to support comes and goes with upgrades; that alone is no new revision.
    if replace(found.gateway, request_timeout=place.gateway.request_timeout) != place.gateway:
        changes = (*changes, "gateway")
    return changes

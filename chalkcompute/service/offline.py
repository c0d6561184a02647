"""The objects of a group for people and pipelines that apply them themselves."""

from __future__ import annotations

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.manifests import render
from chalkcompute.manifests.placement import Gateway, Placement
from chalkcompute.service import preflight, records
from chalkcompute.service.discovery import discover
from chalkcompute.service.scope import Scope
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.names import validate_environment_id
from chalkcompute.types import Manifest

__all__ = ["OFFLINE_ID", "render_offline", "render_online"]

OFFLINE_ID = "00000000-0000-0000-0000-000000000000"
"""Stands for the id that a group gets when it is created: `manifests` must give the same text twice."""


def render_offline(scope: Scope, spec: ScalingGroupSpec) -> tuple[Manifest, ...] | None:
    """The objects, if the scope says all that they need; else None."""
    if scope.environment is None or scope.gateway is None or scope.gateway_domain is None:
        return None
    namespace, name = scope.gateway
    placement = Placement(
        namespace=scope.namespace,
        environment=validate_environment_id(scope.environment),
        group_id=OFFLINE_ID,
        revision=1,
        gateway=Gateway(
            name=name,
            namespace=namespace,
            section_name=scope.gateway_section or "https",
            domain=scope.gateway_domain,
        ),
        owner=None,
        profile=scope.profile,
    )
    return render(spec, placement)


def render_online(cluster: Cluster, scope: Scope, spec: ScalingGroupSpec) -> tuple[Manifest, ...]:
    """The objects as this cluster would get them, of the next revision where the group exists."""
    place = discover(cluster, scope)
    preflight.check_capabilities(cluster, spec, scope.profile)
    record = records.by_name(cluster, scope.namespace, spec.name)
    placement = Placement(
        namespace=scope.namespace,
        environment=place.environment,
        group_id=record.id if record is not None else OFFLINE_ID,
        revision=record.revision + 1 if record is not None else 1,
        gateway=place.gateway,
        owner=None,
        profile=scope.profile,
    )
    return render(spec, placement)

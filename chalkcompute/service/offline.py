"""The objects of a group for people and pipelines that apply them themselves."""

from __future__ import annotations

import uuid

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.manifests.placement import Gateway, Placement, PortHistory
from chalkcompute.manifests.printed import printed
from chalkcompute.service import records
from chalkcompute.service.capabilities import check_capabilities
from chalkcompute.service.discovery import discover
from chalkcompute.service.scope import Scope
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.spec.names import validate_environment_id
from chalkcompute.types import Manifest

__all__ = ["render_offline", "render_online"]

_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "scaling-group.chalk.ai")


def render_offline(scope: Scope, spec: ScalingGroupSpec, content: Content) -> tuple[Manifest, ...] | None:
    """The objects, if the scope says all that they need; else None."""
    if scope.environment is None or scope.gateway is None or scope.gateway_domain is None:
        return None
    namespace, name = scope.gateway
    environment = validate_environment_id(scope.environment)
    placement = Placement(
        namespace=scope.namespace,
        environment=environment,
        group_id=_stable_id(scope.namespace, environment, spec.name),
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
    return printed(spec, placement, content)


def render_online(
    cluster: Cluster, scope: Scope, spec: ScalingGroupSpec, content: Content
) -> tuple[Manifest, ...]:
    """The objects as this cluster would get them, of the next revision where the group exists."""
    place = discover(cluster, scope, spec.name)
    check_capabilities(cluster, spec, scope.profile)
    record = records.by_name(cluster, scope.namespace, spec.name)
    placement = Placement(
        namespace=scope.namespace,
        environment=place.environment,
        group_id=record.id
        if record is not None
        else _stable_id(scope.namespace, place.environment, spec.name),
        revision=record.revision + 1 if record is not None else 1,
        gateway=place.gateway,
        owner=None,
        profile=scope.profile,
        ports=record.ports.then(record.spec.port, spec.port) if record is not None else PortHistory(),
    )
    return printed(spec, placement, content)


def _stable_id(namespace: str, environment: str, name: str) -> str:
    """Stands for the id that a group gets when it is created.

    The same every time, so that `manifests` gives the same text twice, and another for every group: it is
    what the Deployment and the Service select pods by.
    """
    return str(uuid.uuid5(_IDS, f"{namespace}/{environment}/{name}"))

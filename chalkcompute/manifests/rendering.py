"""All objects of one revision of a group, in the order in which they are applied."""

from __future__ import annotations

from chalkcompute.manifests.autoscaler import horizontal_pod_autoscaler, interceptor_route, scaled_object
from chalkcompute.manifests.deployment import deployment
from chalkcompute.manifests.placement import Placement
from chalkcompute.manifests.route import http_route, reference_grant
from chalkcompute.manifests.service import headless_service, vip_service
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["render"]


def render(spec: ScalingGroupSpec, placement: Placement) -> tuple[Manifest, ...]:
    """Every object but the record, in apply order: Services, Deployment, autoscaler, and the route last.

    The route comes last so that requests come when there is something to take them. Without
    `placement.owner` there are no ownerReferences: for output that is applied by other means.

    Raises:
        SpecError: The environment and the name together are longer than a DNS label may be.
    """
    base = (headless_service(spec, placement), deployment(spec, placement))
    route = http_route(spec, placement)
    if spec.mode == "fixed":
        return (*base, route)
    if spec.mode == "hpa":
        return (*base, horizontal_pod_autoscaler(spec, placement), route)
    return (
        vip_service(spec, placement),
        *base,
        interceptor_route(spec, placement),
        scaled_object(spec, placement),
        reference_grant(placement),
        route,
    )

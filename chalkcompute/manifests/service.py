"""The Services of a group."""

from __future__ import annotations

from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import PORT_NAME, Placement
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["headless_service", "vip_service"]


def headless_service(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The headless Service `<name>`: DNS gives the replicas themselves, the gateway balances."""
    body = _spec(spec, placement)
    return _service(spec.name, spec, placement, {"clusterIP": "None", **body})


def vip_service(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The ClusterIP Service `<name>-vip` that KEDA's interceptor dials.

    Before 0.16 the interceptor goes by DNS, whose cached answers for a headless Service outlive the replicas.
    """
    return _service(labels.vip_name(spec.name), spec, placement, _spec(spec, placement))


def _spec(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    # Some gateways and meshes route to pods by the Service's port: it has to be the replicas' port.
    history = placement.ports
    return {
        "type": "ClusterIP",
        "selector": labels.selector(placement.group_id),
        "ports": [
            {
                "name": history.name(port),
                "port": port,
                # Once it has changed there may be replicas on different ports: the name finds each one's own.
                "targetPort": port if history.first is None else PORT_NAME,
                "protocol": "TCP",
            }
            # Earlier ones stay until every gateway has seen that the route points to the new one.
            for port in (spec.port, *history.previous)
        ],
    }


def _service(name: str, spec: ScalingGroupSpec, placement: Placement, body: Manifest) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": placement.metadata(name, group=spec.name, tags=spec.tags),
        "spec": body,
    }
